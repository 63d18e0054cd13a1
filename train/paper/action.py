"""Action recognition (section 5 of the paper, 4.7 of the specification) on folders of classes, as UCF-101 comes.

    FOLDER/Class/v_Class_g01_c01.avi ...       groups 1 to 7 (g01 ... g07) are held out, as in the set's first split;
    FOLDER/testlist01.txt (or ucfTrainTestlist/testlist01.txt), where present, says what is held out instead.
"""
from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips import Clip, Clips, short_name
from onnx_net import OnnxNet
from spectra import MIXTURE_RMS, levelled, samples_of

KINDS = {".avi", ".mp4", ".mkv", ".webm", ".mov"}
HELD_OUT_GROUPS = 7
SHIFT = 1  # frames that the sound may be off, in training
VIEWS = 25


def class_rows(folder: Path) -> tuple[list[str], list[Clip], list[Clip]]:
    """Names of the classes, clips to train on, clips held out."""
    names = sorted(d.name for d in folder.iterdir() if d.is_dir() and any(f.suffix.lower() in KINDS for f in d.iterdir()))
    if len(names) < 2:
        raise SystemExit(f"{folder}: needs a folder for each class with clips in it; found {len(names)}")
    lists = [p for p in (folder / "testlist01.txt", folder / "ucfTrainTestlist" / "testlist01.txt") if p.exists()]
    named = {line.split()[0] for line in lists[0].read_text().splitlines() if line.strip()} if lists else None
    train, test = [], []
    for label, name in enumerate(names):
        for f in sorted(f for f in (folder / name).iterdir() if f.suffix.lower() in KINDS):
            group = re.search(r"_g(\d+)_", f.name)
            held = f"{name}/{f.name}" in named if named is not None else bool(group) and int(group[1]) <= HELD_OUT_GROUPS
            person = f"{name}_{group[0] if group else f.stem}"
            (test if held else train).append(Clip(f"{name}_{f.stem}_{short_name(str(f.resolve()))}", f, person, label, name))
    if not train or not test:
        raise SystemExit(f"{folder}: {len(train)} clips to train on and {len(test)} held out; name them v_CLASS_gNN_cNN, or give testlist01.txt")
    return names, train, test


class Action:
    outputs = ("classes",)
    optimiser = "momentum"
    lr, clip_norm, l2 = 0.01, 0.0, 1e-5

    def __init__(self, a: argparse.Namespace, net: OnnxNet, clips: Clips, val: Clips | None) -> None:
        self.frames, self.batch_size = int(net.notes["frames"]), a.batch or 8
        self.clips, self.val = clips, val
        self.hears = "samples" in net.inputs
        self.by_label: dict[int, list[Clip]] = {}
        for c in clips.rows:
            self.by_label.setdefault(c.label, []).append(c)
        self.about = f"{len(clips.rows)} clips of {len(self.by_label)} classes, {len(val.rows) if val else 0} held out"
        self.seconds = self.batch_size * self.frames / 29.97

    def batch(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        rows = [self.clips.rows[i] for i in rng.integers(0, len(self.clips.rows), self.batch_size)]
        videos, sounds = zip(*(view(self.clips, c, int(rng.integers(0, max(1, c.frames - self.frames + 1))), self.frames, rng) for c in rows))
        out = dict(video=np.stack(videos), label=np.array([c.label for c in rows], np.int64))
        return out | (dict(samples=np.stack(sounds)) if self.hears else {})

    def loss(self, net: OnnxNet, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        y = answers(net, batch)
        return F.cross_entropy(y, batch["label"]), dict(accuracy=(y.argmax(1) == batch["label"]).float().mean())

    def judge(self, net: OnnxNet, items: int, seed: int = 7) -> dict[str, float]:
        return {k: v for k, v in scores(net, self.val or self.clips, min(4, VIEWS), items, seed).items() if "/" not in k}


def answers(net: OnnxNet, batch: dict[str, Tensor]) -> Tensor:
    given = dict(video=batch["video"])
    if "samples" in net.inputs:
        given["samples"] = levelled(batch["samples"], MIXTURE_RMS)
    return net(given, ("classes",))["classes"].float()


def view(clips: Clips, c: Clip, at: int, frames: int, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """A window; a clip that is too short is repeated. In training the sound may be off by a frame."""
    v = clips.seen(c, at, min(frames, c.frames), rng)
    v = np.resize(v, (frames, *v.shape[1:])) if len(v) < frames else v
    heard_at = min(max(0, at + int(rng.integers(-SHIFT, SHIFT + 1))), c.frames - 1) if rng else at
    return np.ascontiguousarray(v), clips.heard(c, heard_at, samples_of(frames))


@torch.no_grad()
def scores(net: OnnxNet, clips: Clips, views: int = VIEWS, items: int = 0, seed: int = 7) -> dict[str, float]:
    """Share of clips whose class is right, by the mean of `views` evenly spaced windows (middle crop). By class `NAME/accuracy`."""
    frames = int(net.notes["frames"])
    device = next(net.parameters()).device
    rows = clips.rows
    if items and items < len(rows):
        rows = [rows[i] for i in np.random.default_rng(seed).choice(len(rows), items, replace=False)]
    right: dict[str, list[float]] = {}
    for c in rows:
        total = 0.0
        for at in np.unique(np.linspace(0, max(0, c.frames - frames), views).astype(int)):
            v, s = view(clips, c, int(at), frames, None)
            total = total + answers(net, dict(video=torch.from_numpy(v)[None].to(device), samples=torch.from_numpy(s)[None].to(device))).softmax(1)
        right.setdefault(c.domain, []).append(float(total.argmax(1)[0] == c.label))
    every = [r for rs in right.values() for r in rs]
    return dict(n=len(every), accuracy=float(np.mean(every)), **{f"{k}/accuracy": float(np.mean(v)) for k, v in sorted(right.items())})
