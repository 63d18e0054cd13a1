"""What looks at lips and listens to a voice: picture front end, synchrony head, voice encoder, who speaks. The front end runs live: causal with its state
passed in and out; look-ahead is plain delay: the output for picture t is given out when picture t + look-ahead has been read."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stft import log_mel, mel_bank, power, stft

State = list[Tensor]


class SyncHead(nn.Module):
    """Unit vectors at 25 fps for picture features and for sound (log mel at 100 frames/s); their dot product says how well they fit."""

    def __init__(self, vdim: int = 128, dim: int = 64, hidden: int = 96, drop: float = 0.3) -> None:
        super().__init__()
        self.v0, self.v1, self.v2 = nn.LayerNorm(vdim), nn.Conv1d(vdim, hidden, 5, padding=2), nn.Conv1d(hidden, hidden, 5, padding=2)
        self.a1, self.a2 = nn.Conv1d(40, hidden, 5, 2, 2), nn.Conv1d(hidden, hidden, 5, 2, 2)
        self.a3 = nn.Conv1d(hidden, hidden, 5, padding=2)
        self.vo, self.ao, self.drop = nn.Linear(hidden, dim), nn.Linear(hidden, dim), nn.Dropout(drop)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("bank", mel_bank(40), persistent=False)

    def picture(self, v: Tensor) -> Tensor:
        h = F.gelu(self.v1(self.drop(self.v0(v)).transpose(1, 2)))
        h = h + F.gelu(self.v2(self.drop(h)))
        return F.normalize(self.vo(h.transpose(1, 2)).float(), dim=-1)

    def mel(self, x: Tensor) -> Tensor:
        return log_mel(power(stft(x, 160)), self.bank)

    def voice(self, mel: Tensor) -> Tensor:
        h = F.gelu(self.a1(self.drop(mel).transpose(1, 2)))
        h = F.gelu(self.a2(h))
        h = h + F.gelu(self.a3(self.drop(h)))
        return F.normalize(self.ao(h.transpose(1, 2)).float(), dim=-1)

    def score(self, v: Tensor, x: Tensor) -> Tensor:
        a = self.voice(self.mel(x))[:, : v.shape[1]]
        return (self.picture(v) * a).sum(-1).mean(1)


class Student(nn.Module):
    """Grey crops (64 to 96 px) -> features at 25 fps. Looks 2 frames (80 ms) ahead."""

    AHEAD = 2

    def __init__(self, side: int = 64, widths: tuple[int, ...] = (24, 48, 96, 128), hidden: int = 256, dim: int = 128) -> None:
        super().__init__()
        self.cfg = dict(side=side, widths=tuple(widths), hidden=hidden, dim=dim)
        c = (2, *widths)
        self.conv = nn.ModuleList(nn.Conv2d(c[i], c[i + 1], 3, 2, 1) for i in range(4))
        self.norm = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        self.taps = nn.ParameterList(nn.Parameter(torch.tensor([0.0, 1.0, 0.0]).repeat(w, 1)) for w in widths[1:3])  # three taps over time per channel
        self.flat, self.n1 = nn.Linear((side // 16) ** 2 * widths[3], hidden), nn.LayerNorm(hidden)
        self.k1, self.k2, self.out = nn.Conv1d(hidden, hidden, 5), nn.Conv1d(hidden, hidden, 3), nn.Linear(hidden, dim)

    def state(self, b: int, device: torch.device | None = None) -> State:
        s, w, h = self.cfg["side"], self.cfg["widths"], self.cfg["hidden"]
        z = [(b, 1, s, s), (b, w[1], 2, s // 4, s // 4), (b, w[2], 2, s // 8, s // 8), (b, h, 4), (b, h, 2)]
        return [torch.zeros(q, device=device) for q in z]

    def step(self, x: Tensor, st: State) -> tuple[Tensor, State]:
        """x (B, T, S, S), 0..255; output t belongs to picture t - 2."""
        B, T, S = x.shape[:3]
        x = (x / 255 - 0.42) / 0.17
        prev = torch.cat([st[0], x[:, :-1]], 1)
        h = torch.stack([x, (x - prev) * 3], 2).reshape(B * T, 2, S, S).contiguous(memory_format=torch.channels_last)
        new: State = [x[:, -1:]]
        for i, (conv, norm) in enumerate(zip(self.conv, self.norm)):
            h = F.relu(norm(conv(h)))
            if i in (1, 2):  # channels stay last: quicker on a CPU. Under autocast the sum is in bf16, here and in the state
                C, Q = h.shape[1], h.shape[2]
                g = torch.cat([st[i].permute(0, 2, 3, 4, 1).to(h.dtype), h.permute(0, 2, 3, 1).reshape(B, T, Q, Q, C)], 1)
                new.append(g[:, -2:].permute(0, 4, 1, 2, 3))
                w = self.taps[i - 1].to(h.dtype)
                h = (w[:, 0] * g[:, :-2] + w[:, 1] * g[:, 1:-1] + w[:, 2] * g[:, 2:]).reshape(B * T, Q, Q, C).permute(0, 3, 1, 2)
        y = self.n1(self.flat(h.flatten(1))).reshape(B, T, -1).transpose(1, 2)
        for k, (conv, n) in enumerate(((self.k1, 4), (self.k2, 2))):
            g = torch.cat([st[3 + k], y.to(st[3 + k].dtype)], 2)
            new.append(g[:, :, -n:])
            y = g[:, :, n:] + F.gelu(conv(g))
        return self.out(y.transpose(1, 2)).float(), new

    def forward(self, x: Tensor) -> Tensor:
        """Whole clip: (B, T, S, S) -> (B, T, dim), the delay taken out."""
        x = torch.cat([x, x[:, -1:].expand(-1, self.AHEAD, -1, -1)], 1)
        st = self.state(x.shape[0], x.device)
        st[0] = (x[:, :1] / 255 - 0.42) / 0.17
        return self.step(x, st)[0][:, self.AHEAD :]


class VoiceEncoder(nn.Module):
    """Power spectrum of a few seconds of one voice (hop 256) -> a vector of 64 numbers."""

    def __init__(self, dim: int = 64, hidden: int = 128, speakers: int = 1) -> None:
        super().__init__()
        self.inp = nn.Linear(64, hidden)
        self.c1, self.c2, self.c3 = nn.Conv1d(hidden, hidden, 5, 2), nn.Conv1d(hidden, hidden, 5, 2), nn.Conv1d(hidden, hidden, 3)
        self.out, self.who = nn.Linear(2 * hidden, dim), nn.Linear(dim, speakers)
        self.register_buffer("bank", mel_bank(64, 50, 8000), persistent=False)

    def forward(self, p: Tensor) -> Tensor:
        h = F.gelu(self.inp(log_mel(p, self.bank))).transpose(1, 2)
        h = F.gelu(self.c1(h))
        h = F.gelu(self.c2(h))
        h = F.gelu(self.c3(h)).float()
        m = h.mean(2)
        dev = ((h - m.unsqueeze(2)) ** 2).mean(2).add(1e-5).sqrt()
        return F.normalize(self.out(torch.cat([m, dev], -1)).float(), dim=-1) * 4

    def hear(self, x: Tensor) -> Tensor:
        return self.forward(power(stft(x, 256)))


class Speaker(nn.Module):
    """Levels of a voice and of the one beside it, without their mean (N, 4 U, 2 bands) -> (N, U, dim): added up over a second or more they say who speaks. Causal: a
    picture's vector hears nothing later."""

    KERNEL, BLOCKS = 5, 3

    def __init__(self, bands: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.a1, self.a2 = nn.Conv1d(2 * bands, hidden, 5, 2), nn.Conv1d(hidden, hidden, 5, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(self.BLOCKS + 1))
        self.convs = nn.ModuleList(nn.Conv1d(hidden, hidden, self.KERNEL) for _ in range(self.BLOCKS))
        self.out = nn.Linear(hidden, dim)

    def state(self, n: int) -> State:
        h = self.out.in_features
        sizes = [self.a1.in_channels, h, *[h] * self.BLOCKS]
        return [torch.zeros(n, size, k, device=self.out.weight.device) for size, k in zip(sizes, [3, 3, *[self.KERNEL - 1] * self.BLOCKS])]

    def step(self, both: Tensor, past: State) -> tuple[Tensor, State]:
        x = torch.cat([past[0], both.transpose(1, 2)], 2)
        y = torch.cat([past[1].to(x.dtype), F.gelu(self.a1(x))], 2)
        h, new = F.gelu(self.a2(y)), [x[:, :, -3:], y[:, :, -3:]]
        for norm, conv, before in zip(self.norms, self.convs, past[2:]):
            z = torch.cat([before.to(h.dtype), norm(h.transpose(1, 2)).transpose(1, 2).to(h.dtype)], 2)
            new.append(z[:, :, 1 - self.KERNEL :])
            h = h + F.gelu(conv(z))
        return self.out(self.norms[-1](h.transpose(1, 2))).float(), new

    def forward(self, both: Tensor) -> Tensor:
        return self.step(both, self.state(len(both)))[0]
