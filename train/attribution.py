"""Which of two separated voices belongs to the face: a small network beside a separator that knows nothing of pictures.

"Separate, attribute, remember": the separator (stage `separate`, trained on sound alone) gives two voices without names. Here each is
compared with the lips (and with a voice memory, where there is one), and what was seen is added up over seconds. Live, what the comparison
needs comes about 0.2 s later than the masks; as it decides between voices, not between sounds, that costs no latency.
"""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import evaluate
from data import Pack
from metrics import si_sdr
from mix import MixConfig, Mixer
from net import Model, SepConfig, State, SyncHead, istft, mel_bank, power, stft

PICTURE = 640  # samples at 16 kHz of one picture


@dataclass
class AttributionConfig:
    hidden: int = 96
    dim: int = 64  # of the vectors that lips and voice are compared by
    bands: int = 40


def between_bins(of: int, to: int) -> Tensor:
    """(of, to): values at `of` bins from 0 to 8 kHz -> at `to` bins, linear."""
    x = torch.arange(to) * (of - 1) / (to - 1)
    i = x.floor().long().clamp_max(of - 2)
    w = torch.zeros(of, to)
    w[i, torch.arange(to)] = 1 - (x - i)
    w[i + 1, torch.arange(to)] = x - i
    return w


class Attributor(nn.Module):
    """Picture features and two separated voices -> weights over (voice 0, voice 1, neither), one row per picture.

    Both sides have the shape of the synchrony head (net.py), frame by frame, so that its weights are the start. What it hears of a voice is
    the mixture's power at 100 frames a second under that voice's mask; levels are taken against a mean that follows.
    """

    WINDOW, HOP, PER = 512, 160, 4  # the head's spectrum, its frames a picture
    FOLLOW = 0.98  # of the mean level, a picture
    FLOOR = 1e-5

    def __init__(self, sep: SepConfig, cfg: AttributionConfig, drop: float = 0.3) -> None:
        super().__init__()
        self.cfg, self.frames = cfg, PICTURE // sep.hop
        if self.frames != 2:
            raise ValueError(f"attribution wants two mask frames a picture, not {self.frames}")
        h = cfg.hidden
        self.v0, self.v1, self.v2 = nn.LayerNorm(sep.vdim), nn.Conv1d(sep.vdim, h, 5), nn.Conv1d(h, h, 5)
        self.a1, self.a2, self.a3 = nn.Conv1d(cfg.bands, h, 5, 2), nn.Conv1d(h, h, 5, 2), nn.Conv1d(h, h, 5)
        self.vo, self.ao = nn.Linear(h, cfg.dim), nn.Linear(h, cfg.dim)
        self.asure = nn.Linear(h, 1)  # how much a moment of a voice tells; nothing of the kind for the lips: it would learn the few people by heart
        self.who = nn.Linear(h, sep.edim)
        self.scale, self.fit = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.1))
        self.neither, self.hold = nn.Parameter(torch.tensor(-1.0)), nn.Parameter(torch.tensor(0.0))
        self.drop = nn.Dropout(drop)
        self.register_buffer("bank", mel_bank(cfg.bands), persistent=False)
        self.register_buffer("between", between_bins(sep.nfft // 2 + 1, self.WINDOW // 2 + 1), persistent=False)

    @property
    def keeping(self) -> Tensor:
        """What is left of the evidence after one picture: time constants from 2 to 10 s."""
        return 0.98 + 0.016 * torch.sigmoid(self.hold)

    def state(self, b: int) -> State:
        h = self.cfg.hidden
        return [torch.zeros(b, self.v1.in_channels, 4), torch.zeros(b, h, 4), torch.zeros(2 * b, 2), torch.zeros(2 * b, self.cfg.bands, 4), torch.zeros(2 * b, h, 3),
                torch.zeros(2 * b, h, 4), torch.zeros(2 * b, h, 1), torch.zeros(b, 2)]

    def lips(self, v: Tensor, past: State) -> tuple[Tensor, State]:
        """v (B, U, vdim) -> rows (B, U, hidden), four pictures late."""
        x = torch.cat([past[0], self.drop(self.v0(v)).transpose(1, 2)], 2)
        y = F.gelu(self.v1(x))
        z = torch.cat([past[1], y], 2)
        return (z[:, :, 2:-2] + F.gelu(self.v2(self.drop(z)))).transpose(1, 2), [x[:, :, -4:], z[:, :, -4:]]

    def hear(self, M: Tensor, P: Tensor) -> Tensor:
        """Masks (B, 2, 2 U, bins) and the mixture's power (B, 4 U, 257) -> log mel of both voices (2 B, 4 U, bands)."""
        share = (M**2 @ self.between).repeat_interleave(2, 2)
        return torch.log((share * P.unsqueeze(1)).flatten(0, 1) @ self.bank + self.FLOOR)

    def voices(self, level: Tensor, past: State) -> tuple[Tensor, State]:
        """level (N, 4 U, bands) -> rows (N, U, hidden), four pictures late."""
        N, T, K = level.shape
        unit = level.reshape(N, T // self.PER, self.PER * K).mean(-1)
        fade = self.FOLLOW ** torch.arange(1, unit.shape[1] + 1, device=level.device)[None, :, None]
        counts = ((unit - math.log(self.FLOOR)) * 1000).clamp(0, 1)  # digital silence, as before the beginning, does not
        sums = fade * (past[0][:, None] + torch.cumsum(torch.stack([unit * counts, counts], -1) / fade, 1))
        mean = (sums[..., 0] / (sums[..., 1] + 1e-6)).repeat_interleave(self.PER, 1)
        x = torch.cat([past[1], ((level - mean[..., None]) / 2.5).transpose(1, 2)], 2)
        y = torch.cat([past[2], F.gelu(self.a1(self.drop(x)))], 2)
        a = F.gelu(self.a2(y))
        z = torch.cat([past[3], a], 2)
        mid = z[:, :, 2:-2]  # the row that a3 is centred on
        b = torch.cat([past[4], mid + F.gelu(self.a3(self.drop(z)))], 2)
        return b[:, :, :-1].transpose(1, 2), [sums[:, -1], x[:, :, -4:], y[:, :, -3:], z[:, :, -4:], b[:, :, -1:]]

    def vectors(self, lips: Tensor, voices: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, U, dim) and (B, 2, U, dim), of length 1."""
        return F.normalize(self.vo(lips).float(), dim=-1).unsqueeze(1), F.normalize(self.ao(voices).float(), dim=-1)

    def evidence(self, lips: Tensor, voices: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor) -> Tensor:
        """lips (B, U, hidden), voices (B, 2, U, hidden), has_* (B, 1), mem (B, edim) -> (B, U, 2): what this picture adds for each voice."""
        p, s = (x.detach() for x in self.vectors(lips, voices))
        sure = self.scale * F.softplus(self.asure(voices).float())
        seen = (sure * ((p * s).sum(-1, keepdim=True) - self.fit)).squeeze(-1) * has_v[:, :, None]
        known = (self.who(voices).float() * mem[:, None, None]).sum(-1) * 0.05 * has_m[:, :, None]
        return (seen + known).transpose(1, 2)

    def gather(self, e: Tensor, has_v: Tensor, before: Tensor) -> Tensor:
        """Adds up (B, U, 2) with `before` (B, 2), the older the less; nothing is forgotten while there is no picture."""
        keep = torch.log(1 - (1 - self.keeping) * has_v)[:, :, None]  # B x 1 x 1
        fade = torch.exp(keep * torch.arange(1, e.shape[1] + 1, device=e.device)[None, :, None])
        return fade * (before[:, None] + torch.cumsum(e / fade, 1))

    def weigh(self, total: Tensor) -> Tensor:
        """(B, U, 2) -> (B, U, 3) before the softmax."""
        return torch.cat([total, self.neither.expand(*total.shape[:2], 1)], -1)

    def step(self, v: Tensor, M: Tensor, P: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor, st: State) -> tuple[Tensor, State]:
        """v (B, U, vdim), M (B, 2, 2 U, bins), P (B, 4 U, 257) -> logits (B, U, 3)."""
        B = len(v)
        lips, s1 = self.lips(v, st[:2])
        voices, s2 = self.voices(self.hear(M, P), st[2:7])
        total = self.gather(self.evidence(lips, voices.unflatten(0, (B, 2)), has_v, mem, has_m), has_v, st[7])
        return self.weigh(total), [*s1, *s2, total[:, -1]]


class Attributed(nn.Module):
    """Blind separator, attributor and voice encoder as one model: what ships."""

    def __init__(self, cfg: SepConfig, att: AttributionConfig, speakers: int) -> None:
        super().__init__()
        inner = Model(cfg, speakers)
        self.sep, self.enc, self.att = inner.sep, inner.enc, Attributor(cfg, att)

    def meta(self) -> dict[str, object]:
        return dict(cfg=asdict(self.sep.cfg), attribution=asdict(self.att.cfg), speakers=self.enc.who.out_features)

    def blind(self, X: Tensor) -> Tensor:
        """Masks of two voices (B, 2, T, bins), in no order."""
        c, B = self.sep.cfg, len(X)
        zero = torch.zeros(B, 1, device=X.device)
        return self.sep.masks(X, torch.zeros(B, 1, c.vdim, device=X.device), zero, torch.zeros(B, c.edim, device=X.device), zero)

    def choose(self, x: Tensor, M: Tensor, v: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor) -> Tensor:
        """Sound (B, n) and masks of U pictures -> logits (B, U, 3)."""
        U = v.shape[1]
        return self.att.step(v, M[:, :, : 2 * U], self.heard(x, U), has_v, mem, has_m, self.att.state(len(v)))[0]

    def heard(self, x: Tensor, pictures: int) -> Tensor:
        """(B, n) -> powers (B, 4 U, 257)."""
        return power(stft(x, self.att.HOP, self.att.WINDOW))[:, : self.att.PER * pictures]

    def mixed(self, M: Tensor, logits: Tensor) -> Tensor:
        """Two voices' masks -> (wanted, rest), each voice as far as it is believed to be wanted."""
        w = logits.softmax(-1)[..., :2].repeat_interleave(self.att.frames, 1).transpose(1, 2)  # B x 2 x T
        w = torch.cat([w, w[:, :, -1:].expand(-1, -1, max(0, M.shape[2] - w.shape[2]))], 2)[:, :, : M.shape[2], None]
        return torch.stack([(w * M).sum(1), ((1 - w) * M).sum(1)], 1)


def separated(M: Tensor, X: Tensor, hop: int, n: int) -> Tensor:
    Y = M * X.unsqueeze(1)
    return torch.stack([istft(Y[:, k], hop, n) for k in (0, 1)], 1)


LATE = 4  # pictures that rows of lips and voices lie behind


def voice_targets(head: SyncHead, x: Tensor, pictures: int) -> Tensor:
    """The synchrony head's vectors of clean voices (N, n) -> (N, pictures, dim); a zero vector where nothing is said."""
    q = head.voice(head.mel(x))[:, :pictures]
    loud = x.unfold(1, PICTURE, PICTURE).pow(2).mean(-1)[:, :pictures]
    return q * (loud > 0.003 * loud.amax(1, keepdim=True).clamp_min(1e-7)).unsqueeze(-1)


def loss_of(net: Attributed, head: SyncHead, mx: Mixer, batch: int, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """The voice side learns to give the head's vector of the clean voice when it hears the separated one: that takes no picture, so all
    voices teach it. What adds the evidence up learns from the few people on camera; the vectors themselves do not (they would learn the
    people by heart, measured: kept 0.69 in place of 0.88)."""
    b = mx.conditioned(batch)
    c, n = net.sep.cfg, b.mix.shape[1]
    X = stft(b.mix, c.hop, c.nfft)
    silent = b.wanted.abs().amax(1) == 0
    with torch.no_grad():
        with torch.autocast(X.device.type, dtype=torch.bfloat16, enabled=c.rnn_amp):
            M = net.blind(X).float()
        y = separated(M, X, c.hop, n)
        s = torch.stack([si_sdr(y[:, k], b.wanted) for k in (0, 1)], 1)
        o = torch.stack([si_sdr(y[:, k], b.other) for k in (0, 1)], 1)
        right = torch.where(silent, o.argmin(1), s.argmax(1))
        U = b.v.shape[1]
        T = torch.stack([voice_targets(head, b.wanted, U), voice_targets(head, b.other, U)], 1)
        T = torch.where((right == 0)[:, None, None, None], T, T.flip(1))  # in the order of the outputs
    clear = torch.where(silent, 1.0, ((s[:, 0] - s[:, 1]).abs() / 3).clamp(0, 1)) * (~b.open.bool())
    B = len(M)
    st = net.att.state(B)
    lips, _ = net.att.lips(b.v + noise * torch.randn_like(b.v), st[:2])
    voices = net.att.voices(net.att.hear(M[:, :, : 2 * U], net.heard(b.mix, U)), st[2:7])[0].unflatten(0, (B, 2))
    given, aim = net.att.vectors(lips, voices)[1][:, :, LATE:], T[:, :, : U - LATE]
    said = aim.abs().sum(-1) > 0
    like = ((1 - (given * aim).sum(-1)) * said).sum() / (said.sum() + 1)

    e = net.enc.hear(b.memory)
    known = b.has_m[:, 0] * (~silent)
    who = (F.cross_entropy(net.enc.who(e).float(), b.speaker, reduction="none") * known).sum() / (known.sum() + 1)
    logits = net.att.weigh(net.att.gather(net.att.evidence(lips, voices.detach(), b.has_v, e * b.has_m, b.has_m), b.has_v, st[7]))
    t = torch.arange(12, U, device=X.device)
    answer = torch.where(silent, 2, right)[:, None].expand(-1, len(t))
    each = F.cross_entropy(logits[:, t].transpose(1, 2), answer, reduction="none").mean(1)
    return (each * clear).sum() / (clear.sum() + 1), like, who


@torch.no_grad()
def report(net: Attributed, pack: Pack, quick: bool = True) -> str:
    """For 4 and 12 s: decibels, share above 0, kept; last: the better of the two voices, whoever chose."""
    out, n = [], 48 if quick else 192
    for seconds in (4.0, 12.0):
        a, b, v, _, _, mem, ok = Mixer(pack, pack.val, "val", evaluate.PLAIN, 11).pairs(n, seconds)
        mixed, one, zero = a + b, torch.ones(n, 1), torch.zeros(n, 1)
        e = torch.cat([net.enc.hear(m) for m in mem.split(16)])
        base, c = si_sdr(mixed, a), net.sep.cfg
        still = v[:, :1].expand_as(v).contiguous()
        rows: dict[str, list[Tensor]] = {}
        for i in range(0, n, 16):
            s = slice(i, i + 16)
            X = stft(mixed[s], c.hop, c.nfft)
            M = net.blind(X).float()
            y = separated(M, X, c.hop, mixed.shape[1])
            best = torch.maximum(si_sdr(y[:, 0], a[s]), si_sdr(y[:, 1], a[s]))
            rows.setdefault("best", []).append(torch.stack([best - base[s], (best - base[s] > 0).float()], 1))
            for name, pic, hp, hm in (("true", v, one, zero), ("frozen", still, one, zero), ("memory", v * 0, zero, one), ("true+memory", v, one, one)):
                m = net.mixed(M, net.choose(mixed[s], M, pic[s], hp[s], e[s], hm[s] * ok[s, None]))
                z = istft(m[:, 0] * X, c.hop, mixed.shape[1])
                d = si_sdr(z, a[s]) - base[s]
                rows.setdefault(name, []).append(torch.stack([d, (d > 0).float(), (si_sdr(z, a[s]) > si_sdr(z, b[s])).float()], 1))
        text = [f"{k} {'/'.join(f'{x:.2f}' for x in torch.cat(r).mean(0).tolist())}" for k, r in rows.items()]
        out.append(f"{seconds:g} s: " + ", ".join(text))
    return "; ".join(out) + f" (n {n}, keeping {net.att.keeping.item():.4f})"


def training_mix(seconds: float, drop_memory: float) -> MixConfig:
    return MixConfig(seconds=seconds, picture_jitter=True, p_visible=1.0, p_visible_other=0.4, drop=0.05, drop_memory=drop_memory, p_mixed_memory=0.5, p_silent=0.12, p_broken=0.04,
                     p_wrong_memory=0.02, p_noise=0.1, p_music=0.05, p_room=0.1, level_db=4, gain_db=(-12.0, 6.0), p_late=0.25)
