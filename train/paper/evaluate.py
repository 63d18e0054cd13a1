"""Judges what train.py made, on people that it never saw:

    python train/paper/evaluate.py --run RUN --task align|separate|cam|action [--data DIR] [--classes DIR] [--detector YUNET.onnx] [--items N]

align: accuracy beside chance and beside frozen pictures. separate: SI-SDR, assignment fixed and by an oracle. cam (of an `align`, `cam` or
`separate` checkpoint, --checkpoint): share of peaks inside the speaker's face. action: accuracy by 25 windows a clip. The same seed gives the
same table. RUN is a folder of train.py (its cache is used).
"""
from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

import action
import align
import separate
import weights
from clips import Clips, manifest_rows


def table(title: str, scores: dict[str, float]) -> None:
    """Rows by what stands before the slash, columns by what stands behind."""
    rows: dict[str, dict[str, float]] = {}
    for k, v in scores.items():
        row, column = k.split("/") if "/" in k else ("all", k)
        rows.setdefault(row, {})[column] = v
    columns = list(dict.fromkeys(c for r in rows.values() for c in r))
    print(f"\n{title}\n| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for name, r in rows.items():
        print(f"| {name} | {' | '.join(text(r.get(c)) for c in columns)} |")


def text(v: float | None) -> str:
    return "-" if v is None or math.isnan(v) else str(v) if isinstance(v, int) else f"{v:.2f}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--task", required=True, choices=["align", "separate", "cam", "action"])
    p.add_argument("--checkpoint", help="name of the checkpoint in RUN without .pt; default the task's (cam: cam, else align)")
    p.add_argument("--model", type=Path, help="align: judge this model folder of the product in place of RUN's checkpoint")
    p.add_argument("--data", type=Path)
    p.add_argument("--classes", type=Path)
    p.add_argument("--detector", help="cam: YuNet's ONNX file")
    p.add_argument("--split", default="val", help="of the manifest")
    p.add_argument("--skip", default="", help="domains to leave out, by comma")
    p.add_argument("--limit", type=int, default=0)
    p.add_argument("--items", type=int, default=192)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--json", type=Path, help="also write the numbers there")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    if (a.task == "action") != bool(a.classes) or (a.task != "action") != bool(a.data):
        p.error("action needs --classes, the other tasks --data")
    if a.task == "cam" and not a.detector:
        p.error("cam needs --detector: the ONNX file of YuNet")
    if a.model and a.task != "align":
        p.error("--model goes with --task align")
    name = a.checkpoint or (a.task if (a.run / f"{a.task}.pt").exists() else "align")
    if a.model:
        from product import ProductModel

        net: torch.nn.Module = ProductModel(a.model, a.threads or 1)
        about: dict[str, object] = dict(model=net.about)
        print(net.about)
    else:
        net = weights.from_checkpoint(a.run / f"{name}.pt", a.run / f"{name}.onnx").to(a.device)
        about = weights.load(a.run / f"{name}.pt")["about"]
        print(f"{name}: preset {about['preset']}, {about['size']} px, width {about['width']}, {about['frames']} frames, step {about['steps']}, {about['minutes']:.0f} minutes, {about['hours']:.1f} h seen, seed {about['seed']}")
    side = int(net.notes["image"])
    rows = action.class_rows(a.classes)[2] if a.classes else manifest_rows(a.data, a.split, set(a.skip.split(",")))
    rows = rows[:: max(1, len(rows) // a.limit)][: a.limit] if a.limit else rows
    clips = Clips(rows, a.run / "cache", side, a.threads or 1)
    if a.task == "align":
        scores = align.scores(net, clips, a.items, a.seed)
        table(f"Alignment, {a.split} (chance 0.5)", scores)
    elif a.task == "separate":
        scores = separate.scores(net, clips, a.items, a.seed)
        table(f"Separation, {a.split}, two voices at equal level", scores)
    elif a.task == "action":
        scores = action.scores(net, clips)
        table(f"Action recognition, held out (chance {1 / int(net.notes['classes']):.2f})", scores)
    else:
        import cam

        faces = cam.Faces(a.detector)
        scores = {}
        for title, judge in (("one face", cam.one_person), ("two people side by side", cam.two_people)):
            got = judge(net, clips, faces, a.items, a.seed)
            table(f"Peak of the activation map in the speaker's face: {title}", got)
            scores |= {f"{title}/{k}": v for k, v in got.items()}
    if a.json:
        a.json.write_text(json.dumps(dict(task=a.task, about=about, scores=scores), indent=1) + "\n")


if __name__ == "__main__":
    main()
