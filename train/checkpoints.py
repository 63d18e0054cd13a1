"""Checkpoints: weights and sizes in one file, halved where they would be too large to travel."""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import data

MAX_BYTES = 15 * 2**20


def _cast(x: object, dtype: torch.dtype) -> object:
    if isinstance(x, Tensor):
        return x.detach().cpu().to(dtype) if x.is_floating_point() and x.numel() > 1 else x.detach().cpu()
    if isinstance(x, dict):
        return {k: _cast(v, dtype) for k, v in x.items()}
    return [_cast(v, dtype) for v in x] if isinstance(x, list) else x


def _bytes(x: object) -> int:
    if isinstance(x, Tensor):
        return x.numel() * x.element_size()
    return sum(map(_bytes, x.values() if isinstance(x, dict) else x)) if isinstance(x, (dict, list)) else 0


def save(path: Path, net: nn.Module, meta: dict[str, object], opt: torch.optim.Optimizer | None, fp16: bool) -> None:
    w = _cast(net.state_dict(), torch.float32)
    if fp16 or _bytes(w) > MAX_BYTES:
        w = _cast(w, torch.float16)
    data.save(dict(weights=w, meta=meta), path)
    if opt is not None:
        o = _cast(opt.state_dict(), torch.float32)
        data.save(_cast(o, torch.bfloat16) if _bytes(o) > MAX_BYTES else o, path.with_suffix(".opt.pt"))


def read(path: Path) -> dict[str, dict[str, object]]:
    """Weights and meta of a whole checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "slim" in state:
        raise SystemExit(f"{path} lacks what the shipped model holds: make it whole first (python train/slim.py {path} --model models/live --out live.pt)")
    return state


def load(path: Path, net: nn.Module, strict: bool = True) -> None:
    w = {k: v.float() if v.is_floating_point() else v for k, v in read(path)["weights"].items()}
    if not strict:
        own = net.state_dict()
        w = {k: v for k, v in w.items() if k in own and own[k].shape == v.shape}
        print(f"from {path}: {len(w)} of {len(own)} tensors")
    missing, unknown = net.load_state_dict(w, strict=False)
    if strict and (unknown or not all(k.endswith("usual") for k in missing)):  # calibrate.py makes those
        raise SystemExit(f"{path} is of another network: {', '.join([*missing, *unknown])}")


def load_parts(path: Path, net: nn.Module, parts: tuple[str, ...], inside: str = "", head: str = "att.") -> None:
    """What of a checkpoint fits and belongs to `parts`; `inside` is taken off the names. A student's head is the start of an attributor
    (head.* -> att.*, or `head` in its place)."""
    own, got = net.state_dict(), read(path)["weights"]
    got = {k.removeprefix(inside) if inside else k.replace("head.", head): v.float() for k, v in got.items() if v.is_floating_point()}
    got = {k: v for k, v in got.items() if k.startswith(tuple(p and f"{p}." for p in parts)) and k in own and own[k].shape == v.shape}
    print(f"from {path}: {len(got)} tensors, {', '.join(sorted({k.split('.')[0] for k in got}))}")
    net.load_state_dict(own | got)


def meta_of(path: Path) -> dict[str, object]:
    return torch.load(path, map_location="cpu", weights_only=True)["meta"]
