"""Makes a small set of labelled clips in UCF-101's layout, for trying action recognition where that set is not at hand:

    python train/paper/make_actions.py --rendered HEADS --data DIR --out CLASSES

HEADS as render_heads.sh makes them (d*: people who say nothing); DIR/audio/manifest.tsv: voices, noise and music. Four classes. `Speaking`: a head with
its own voice. `Listening`, `Music`, `Noise`: a silent head with somebody's voice, music, noise. So no single sense tells all four apart: by
pictures alone two groups are left, by sound alone speaking and listening are one. Groups 1 to 7 are held out: their heads and their sounds (split
`val`) are in no other group.
"""
from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from clips import sound_rows

SECONDS, PIECES, HELD = 5.0, 2, 7


def cut(video: Path, sound: Path | None, start: float, sound_start: float, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        return
    heard = ["-ss", f"{start:.2f}", "-i", str(video)] if sound is None else ["-stream_loop", "-1", "-ss", f"{sound_start:.2f}", "-i", str(sound)]
    part = out.with_suffix(".part.mp4")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-ss", f"{start:.2f}", "-i", str(video), *heard, "-map", "0:v:0", "-map", "1:a:0", "-t", str(SECONDS),
               "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ar", "44100", "-y", str(part)]
    subprocess.run(command, check=True)
    part.replace(out)


def groups(heads: list[Path]) -> list[tuple[int, Path]]:
    """A number for each head; at least a quarter of them is held out."""
    held = min(HELD, max(1, len(heads) // 4))
    return [(i + 1 if i < held else i - held + HELD + 1, h) for i, h in enumerate(heads)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rendered", type=Path, required=True)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    clips = sorted(a.rendered.glob("*/clip.mp4"))
    speaking, silent = [[c for c in clips if c.parent.name.startswith("d") == quiet] for quiet in (False, True)]
    sounds = {(name, split): sound_rows(a.data, (kind,), split) for name, kind in (("Listening", "speech"), ("Music", "music"), ("Noise", "noise")) for split in ("train", "val")}
    missing = [f"{n} ({s})" for (n, s), files in sounds.items() if not files]
    if len(speaking) < 2 or len(silent) < 2 or missing:
        raise SystemExit(f"needs two heads that speak ({len(speaking)}) and two that do not ({len(silent)}), and sounds: lacking {', '.join(missing) or 'none'}")
    made = 0
    for label, heads in (("Speaking", speaking), *((n, silent) for n in ("Listening", "Music", "Noise"))):
        for group, head in groups(heads):
            for piece in range(PIECES):
                files = sounds.get((label, "val" if group <= HELD else "train"), [])
                sound = files[(group * PIECES + piece) % len(files)] if files else None
                cut(head, sound, piece * SECONDS * 0.9, 0.0, a.out / label / f"v_{label}_g{group:02d}_c{piece + 1:02d}.mp4")
                made += 1
    print(f"{a.out}: {made} clips of 4 classes, {SECONDS:.0f} s each")


if __name__ == "__main__":
    main()
