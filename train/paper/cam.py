"""Where is the sound? The class activation map against face boxes (section 3 of the paper).

Faces are found by YuNet on the middle picture of a window, at the clip's own aspect. Everything is in shares (0 to 1) of the whole picture; the
network sees its middle 7/8.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from clips import Clip, Clips
from onnx_net import OnnxNet
from spectra import MIXTURE_RMS, levelled, samples_of

DETECT_SIDE = 360
SURE = 0.7


@dataclass
class Face:
    x: float
    y: float
    w: float
    h: float
    score: float

    def holds(self, x: float, y: float) -> bool:
        return self.x <= x <= self.x + self.w and self.y <= y <= self.y + self.h

    def area(self) -> float:
        return self.w * self.h


class Faces:
    def __init__(self, detector: str) -> None:
        self.net = cv2.FaceDetectorYN.create(detector, "", (320, 320), SURE)

    def find(self, picture: np.ndarray, aspect: float) -> list[Face]:
        """picture (s, s, 3) RGB, squeezed; faces by size, greatest first."""
        h = round(DETECT_SIDE / max(1, aspect))
        w = round(h * aspect)
        self.net.setInputSize((w, h))
        _, found = self.net.detect(cv2.cvtColor(cv2.resize(picture, (w, h)), cv2.COLOR_RGB2BGR))
        faces = [] if found is None else [Face(f[0] / w, f[1] / h, f[2] / w, f[3] / h, f[-1]) for f in found.tolist()]
        return sorted(faces, key=lambda f: -f.area())


def aspect_of(clip: Clip) -> float:
    video = cv2.VideoCapture(str(clip.file))
    w, h = video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)
    video.release()
    return w / h if w and h else 1.0


def peak(cam: torch.Tensor, side: int, whole: int, absolute: bool) -> tuple[float, float]:
    """cam (T, h, w) -> place of the greatest mean over time, of its absolute value (the release's way) or of the evidence for a match."""
    m = (cam.abs() if absolute else cam).mean(0)
    at = int(m.argmax())
    y, x = divmod(at, m.shape[1])
    spare = (whole - side) // 2
    return ((x + 0.5) / m.shape[1] * side + spare) / whole, ((y + 0.5) / m.shape[0] * side + spare) / whole


@torch.no_grad()
def map_of(net: OnnxNet, video: np.ndarray, sound: np.ndarray) -> torch.Tensor:
    device = next(net.parameters()).device
    given = dict(video=torch.from_numpy(np.ascontiguousarray(video))[None].to(device), samples=levelled(torch.from_numpy(sound)[None].to(device), MIXTURE_RMS))
    return net({k: given[k] for k in net.inputs}, ("cam",))["cam"][0].float().cpu()


def windows(clips: Clips, frames: int, items: int, rng: np.random.Generator) -> list[tuple[Clip, int]]:
    rows = [c for c in clips.rows if c.frames >= frames]
    out = []
    for k in range(items):
        c = rows[k % len(rows)]
        best = max((int(rng.integers(0, c.frames - frames + 1)) for _ in range(4)), key=lambda at: clips.level(c, at, frames))
        out.append((c, best))
    return out


def one_person(net: OnnxNet, clips: Clips, faces: Faces, items: int, seed: int = 7) -> dict[str, float]:
    """Share of peaks inside the face of clips with one face, beside the picture's centre and what a cell at random would hit."""
    frames, rng = int(net.notes["frames"]), np.random.default_rng(seed)
    hits: list[list[float]] = []
    for c, at in windows(clips, frames, items, rng):
        found = faces.find(np.asarray(clips.pictures(c)[at + frames // 2]), aspect_of(c))
        if len(found) != 1:
            continue
        cam = map_of(net, clips.seen(c, at, frames, None), clips.heard(c, at, samples_of(frames)))
        f = found[0]
        hits.append([float(f.holds(*peak(cam, clips.side, clips.whole, absolute))) for absolute in (True, False)] + [float(f.holds(0.5, 0.5)), chance(f, cam, clips)])
    names = ("cam", "cam_signed", "centre", "random_cell")
    return dict(n=len(hits), **dict(zip(names, np.mean(hits, 0).tolist() if hits else [float("nan")] * 4)))


def chance(f: Face, cam: torch.Tensor, clips: Clips) -> float:
    spare = (clips.whole - clips.side) // 2
    h, w = cam.shape[1:]
    cells = [((x + 0.5) / w, (y + 0.5) / h) for y in range(h) for x in range(w)]
    return float(np.mean([f.holds((x * clips.side + spare) / clips.whole, (y * clips.side + spare) / clips.whole) for x, y in cells]))


def two_people(net: OnnxNet, clips: Clips, faces: Faces, items: int, seed: int = 7) -> dict[str, float]:
    """Two clips side by side (the middle half of each), with the sound of one: is the peak on the speaker's side, and in the speaker's face?

    Beside it a face detector that does not hear: the largest face of the picture. Which side speaks alternates.
    """
    frames, rng = int(net.notes["frames"]), np.random.default_rng(seed)
    chosen = windows(clips, frames, items, rng)
    rows: list[list[float]] = []
    half = clips.whole // 2
    middle = slice(clips.whole // 4, clips.whole // 4 + half)
    for k, (c, at) in enumerate(chosen):
        others = [o for o in chosen if o[0].person != c.person]
        if not others:
            continue
        other, other_at = others[int(rng.integers(len(others)))]
        speaks_left = k % 2 == 0
        order = [(c, at), (other, other_at)] if speaks_left else [(other, other_at), (c, at)]
        both = np.concatenate([np.asarray(clips.pictures(o)[t : t + frames])[:, :, middle] for o, t in order], 2)
        found = faces.find(both[frames // 2], aspect_of(c))
        left, right = [f for f in found if f.x + f.w / 2 < 0.5], [f for f in found if f.x + f.w / 2 >= 0.5]
        if len(left) != 1 or len(right) != 1:
            continue
        spare = (clips.whole - clips.side) // 2
        view = both[:, spare : spare + clips.side, spare : spare + clips.side]
        cam = map_of(net, view, clips.heard(c, at, samples_of(frames)))
        speaker = (left if speaks_left else right)[0]
        x, y = peak(cam, clips.side, clips.whole, True)
        sx, sy = peak(cam, clips.side, clips.whole, False)
        rows.append([float((x < 0.5) == speaks_left), float(speaker.holds(x, y)), float((sx < 0.5) == speaks_left), float(speaker.holds(sx, sy)), float(found[0] is speaker), chance(speaker, cam, clips)])
    names = ("cam_side", "cam", "cam_signed_side", "cam_signed", "largest_face", "random_cell")
    return dict(n=len(rows), **dict(zip(names, np.mean(rows, 0).tolist() if rows else [float("nan")] * 6)))
