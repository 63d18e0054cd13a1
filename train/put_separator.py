"""A whole model with another separator: python train/put_separator.py LIVE.pt SEPARATE.pt OUT.pt

The separator may be of another size. What listens to its voices has not heard them yet: `--stage listen --init OUT.pt` is next.
"""
from __future__ import annotations

import sys
from pathlib import Path


import data
from checkpoints import read


def main() -> None:
    live, new = (read(Path(p)) for p in sys.argv[1:3])
    for key in ("hop", "ahead", "vdim", "nfft"):
        if live["meta"]["cfg"][key] != new["meta"]["cfg"][key]:
            raise SystemExit(f"{sys.argv[2]}: {key} is {new['meta']['cfg'][key]}, that of {sys.argv[1]} is {live['meta']['cfg'][key]}")
    weights = {k: v.float() if v.is_floating_point() else v for k, v in live["weights"].items() if not k.startswith("sep.")}
    taken = {k: v.float() for k, v in new["weights"].items() if k.startswith("sep.")}
    meta = live["meta"] | dict(cfg=new["meta"]["cfg"]) | {f"separator_{k}": new["meta"][k] for k in ("steps", "hours")}
    data.save(dict(weights=weights | taken, meta=meta), Path(sys.argv[3]))
    print(f"{sys.argv[3]}: {len(taken)} tensors of the separator, {new['meta']['cfg']['blocks']} blocks")


if __name__ == "__main__":
    main()
