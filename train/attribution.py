"""Which of two separated voices belongs to the face: beside a separator that knows nothing of pictures.

"Separate, attribute, remember": the separator (stage `separate`, trained on sound alone) gives two voices without names. Here each is
compared with the lips by the synchrony head (stage `student`; its voice side goes on learning on separated voices, listening.py), for nine
offsets between sound and picture, and what was seen is added up over seconds. Live, what the comparison needs
comes about 0.2 s later than the masks; as it decides between voices, not between sounds, that costs no latency. Whether the lips speak at
all is told at once by a small layer of its own, which stage `attribute` trains.
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
from front_ends import Speaker, State
from separators import Model, SepConfig
from stft import istft, mel_bank, power, stft

PICTURE = 640  # samples at 16 kHz of one picture


@dataclass
class AttributionConfig:
    hidden: int = 96
    dim: int = 64  # of the vectors that lips and voice are compared by
    bands: int = 40
    lags: int = 4  # pictures that the sound may be early or late by
    eyes: int = 1  # picture front ends, each with its own features (vdim of them, one after the other) and its own head
    speaker: int = 0  # numbers a picture that say who speaks, for each voice (speaker.py); 0: none


def between_bins(of: int, to: int) -> Tensor:
    """(of, to): values at `of` bins from 0 to 8 kHz -> at `to` bins, linear."""
    x = torch.arange(to) * (of - 1) / (to - 1)
    i = x.floor().long().clamp_max(of - 2)
    w = torch.zeros(of, to)
    w[i, torch.arange(to)] = 1 - (x - i)
    w[i + 1, torch.arange(to)] = x - i
    return w


def gather(e: Tensor, keep: Tensor, before: Tensor) -> Tensor:
    """Adds up (B, U, n) with `before` (B, n); after a picture `keep` (B, 1) of it is left."""
    fade = torch.exp(torch.log(keep)[:, :, None] * torch.arange(1, e.shape[1] + 1, device=e.device)[None, :, None])
    return fade * (before[:, None] + torch.cumsum(e / fade, 1))


class Eye(nn.Module):
    """Lips and a voice as vectors that can be compared, in the shape of the synchrony head (front_ends.py), frame by frame, so that its weights are the start.
    Lips give vectors of length 1, voices give shorter ones where they are unsure. What is heard of a voice is beside it the other one, which
    leaks into it. Of the lips' vectors most of their own mean is taken away: it says whose face this is and not how the lips move, is the same in
    every picture, and added up over seconds it would outweigh them."""

    STATIC = 0.3  # of the mean that stays: a man's voice does fit a man's face better
    MEAN_KEPT = 0.996  # of the mean's sums, a picture
    USUAL_FOR = 25.0  # pictures that everybody's mean counts for, as long as little has been seen of this face

    def __init__(self, vdim: int, cfg: AttributionConfig, drop: float) -> None:
        super().__init__()
        self.cfg, h = cfg, cfg.hidden
        self.v0, self.v1, self.v2 = nn.LayerNorm(vdim), nn.Conv1d(vdim, h, 5), nn.Conv1d(h, h, 5)
        self.a1, self.a2, self.a3 = nn.Conv1d(2 * cfg.bands, h, 5, 2), nn.Conv1d(h, h, 5, 2), nn.Conv1d(h, h, 5)
        self.vo, self.ao = nn.Linear(h, cfg.dim), nn.Linear(h, cfg.dim)
        self.register_buffer("usual", torch.zeros(cfg.dim))  # everybody's mean; calibrate.py takes it from the training people
        self.drop = nn.Dropout(drop)

    def eye_state(self, b: int) -> State:
        h, c = self.cfg.hidden, self.cfg
        shapes = [(b, self.v1.in_channels, 4), (b, h, 4), (2 * b, c.bands, 4), (2 * b, h, 3), (2 * b, h, 4), (2 * b, h, 1),
                  (b, c.lags, c.dim), (b, 2, c.lags, c.dim), (b, c.dim + 1)]
        return [torch.zeros(s, device=self.usual.device) for s in shapes]

    def lips(self, v: Tensor, past: State) -> tuple[Tensor, State]:
        """v (B, U, vdim) -> rows (B, U, hidden), four pictures late."""
        x = torch.cat([past[0], self.drop(self.v0(v)).transpose(1, 2)], 2)
        y = F.gelu(self.v1(x))
        z = torch.cat([past[1], y], 2)
        return (z[:, :, 2:-2] + F.gelu(self.v2(self.drop(z)))).transpose(1, 2), [x[:, :, -4:], z[:, :, -4:]]

    def voices(self, flat: Tensor, past: State) -> tuple[Tensor, State]:
        """Levels without their mean (N, 4 U, bands), the two voices of a mixture one after the other -> rows (N, U, hidden), four pictures late."""
        x = torch.cat([past[0], flat.transpose(1, 2)], 2)
        both = torch.cat([x, x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)], 1)  # the own voice first
        y = torch.cat([past[1], F.gelu(self.a1(self.drop(both)))], 2)
        a = F.gelu(self.a2(y))
        z = torch.cat([past[2], a], 2)
        mid = z[:, :, 2:-2]  # the row that a3 is centred on
        b = torch.cat([past[3], mid + F.gelu(self.a3(self.drop(z)))], 2)
        return b[:, :, :-1].transpose(1, 2), [x[:, :, -4:], y[:, :, -3:], z[:, :, -4:], b[:, :, -1:]]

    def vectors(self, lips: Tensor, voices: Tensor) -> tuple[Tensor, Tensor]:
        """(B, U, dim), of length 1, and (B, 2, U, dim)."""
        return F.normalize(self.vo(lips).float(), dim=-1), self.ao(voices).float()

    def moving(self, p: Tensor, has_v: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of lips (B, U, dim) -> less their mean so far."""
        sums = gather(F.pad(p, (0, 1), value=1.0) * has_v[:, :, None], 1 - (1 - self.MEAN_KEPT) * has_v, past)
        mean = (sums[..., :-1] + self.USUAL_FOR * self.usual) / (sums[..., -1:] + self.USUAL_FOR)
        return p - (1 - self.STATIC) * mean, sums[:, -1]

    def compare(self, p: Tensor, s: Tensor, past: State) -> tuple[Tensor, State]:
        """Vectors of lips (B, U, dim) and voices (B, 2, U, dim) -> how well they fit (B, U, lags of voice 0, lags of voice 1), from the
        sound earliest to the sound latest: the later of the two meets what the other one was before."""
        n, U = self.cfg.lags, p.shape[1]
        p, s = torch.cat([past[0], p], 1), torch.cat([past[1], s], 2)
        fit = [(p[:, None, n - max(0, k) :][:, :, :U] * s[:, :, n + min(0, k) :][:, :, :U]).sum(-1) for k in range(-n, n + 1)]
        return torch.stack(fit, 2).flatten(1, 2).transpose(1, 2), [p[:, U:], s[:, :, U:]]

    def fits(self, v: Tensor, flat: Tensor, has_v: Tensor, past: State) -> tuple[Tensor, State]:
        lips, s1 = self.lips(v, past[:2])
        voices, s2 = self.voices(flat, past[2:6])
        p, s = self.vectors(lips, voices.unflatten(0, (len(v), 2)))
        p, s4 = self.moving(p, has_v, past[8])
        fit, s3 = self.compare(p, s, past[6:8])
        return fit, [*s1, *s2, *s3, s4]


@dataclass(frozen=True)
class Gate:
    """As in the card (src/model/live/build.ts), for somebody of whom nothing is remembered (gate.py has the memory). Windows: pictures before and after."""

    always: float = 0.57
    lips_weight: float = 0.77
    fit_weight: float = 19.0
    shut: float = -1.5
    open: float = 0.5
    lips: tuple[int, int] = (20, 12)
    fit: tuple[int, int] = (30, 30)


@dataclass(frozen=True)
class Looked:
    belief: Tensor  # in each of the two voices (B, U, 2)
    fit: Tensor  # what each picture says of each of them, as evidence (B, U, 2)
    lips: Tensor  # logit of lips that speak (B, U)
    lately: Tensor  # the same over half a second
    confidence: Tensor  # B, U
    speaker: Tensor | None  # who speaks, by each voice (B, 2, U, dim)
    state: State


def around(x: Tensor, before: int, after: int) -> Tensor:
    """(B, U, k) -> means over the rows around each, as many as there are."""
    c, i = F.pad(x.cumsum(1), (0, 0, 1, 0)), torch.arange(x.shape[1], device=x.device)
    low, high = (i - before).clamp_min(0), (i + after + 1).clamp_max(x.shape[1])
    return (c[:, high] - c[:, low]) / (high - low).float()[None, :, None]


class Attributor(Eye):
    """Picture features and two separated voices -> weights over (voice 0, voice 1, neither), one row per picture.

    What it hears of a voice is the mixture's power at 100 frames a second under that voice's mask; levels are taken against a mean that follows.
    Feeds have the sound up to some 200 ms early or late: the evidence is kept for each offset, and belief is shared over voices and offsets.
    A second eye, where there is one, adds what it finds: front ends that were taught differently are wrong about different people.
    """

    WINDOW, HOP, PER = 512, 160, 4  # the head's spectrum, its frames a picture
    FOLLOW = 0.98  # of the mean level, a picture
    FLOOR = 1e-5
    LATELY = 0.92  # of whether the lips spoke, a picture
    GATE = Gate()
    BEGUN = 1.5  # what that is at the beginning: lips count as speaking until they have been seen to rest
    SHUT, OPEN = 0.5, 0.9  # probabilities of speaking lips at which nothing and all of the voice passes
    LAG_COST = 0.5  # of belief, for every picture of offset
    PRESENT, ABSENT_WEIGHT = 0.1, 2.0  # share of the sound below which a voice counts as absent, and how much that counts

    def __init__(self, sep: SepConfig, cfg: AttributionConfig, drop: float = 0.3) -> None:
        super().__init__(sep.vdim, cfg, drop)
        self.vdim, self.frames = sep.vdim, PICTURE // sep.hop
        if self.frames != 2:
            raise ValueError(f"attribution wants two mask frames a picture, not {self.frames}")
        self.second = Eye(sep.vdim, cfg, drop) if cfg.eyes == 2 else None
        self.q1, self.q2 = nn.Conv1d(sep.vdim, 32, 5), nn.Linear(32, 1)
        self.speaker = Speaker(cfg.bands, cfg.speaker, cfg.hidden) if cfg.speaker else None
        # Chosen on validation people (calibrate.py), not trained: on the people on camera the head knows too well what it sees.
        for name, value in dict(scale=0.5, fit=0.05, neither=-3.0, keeping=0.996, open=1.0).items():
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("bank", mel_bank(cfg.bands), persistent=False)
        self.register_buffer("between", between_bins(sep.nfft // 2 + 1, self.WINDOW // 2 + 1), persistent=False)

    def state(self, b: int) -> State:
        """Level sums, evidence, lately, presence; then what each eye keeps."""
        shapes = [(2 * b, 2), (b, 2 * (2 * self.cfg.lags + 1)), (b, 1), (b, 2)]
        own: State = [torch.full(s, v, device=self.usual.device) for s, v in zip(shapes, (0.0, 0.0, self.BEGUN, 0.0))]
        return own + [x for eye in self.each() for x in eye.eye_state(b)] + (self.speaker.state(2 * b) if self.speaker else [])

    def each(self) -> list[Eye]:
        return [self] if self.second is None else [self, self.second]

    def talk(self, v: Tensor, past: Tensor) -> Tensor:
        """v (B, U, vdim) of the first eye, past: the state of `lips` before -> logit (B, U) of "these lips speak now", not late."""
        x = torch.cat([past, self.drop(self.v0(v)).transpose(1, 2)], 2)
        return self.q2(F.gelu(self.q1(x)).transpose(1, 2)).float().squeeze(-1)

    def talks(self, v: Tensor) -> Tensor:
        """The same of whole clips; v (B, U, vdim * eyes)."""
        return self.talk(v[..., : self.vdim], torch.zeros(len(v), self.vdim, 4, device=v.device))

    def hear(self, M: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        """Masks (B, 2, 2 U, bins) and the mixture's power (B, 4 U, 257) -> log mel of both voices (2 B, 4 U, bands); their energy (B, U, 2)."""
        heard = (M**2 @ self.between).repeat_interleave(2, 2) * P.unsqueeze(1)
        energy = heard.sum(-1).unflatten(2, (-1, self.PER)).sum(-1).transpose(1, 2)
        return torch.log(heard.flatten(0, 1) @ self.bank + self.FLOOR), energy

    def absence(self, energy: Tensor) -> Tensor:
        """Energies (B, U, 2), gathered -> what speaks against each voice, 0 or less: one that is next to nothing beside the other is what the
        separator left over of it, looks like it, and must not share its belief. A voice alone then passes whole."""
        share = (energy + 1e-6) / (energy.sum(-1, keepdim=True) + 2e-6)
        return self.ABSENT_WEIGHT * torch.log(share / self.PRESENT).clamp_max(0)

    def flat(self, level: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Levels (N, 4 U, bands) -> against a mean that follows; its sums."""
        N, T, K = level.shape
        unit = level.reshape(N, T // self.PER, self.PER * K).mean(-1)
        fade = self.FOLLOW ** torch.arange(1, unit.shape[1] + 1, device=level.device)[None, :, None]
        counts = ((unit - math.log(self.FLOOR)) * 1000).clamp(0, 1)  # digital silence, as before the beginning, does not
        sums = fade * (past[:, None] + torch.cumsum(torch.stack([unit * counts, counts], -1) / fade, 1))
        mean = (sums[..., 0] / (sums[..., 1] + 1e-6)).repeat_interleave(self.PER, 1)
        return (level - mean[..., None]) / 2.5, sums[:, -1]

    def lag_costs(self) -> Tensor:
        return -self.LAG_COST * torch.arange(-self.cfg.lags, self.cfg.lags + 1, device=self.usual.device).abs()

    def believe(self, total: Tensor) -> Tensor:
        """Evidence (B, U, 2 * lags) -> belief in voice 0, voice 1 and neither (B, U, 3), whatever the offset."""
        cost = self.lag_costs()
        z = (total.unflatten(-1, (2, -1)) + cost - cost.logsumexp(0)).logsumexp(-1)
        return torch.cat([z, self.neither.expand(*z.shape[:2], 1)], -1).softmax(-1)

    def look(self, v: Tensor, M: Tensor, P: Tensor, has_v: Tensor, st: State) -> Looked:
        """v (B, U, vdim * eyes), M (B, 2, 2 U, bins), P (B, 4 U, 257), has_v (B, 1). Without a picture nothing is added and nothing forgotten."""
        if v.shape[-1] != self.vdim * len(self.each()):
            raise ValueError(f"{len(self.each())} eyes want {self.vdim * len(self.each())} features a picture, not {v.shape[-1]} (join_features.py)")
        level, energy = self.hear(M, P)
        flat, sums = self.flat(level, st[0])
        found, kept = torch.zeros((), device=v.device), []
        for i, eye in enumerate(self.each()):
            fit, after = eye.fits(v[..., i * self.vdim : (i + 1) * self.vdim], flat, has_v, st[4 + 9 * i : 13 + 9 * i])
            found, kept = found + self.scale * (fit - self.fit), [*kept, *after]
        who, heard = None, []
        if self.speaker is not None:
            pairs = flat.unflatten(0, (-1, 2))
            who, heard = self.speaker.step(torch.cat([pairs, pairs.flip(1)], -1).flatten(0, 1), st[4 + 9 * len(self.each()) :])
            who = who.unflatten(0, (-1, 2))
        found = found * has_v[:, :, None]
        total = gather(found, 1 - (1 - self.keeping) * has_v, st[1])
        lips = self.talk(v[..., : self.vdim], st[4])
        lately = gather(lips[..., None] * (1 - self.LATELY), torch.full_like(has_v, self.LATELY), st[2])
        present = gather(energy, torch.full_like(has_v, self.FOLLOW), st[3])
        absent = self.absence(present).repeat_interleave(2 * self.cfg.lags + 1, -1)
        belief, sure = self.believe(total + absent)[..., :2], self.believe(total)
        shares = (total.unflatten(-1, (2, -1)) + self.lag_costs()).softmax(-1)
        now = (shares * found.unflatten(-1, (2, -1))).sum(-1)
        state = [sums, total[:, -1], lately[:, -1], present[:, -1], *kept, *heard]
        return Looked(belief, now, lips, lately[..., 0], (sure[..., 0] - sure[..., 1]).abs(), who, state)

    def step(self, v: Tensor, M: Tensor, P: Tensor, has_v: Tensor, st: State) -> tuple[Tensor, Tensor, State]:
        """What the graph decides itself, at once: weights (B, U, 2), how far each voice is believed to be wanted, or both are shut out because the
        lips rest; confidence (B, U), how far apart the evidence holds the two; state. Without a picture the lips count as speaking."""
        x = self.look(v, M, P, has_v, st)
        speaks = torch.sigmoid(torch.maximum(x.lips, x.lately) + self.open)  # opens at once, closes in half a second
        open_ = ((speaks - self.SHUT) / (self.OPEN - self.SHUT)).clamp(0, 1)
        return x.belief * (1 - (1 - open_) * has_v)[..., None], x.confidence, x.state

    def decided(self, v: Tensor, M: Tensor, P: Tensor, has_v: Tensor, ahead: int) -> Tensor:
        """What the product decides of a whole clip (src/pipeline/voices.ts) but for the voice memory, weights (B, U, 2), with `ahead` pictures of look-ahead: whose voice is
        whose by what is known so much later, whether the person speaks by the lips around and how well they fit the voice."""
        x = self.look(v, M, P, has_v, self.state(len(v)))
        c = self.GATE
        lips = around(x.lips[..., None], c.lips[0], min(c.lips[1], ahead))
        fit = around(x.fit, c.fit[0], min(c.fit[1], ahead))
        open_ = ((c.always + c.lips_weight * lips + c.fit_weight * fit - c.shut) / (c.open - c.shut)).clamp(0, 1)
        return later(x.belief, ahead) * (1 - (1 - open_) * has_v[:, :, None])


def later(x: Tensor, pictures: int) -> Tensor:
    """Rows (B, U, ...) as they are so many pictures later; at the end the last one."""
    return torch.cat([x[:, pictures:], x[:, -1:].expand(-1, min(pictures, x.shape[1]), *x.shape[2:])], 1)


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

    def weights(self, x: Tensor, M: Tensor, v: Tensor, has_v: Tensor, ahead: int = 0) -> Tensor:
        """Sound (B, n) and masks of U pictures -> how far each voice is believed to be wanted, (B, U, 2), `ahead` pictures later."""
        U = v.shape[1]
        return self.att.decided(v, M[:, :, : 2 * U], self.heard(x, U), has_v, ahead)

    def heard(self, x: Tensor, pictures: int) -> Tensor:
        """(B, n) -> powers (B, 4 U, 257)."""
        return power(stft(x, self.att.HOP, self.att.WINDOW))[:, : self.att.PER * pictures]

    def mixed(self, M: Tensor, weights: Tensor) -> Tensor:
        """Two voices' masks and (B, U, 2) -> (wanted, rest), each voice as far as it is believed to be wanted."""
        w = weights.repeat_interleave(self.att.frames, 1).transpose(1, 2)  # B x 2 x T
        w = torch.cat([w, w[:, :, -1:].expand(-1, -1, max(0, M.shape[2] - w.shape[2]))], 2)[:, :, : M.shape[2], None]
        return torch.stack([(w * M).sum(1), ((1 - w) * M).sum(1)], 1)


def separated(M: Tensor, X: Tensor, hop: int, n: int) -> Tensor:
    Y = M * X.unsqueeze(1)
    return torch.stack([istft(Y[:, k], hop, n) for k in (0, 1)], 1)


def spoken(x: Tensor, pictures: int) -> Tensor:
    """(B, n) -> (B, pictures), 1 where the voice sounds (a little before and after counts)."""
    loud = x.unfold(1, PICTURE, PICTURE).pow(2).mean(-1)[:, :pictures]
    said = (loud > 0.01 * loud.quantile(0.95, 1, keepdim=True).clamp_min(1e-7)).float()
    return F.max_pool1d(said[:, None], 5, 1, 2)[:, 0]


def loss_of(net: Attributed, mx: Mixer, batch: int, noise: float) -> Tensor:
    """Do these lips speak? Speaking people, silent ones, pauses."""
    b = mx.conditioned(batch)
    v = b.v + noise * torch.randn_like(b.v)
    z = net.att.talks(v)
    use = b.has_v.expand_as(z)
    return (F.binary_cross_entropy_with_logits(z, spoken(b.wanted, v.shape[1]), reduction="none") * use).sum() / use.sum().clamp_min(1)


@torch.no_grad()
def report(net: Attributed, pack: Pack, quick: bool = True) -> str:
    """For 4 and 12 s: decibels, share above 0, kept; best: the better of the two voices, whoever chose. Last: how open the lips are taken to be
    while the person speaks, and in training recordings of silent people."""
    out, n, c = [], 48 if quick else 192, net.sep.cfg
    for seconds in (4.0, 12.0):
        a, b, v, *_ = Mixer(pack, pack.val, "val", evaluate.PLAIN, 11).pairs(n, seconds)
        mixed, one = a + b, torch.ones(n, 1)
        base = si_sdr(mixed, a)
        still = v[:, :1].expand_as(v).contiguous()
        rows: dict[str, list[Tensor]] = {}
        for i in range(0, n, 16):
            s = slice(i, i + 16)
            X = stft(mixed[s], c.hop, c.nfft)
            M = net.blind(X).float()
            y = separated(M, X, c.hop, mixed.shape[1])
            best = torch.maximum(si_sdr(y[:, 0], a[s]), si_sdr(y[:, 1], a[s]))
            rows.setdefault("best", []).append(torch.stack([best - base[s], (best - base[s] > 0).float()], 1))
            for name, pic in (("true", v), ("frozen", still)):
                m = net.mixed(M, net.weights(mixed[s], M, pic[s], one[s]))
                z = istft(m[:, 0] * X, c.hop, mixed.shape[1])
                d = si_sdr(z, a[s]) - base[s]
                rows.setdefault(name, []).append(torch.stack([d, (d > 0).float(), (si_sdr(z, a[s]) > si_sdr(z, b[s])).float()], 1))
        text = [f"{k} {'/'.join(f'{x:.2f}' for x in torch.cat(r).mean(0).tolist())}" for k, r in rows.items()]
        out.append(f"{seconds:g} s: " + ", ".join(text))
    speaking = torch.sigmoid(net.att.talks(v) + net.att.open)[spoken(a, v.shape[1]) > 0]
    quiet = [torch.sigmoid(net.att.talks(pack.feats[f : f + k][None]) + net.att.open).mean() for f, k in zip(pack.first[pack.silent].tolist(), pack.frames[pack.silent].tolist())]
    lips = f"lips open {speaking.mean().item():.2f}, silent people {torch.stack(quiet).mean().item():.2f}" if quiet else ""
    return "; ".join(out) + f" (n {n}); {lips}"


def training_mix(seconds: float) -> MixConfig:
    return MixConfig(seconds=seconds, picture_jitter=True, p_visible=1.0, drop=0.0, p_silent=0.3, p_broken=0.0, p_noise=0.0, p_music=0.0, p_room=0.0)
