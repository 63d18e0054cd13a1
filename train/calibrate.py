"""How boldly the attributor should decide: tried on validation people, written into a checkpoint.

    python train/calibrate.py --pack PACK --model attribute.pt [--separator separate.pt] --features student_features.pt --out live.pt

Three numbers (scale of the evidence, what is kept of it from picture to picture, how readily lips count as speaking, for the graph's own gate) cannot be learnt from the
training people, whose lips the front end knows too well. The whole table is printed; the optimum is flat. --separator: put this one in first.
"""
from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
import torch.nn.functional as F

import attribution
import data
import evaluate
from checkpoints import load as load_weights
from checkpoints import load_parts, save
from metrics import si_sdr
from mix import Mixer
from separators import SepConfig
from stft import istft, stft

N = 144


def load(path: Path) -> tuple[attribution.Attributed, dict[str, object]]:
    ck = torch.load(path, map_location="cpu", weights_only=True)
    meta = ck["meta"]
    net = attribution.Attributed(SepConfig(**meta["cfg"]), attribution.AttributionConfig(**meta["attribution"]), meta["speakers"])
    load_weights(path, net)
    return net.eval(), meta


@torch.no_grad()
def learn_usual(net: attribution.Attributed, pack: data.Pack) -> None:
    """Everybody's mean of the lips' vectors, each person counting once, from the first recording of each training person."""
    g = pack.train
    for i, eye in enumerate(net.att.each()):
        means = []
        for r in {int(q) for q in g.table[: g.visible, 0]}:
            v = pack.feats[int(pack.first[r]) : int(pack.first[r] + pack.frames[r])][None, :, i * net.att.vdim : (i + 1) * net.att.vdim]
            rows, _ = eye.lips(v, eye.eye_state(1)[:2])
            means.append(F.normalize(eye.vo(rows).float(), dim=-1)[0, 8:].mean(0))
        eye.usual.copy_(torch.stack(means).mean(0))


class Trial:
    """Mixtures of validation people, separated and compared once; then any boldness can be tried."""

    def __init__(self, net: attribution.Attributed, pack: data.Pack, seconds: float, still: bool = False, seen: bool = True) -> None:
        a, b, v, *_ = Mixer(pack, pack.val, "val", evaluate.PLAIN, 11).pairs(N, seconds)
        c, self.net, self.a, self.b, self.n = net.sep.cfg, net, a, b, a.shape[1]
        self.has_v = torch.full((N, 1), float(seen))
        self.v = v[:, :1].expand_as(v).contiguous() if still else v
        X = [stft((a + b)[i : i + 16], c.hop, c.nfft) for i in range(0, N, 16)]
        self.M, self.X = torch.cat([net.blind(x).float() for x in X]), torch.cat(X)
        self.base = si_sdr(a + b, a)

    def weights(self, ahead: int = 0) -> torch.Tensor:
        """How far each voice is believed to be wanted, (N, pictures, 2), `ahead` pictures later."""
        return torch.cat([self.net.weights((self.a + self.b)[s], self.M[s], self.v[s], self.has_v[s], ahead) for s in (slice(i, i + 16) for i in range(0, N, 16))])

    def score(self, w: torch.Tensor | None = None) -> tuple[float, float, float]:
        """Decibels, share above 0, kept."""
        w = self.weights() if w is None else w
        y = istft(self.net.mixed(self.M, w)[:, 0] * self.X, self.net.sep.cfg.hop, self.n)
        d = si_sdr(y, self.a) - self.base
        return d.mean().item(), (d > 0).float().mean().item(), (si_sdr(y, self.a) > si_sdr(y, self.b)).float().mean().item()


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--separator", type=Path)
    p.add_argument("--features", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    torch.set_num_threads(1)
    pack = data.load_pack(a.pack, torch.device("cpu"), student=torch.load(a.features, weights_only=True))
    net, meta = load(a.model)
    if a.separator:
        load_parts(a.separator, net, ("sep",))
        heard = torch.load(a.separator, map_location="cpu", weights_only=True)["meta"]
        meta |= {f"separator_{k}": heard[k] for k in ("steps", "hours")}
    learn_usual(net, pack)
    net.att.fit.fill_(0.05)  # 0.1 before the lips' mean was taken away, which takes from every fit
    trials = Trial(net, pack, 6.0), Trial(net, pack, 10.0)

    def put(scale: float, keeping: float, open_: float) -> None:
        for name, value in (("scale", scale), ("keeping", keeping), ("open", open_)):
            getattr(net.att, name).fill_(value)

    def show(how: tuple[float, float, float]) -> float:
        put(*how)
        r = [t.score() for t in trials]
        print("scale {}, keeping {}, open {}: ".format(*how) + " | ".join("/".join(f"{x:.2f}" for x in q) for q in r), flush=True)
        return r[0][0] + r[1][0]

    print("6 s | 10 s: dB, above 0, kept (n 144)")
    best = max(itertools.product((0.3, 0.45, 0.6), (0.99, 0.996), (1.0,)), key=show)
    put(*best)
    print("chosen:", best, "; picture held still, 10 s:", "/".join(f"{x:.2f}" for x in Trial(net, pack, 10.0, still=True).score()))
    save(a.out, net, {**meta, "calibrated": list(best)}, None, False)


if __name__ == "__main__":
    main()
