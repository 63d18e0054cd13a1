"""When is a voice let through? Fits the score of the gate (`voices.gate` in a card, src/pipeline/voices.ts) on validation people, and says what comes of it:

    python train/gate.py --pack PACK --model live.pt --eyes student.pt second.pt

live.pt: a whole model with what hears who speaks (speaker.py), with its eyes. Three kinds of mixtures: two people at once (12 s), one
alone, and one who falls silent for four seconds while another voice begins (their longest pause played back and forth, as bench/quality does; the eyes look at
these pictures). For each picture of them: the lips, how the voice fits, how like it is to what was remembered, with 1.2 s of look-ahead. A logistic regression tells people who speak from others' voices under
their silent faces; then the sound is made, for several bounds. `rules` below is what the product does, line by line.
"""
from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import attribution
import data
import evaluate
from attribution import PICTURE
from checkpoints import load, meta_of
from metrics import si_sdr
from mix import Mixer
from pairs import side_of
from pictures import StudentAndHead
from separators import SepConfig
from stft import istft, stft

SILENCE, BEFORE, AFTER, LEAST = 100, 75, 50, 1600 * 5  # pictures of silence, of speech before and after it; samples of the least pause
COLUMNS = ("always", "lips", "fit", "known", "voice")


@dataclass
class Rules:
    """As in the card (src/model/live/build.ts), windows in pictures."""

    ahead: int = 30
    lips: tuple[int, int] = (20, 12)
    fit: tuple[int, int] = (30, 30)
    voice: tuple[int, int] = (25, 25)
    early: int = 6
    half: float = 20.0
    settled: float = 25.0
    least: float = 0.5
    alike: tuple[float, float] = (0.6, 0.8)
    against: float = 0.02
    doubt: float = 12.0  # a memory fades so fast while a voice unlike it is believed and one like it is heard beside that
    spoken: tuple[float, float, float, float] = (0.9, 15.0, 0.0, 1.0)  # lips, fit; learnt from such a sum on, and fully


@dataclass
class Case:
    kind: str
    own: Tensor  # samples
    other: Tensor
    rows: Tensor  # features
    begins: int = 0  # silent: pictures at which the other voice begins, and the next word
    word: int = 0
    found: dict[str, np.ndarray] = field(default_factory=dict)
    M: Tensor = field(default_factory=lambda: torch.zeros(0))


def pause(x: Tensor) -> tuple[int, int] | None:
    """The longest one, in samples, as bench/quality finds it."""
    power = x.unfold(0, 320, 320).pow(2).mean(1)
    speech, best, i = (power > power.quantile(0.9) * 1e-3).tolist(), None, 0
    while i < len(speech):
        end = i
        while end < len(speech) and not speech[end]:
            end += 1
        a, b = 320 * i, 320 * end
        if a >= 24000 and b <= len(x) - 32000 and b - a >= LEAST and (best is None or b - a > best[1] - best[0]):
            best = a, b
        i = end + 1
    return best


@torch.no_grad()
def seen_by(eyes: list[StudentAndHead], pictures: Tensor) -> Tensor:
    """Features (T, eyes x dim) of pictures one after another; in pieces, each with those before it that a front end remembers."""
    parts = []
    for i in range(0, len(pictures), 500):
        before = min(i, 12)
        parts.append(torch.cat([eye.student(pictures[None, i - before : i + 512].float())[0, before : before + 500] for eye in eyes], -1))
    return torch.cat(parts)


def cases(pack: data.Pack, eyes: list[StudentAndHead], others: int = 3) -> list[Case]:
    owner = {r: p for p in range(pack.val.visible) for r in pack.val.table[p].tolist()}
    feats = torch.zeros(len(pack.crops), 128 * len(eyes))
    for r in owner:
        f, n = int(pack.first[r]), int(pack.frames[r])
        feats[f : f + n] = seen_by(eyes, pack.crops[f : f + n])
    pack = replace(pack, feats=feats)
    a, b, v, *_ = Mixer(pack, pack.val, "val", evaluate.PLAIN, 11).pairs(144, 12.0)
    out = [Case("pair", *three) for three in zip(a, b, v)]
    draw, sound = torch.Generator().manual_seed(7), lambda r: pack.pool[pack.start[r] : pack.start[r] + pack.length[r]].float() / 32768
    for r in sorted(owner):
        x, f, n = Mixer.level(sound(r)[None])[0], int(pack.first[r]), int(pack.frames[r])
        m = min(n, 300)
        out.append(Case("alone", x[: m * PICTURE], torch.zeros(m * PICTURE), pack.feats[f : f + m]))
        q = pause(x[: n * PICTURE])
        if q is None:
            continue
        fr, to = math.ceil(q[0] / PICTURE + 2), math.floor(q[1] / PICTURE - 4)
        if to - fr < 2:
            continue
        begin, end = max(0, q[0] // PICTURE - BEFORE), min(n, q[1] // PICTURE + AFTER)
        rounds = math.ceil(SILENCE / (2 * (to - fr)))
        at = torch.tensor([*range(begin, to), *[*range(to - 1, fr - 1, -1), *range(fr, to)] * rounds, *range(to, end)])
        own = x[: n * PICTURE].view(n, PICTURE)[at].flatten()
        rows = seen_by(eyes, pack.crops[f + at])
        strangers = [s for s in owner if owner[s] != owner[r]]
        for _ in range(others):
            y = sound(strangers[int(torch.randint(len(strangers), (1,), generator=draw))])
            loud = y.unfold(0, 320, 320).pow(2).mean(1)
            y = y[320 * int((loud > loud.quantile(0.9) * 1e-3).nonzero()[0]) :]
            y = Mixer.level(y.repeat(2 + len(own) // len(y))[None, : len(own)])[0].clone()
            y[: (fr - begin) * PICTURE] = 0
            out.append(Case("silent", own, y, rows, fr - begin, to - begin + 2 * rounds * (to - fr) + (q[1] - to * PICTURE) // PICTURE))
    return out


@torch.no_grad()
def look(net: attribution.Attributed, c: Case) -> None:
    """What the network says of each picture."""
    x, U, att = (c.own + c.other)[None], len(c.rows), net.att
    M = net.blind(stft(x, net.sep.cfg.hop, net.sep.cfg.nfft)).float()[:, :, : 2 * U]
    P = net.heard(x, U)
    seen = att.look(c.rows[None], M, P, torch.ones(1, 1), att.state(1))
    c.M = M[0]
    c.found = dict(belief=seen.belief[0], fit=seen.fit[0], lips=seen.lips[0], z=seen.speaker[0].transpose(0, 1), energy=att.hear(M, P)[1][0])
    c.found = {k: v.numpy().astype(np.float64) for k, v in c.found.items()}


def around(sums: np.ndarray, at: int, before: int, after: int) -> tuple[np.ndarray, int]:
    """Sum of the rows around one, and how many they are; sums (U + 1, ...) begin with 0."""
    lo, hi = max(0, at - before), min(len(sums) - 1, at + after + 1)
    return sums[hi] - sums[lo], hi - lo


def remembered(c: Case, r: Rules) -> np.ndarray:
    """(U, early + 1, 2, COLUMNS): what the scores of a picture and of those after it are made of, for both voices, as far as it is known `ahead` pictures after the first."""
    b, fit, lips, z = (c.found[k] for k in ("belief", "fit", "lips", "z"))
    U, D = len(lips), z.shape[-1]
    sums = lambda x: np.concatenate([np.zeros((1, *x.shape[1:])), np.cumsum(x, 0)])  # noqa: E731
    sl, sf, sz = sums(lips), sums(fit), sums(z)
    mean = lambda s, at, w, ahead: np.divide(*around(s, at, w[0], min(w[1], ahead)))  # noqa: E731
    voice, n, learnt = np.zeros(D), 0.0, 0
    most = max(r.lips[1], r.fit[1], r.voice[1])
    alike = lambda v: float(v @ voice / max(1e-9, np.linalg.norm(v) * np.linalg.norm(voice)))  # noqa: E731
    out = np.zeros((U, min(r.early, r.ahead) + 1, 2, len(COLUMNS)))
    for u in range(U):
        for q in range(learnt, min(U, u + r.ahead - most + 1)):
            v = int(np.argmax(b[q]))
            said = r.spoken[0] * mean(sl, q, r.lips, most) + r.spoken[1] * mean(sf, q, r.fit, most)[v]
            sure = (b[q, v] - b[q, 1 - v]) * np.clip((said - r.spoken[2]) / (r.spoken[3] - r.spoken[2]), 0, 1)
            if sure > r.least:
                if n > r.settled:
                    heard = around(sz, q, *r.voice)[0]
                    if alike(heard[1 - v]) > r.alike[0] > alike(heard[v]):
                        left = max(0.0, 1 - sure / r.doubt)
                        voice, n = voice * left, n * left
                    else:
                        sure *= r.against + (1 - r.against) * np.clip((alike(around(sz, q, *r.voice)[0][v]) - r.alike[0]) / (r.alike[1] - r.alike[0]), 0, 1)
                voice, n = voice + sure * z[q, v], n + sure
            learnt = q + 1
        h = n / (n + r.half)
        for k in range(out.shape[1]):
            at, ahead = min(u + k, U - 1), r.ahead - k
            l, f, heard = mean(sl, at, r.lips, ahead), mean(sf, at, r.fit, ahead), around(sz, at, r.voice[0], min(r.voice[1], ahead))[0]
            like = [alike(x) for x in heard]
            for v in (0, 1):
                says = h * (like[1 - v] <= r.alike[0])  # nothing against a voice while the remembered one is beside it
                out[u, k, v] = 1, l, f[v], says, says * like[v]
    return out


def labelled(c: Case, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the score with 1: the person speaks and the voice is theirs, 0: another voice while they are silent."""
    U, X = len(X), X[:, 0]
    loud = lambda x: (p := x[: U * PICTURE].view(U, PICTURE).pow(2).mean(1)) > p.quantile(0.9) * 0.03  # noqa: E731
    own, other = loud(c.own).numpy(), loud(c.other).numpy() & bool(c.other.abs().max() > 0)
    mix, S = (stft(x[None], 320, 640)[0].abs()[: c.M.shape[1]] for x in (c.own + c.other, c.own))
    wrong = torch.stack([(m * mix - S).pow(2).sum(-1) for m in c.M[:, : len(mix)]]).numpy()
    rows, label = [], []
    for u in range(15, U - 5, 5):
        if c.kind == "silent" and c.begins - 12 < u < c.word + 8:
            if c.begins + 12 < u < c.word - 12 and other[u]:
                rows, label = [*rows, X[u, int(np.argmax(c.found["energy"][u]))]], [*label, 0]
        elif own[u]:
            rows, label = [*rows, X[u, int(np.argmin(wrong[:, 2 * max(0, u - 12) : 2 * (u + 12)].sum(1)))]], [*label, 1]
    return np.array(rows).reshape(-1, len(COLUMNS)), np.array(label)


def fitted(rows: np.ndarray, label: np.ndarray, columns: list[int], silent_weight: float = 3.0) -> tuple[np.ndarray, float, float]:
    """Logistic regression: weights (0 for other columns), loss, area under the curve."""
    A = rows[:, columns]
    scale = np.maximum(A.std(0), 1e-3)
    B, y = torch.tensor(A / scale), torch.tensor(label, dtype=torch.double)
    weight, w = 1 + (silent_weight - 1) * (1 - y), torch.zeros(len(columns), dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (F.binary_cross_entropy_with_logits(B @ w, y, reduction="none") * weight).mean() + 1e-5 * w.pow(2).sum()
        value.backward()
        return value

    optimiser.step(loss)
    score = (B @ w).detach().numpy()
    ranks = score.argsort().argsort()[label == 1] + 1.0
    n, m = (label == 1).sum(), (label == 0).sum()
    out = np.zeros(len(COLUMNS))
    out[columns] = w.detach().numpy() / scale
    return out, loss().item(), (ranks.sum() - n * (n + 1) / 2) / (n * m)


def opened(c: Case, X: np.ndarray, w: np.ndarray, bounds: tuple[float, float], r: Rules) -> np.ndarray:
    """Weights of the voices (U, 2)."""
    gate = np.clip((X @ w - bounds[0]) / (bounds[1] - bounds[0]), 0, 1).max(1)
    return c.found["belief"][np.minimum(np.arange(len(X)) + r.ahead, len(X) - 1)] * gate


def judged(c: Case, weights: np.ndarray) -> tuple[float, ...]:
    """pair: dB, above 0, kept, dB after 4 s; alone: over 20 dB, level within 0.5 dB; silent: the other voice 10 dB down, by how much, next word loses under 3 dB."""
    x, n = (c.own + c.other)[None], len(c.rows) * PICTURE
    X = stft(x, 320, 640)[0]
    W = torch.from_numpy(weights).float().repeat_interleave(2, 0).T
    G = (W[:, : c.M.shape[1], None] * c.M).sum(0).clamp(max=1)
    G = torch.cat([G, G[-1:].expand(max(0, len(X) - len(G)), -1)])[: len(X)]
    db = lambda g, p: 10 * math.log10(((g.pow(2) * p).sum() / p.sum()).item() + 1e-9)  # noqa: E731
    if c.kind == "silent":
        quiet, word = slice(2 * c.begins + 50, 2 * c.word - 2), slice(2 * c.word, 2 * c.word + 10)
        down = db(G[quiet], X[quiet].abs().pow(2))
        return float(down <= -10), max(-40.0, down), float(db(G[word], stft(c.own[None], 320, 640)[0][word].abs().pow(2)) > -3)
    y, own = istft((G * X)[None], 320, n)[0], c.own[:n]
    if c.kind == "alone":
        return float(si_sdr(y, own) > 20), float(abs(10 * math.log10((y.pow(2).sum() / own.pow(2).sum()).item() + 1e-9)) < 0.5)
    gain = lambda k: (si_sdr(y[k:], own[k:]) - si_sdr(x[0, k:n], own[k:])).item()  # noqa: E731
    return gain(0), float(gain(0) > 0), float(si_sdr(y, own) > si_sdr(y, c.other[:n])), gain(64000)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--eyes", type=Path, nargs="+", required=True, help="students of the model's eyes, the first one first")
    p.add_argument("--keep", type=Path, help="what the network says of each case, kept between runs")
    a = p.parse_args()
    meta = meta_of(a.model)
    net = attribution.Attributed(SepConfig(**meta["cfg"]), attribution.AttributionConfig(**meta["attribution"]), meta["speakers"])
    load(a.model, net)
    net.eval()
    if net.att.speaker is None:
        raise SystemExit(f"{a.model} does not hear who speaks: train.py --stage speaker first")
    if a.keep and a.keep.exists():
        made = torch.load(a.keep, weights_only=False)
    else:
        eyes = []
        for path in a.eyes:
            eyes.append(StudentAndHead(side_of(path)))
            load(path, eyes[-1])
            eyes[-1].eval()
        made = cases(data.load_pack(a.pack, torch.device("cpu"), crops=side_of(a.eyes[0]), sound_only=True), eyes)
        for c in made:
            look(net, c)
        if a.keep:
            torch.save(made, a.keep)
    r = Rules()
    X = [remembered(c, r) for c in made]
    rows, label = (np.concatenate(x) for x in zip(*(labelled(c, x) for c, x in zip(made, X))))
    print(f"{len(label)} pictures, {(label == 0).sum()} of them of silent people")
    # The last one ships: through the product a memory can be of the wrong voice, which these mixtures hardly have.
    for name, columns, trust in (("lips and fit", [0, 1, 2], 1.0), ("and the voice remembered", list(range(5)), 1.0), ("trusted less", list(range(5)), 0.7)):
        w, loss, area = fitted(rows, label, columns)
        w[3:] *= trust
        print(f"{name}: area under the curve {area:.4f}, loss {loss:.4f}; " + ", ".join(f"{k} {v:.2f}" for k, v in zip(COLUMNS, w)))
        for bounds in ((-3, -1), (-2, 0), (-1.5, 0.5), (-1, 1)):
            found = {k: np.mean([judged(c, opened(c, x, w, bounds, r)) for c, x in zip(made, X) if c.kind == k], 0) for k in ("pair", "alone", "silent")}
            print(f"  {bounds}: " + "; ".join(f"{k} {' '.join(f'{v:.3f}' for v in s)}" for k, s in found.items()), flush=True)


if __name__ == "__main__":
    main()
