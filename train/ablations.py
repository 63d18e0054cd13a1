"""What each part of `live` is worth, on validation people: one command, two tables.

    python train/ablations.py --pack PACK --out RUN [--steps 400] [--seeds 1] [--model live.pt --features FEATURES]

Front ends of the same number of steps each, from random weights, with all there is and with one thing left out: the teacher, the rendered heads, half
the people. Judged as pairs.py does: how often a person's own voice fits the lips better than another's. Every front end is a run of its own below RUN;
what is there already is not trained again, so that a stopped run goes on.

With --model (and the features of its eyes, of `train.py --features-only` and join_features.py): the whole model as it ships, with the picture held
still, without one, without a memory of more than a second, and with the right choice given.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

import attribution
import data
import pairs
from calibrate import Trial, load
from metrics import si_sdr
from net import istft

HERE = Path(__file__).resolve().parent
ROWS: dict[str, list[str]] = {
    "all": [],
    "no teacher": ["--teacher-weight", "0"],
    "no rendered heads": ["--without", "rendered"],
    "half the people": ["--half", "0"],
}
SPANS = (1.0, 2.0, 4.0)
SECOND = 0.96  # kept of the evidence a picture: half of it is left after 0.7 s
SECONDS = 10.0


def students(a: argparse.Namespace) -> dict[tuple[str, int], Path]:
    runs = {}
    for name, options in ROWS.items():
        for seed in range(a.seeds):
            run = a.out / f"{name.replace(' ', '-')}-{seed}"
            runs[name, seed] = run / "student.pt"
            if not (run / "done").exists():
                command = ["train.py", "--stage", "student", "--pack", str(a.pack), "--out", str(run), "--steps", str(a.steps), "--minutes", "1e6", "--variants", "0", "--seed", str(seed),
                           "--batch", "24", "--lr", "1.7e-3", "--lr-end", "5e-5", "--average", "0.99", "--threads", str(a.threads), "--every", "1e6", *options, *a.more]
                subprocess.run([sys.executable, *command], cwd=HERE, check=True)
                (run / "done").touch()
    return runs


def judged(pack: data.Pack, path: Path) -> list[float]:
    moving, still = (pairs.vectors(pack, path, s) for s in (False, True))
    return [pairs.right(*pairs.scores(moving, s)) for s in SPANS] + [pairs.right(*pairs.scores(still, 2.0))]


def cell(values: list[float]) -> str:
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({max(values) - min(values):.3f})"


def eyes_table(a: argparse.Namespace) -> None:
    runs = students(a)
    pack = data.load_pack(a.pack, torch.device("cpu"), crops=pairs.side_of(next(iter(runs.values()))), sound_only=True)
    found = {key: judged(pack, path) for key, path in runs.items()}
    print(f"Own voice before another's, {a.steps} steps each" + (f", mean (greatest less least) of {a.seeds} seeds" if a.seeds > 1 else "") + ":\n")
    print(f"| front end | {' | '.join(f'{s:g} s' for s in SPANS)} | 2 s, picture held still |\n| --- | --- | --- | --- | --- |")
    for name in ROWS:
        print(f"| {name} | {' | '.join(cell(list(v)) for v in zip(*(found[name, s] for s in range(a.seeds))))} |", flush=True)


def right_order(t: Trial) -> tuple[float, float, float]:
    """What the separator would give if the choice were known."""
    y = attribution.separated(t.M, t.X, t.net.sep.cfg.hop, t.n)
    to_a, to_b = (torch.stack([si_sdr(y[:, k], x) for k in (0, 1)]) for x in (t.a, t.b))
    best: Tensor = to_a.argmax(0, keepdim=True)
    gain = to_a.gather(0, best)[0] - t.base
    return gain.mean().item(), (gain > 0).float().mean().item(), (to_a.gather(0, best) > to_b.gather(0, best)).float().mean().item()


@torch.no_grad()
def model_table(a: argparse.Namespace) -> None:
    pack = data.load_pack(a.pack, torch.device("cpu"), student=torch.load(a.features, weights_only=True))
    net, _ = load(a.model)
    plain = Trial(net, pack, SECONDS)
    rows = {"as it ships": plain.score(), "right choice given": right_order(plain)}
    rows["picture held still"] = Trial(net, pack, SECONDS, still=True).score()
    rows["no picture"] = Trial(net, pack, SECONDS, seen=False).score()
    kept = net.att.keeping.clone()
    net.att.keeping.fill_(SECOND)
    rows["no memory beyond a second"] = plain.score()
    net.att.keeping.copy_(kept)
    if net.att.second is not None:
        net.att.second = None
        plain.v = plain.v[..., : net.att.vdim]
        rows["first eye alone"] = plain.score()
    print(f"\nPairs of validation people at 0 dB, {SECONDS:g} s from a cold start, offline (n {len(plain.a)}):\n\n| model | improvement, dB | above 0 | kept |\n| --- | --- | --- | --- |")
    for name, (db, above, keep) in rows.items():
        print(f"| {name} | {db:+.2f} | {above:.2f} | {keep:.2f} |", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=400, help="of each front end; 0: no front ends")
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--model", type=Path)
    p.add_argument("--features", type=Path)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("more", nargs="*", help="behind --: options of train.py (--compile ...)")
    a = p.parse_args()
    if a.model and not a.features:
        p.error("--model wants --features, those of its eyes")
    a.pack, a.out = a.pack.resolve(), a.out.resolve()  # the trainings run in this folder
    a.out.mkdir(parents=True, exist_ok=True)
    if a.steps:
        eyes_table(a)
    if a.model:
        model_table(a)


if __name__ == "__main__":
    main()
