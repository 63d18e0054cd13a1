"""A deeper separator that does what the shallower one did: python train/grow.py SEPARATE.pt OUT.pt --blocks 6

New blocks are copies of those before them, spread evenly, whose ways out are zero: at first they add nothing, and from the first step on
they learn with inputs that already mean something. (Net2Net, Chen et al. 2015; zero ways out as in Fixup, Zhang et al. 2019.)
"""
from __future__ import annotations

import argparse
from pathlib import Path

import torch

import data
from checkpoints import read

OUT = (".o.weight", ".o.bias", ".m4.weight", ".m4.bias")  # of a BandBlock (separators.py)


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("separate", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--blocks", type=int, required=True, help="blocks of the result")
    a = p.parse_args()
    old = read(a.separate)
    cfg = old["meta"]["cfg"]
    if cfg["kind"] != "band" or not cfg["blocks"] < a.blocks <= 2 * cfg["blocks"]:
        raise SystemExit(f"{a.separate}: kind {cfg['kind']}, {cfg['blocks']} blocks; wanted: kind band and more blocks, at most twice as many")
    # Which old block each new one is made of, and whether it is the first of its copies.
    source = [k * cfg["blocks"] // a.blocks for k in range(a.blocks)]
    weights = {k: v for k, v in old["weights"].items() if ".blocks." not in k}
    for new, k in enumerate(source):
        head = f"sep.blocks.{k}."
        for name, v in old["weights"].items():
            if name.startswith(head):
                added = new and source[new - 1] == k and name.endswith(OUT)
                weights[f"sep.blocks.{new}.{name.removeprefix(head)}"] = torch.zeros_like(v) if added else v.clone()
    data.save(dict(weights=weights, meta=old["meta"] | dict(cfg=cfg | dict(blocks=a.blocks))), a.out)
    print(f"{a.out}: {a.blocks} blocks, made of {', '.join(str(k) for k in source)}")


if __name__ == "__main__":
    main()
