"""Clips cut to the mouth, as the training pack has them, in the layout of DATA: python close_ups.py --pack PACK --data DATA --out CLOSE

What a small network needs to see of a talking person fills the picture there; in a whole picture of 112 pixels it is some 20 of them. The pack's
crops (train/pack.py --local) follow the face with a smoothed box; sound comes from the clip itself. Writes CLOSE/manifest.tsv and
CLOSE/clips, for `train.py --data CLOSE`; splits stay what they are, clips whose offset between sound and picture is unsure are left out
on request.
"""
from __future__ import annotations

import argparse
import csv
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def one(crops: Path, clip: Path, out: Path) -> bool:
    """Pictures of `crops`, sound of `clip`."""
    if not out.exists():
        part = out.with_suffix(".part.mp4")
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(crops), "-i", str(clip), "-map", "0:v:0", "-map", "1:a:0", "-c", "copy", "-y", str(part)]
        if subprocess.run(command).returncode:
            return False
        part.rename(out)
    return True


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--rendered", type=Path, help="folder of rendered heads that the pack was made with")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--sure", action="store_true", help="training clips: only those whose offset is sure")
    a = p.parse_args()
    (a.out / "clips").mkdir(parents=True, exist_ok=True)
    with (a.data / "manifest.tsv").open(newline="") as f:
        rows = [r for r in csv.DictReader(f, delimiter="\t") if r["split"] in ("train", "val")]
    rows = [r | dict(file=str(a.data / r["file"])) for r in rows if r["split"] == "val" or not (a.sure and "offset unsure" in r["notes"])]
    for head in sorted(a.rendered.glob("*/clip.mp4")) if a.rendered else []:
        if not head.parent.name.startswith("d"):  # those are silent
            name = "syn_" + head.parent.name
            rows.append(dict(id=name, file=str(head), split="train", domain="rendered", person=name))
    rows = [r for r in rows if (a.pack / "clips" / f"{r['id']}.mp4").exists()]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda r: one(a.pack / "clips" / f"{r['id']}.mp4", Path(r["file"]), a.out / "clips" / f"{r['id']}.mp4"), rows))
    rows = [r for r, good in zip(rows, done) if good]
    with (a.out / "manifest.tsv").open("w", newline="") as f:
        w = csv.DictWriter(f, ["id", "file", "split", "domain", "person"], delimiter="\t", extrasaction="ignore")
        w.writeheader()
        w.writerows(r | dict(file=f"clips/{r['id']}.mp4") for r in rows)
    print(f"{len(rows)} clips, {sum(r['split'] == 'val' for r in rows)} of them val; {len(done) - len(rows)} could not be made")


if __name__ == "__main__":
    main()
