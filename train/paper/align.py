"""Alignment (section 3 of the paper, 4.1 of the specification): does this sound belong to these pictures, or was it shifted in time?

Both windows of a pair lie whole inside one clip, so a shifted sound has no seam and no silence put in. Pictures go with either sound equally
often: (f1, f2) and (f2, f1) are drawn alike, hence the sound by itself says nothing. Shifts are those of the paper, 65 to 176 frames (2.2 to
5.9 s), where the clip has room; shorter ones, down to `SHORTEST`, where it has not.
"""
from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clips import Clip, Clips
from contrast import Contrast, begin_fusion
from onnx_net import OnnxNet
from spectra import MIXTURE_RMS, levelled, samples_of

NEAREST, FARTHEST, SHORTEST = 65, 176, 20
QUIET = 0.25  # of the clip's level: a window must be this loud, or nobody could tell


def shifts(clip: Clip, frames: int) -> tuple[int, int] | None:
    """Least and greatest shift that the clip has room for; none: the clip is too short."""
    room = min(FARTHEST, clip.frames - frames)
    return None if room < SHORTEST else (min(NEAREST, room), room)


def heard(clips: Clips, clip: Clip, at: int, frames: int) -> np.ndarray:
    return clips.heard(clip, at, samples_of(frames))


def pair(clips: Clips, clip: Clip, frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """Starts of two windows, both with sound in them, if a few draws find some."""
    low, high = shifts(clip, frames)
    floor = max(1e-3, QUIET * clips.level(clip, 0, clip.frames))
    for _ in range(12):
        shift = int(rng.integers(low, high + 1))
        a = int(rng.integers(0, clip.frames - frames - shift + 1))
        f1, f2 = (a, a + shift) if rng.random() < 0.5 else (a + shift, a)
        if min(clips.level(clip, f, frames) for f in (f1, f2)) >= floor:
            break
    return f1, f2


class Align:
    outputs = ("logit",)
    optimiser = "momentum"
    lr, clip_norm, l2 = 0.01, 5.0, 1e-5

    def __init__(self, a: argparse.Namespace, net: OnnxNet, clips: Clips, val: Clips | None) -> None:
        self.frames, self.batch_size = int(net.notes["frames"]), a.batch or 5
        self.clips, self.val = clips, val
        self.rows = [c for c in clips.rows if shifts(c, self.frames)]
        if not self.rows:
            raise SystemExit(f"no clip is longer than {self.frames + SHORTEST} frames (a window and the shortest shift); give longer clips or fewer --frames")
        short = sum(shifts(c, self.frames)[1] < NEAREST for c in self.rows)
        self.about = f"{len(self.rows)} clips of {len({c.person for c in self.rows})} people, windows of {self.frames} frames; {short} clips have room for shifts below {NEAREST} frames only, {len(clips.rows) - len(self.rows)} are too short"
        # Long clips have more to show, but a person should not fill the batch.
        weight = np.array([min(c.frames, 600) for c in self.rows], float)
        self.weight = weight / weight.sum()
        self.seconds = 2 * self.batch_size * self.frames / 29.97
        self.contrast = a.contrast
        self.aid: Contrast | None = None
        if a.contrast > 0:
            self.outputs = ("logit", *net.fusion())
            v, s = (int(net.get(k).shape[0]) for k in ("im/conv2_2_2/weights", "sf/conv5_1/weights"))
            self.aid = Contrast(v, s).to(next(net.parameters()).device)

    def batch(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        rows = [self.rows[i] for i in rng.choice(len(self.rows), self.batch_size, p=self.weight)]
        starts = [pair(self.clips, c, self.frames, rng) for c in rows]
        video = np.stack([self.clips.seen(c, f1, self.frames, rng) for c, (f1, _) in zip(rows, starts)])
        true = [heard(self.clips, c, f1, self.frames) for c, (f1, _) in zip(rows, starts)]
        shifted = [heard(self.clips, c, f2, self.frames) for c, (_, f2) in zip(rows, starts)]
        return dict(video=video, samples=np.stack(true + shifted))

    def loss(self, net: OnnxNet, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        y = net(dict(video=batch["video"], samples=levelled(batch["samples"], MIXTURE_RMS)), self.outputs)
        logit = y["logit"][:, 0].float()
        label = (torch.arange(len(logit), device=logit.device) < len(logit) // 2).float()
        loss = F.binary_cross_entropy_with_logits(logit, label)
        parts = dict(accuracy=((logit > 0) == (label > 0.5)).float().mean())
        if self.aid is not None:
            more, right = self.aid(*(y[k] for k in self.outputs[1:]))
            loss, parts = loss + self.contrast * more, parts | dict(contrast=more.detach(), contrast_right=right)
        return loss, parts

    @torch.no_grad()
    def fuse(self, net: OnnxNet) -> str:
        """Has the layers after the fusion begin with the comparison as it is now. In words."""
        got = self.batch(np.random.default_rng([0, 0]))
        device = next(net.parameters()).device
        video, samples = (torch.from_numpy(np.ascontiguousarray(got[k])).to(device) for k in ("video", "samples"))
        net.eval()
        y = net(dict(video=video, samples=levelled(samples, MIXTURE_RMS)), self.outputs[1:])
        return f"the fusion begins with {begin_fusion(net, self.aid, *(y[k] for k in self.outputs[1:]))} pairs of directions of the comparison"

    def judge(self, net: OnnxNet, items: int, seed: int = 7) -> dict[str, float]:
        return {k: v for k, v in scores(net, self.val or self.clips, items, seed).items() if "/" not in k}


@torch.no_grad()
def scores(net: OnnxNet, clips: Clips, items: int, seed: int = 7) -> dict[str, float]:
    """Accuracy (logit > 0 is right) and share of pairs whose true sound scores higher, with moving and with frozen pictures; by domain `NAME/...`.

    Frozen: one frame of the window repeated. Chance is 0.5 everywhere; `n` pairs, each counted twice in the accuracy.
    """
    frames = int(net.notes["frames"])
    rows = [c for c in clips.rows if shifts(c, frames)]
    if not rows:
        return {}
    rng = np.random.default_rng(seed)
    device = next(net.parameters()).device
    results: list[tuple[str, float, float, float, float]] = []
    for k in range(items):
        c = rows[k % len(rows)]
        f1, f2 = pair(clips, c, frames, rng)
        sound = levelled(torch.from_numpy(np.stack([heard(clips, c, f, frames) for f in (f1, f2)])).to(device), MIXTURE_RMS)
        video = torch.from_numpy(np.ascontiguousarray(clips.seen(c, f1, frames, None))).to(device)
        still = video[frames // 2 : frames // 2 + 1].expand_as(video)
        y = net(dict(video=torch.stack([video, still]), samples=sound.repeat_interleave(2, 0)), ("logit",))["logit"].cpu()[:, 0]
        # Pictures repeat in turn: (moving, still) for the true sound, then for the shifted one.
        moving, frozen = (y[0], y[2]), (y[1], y[3])
        results.append((c.domain, *(float(v) for t in (moving, frozen) for v in ((float(t[0] > 0) + float(t[1] <= 0)) / 2, float(t[0] > t[1])))))
    out = averages(results)
    for domain in sorted({r[0] for r in results}):
        out |= {f"{domain}/{k}": v for k, v in averages([r for r in results if r[0] == domain]).items()}
    return out


def averages(results: list[tuple[str, float, float, float, float]]) -> dict[str, float]:
    m = np.mean([r[1:] for r in results], 0)
    return dict(n=len(results), accuracy=float(m[0]), pairs=float(m[1]), frozen_accuracy=float(m[2]), frozen_pairs=float(m[3]))
