"""Who speaks, told by the voice itself: a small network that hears both separated voices and gives each a vector a picture. Vectors of one person, added up over a
second or more, point the same way, whatever is said. So a voice that lips were seen to speak with is known again without them: the voice memory of the product
(src/pipeline/voice-memory.ts). Learns from voices only, nothing of the people on camera but their sound."""
from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import evaluate
from attribution import Attributed, Attributor
from data import FRAME, Pack
from formats import amp
from front_ends import Speaker
from mix import MixConfig, Mixer
from stft import power, stft

SIZE = 64  # of a vector
BEGIN = 10  # pictures at the beginning of a piece of which nothing is learnt: the mean level is still found
LEAST = 16  # pictures
MARGIN, SHARP = 0.15, 25.0  # of the speaker classes (Wang and others 2018, "Additive margin softmax")


def mixtures(seconds: float) -> MixConfig:
    return MixConfig(seconds=seconds, level_db=5, p_late=0.15, p_alone=0.1, p_noise=0.1, p_music=0.05, p_room=0.3, gain_db=(-12.0, 6.0))


class Separated:
    """Voices as the separator gives them, made once: levels (2 n, 4 U, bands) of n mixtures, two after the other, and whose they are. By person: its pieces."""

    @torch.no_grad()
    def __init__(self, net: Attributed, mx: Mixer, count: int, batch: int = 16) -> None:
        c, levels, who = net.sep.cfg, [], []
        for _ in range(-(-count // batch)):
            people = torch.randperm(mx.g.people, generator=mx.gen, device=mx.dev)[: 2 * batch].view(2, batch)
            x, y = (piece(mx, p, mx.cfg.seconds) for p in people)
            y = y * 10 ** (mx.u(batch, 1, a=-mx.cfg.level_db, b=mx.cfg.level_db) / 20)
            X = stft(x + y, c.hop, c.nfft)
            with amp(X.device):
                M = net.blind(X)
            M = M.float()
            S = torch.stack([stft(v, c.hop, c.nfft) for v in (x, y)], 1)
            wrong = (M[:, :, None] * X[:, None, None] - S[:, None]).abs().pow(2).sum((-1, -2))  # item, output, voice
            crossed = wrong[:, 0, 1] + wrong[:, 1, 0] < wrong[:, 0, 0] + wrong[:, 1, 1]
            U = x.shape[1] // FRAME
            M = torch.where(crossed[:, None, None, None], M.flip(1), M)
            levels.append(flat_of(net.att, net.att.hear(M[:, :, : 2 * U], net.heard(x + y, U))[0]).half())
            who.append(people.T.flatten())
        self.levels, self.who = torch.cat(levels), torch.cat(who)
        order = self.who.argsort()
        self.people, counts = self.who[order].unique(return_counts=True)
        first = counts.cumsum(0) - counts
        several = counts > 1
        self.people, self.first, self.counts, self.order = self.people[several], first[several], counts[several], order

    def batch(self, mx: Mixer, P: int, L: int) -> tuple[Tensor, Tensor, Tensor]:
        """Persons (P), and two pieces of each (2 P, 4 L, bands), all first ones first, with the voice beside each."""
        at = torch.randperm(len(self.people), generator=mx.gen, device=mx.dev)[:P]
        P = len(at)
        one = mx.pick(self.counts[at], P)
        two = (one + 1 + mx.pick(self.counts[at] - 1, P)) % self.counts[at]
        rows = self.order[torch.cat([self.first[at] + one, self.first[at] + two])]
        begin = 4 * mx.pick(self.levels.shape[1] // 4 - L + 1, 2 * P)
        index = begin[:, None] + torch.arange(4 * L, device=mx.dev)
        return self.people[at], self.levels[rows[:, None], index].float(), self.levels[(rows ^ 1)[:, None], index].float()


def flat_of(att: Attributor, level: Tensor) -> Tensor:
    return att.flat(level, torch.zeros(len(level), 2, device=level.device))[0]


def piece(mx: Mixer, people: Tensor, seconds: float) -> Tensor:
    steady = torch.ones(len(people), dtype=torch.bool, device=mx.dev)
    return mx.rooms(mx.voice(people, int(seconds * 25) * FRAME, steady)[0])


def leaky(net: Attributed, mx: Mixer, P: int, L: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same of voices that were never separated, a rest of another voice in each: quickly made."""
    people = torch.randperm(mx.g.people, generator=mx.gen, device=mx.dev)[:P]
    x, y = (torch.cat([piece(mx, p, L / 25) for p in (people, people)]) for p in (people, people))
    y = y.roll(1 + int(mx.pick(P - 1, 1)), 0) * ~mx.chance(2 * P, 0.25)[:, None]  # alone: what is beside it is its own rest
    noise = 0.05 * 10 ** (mx.u(2 * P, 1, a=-50, b=-20) / 20) * torch.randn(x.shape, generator=mx.gen, device=mx.dev)
    leak = 10 ** (mx.u(2, 2 * P, 1, a=-35, b=-5) / 20)
    out = []
    for own, other, k in ((x, y, 0), (y, x, 1)):
        P_ = power(stft(own + leak[k] * other + noise, net.att.HOP, net.att.WINDOW))[:, : 4 * L]
        out.append(flat_of(net.att, torch.log(P_ @ net.att.bank + net.att.FLOOR)))
    return people, *out


def disguised(level: Tensor, mx: Mixer) -> Tensor:
    """Another microphone, and bands that are not heard."""
    n, K = len(level), level.shape[-1]
    colour = F.interpolate(0.25 * torch.randn(n, 1, 6, device=level.device, generator=mx.gen), K, mode="linear")
    low, width, band = mx.pick(K, n), mx.pick(5, n), torch.arange(K, device=level.device)
    hidden = (band >= low[:, None]) & (band < (low + width)[:, None])
    return (level + colour).masked_fill(hidden[:, None], 0.0)


class Learner(nn.Module):
    """The network, with one direction for each person that it learns from."""

    def __init__(self, speaker: Speaker, people: int, dim: int) -> None:
        super().__init__()
        self.speaker, self.classes, self.scale = speaker, nn.Parameter(torch.randn(people, dim)), nn.Parameter(torch.tensor(2.3))

    def loss(self, people: Tensor, own: Tensor, other: Tensor, mx: Mixer) -> Tensor:
        """Pieces of one person find each other among all, and their class."""
        P, L = len(people), own.shape[1] // 4
        with amp(own.device):
            z = self.speaker(torch.cat([own, other], -1))
        length = LEAST + mx.pick(L - BEGIN - LEAST + 1, 2 * P)
        counts = (torch.arange(BEGIN, L, device=own.device)[None] < BEGIN + length[:, None]).float()
        v = F.normalize((z[:, BEGIN:] * counts[..., None]).sum(1), dim=-1)
        fit, right = self.scale.exp() * v[:P] @ v[P:].T, torch.arange(P, device=own.device)
        pairs = (F.cross_entropy(fit, right) + F.cross_entropy(fit.T, right)) / 2
        label = people.repeat(2)
        each = v @ F.normalize(self.classes, dim=-1).T - MARGIN * F.one_hot(label, len(self.classes))
        return pairs + 0.5 * F.cross_entropy(SHARP * each, label)


@torch.no_grad()
def report(net: Attributed, pack: Pack) -> str:
    """Validation people: 3 s of a recording against 2 and 1 s later in it and against all others', clean (area under the curve: visible people, other voices); and of
    separated pairs of visible people, told by 3 s of each: how often the two voices of two seconds are told apart."""
    text = []
    found, who = [], []
    for p in range(pack.val.people):
        for r in sorted(set(pack.val.table[p].tolist()))[:2]:
            n, s = int(pack.length[r]), int(pack.start[r])
            x = Mixer.level(pack.pool[s : s + n].float()[None] / 32768)
            U = n // FRAME
            if U >= 150:
                level = flat_of(net.att, torch.log(power(stft(x, net.att.HOP, net.att.WINDOW))[:, : 4 * U] @ net.att.bank + net.att.FLOOR))
                found.append(net.att.speaker(torch.cat([level, level], -1))[0])
                who.append(p)
    for seconds in (2, 1):
        enrolled, heard, of = [], [], []
        for z, p in zip(found, who):
            for q in range(85, len(z) - 25 * seconds, 100):
                enrolled.append(F.normalize(z[:75].sum(0), dim=0))
                heard.append(F.normalize(z[q : q + 25 * seconds].sum(0), dim=0))
                of.append(p)
        m, of = torch.stack(enrolled) @ torch.stack(heard).T, torch.tensor(of)
        for name, some in (("visible", of < pack.val.visible), ("voices", of >= pack.val.visible)):
            both = some[:, None] & some[None]
            same, other = m[both & torch.eye(len(m), dtype=torch.bool)], m[both & (of[:, None] != of[None])]
            text.append(f"{name} {seconds} s {area(same, other):.4f}")
    a, b, *_ = Mixer(pack, pack.val, "val", evaluate.PLAIN, 11).pairs(48, 12.0)
    c, right, n = net.sep.cfg, 0, 0
    for i in range(0, 48, 16):
        x = (a + b)[i : i + 16]
        X, U = stft(x, c.hop, c.nfft), x.shape[1] // FRAME
        M = net.blind(X).float()
        level = flat_of(net.att, net.att.hear(M[:, :, : 2 * U], net.heard(x, U))[0])
        z = net.att.speaker(torch.cat([level, level.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)], -1)).unflatten(0, (-1, 2))
        S = torch.stack([stft(v[i : i + 16], c.hop, c.nfft) for v in (a, b)], 1)
        wrong = (M[:, :, None] * X[:, None, None] - S[:, None]).abs().pow(2).sum(-1)
        gap = wrong[:, 0, 1] + wrong[:, 1, 0] - wrong[:, 0, 0] - wrong[:, 1, 1]  # by frame; above 0: straight
        way = lambda u, k: gap[:, 2 * u : 2 * (u + k)].sum(1)  # noqa: E731
        flip = way(25, 75) < 0
        e = F.normalize(z[:, :, 25:100].sum(2), dim=-1)
        e = torch.where(flip[:, None, None], e.flip(1), e)
        for u in range(100, 300 - 50, 50):
            t = F.normalize(z[:, :, u : u + 50].sum(2), dim=-1)
            s = torch.einsum("bid,bjd->bij", t, e)
            right += ((s[:, 0, 0] + s[:, 1, 1] > s[:, 0, 1] + s[:, 1, 0]) == (way(u, 50) > 0)).sum().item()
            n += len(x)
    return ", ".join(text) + f"; of separated ones {right / n:.3f}"


def area(same: Tensor, other: Tensor) -> float:
    """Under the curve: how often one of `same` is above one of `other`."""
    ranks = torch.cat([same, other]).argsort().argsort()[: len(same)].double() + 1
    return ((ranks.sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other))).item()


def learn(a: argparse.Namespace, net: Attributed, pack: Pack) -> tuple[Learner, object]:
    """What is trained, and the loss of a step: half of the pieces are separated ones."""
    mx = Mixer(pack, pack.train, "train", mixtures(6.0), a.seed)
    made = Separated(net, mx, a.separated) if a.separated else None
    learner = Learner(net.att.speaker.requires_grad_(True), pack.train.people, net.att.cfg.speaker)
    L = int(25 * a.seconds)

    def loss(_: float) -> Tensor:
        sets = [leaky(net, mx, a.batch, L)] + ([made.batch(mx, a.batch, L)] if made else [])
        return sum(learner.loss(p, disguised(x, mx), y, mx) for p, x, y in sets) / len(sets)

    return learner, loss
