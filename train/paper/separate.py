"""Separation (section 6 of the paper, 4.2 to 4.6 of the specification): the visible person's sound (fg) against another one's (bg).

Two windows of different people, every channel at RMS 0.1, added up. The batch is paired with itself, half against half; PIT trains on half as
many mixtures. The `large` recipe replaces the other voice by ambience (noise, music) in `ambience` of the mixtures.
"""
from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips import Clip, Clips, read_sound
from onnx_net import OnnxNet
from spectra import MIXTURE_RMS, RATE, TRAINING_RMS, level_and_phase, levelled, samples_of, si_sdr, spectrum_frames, transform, wave

COMPRESSION, NEPER = 0.3, math.log(10) / 20
PARTS = ("fg_db", "fg_phase", "bg_db", "bg_phase")


def normal_db(db: Tensor) -> Tensor:
    return 2 * (db + 100) / 180 - 1


def terms(got_db: Tensor, got_phase: Tensor, db: Tensor, phase: Tensor, weight: float) -> Tensor:
    """Per example: mean |n(S) - n(S')| + weight * mean |phase - phase'| / pi, without wrapping."""
    return (normal_db(got_db) - normal_db(db)).abs().mean((1, 2)) + weight * ((got_phase - phase) / torch.pi).abs().mean((1, 2))


def compressed(db: Tensor) -> Tensor:
    return (COMPRESSION * NEPER * db).exp()


def misses(gain: Tensor, mixture: Tensor, db: Tensor) -> Tensor:
    """Per example: |gain * mixture - what it should be|, all compressed magnitudes, over the mean of the mixture's."""
    return (gain * mixture - compressed(db)).abs().mean((1, 2)) / mixture.mean((1, 2)).clamp_min(1e-6)


def losses(y: dict[str, Tensor], fg: tuple[Tensor, Tensor], bg: tuple[Tensor, Tensor], weight: float, mixture_db: Tensor | None = None, gains: float = 0.0) -> tuple[Tensor, Tensor]:
    """Per example: with the given assignment, and with the better one (PIT). `gains`: weight of the aid that looks at what the product uses."""
    first, second = (y["fg_db"].float(), y["fg_phase"].float()), (y["bg_db"].float(), y["bg_phase"].float())
    given = terms(*first, *fg, weight) + terms(*second, *bg, weight)
    other = terms(*first, *bg, weight) + terms(*second, *fg, weight)
    if gains > 0 and mixture_db is not None:
        # on / (on + off) of the predicted magnitudes, and off / (on + off).
        ahead = NEPER * (first[0] - second[0])
        on, off = ((COMPRESSION * F.logsigmoid(x)).exp() for x in (ahead, -ahead))
        mixture = compressed(mixture_db)
        given = given + gains * (misses(on, mixture, fg[0]) + misses(off, mixture, bg[0]))
        other = other + gains * (misses(on, mixture, bg[0]) + misses(off, mixture, fg[0]))
    return given, torch.minimum(given, other)


def network_inputs(net: OnnxNet, video: Tensor | None, mixture: Tensor) -> dict[str, Tensor]:
    """mixture (B, N, 2) at the network's level: the trunk hears both channels, the u-net their mean."""
    db, phase = level_and_phase(transform(mixture.mean(2), net.inputs["db"][1]))
    given = dict(video=video, samples=mixture, db=db, phase=phase)
    return {k: given[k] for k in net.inputs}


class Separate:
    outputs = PARTS
    optimiser = "adam"
    lr, clip_norm, l2 = 1e-4, 10.0, 1e-5

    def __init__(self, a: argparse.Namespace, net: OnnxNet, clips: Clips, val: Clips | None) -> None:
        self.frames = int(net.notes["frames"])
        self.spectrum = spectrum_frames(samples_of(self.frames)) // 128 * 128
        pit = net.notes["preset"] == "unet_pit"
        self.kind = a.loss or ("pit" if pit else "fgbg")
        self.batch_size = (a.batch or (24 if pit else 6)) // 2 * 2
        self.phase_weight, self.gains = a.phase_weight, a.gains
        self.clips, self.val = clips, val
        self.sees = "video" in net.inputs
        self.by_person: dict[str, list[Clip]] = {}
        for c in clips.rows:
            if c.frames >= self.frames:
                self.by_person.setdefault(c.person, []).append(c)
        self.people = sorted(self.by_person)
        if len(self.people) < 2:
            raise SystemExit(f"separation needs clips of two people that are at least {self.frames} frames long; there are {len(self.people)}")
        self.batch_size = max(2, min(self.batch_size, len(self.people) // 2 * 2))
        self.ambience, self.ambient = a.ambience, load_sounds(a.ambience_files) if a.ambience > 0 else []
        if a.ambience > 0 and not self.ambient:
            raise SystemExit("--ambience needs noise or music: DATA/audio/manifest.tsv with rows of these kinds")
        self.about = f"{len(self.people)} people, batch {self.batch_size}, loss {self.kind}, phase weight {self.phase_weight}, ambience {self.ambience:.0%}"
        self.seconds = self.batch_size * (0.5 if self.kind == "pit" else 1) * self.frames / 29.97

    def batch(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        people = [self.people[i] for i in rng.choice(len(self.people), self.batch_size, replace=False)]
        rows = [self.by_person[p][rng.integers(len(self.by_person[p]))] for p in people]
        starts = [pick(self.clips, c, self.frames, rng) for c in rows]
        n = samples_of(self.frames)
        voices = np.stack([self.clips.heard(c, f, n) for c, f in zip(rows, starts)])
        half = self.batch_size // 2
        others = np.roll(voices, half, 0)
        for i in range(self.batch_size):
            if self.ambient and rng.random() < self.ambience:
                others[i] = piece(self.ambient[rng.integers(len(self.ambient))], n, rng)
        keep = half if self.kind == "pit" else self.batch_size
        out = dict(fg=voices[:keep], bg=others[:keep])
        if self.sees:
            out["video"] = np.stack([self.clips.seen(c, f, self.frames, rng) for c, f in zip(rows[:keep], starts[:keep])])
        return out

    def loss(self, net: OnnxNet, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        fg, bg = (levelled(batch[k], TRAINING_RMS) for k in ("fg", "bg"))
        inputs = network_inputs(net, batch.get("video"), fg + bg)
        y = net(inputs, self.outputs)
        truth = [level_and_phase(transform(part.mean(2), self.spectrum)) for part in (fg, bg)]
        given, best = losses(y, *truth, self.phase_weight, inputs["db"], self.gains)
        loss = {"fgbg": given, "pit": best, "both": given + best}[self.kind].mean()
        return loss, dict(on_off_db=((y["fg_db"] - truth[0][0]).abs() + (y["bg_db"] - truth[1][0]).abs()).mean().detach())

    def judge(self, net: OnnxNet, items: int, seed: int = 7) -> dict[str, float]:
        return {k: v for k, v in scores(net, self.val or self.clips, items, seed).items() if "/" not in k}


def pick(clips: Clips, clip: Clip, frames: int, rng: np.random.Generator) -> int:
    """A start where the person is heard, if a few draws find one."""
    floor = max(1e-3, 0.5 * clips.level(clip, 0, clip.frames))
    for _ in range(8):
        at = int(rng.integers(0, clip.frames - frames + 1))
        if clips.level(clip, at, frames) >= floor:
            break
    return at


def load_sounds(files: list[Path]) -> list[np.ndarray]:
    return [x for x in map(read_sound, files) if len(x) > RATE]


def piece(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(0, max(1, len(x) - n)))
    return np.resize(x[start : start + n], (n, 2)).astype(np.float32) / 32767


@torch.no_grad()
def scores(net: OnnxNet, clips: Clips, items: int, seed: int = 7) -> dict[str, float]:
    """Pairs of different people at equal level, as the product separates them: on / (on + off) of the predicted magnitudes, times the mixture.

    on_off_db: mean |dB| error of fg plus that of bg (the release's measure; lower is better). gain_db: SI-SDR of the visible voice against that in
    the mixture; above_0: share of mixtures where it rose; kept: the output is nearer to the visible voice than to the other. oracle_db: with the
    better of the two outputs. frozen_...: with one frame of the picture repeated. `NAME/...`: by domain.
    """
    frames = int(net.notes["frames"])
    rows = [c for c in clips.rows if c.frames >= frames]
    if len({c.person for c in rows}) < 2:
        return {}
    rng = np.random.default_rng(seed)
    device = next(net.parameters()).device
    n, steps = samples_of(frames), net.inputs["db"][1]
    results: list[tuple[str, dict[str, float]]] = []
    for k in range(items):
        c = rows[k % len(rows)]
        other = next(o for o in (rows[i] for i in rng.permutation(len(rows))) if o.person != c.person)
        at, other_at = pick(clips, c, frames, rng), pick(clips, other, frames, rng)
        fg, bg = (levelled(torch.from_numpy(clips.heard(*w, n))[None].to(device), TRAINING_RMS) for w in ((c, at), (other, other_at)))
        mixture = levelled(fg + bg, MIXTURE_RMS)
        video = torch.from_numpy(np.ascontiguousarray(clips.seen(c, at, frames, None)))[None].to(device) if "video" in net.inputs else None
        own = measured(net, video, mixture, fg, bg, steps)
        if video is not None:
            still = video[:, frames // 2 : frames // 2 + 1].expand_as(video)
            own |= {f"frozen_{k}": v for k, v in measured(net, still, mixture, fg, bg, steps).items() if k in ("gain_db", "kept")}
        results.append((c.domain, own))

    def mean(some: list[dict[str, float]]) -> dict[str, float]:
        return dict(n=len(some), **{k: float(np.mean([r[k] for r in some])) for k in some[0]})

    out = mean([r for _, r in results])
    for domain in sorted({d for d, _ in results}):
        out |= {f"{domain}/{k}": v for k, v in mean([r for d, r in results if d == domain]).items()}
    return out


def measured(net: OnnxNet, video: Tensor | None, mixture: Tensor, fg: Tensor, bg: Tensor, steps: int) -> dict[str, float]:
    y = net(network_inputs(net, video, mixture), PARTS)
    z = transform(mixture.mean(2), steps)
    share = 1 / (1 + 10 ** ((y["bg_db"] - y["fg_db"]) / 20))
    share[..., -1] = share[..., -2]
    outputs = [wave(z * share), wave(z * (1 - share))]
    length = outputs[0].shape[-1]
    want, other = (x.mean(2)[..., :length] for x in (fg, bg))
    before = si_sdr(mixture.mean(2)[..., :length], want)
    gains = [float(si_sdr(o, want) - before) for o in outputs]
    truth = [level_and_phase(transform(x.mean(2), steps))[0] for x in (fg, bg)]
    return dict(
        on_off_db=float((y["fg_db"] - truth[0]).abs().mean() + (y["bg_db"] - truth[1]).abs().mean()),
        gain_db=gains[0],
        above_0=float(gains[0] > 0),
        kept=float(si_sdr(outputs[0], want) > si_sdr(outputs[0], other)),
        oracle_db=max(gains),
    )
