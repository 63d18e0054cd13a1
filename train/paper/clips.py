"""Clips as the networks' readers want them: 29.97 whole-frame pictures a second, squeezed to 8/7 of the network's side, and stereo sound at 21 kHz.

    Clips(rows, cache, side)

Decoded once by ffmpeg into memory maps (CACHE/NAME.rgb, .s16); what is there is kept, also when a clip of
the same name has changed since. Rows come from a manifest (DATA/manifest.tsv), folders of
rendered heads (HEADS/*/clip.mp4), or a folder of classes (UCF-101's layout).
"""
from __future__ import annotations

import csv
import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spectra import FPS, RATE


@dataclass
class Clip:
    name: str
    file: Path
    person: str
    label: int = -1
    domain: str = ""
    frames: int = 0
    loud: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # energy up to each frame


def squeezed(side: int) -> int:
    """256 for 224: what the product squeezes a picture to before it takes the middle (src/file/window-pictures.ts)."""
    return side + 2 * round(side / 14)


def manifest_rows(data: Path, split: str, skip: set[str] = frozenset()) -> list[Clip]:
    """Clips of one split. The validation split is for judging only."""
    with (data / "manifest.tsv").open(newline="") as f:
        rows = [r for r in csv.DictReader(f, delimiter="\t") if r["split"] == split and r.get("domain", "") not in skip]
    return [Clip(f"{split}_{r['id']}", data / r["file"], r["person"], domain=r.get("domain", "")) for r in rows]


def rendered_rows(heads: Path) -> list[Clip]:
    """Rendered heads that speak (d*: silent people, of no use for alignment)."""
    return [Clip(f"head_{c.parent.name}", c, f"head_{c.parent.name}", domain="rendered") for c in sorted(heads.glob("*/clip.mp4")) if not c.parent.name.startswith("d")]


def sound_rows(data: Path, kinds: tuple[str, ...], split: str = "train") -> list[Path]:
    """Sound files without pictures (DATA/audio/manifest.tsv) of some kinds: music, noise."""
    path = data / "audio" / "manifest.tsv"
    if not path.exists():
        return []
    with path.open(newline="") as f:
        return [data / "audio" / r["file"] for r in csv.DictReader(f, delimiter="\t") if r["kind"] in kinds and r["split"] == split]


def ffmpeg(*args: str) -> bytes:
    done = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", *args], capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip().splitlines()[-1:] or "ffmpeg failed")
    return done.stdout


def read_sound(file: Path) -> np.ndarray:
    """(N, 2) int16 at 21 kHz, from the file's time 0; silence where it has no sound."""
    try:
        raw = ffmpeg("-i", str(file), "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ac", "2", "-ar", str(RATE), "-f", "s16le", "-")
    except OSError:
        return np.zeros((0, 2), np.int16)
    return np.frombuffer(raw, np.int16).reshape(-1, 2)


def decode(clip: Clip, cache: Path, side: int) -> None:
    """Writes NAME.rgb (T, s, s, 3) and NAME.s16 (N, 2), s the squeezed side; the sound is cut or filled up to the pictures."""
    s = squeezed(side)
    picture, sound = cache / f"{clip.name}.{s}.rgb", cache / f"{clip.name}.s16"
    if picture.exists() and sound.exists():
        return
    part = picture.with_suffix(".part")
    # Frames are dropped or doubled to a constant rate that starts at 0, as the release does it.
    ffmpeg("-i", str(clip.file), "-map", "0:v:0", "-vf", f"fps=30000/1001:start_time=0,scale={s}:{s}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-y", str(part))
    frames = part.stat().st_size // (3 * s * s)
    wave, n = read_sound(clip.file), int(RATE / FPS * frames)
    whole = np.zeros((n, 2), np.int16)
    whole[: len(wave)] = wave[:n]
    sound.write_bytes(whole.tobytes())
    part.replace(picture)


class Clips:
    """Clips in memory maps, with the loudness of each of their frames."""

    def __init__(self, rows: list[Clip], cache: Path, side: int, jobs: int = 1) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self.side, self.cache, self.whole = side, cache, squeezed(side)

        def one(clip: Clip) -> Clip | None:
            try:
                decode(clip, cache, side)
                clip.frames = self.pictures(clip).shape[0]
                wave = self.sound(clip).astype(np.float32).mean(1) / 32767
                at = (RATE / FPS * np.arange(clip.frames + 1)).astype(np.int64)
                total = np.concatenate([[0], np.cumsum(wave.astype(np.float64) ** 2)])
                clip.loud = total[np.minimum(at, len(wave))]
                return clip if clip.frames > 0 else None
            except (OSError, ValueError) as e:
                print(f"left out: {clip.file.name}: {e}", flush=True)
                return None

        with ThreadPoolExecutor(jobs) as pool:
            self.rows = [c for c in pool.map(one, rows) if c]
        if not self.rows:
            raise SystemExit("no clip could be read; give --data (manifest.tsv and its clips), --rendered or --classes")
        self.people = sorted({c.person for c in self.rows})

    def pictures(self, clip: Clip) -> np.ndarray:
        s = self.whole
        path = self.cache / f"{clip.name}.{s}.rgb"
        return np.memmap(path, np.uint8, "r").reshape(-1, s, s, 3)

    def sound(self, clip: Clip) -> np.ndarray:
        path = self.cache / f"{clip.name}.s16"
        return np.memmap(path, np.int16, "r").reshape(-1, 2) if path.stat().st_size else np.zeros((0, 2), np.int16)

    def level(self, clip: Clip, at: int, frames: int) -> float:
        """Root mean square of the sound of some frames, and of a clip with (0, clip.frames)."""
        e = clip.loud[min(at + frames, clip.frames)] - clip.loud[at]
        return float(np.sqrt(max(e, 0) / max(1, frames * RATE / FPS)))

    def heard(self, clip: Clip, at: int, samples: int) -> np.ndarray:
        """(samples, 2) float32 from the time of frame `at`."""
        start = int(RATE / FPS * at)
        out = np.zeros((samples, 2), np.float32)
        piece = self.sound(clip)[start : start + samples]
        out[: len(piece)] = piece / np.float32(32767)
        return out

    def seen(self, clip: Clip, at: int, frames: int, rng: np.random.Generator | None) -> np.ndarray:
        """(frames, side, side, 3) uint8: a crop at one random place and maybe mirrored, the same for all frames; without `rng` the middle."""
        spare = self.whole - self.side
        y, x, flip = (*rng.integers(0, spare + 1, 2), rng.random() < 0.5) if rng else (spare // 2, spare // 2, False)
        v = self.pictures(clip)[at : at + frames, y : y + self.side, x : x + self.side]
        return v[:, :, ::-1] if flip else v


def short_name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
