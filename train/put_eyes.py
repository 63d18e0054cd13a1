"""A whole model with other eyes: python train/put_eyes.py LIVE.pt FIRST.pt SECOND.pt OUT.pt

FIRST and SECOND are students gone on with from those that LIVE.pt has (`--stage student --init`), so that its voice sides understand them more or less: of each the
lips' half of its head is taken. Next: `--stage listen --init OUT.pt --lips FIRST.pt --second SECOND.pt`, `--stage attribute` (lips that speak),
calibrate.py (everybody's mean of the lips), export_weights.py with both students.
"""
from __future__ import annotations

import sys
from pathlib import Path

import data
from checkpoints import read

LIPS = ("v0.", "v1.", "v2.", "vo.")


def main() -> None:
    live, *eyes = (read(Path(p)) for p in sys.argv[1:4])
    weights, taken = {k: v.float() if v.is_floating_point() else v for k, v in live["weights"].items()}, 0
    for prefix, eye in zip(("att.", "att.second."), eyes):
        for key, value in eye["weights"].items():
            name = key.removeprefix("head.")
            if name == key or not name.startswith(LIPS):
                continue
            if weights[prefix + name].shape != value.shape:
                raise SystemExit(f"{prefix + name}: {tuple(value.shape)}, that of {sys.argv[1]} is {tuple(weights[prefix + name].shape)}")
            weights[prefix + name] = value.float()
            taken += 1
    data.save(dict(weights=weights, meta=live["meta"]), Path(sys.argv[4]))
    print(f"{sys.argv[4]}: {taken} tensors of two eyes' lips")


if __name__ == "__main__":
    main()
