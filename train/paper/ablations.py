"""The paper's ablations of separation on our data, the same minutes each:

    python train/paper/ablations.py --data DATA --init RUN/align/align.pt --out RUN --minutes N [--seeds 3] [-- more options of train.py]

full, mono, one frame, no sound in the trunk, from nothing, and by sound alone (PIT), every seed in a run of its own, judged on the same pairs of
validation people. Can be stopped and started again: what was judged is not trained again. Prints a table of means and of the spread over the seeds
(greatest less least), and whether the paper's order (full > scratch > one frame) is found.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PRESETS = ["full", "mono", "static", "no-audio", "scratch", "unet_pit"]
COLUMNS = ["on_off_db", "gain_db", "oracle_db", "above_0", "kept", "frozen_gain_db", "frozen_kept"]


def call(*args: str) -> None:
    done = subprocess.run([sys.executable, *args])
    if done.returncode:
        raise SystemExit(done.returncode)


def one(a: argparse.Namespace, preset: str, seed: int) -> dict[str, float]:
    run = a.out / f"{preset}-{seed}"
    scores = run / "scores.json"
    if not scores.exists():
        run.mkdir(parents=True, exist_ok=True)
        cache = run / "cache"
        if not cache.exists():  # all see the same pictures
            (a.out / "cache").mkdir(exist_ok=True)
            cache.symlink_to((a.out / "cache").resolve())
        begin = [] if preset in ("scratch", "unet_pit") or not a.init else ["--init", str(a.init)]
        begin += ["--unet", str(a.unet)] if a.unet else []
        common = ["--data", str(a.data), "--threads", str(a.threads)]
        call(str(HERE / "train.py"), "--task", "separate", "--preset", preset, "--out", str(run), "--seed", str(seed), "--minutes", str(a.minutes), "--judge", "0", *common, *begin, *a.more)
        call(str(HERE / "evaluate.py"), "--run", str(run), "--task", "separate", "--items", str(a.items), "--json", str(scores), *common)
    return json.loads(scores.read_text())["scores"]


def cell(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f} ({max(values) - min(values):.2f})" if values else "-"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--init", type=Path, help="checkpoint of alignment; without it everything starts from nothing")
    p.add_argument("--unet", type=Path, help="checkpoint of unet_pit that every variant begins its u-net with, from nothing or not: the trunk is what they differ in")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=30, help="of each training")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    p.add_argument("--items", type=int, default=192)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("more", nargs="*", help="behind --: options of train.py (--size, --width, --device ...)")
    a = p.parse_args()
    found = {preset: [one(a, preset, seed) for seed in range(a.seeds)] for preset in a.presets}
    print(f"| | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    for preset, runs in found.items():
        print(f"| {preset} | {' | '.join(cell([r[c] for r in runs if c in r]) for c in COLUMNS)} |")
    if all(k in found for k in ("full", "scratch", "static")):
        gain = {k: sum(r["gain_db"] for r in found[k]) / a.seeds for k in ("full", "scratch", "static")}
        print(f"full > scratch > one frame: {'yes' if gain['full'] > gain['scratch'] > gain['static'] else 'no'} ({', '.join(f'{k} {v:.2f} dB' for k, v in gain.items())}; the spread says how sure that is)")


if __name__ == "__main__":
    main()
