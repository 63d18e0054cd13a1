"""How boldly the attributor should decide: tried on validation people, written into a new checkpoint.

    python train/calibrate.py --pack PACK --model attribute.pt --features student_features.pt --out attribute-calibrated.pt

The scale of the evidence is learnt on training people, whose lips the front end knows too well: on others it is worth less. Three numbers
are chosen here (scale, what is kept from picture to picture, the weight of "neither"), the whole table is printed.
"""
from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import attribution
import data
import evaluate
from metrics import si_sdr
from mix import Mixer
from net import SepConfig, istft, stft

N = 144


def load(path: Path) -> tuple[attribution.Attributed, dict[str, object]]:
    ck = torch.load(path, map_location="cpu", weights_only=True)
    meta = ck["meta"]
    net = attribution.Attributed(SepConfig(**meta["cfg"]), attribution.AttributionConfig(**meta["attribution"]), meta["speakers"])
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in ck["weights"].items()})
    return net.eval(), ck


class Trial:
    """Mixtures of validation people, separated once; then any belief can be tried."""

    def __init__(self, net: attribution.Attributed, pack: data.Pack, seconds: float, still: bool = False) -> None:
        a, b, v, *_ = Mixer(pack, pack.val, "val", evaluate.PLAIN, 11).pairs(N, seconds)
        c, att = net.sep.cfg, net.att
        self.net, self.a, self.b, self.n = net, a, b, a.shape[1]
        v = v[:, :1].expand_as(v).contiguous() if still else v
        X, M, cosine, gate = [], [], [], []
        for i in range(0, N, 16):
            s = slice(i, i + 16)
            x = stft((a + b)[s], c.hop, c.nfft)
            m = net.blind(x).float()
            U = v.shape[1]
            st = att.state(len(x))
            lips = att.lips(v[s], st[:2])[0]
            voices = att.voices(att.hear(m[:, :, : 2 * U], net.heard((a + b)[s], U)), st[2:7])[0].unflatten(0, (len(x), 2))
            p, q = att.vectors(lips, voices)
            X.append(x), M.append(m), cosine.append((p * q).sum(-1)), gate.append(F.softplus(att.asure(voices)).squeeze(-1))
        self.X, self.M, self.cosine, self.gate = torch.cat(X), torch.cat(M), torch.cat(cosine), torch.cat(gate)
        self.base = si_sdr(a + b, a)

    def score(self, scale: float, fit: float, keeping: float, neither: float, gated: bool = True) -> tuple[float, float, float]:
        """Decibels, share above 0, kept."""
        e = (scale * (self.gate if gated else 1.0) * (self.cosine - fit)).transpose(1, 2)
        fade = torch.exp(math.log(keeping) * torch.arange(1, e.shape[1] + 1)[None, :, None])
        total = fade * torch.cumsum(e / fade, 1)
        m = self.net.mixed(self.M, torch.cat([total, torch.full_like(total[..., :1], neither)], -1))[:, 0]
        y = istft(m * self.X, self.net.sep.cfg.hop, self.n)
        d = si_sdr(y, self.a) - self.base
        return d.mean().item(), (d > 0).float().mean().item(), (si_sdr(y, self.a) > si_sdr(y, self.b)).float().mean().item()


def logit(keeping: float) -> Tensor:
    share = min(0.999, max(0.001, (keeping - 0.98) / 0.016))
    return torch.tensor(math.log(share / (1 - share)))


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--features", type=Path, required=True)
    p.add_argument("--out", type=Path)
    a = p.parse_args()
    torch.set_num_threads(1)
    pack = data.load_pack(a.pack, torch.device("cpu"), student=torch.load(a.features, weights_only=True))
    net, ck = load(a.model)
    att = net.att
    learnt = (att.scale.item(), att.fit.item(), att.keeping.item(), att.neither.item())
    short, long = Trial(net, pack, 6.0), Trial(net, pack, 10.0)
    print("6 s | 10 s: dB, above 0, kept (n 144)")

    def show(name: str, *how: float, gated: bool = True) -> float:
        r = [t.score(*how, gated=gated) for t in (short, long)]
        print(f"{name}: " + " | ".join("/".join(f"{x:.2f}" for x in q) for q in r), flush=True)
        return r[0][0] + r[1][0]

    show("as learnt, scale {:.2f} fit {:.2f} keeping {:.4f} neither {:.2f}".format(*learnt), *learnt)
    for scale in (0.25, 0.5):
        show(f"no gate, scale {scale}", scale, learnt[1], 0.996, learnt[3], gated=False)
    best = max(itertools.product((0.3, 0.5, 0.7, 1.0), (learnt[2], 0.992, 0.996), (learnt[3], learnt[3] - 2)),
               key=lambda q: show(f"scale x {q[0]}, keeping {q[1]:.4f}, neither {q[2]:.2f}", learnt[0] * q[0], learnt[1], q[1], q[2]))
    print("chosen:", best)
    frozen = Trial(net, pack, 10.0, still=True)
    print("picture held still, 10 s:", "/".join(f"{x:.2f}" for x in frozen.score(learnt[0] * best[0], learnt[1], best[1], best[2])))
    if a.out:
        w = ck["weights"]
        w["att.scale"], w["att.hold"], w["att.neither"] = torch.tensor(learnt[0] * best[0]), logit(best[1]), torch.tensor(best[2])
        data.save(dict(weights=w, meta={**ck["meta"], "calibrated": list(map(float, best))}), a.out)


if __name__ == "__main__":
    main()
