"""What each part of `live` is worth, on validation people: one command, two tables.

    python train/ablations.py --pack PACK --out RUN [--steps 400] [--seeds 1] [--model live.pt --features FEATURES]

Front ends of the same number of steps each, from random weights, with all there is and with one thing left out: the teacher, the rendered heads, half
the people, negatives of the same person. Judged as pairs.py does: how often a person's own voice fits the lips better than another's. Every front end is a run of its own below RUN;
what is there already is not trained again, so that a stopped run goes on.

With --model (and the features of its eyes, of `train.py --features-only` and join_features.py): the whole model as it ships, with the picture held
still, without one, without a memory of more than a second, with the right choice given, and behind a perfect separator.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import attribution
import data
import pairs
from calibrate import Trial, load
from metrics import si_sdr
from stft import stft

HERE = Path(__file__).resolve().parent
ROWS: dict[str, list[str]] = {
    "all": [],
    "no teacher": ["--teacher-weight", "0"],
    "no rendered heads": ["--without", "rendered"],
    "half the people": ["--half", "0"],
    "four segments of each person in a batch": ["--group", "4"],
}
SPANS = (1.0, 2.0, 4.0)
SECOND = 0.96  # kept of the evidence a picture: half of it is left after 0.7 s
SECONDS = 10.0
TIMES = (1.0, 2.0, 4.0, 10.0)


def students(a: argparse.Namespace) -> dict[tuple[str, int], Path]:
    runs = {}
    for name, options in ROWS.items():
        for seed in range(a.seeds):
            run = a.out / f"{name.replace(' ', '-')}-{a.steps}-{seed}"
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


LOOK_AHEADS = {"balanced": 3, "half a second": 12, "quality": 30, "two seconds": 50}  # pictures; src/channel/latency.ts


def best_of(t: Trial) -> Tensor:
    """Which of the two voices is nearer to the wanted one, (N)."""
    y = attribution.separated(t.M, t.X, t.net.sep.cfg.hop, t.n)
    return torch.stack([si_sdr(y[:, k], t.a) for k in (0, 1)]).argmax(0)


def row(name: str, t: Trial, given: bool = False, ahead: int = 0) -> None:
    """Decibels, share above 0, kept, and in how many mixtures the right voice is believed in more than the other after so many seconds."""
    best = F.one_hot(best_of(t), 2)[:, None].float()
    w = best.expand(-1, t.v.shape[1], -1) if given else t.weights(ahead)
    more = (w * (2 * best - 1)).sum(-1) > 0
    db, above, kept = t.score(w)
    print(f"| {name} | {db:+.2f} | {above:.2f} | {kept:.2f} | {' | '.join(f'{more[:, int(25 * s) - 1].float().mean():.2f}' for s in TIMES)} |", flush=True)


def ideal(t: Trial) -> Tensor:
    """Masks of a perfect separator: each voice's share of the power."""
    c = t.net.sep.cfg
    power = torch.stack([torch.cat([stft(x[i : i + 16], c.hop, c.nfft).abs() ** 2 for i in range(0, len(x), 16)]) for x in (t.a, t.b)], 1)
    return (power / power.sum(1, keepdim=True).clamp_min(1e-9)).sqrt()


@torch.no_grad()
def model_table(a: argparse.Namespace) -> None:
    pack = data.load_pack(a.pack, torch.device("cpu"), student=torch.load(a.features, weights_only=True))
    net, _ = load(a.model)
    t = Trial(net, pack, SECONDS)
    print(f"\nPairs of validation people at 0 dB, {SECONDS:g} s from a cold start, offline (n {len(t.a)}):\n")
    print(f"| model | improvement, dB | above 0 | kept | {' | '.join(f'right after {s:g} s' for s in TIMES)} |\n|{' --- |' * (4 + len(TIMES))}")
    row("as it ships, decided at once", t)
    for name, ahead in LOOK_AHEADS.items():
        row(f"with a look-ahead of {ahead / 25:g} s ({name})", t, ahead=ahead)
    row("right choice given", t, given=True)
    row("picture held still", Trial(net, pack, SECONDS, still=True))
    row("no picture", Trial(net, pack, SECONDS, seen=False))
    kept = net.att.keeping.clone()
    net.att.keeping.fill_(SECOND)
    row("no memory beyond a second", t)
    net.att.keeping.copy_(kept)
    masks = t.M
    t.M = ideal(t)
    row("a perfect separator", t)
    t.M = masks
    if net.att.second is not None:
        net.att.second, t.v = None, t.v[..., : net.att.vdim]
        row("first eye alone", t)


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
