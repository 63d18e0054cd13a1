"""A model of two eyes from two of one: python train/join_eyes.py FIRST.pt SECOND.pt OUT.pt

Separator, speaking lips and voice encoder are FIRST's; of SECOND only what its eye learnt is taken. Both must have the same sizes. Then
calibrate.py with the joined features (join_features.py), and export_weights.py with both students.
"""
from __future__ import annotations

import sys
from pathlib import Path

import data
from attribution import AttributionConfig, Eye
from checkpoints import read
from separators import SepConfig


def main() -> None:
    first, second = (read(Path(p)) for p in sys.argv[1:3])
    sizes = dict(first["meta"]["attribution"], eyes=2)
    if sizes != dict(second["meta"]["attribution"], eyes=2):
        raise SystemExit(f"eyes of different sizes: {first['meta']['attribution']}, {second['meta']['attribution']}")
    eye = Eye(SepConfig(**first["meta"]["cfg"]).vdim, AttributionConfig(**sizes), drop=0.0)
    taken = {f"att.second.{k}": second["weights"][f"att.{k}"].float() for k in eye.state_dict()}
    data.save(dict(weights=first["weights"] | taken, meta=first["meta"] | dict(attribution=sizes)), Path(sys.argv[3]))
    print(f"{sys.argv[3]}: {len(taken)} tensors of the second eye")


if __name__ == "__main__":
    main()
