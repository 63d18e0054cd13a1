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
