"""Features of two students side by side, for a model of two eyes: python train/join_features.py FIRST.pt SECOND.pt OUT.pt

Each is a student_features.pt of the same pack; clips that only one of them has are left out.
"""
from __future__ import annotations

import sys
from pathlib import Path

import torch

import data


def main() -> None:
    first, second = (torch.load(p, weights_only=True) for p in sys.argv[1:3])
    out = {}
    for name in first.keys() & second.keys():
        a, b = (f[name].reshape(-1, *f[name].shape[-2:]) for f in (first, second))
        variants, frames = min(len(a), len(b)), min(a.shape[1], b.shape[1])
        out[name] = torch.cat([a[:variants, :frames], b[:variants, :frames]], -1)
    data.save(out, Path(sys.argv[3]))
    print(f"{sys.argv[3]}: {len(out)} clips")


if __name__ == "__main__":
    main()
