"""Loads a pack: one int16 sound pool and the features (and small crops) on the device, with tables to draw from."""
from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import sound
import video
from teacher import features, load_teacher

FRAME = sound.FRAME


@dataclass
class Group:
    """Recordings of one split and kind, by person: people 0 .. visible-1 have a picture, the rest are sound only."""

    table: Tensor  # people x most recordings: recording number, padded by repeating
    count: Tensor  # recordings per person
    visible: int
    domains: list[str]  # per person

    @property
    def people(self) -> int:
        return len(self.count)


@dataclass
class Pack:
    pool: Tensor  # int16, all sound
    start: Tensor  # per recording: first sample
    length: Tensor  # samples
    first: Tensor  # first feature row (0 where none)
    frames: Tensor  # feature rows
    energy: Tensor  # running sum of the mean square per 640 samples, over the whole pool (float64)
    feats: Tensor  # rows x D, float32
    crops: Tensor | None  # rows x S x S, uint8
    train: Group
    val: Group
    noise: dict[str, Tensor]  # split -> recording numbers
    music: dict[str, Tensor]
    files: list[str]
    silent: Tensor  # recordings of visible people who say nothing (train)
    variants: int = 1  # the feature rows stand this many times one after another, each from differently changed pictures
    per: int = 0  # rows of one variant

    @property
    def device(self) -> torch.device:
        return self.pool.device


def _cached_features(root: Path, names: list[str], device: torch.device, threads: int, minutes: float) -> dict[str, Tensor]:
    """Teacher features, kept in teacher_features.pt; on a slow machine stops after `minutes` with what it has (call again to go on)."""
    path = root / "teacher_features.pt"
    have: dict[str, Tensor] = torch.load(path, weights_only=True) if path.exists() else {}
    skip = set((root / "no_teacher.txt").read_text().split()) if (root / "no_teacher.txt").exists() else set()
    todo = [n for n in names if n not in have and n not in skip]
    if not todo or os.environ.get("SL_HAVE"):
        return have
    net, t0 = load_teacher(root / "teacher.pt", device), time.time()
    for i in range(0, len(todo), 16):
        part = todo[i : i + 16]
        for n, c in zip(part, video.read_all([root / (n + ".mp4") for n in part], threads)):
            have[n] = features(net, torch.from_numpy(c), device)
        save(have, path)
        if time.time() - t0 > minutes * 60 and i + 16 < len(todo):
            print(f"features: {len(have)} of {len(names)} clips so far, going on without the rest")
            break
    print(f"features: {len(todo)} new clips in {time.time() - t0:.1f} s")
    return have


def save(obj: object, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(obj, part)
    os.replace(part, path)


def _small_crops(root: Path, names: list[str], side: int, threads: int) -> dict[str, Tensor]:
    out = {}
    for n, c in zip(names, video.read_all([root / (n + ".mp4") for n in names], threads)):
        x = torch.from_numpy(c)[:, None].float()
        out[n] = torch.nn.functional.interpolate(x, (side, side), mode="area")[:, 0].round().byte() if side != video.SIDE else x[:, 0].byte()
    return out


def _sound_pool(root: Path, index: list[dict[str, object]], threads: int) -> tuple[np.ndarray, np.ndarray]:
    path, key = root / "pool.npz", "|".join(str(r["file"]) for r in index)
    if path.exists():
        z = np.load(path, allow_pickle=False)
        if str(z["key"]) == key:
            return z["pool"], z["borders"]
    pool, borders = sound.read_all(root / "libsndfile.so", [root / f"{r['file']}.opus" for r in index], [r["kind"] == "speech" for r in index], threads)
    np.savez(path, pool=pool, borders=borders, key=key)
    return pool, borders


def _group(index: list[dict[str, object]], keep: list[int], frames: list[int], split: str) -> Group:
    clips: dict[str, list[int]] = {}
    voices: dict[str, list[int]] = {}
    for i in keep:
        r = index[i]
        if r["split"] == split and r["kind"] == "clip" and frames[i] >= 50 and r["domain"] != "silent":
            clips.setdefault(str(r["speaker"]), []).append(i)
        elif r["split"] == split and r["kind"] == "speech":
            voices.setdefault(str(r["speaker"]), []).append(i)
    lists = [*clips.values(), *voices.values()]
    width = max(map(len, lists))
    table = torch.tensor([(v * (width // len(v) + 1))[:width] for v in lists])
    return Group(table, torch.tensor([len(v) for v in lists]), len(clips), [str(index[v[0]]["domain"]) for v in lists])


def load_pack(root: Path, device: torch.device, crops: int = 0, student: dict[str, Tensor] | None = None, minutes: float = 30, sound_only: bool = False) -> Pack:
    """crops: side of the small pictures wanted (0: none). student: features by clip name, used in place of the teacher's.
    sound_only: zeros for features."""
    t0, threads = time.time(), min(16, os.cpu_count() or 2)
    index: list[dict[str, object]] = json.loads((root / "index.json").read_text())
    pool, borders = _sound_pool(root, index, threads)
    t1 = time.time()
    clips = [str(r["file"]) for r in index if r["kind"] == "clip"]
    if sound_only:
        student = {str(r["file"]): torch.zeros(int(borders[i + 1] - borders[i]) // FRAME, 128) for i, r in enumerate(index) if r["kind"] == "clip"}
    feats = student if student is not None else _cached_features(root, clips, device, threads, minutes)
    keep = [i for i, r in enumerate(index) if (r["kind"] != "clip" or str(r["file"]) in feats) and borders[i + 1] - borders[i] >= sound.SR]
    small = _small_crops(root, [n for n in clips if n in feats], crops, threads) if crops else {}
    first, frames, rows, pics, at = [0] * len(index), [0] * len(index), [], [], 0
    length = np.diff(borders)
    for i in keep:
        n = str(index[i]["file"])
        if index[i]["kind"] == "clip":
            k = int(min(feats[n].shape[-2], length[i] // FRAME, len(small[n]) if crops else 10**9))
            first[i], frames[i] = at, k
            length[i] = k * FRAME
            rows.append(feats[n].reshape(-1, *feats[n].shape[-2:])[:, :k].float())
            if crops:
                pics.append(small[n][:k])
            at += k
    blocks = pool[: len(pool) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float32) / 32768
    energy = np.concatenate([[0.0], np.cumsum((blocks**2).mean(1, dtype=np.float64))])
    d = device

    def of(kind: str) -> dict[str, Tensor]:
        return {s: torch.tensor([i for i in keep if index[i]["kind"] == kind and index[i]["split"] == s], dtype=torch.long, device=d) for s in ("train", "val")}

    pack = Pack(torch.from_numpy(pool).to(d), torch.from_numpy(borders[:-1].copy()).to(d), torch.from_numpy(length).to(d), torch.tensor(first, device=d),
                torch.tensor(frames, device=d), torch.from_numpy(energy).to(d), torch.cat(rows, 1).flatten(0, 1).to(d), torch.cat(pics).to(d) if crops else None,
                _group(index, keep, frames, "train"), _group(index, keep, frames, "val"), of("noise"), of("music"), [str(r["file"]) for r in index],
                torch.tensor([i for i in keep if index[i]["domain"] == "silent" and frames[i] >= 100], dtype=torch.long, device=d), rows[0].shape[0], at)
    for g in (pack.train, pack.val):
        g.table, g.count = g.table.to(d), g.count.to(d)
    mean, std = pack.feats.mean(0), pack.feats.std(0) + 1e-3
    if student is None:  # standardise the teacher's features, so that distances mean something
        pack.feats = (pack.feats - mean) / std
    print(f"pack: {len(pool) / sound.SR / 60:.0f} min of sound ({t1 - t0:.1f} s), {at / 1500:.1f} min of pictures ({time.time() - t1:.1f} s); "
          f"train {pack.train.visible} visible + {pack.train.people - pack.train.visible} voices, val {pack.val.visible} + {pack.val.people - pack.val.visible}", flush=True)
    return pack
