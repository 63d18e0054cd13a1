"""An aid for alignment with little data: before sound and pictures meet in the trunk, each place of the picture is compared with the sounds of the whole batch.

The paper asks one yes-or-no question a pair and had 750 000 videos. With two hundred clips the fused layers do not find out what to look at; here
every clip chooses among all sounds of the batch, true and shifted, so that a step carries many more bits. Only change over time counts (the
mean over the window is taken out): who it is, or how bright the picture, tells nothing. A place where they go together is enough,
as it is for the alignment map. The comparison (two linear layers) is thrown away afterwards.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Contrast(nn.Module):
    def __init__(self, picture_channels: int, sound_channels: int, dim: int = 64) -> None:
        super().__init__()
        self.picture, self.sound = nn.Linear(picture_channels, dim), nn.Linear(sound_channels, dim)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def scores(self, pictures: Tensor, sounds: Tensor) -> Tensor:
        """pictures (B, C, T, H, W), sounds (S, D, T, 1) -> (B, S): how well each clip's pictures go with each sound."""
        B, _, T, H, W = pictures.shape
        v = self.picture(pictures.float().permute(0, 3, 4, 2, 1))  # B, H, W, T, dim
        a = self.sound(sounds.float()[..., 0].permute(0, 2, 1))  # S, T, dim
        v = F.normalize((v - v.mean(3, keepdim=True)).reshape(B, H * W, -1), dim=-1)
        a = F.normalize((a - a.mean(1, keepdim=True)).reshape(len(a), -1), dim=-1)
        s = self.scale.clamp(max=math.log(60.0)).exp() * (v @ a.t())
        return s.logsumexp(1) - math.log(H * W)

    def forward(self, pictures: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, and the share of clips whose own sound is the best of the batch; the first B sounds are the true ones, in order."""
        s = self.scores(pictures, sounds)
        own = torch.arange(len(s), device=s.device)
        loss = (F.cross_entropy(s, own) + F.cross_entropy(s[:, : len(s)].t(), own)) / 2
        return loss, (s.argmax(1) == own).float().mean()


@torch.no_grad()
def begin_fusion(net: nn.Module, aid: Contrast, pictures: Tensor, sounds: Tensor) -> int:
    """Has the layers after the fusion begin with what the comparison found: its bilinear form, as |x + y| - |x - y| of its strongest pairs of
    directions x of the picture and y of the sound, goes into the first channels of the merge block; everything else stays as it was.
    `pictures`, `sounds`: features of some clips (see Contrast.scores), to bring x and y to one scale. Returns how many pairs there are.
    """
    first, second = net.get("im/merge1/weights"), net.get("im/merge2/weights")
    cv = pictures.shape[1]
    u, strength, w = torch.linalg.svd(aid.picture.weight.t() @ aid.sound.weight, full_matrices=False)  # cv x r, r, r x ca
    pairs = min(len(strength), first.shape[0] // 4)
    v = pictures.float().permute(0, 2, 3, 4, 1) @ u
    a = sounds.float()[..., 0].permute(0, 2, 1) @ w.t()
    x, y = (f - f.mean(1, keepdim=True) for f in (v, a))
    spread_x, spread_y = x.flatten(0, -2).std(0), y.flatten(0, -2).std(0)
    outputs = 4
    second[:outputs].zero_()
    for k in range(pairs):
        px, py = u[:, k] / spread_x[k], w[k] / spread_y[k]
        for row, (sx, sy) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
            at = 4 * k + row
            first[at, :cv, 0, 0, 0], first[at, cv:, 0, 0, 0] = sx * px, sy * py
            second[:outputs, at, 0, 0, 0] = (1 if row < 2 else -1) * strength[k] / strength[0] * torch.tensor([1.0, -1.0, 0.5, -0.5])
    return pairs
