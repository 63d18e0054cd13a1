"""Trained checkpoints -> one safetensors file that `sightline model build` turns into a model.

    python train/export_weights.py --student student.pt [--second second.pt] --model live.pt --out live.safetensors [--note key=value ...]

Tensors keep their state_dict names: student.* of the picture front end, sep.* and enc.* of the separator and voice encoder; what only training
needs (speaker classes, synchrony head, counters) stays out. The sizes go into the note `config` (JSON, see src/model/live/config.ts).
"""
from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path

import torch
from torch import Tensor

from checkpoints import read

DTYPES = {"F32": torch.float32, "F16": torch.float16}


def write_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """safetensors: length of the header (8 bytes, little endian), JSON header, raw little-endian float32."""
    head: dict[str, object] = {"__metadata__": notes}
    at, raw = 0, []
    for name, t in tensors.items():
        b = t.detach().float().contiguous().cpu().numpy().astype("<f4").tobytes()
        head[name] = dict(dtype="F32", shape=list(t.shape), data_offsets=[at, at + len(b)])
        at += len(b)
        raw.append(b)
    h = json.dumps(head, separators=(",", ":")).encode()
    h += b" " * (-len(h) % 8)
    part = path.with_name(path.name + ".part")
    part.write_bytes(struct.pack("<Q", len(h)) + h + b"".join(raw))
    part.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    b = path.read_bytes()
    n = struct.unpack("<Q", b[:8])[0]
    head = json.loads(b[8 : 8 + n])
    notes = head.pop("__metadata__", {})
    out = {}
    for name, e in head.items():
        i, j = e["data_offsets"]
        out[name] = torch.frombuffer(bytearray(b[8 + n + i : 8 + n + j]), dtype=DTYPES[e["dtype"]]).reshape(e["shape"]).float()
    return out, notes


def checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    ck = read(path)
    return ck["weights"], ck["meta"]


def ships(name: str, blind: bool) -> bool:
    """Whether a tensor is of use to the shipped model: a blind separator (attribution.py) is told nothing by picture or memory."""
    told = name.startswith(("sep.picture.", "sep.voice.")) or (name.startswith("sep.films") and name.endswith("weight"))
    return not name.startswith("enc.who") and not (blind and told)


def separator_config(cfg: dict[str, object]) -> dict[str, object]:
    """What src/model/live/config.ts calls `separator`; whether its clock fits the pictures is checked there."""
    return {k: cfg[k] for k in ("kind", "width", "blocks", "hop", "ahead", "nfft", *(["hidden"] if cfg["kind"] == "band" else []))}


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--student", type=Path, required=True)
    p.add_argument("--second", type=Path, help="the student of a second eye")
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--note", action="append", default=[], help="key=value, kept in the file and in the model card")
    a = p.parse_args()
    sw, sm = checkpoint(a.student)
    mw, mm = checkpoint(a.model)
    cfg = mm["cfg"]
    sep = separator_config(cfg)
    blind = "attribution" in mm
    second = checkpoint(a.second)[0] if a.second else {}
    if (blind and mm["attribution"].get("eyes", 1) == 2) != bool(a.second):
        raise SystemExit("--second is needed by a model of two eyes, and by no other")
    if blind and "att.usual" not in mw:
        raise SystemExit(f"{a.model} has not learnt everybody's mean of the lips: calibrate.py first")
    eyes = {k: v for k, v in sw.items() if k.startswith("student.")} | {k.replace("student.", "student.second.", 1): v for k, v in second.items() if k.startswith("student.")}
    keep = eyes | {k: v for k, v in mw.items() if k.startswith(("sep.", "enc.", "att.")) and ships(k, blind)}
    keep = {k: v for k, v in keep.items() if v.is_floating_point()}
    bad = [k for k, v in keep.items() if not torch.isfinite(v).all()]
    if bad:
        raise SystemExit(f"values that are not finite in {', '.join(bad)}")
    config = dict(side=int(sm["side"]), widths=[keep[f"student.conv.{i}.weight"].shape[0] for i in range(4)], hidden=keep["student.flat.weight"].shape[0],
                  separator=sep, vdim=cfg["vdim"], vhidden=cfg["vhidden"], edim=cfg["edim"], voiceHidden=keep["enc.inp.weight"].shape[0])
    if blind:
        config["attribution"] = mm["attribution"]
    training = {f"{part}_{k}": v for part, m in (("student", sm), ("model", mm)) for k, v in m.items() if k in ("steps", "hours", "features")}
    training |= dict(n.split("=", 1) for n in a.note)
    write_tensors(a.out, keep, dict(config=json.dumps(config), training=json.dumps(training)))
    print(f"{a.out}: {len(keep)} tensors, {sum(v.numel() for v in keep.values()) / 1e6:.2f} M values, {a.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
