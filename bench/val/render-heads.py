"""Renders evaluation heads: drawn people with known stems, each mixed with another's voice at 0 dB.

    python3 bench/val/render-heads.py --synth PATH/TO/synth --data DATA --out FOLDER [--count 12] [--seconds 8]

PATH/TO/synth is the talking-head renderer (a Python package called synth), DATA the evaluation data (audio/manifest.tsv with
kind, split, speaker, gender, file). FOLDER must lie outside of the repository: recorded voices are in it. Heads have the seeds 100, 101,
...; even ones speak with a recorded voice of the validation split (it moves the mouth), odd ones with espeak-ng. The voice from
off-screen is that of another head's speaker, so half of them are recorded and half are not. Each folder then holds
clip.mp4 (the picture), on_screen.wav, off_screen.wav (48 kHz) and pair.json. `bench/val.ts --rendered FOLDER` reads them.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

RATE = 48_000


def decode(path, seconds):
    out = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", str(RATE), "-t", str(seconds), "-"],
        check=True,
        capture_output=True,
    ).stdout
    return np.frombuffer(out, np.float32).astype(np.float64)


def speech_rms(x):
    """RMS over the 20 ms frames that are not pauses (above the loudest tenth's level - 30 dB)."""
    n = len(x) // 960
    power = (x[: n * 960].reshape(n, 960) ** 2).mean(1)
    loud = np.sort(power)[int(0.9 * n)]
    return float(np.sqrt(power[power > loud * 1e-3].mean()))


def voices(data, count, seconds):
    """Recorded validation voices, one a speaker, men and women in turn."""
    with open(Path(data) / "audio" / "manifest.tsv", newline="") as f:
        rows = [r for r in csv.DictReader(f, delimiter="\t") if r["kind"] == "speech" and r["split"] == "val"]
    found = {"m": [], "f": []}
    speakers = set()
    for r in rows:
        g = r["gender"][:1]
        if g not in found or float(r["seconds"]) < seconds + 0.5 or r["speaker"] in speakers or "age 6" in r["notes"]:
            continue
        speakers.add(r["speaker"])
        found[g].append((Path(data) / "audio" / r["file"], g, r["speaker"]))
    return [found["mf"[i % 2]][i // 2] for i in range(count)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--synth", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--count", type=int, default=12)
    p.add_argument("--seconds", type=float, default=8)
    a = p.parse_args()
    synth = Path(a.synth).resolve()
    recorded = voices(a.data, (a.count + 1) // 2, a.seconds)
    heads = []
    for i in range(a.count):
        folder = Path(a.out).resolve() / f"h{100 + i}"
        voice = recorded[i // 2] if i % 2 == 0 else None
        gender = voice[1] if voice else "mf"[(i // 2 + 1) % 2]
        heads.append({"folder": folder, "gender": gender, "speaker": voice[2] if voice else f"espeak-{100 + i}"})
        if (folder / "truth.json").exists():
            continue
        command = [sys.executable, "-m", "synth", "--scene", "a", "--seed", str(100 + i), "--seconds", str(a.seconds)]
        command += ["--size", "480x360", "--fps", "25", "--view", "front", "--occlude", "none", "--out", str(folder)]
        command += ["--female" if gender == "f" else "--no-female"]
        if voice:
            command += ["--voice-audio", str(voice[0])]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(command, cwd=synth.parent, env=env, check=True, stdout=subprocess.DEVNULL)
        print(folder, flush=True)
    for i, head in enumerate(heads):
        # 5 on: recorded and espeak-ng voices meet, of one gender and of two.
        other = heads[(i + 5) % len(heads)]
        on = decode(head["folder"] / "on_screen.wav", a.seconds)
        off = decode(other["folder"] / "on_screen.wav", a.seconds)
        off = np.resize(off, len(on)) if len(off) < len(on) else off[: len(on)]
        off = off * (speech_rms(on) / speech_rms(off))
        path = head["folder"] / "off_screen.wav"
        encode = ["ffmpeg", "-v", "error", "-y", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
        subprocess.run([*encode, "-c:a", "pcm_f32le", str(path)], input=off.astype(np.float32).tobytes(), check=True)
        pair = {"on": head["speaker"], "off": other["speaker"], "genders": head["gender"] + other["gender"]}
        (head["folder"] / "pair.json").write_text(json.dumps(pair) + "\n")


if __name__ == "__main__":
    main()
