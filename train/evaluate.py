"""Reports that the stages of train.py print: judging on validation people."""
from __future__ import annotations


import torch
import torch.nn.functional as F
from torch import Tensor

import data
import formats
from data import Group, Pack
from metrics import si_sdr
from mix import MixConfig, Mixer
from front_ends import Student, SyncHead
from separators import Model
from stft import istft, stft

PLAIN = MixConfig(augment=False)


def amp(dev: torch.device) -> torch.autocast:
    return torch.autocast(dev.type, dtype=torch.bfloat16, enabled=dev.type == "cuda")


# ---------- synchrony ----------

@torch.no_grad()
def attribution(head: SyncHead, pack: Pack, g: Group, seconds: float, n: int = 192) -> tuple[float, float, float]:
    """Share of pairs where the own voice fits the picture better than another person's: moving picture, frozen picture; own voice against itself shifted."""
    if g.visible < 3:
        return (float("nan"),) * 3
    x, y, v, *_ = Mixer(pack, g, "val", PLAIN, 5).pairs(n, seconds)
    still = v.mean(1, keepdim=True).expand_as(v)
    A, B = head.voice(head.mel(x))[:, : v.shape[1]], head.voice(head.mel(y))[:, : v.shape[1]]

    def win(p: Tensor, other: Tensor) -> float:
        q = head.picture(p.contiguous())
        return ((q * A).sum(-1).mean(1) > (q * other).sum(-1).mean(1)).float().mean().item()

    q, L = head.picture(v), v.shape[1]  # own voice 0.48 s earlier, borders left out
    now, early = ((q[:, 16 : L - 4] * A[:, k : k + L - 20]).sum(-1).mean(1) for k in (16, 4))
    return win(v, B), win(still, B), (now > early).float().mean().item()


def sync_report(head: SyncHead, pack: Pack) -> str:
    was = head.training
    head.eval()
    r = [f"{s:g}s " + "/".join(f"{q:.2f}" for q in attribution(head, pack, pack.val, s)) for s in (1, 2, 4)]
    t = attribution(head, pack, pack.train, 2)
    head.train(was)
    return "val own>other / frozen / own>shifted: " + ", ".join(r) + f"; train 2s {t[0]:.2f}"


@torch.no_grad()
def student_rows(net: Student, pack: Pack, quick: bool = False) -> Tensor:
    """Features of all pictures of the pack; `quick`: in the number format of the training, which is quicker where there is bf16."""
    was = net.training
    net.eval()
    out = torch.zeros(len(pack.feats), net.cfg["dim"], device=pack.device)
    for a, n in zip(pack.first.tolist(), pack.frames.tolist()):
        for i in range(0, n, 500):
            lo, hi = max(0, i - 12), min(n, i + 502)
            with formats.amp(pack.device) if quick else amp(pack.device):
                y = net(pack.crops[a + lo : a + hi][None].float())[0]
            m = min(500, n - i)
            out[a + i : a + i + m] = y[i - lo : i - lo + m].float()
    net.train(was)
    return out


def change_fit(y: Tensor, pack: Pack) -> tuple[float, float]:
    """Mean cosine between student and teacher, each clip's mean taken out: train, val."""
    res: list[list[float]] = [[], []]
    for k, g in enumerate((pack.train, pack.val)):
        for r in set(g.table[: g.visible].flatten().tolist()):
            a, n = int(pack.first[r]), int(pack.frames[r])
            p, t = y[a : a + n], pack.feats[a : a + n]
            res[k].append(F.cosine_similarity(p - p.mean(0), t - t.mean(0), dim=-1).mean().item())
    return sum(res[0]) / max(1, len(res[0])), sum(res[1]) / max(1, len(res[1]))


# ---------- separation ----------

@torch.no_grad()
def outputs(net: Model, mixed: Tensor, v: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor, chunk: int = 16) -> Tensor:
    hop, n, out = net.sep.cfg.hop, mixed.shape[1], []
    for i in range(0, len(mixed), chunk):
        s = slice(i, i + chunk)
        X = stft(mixed[s], hop, net.sep.cfg.nfft)
        with amp(mixed.device):
            M = net.masks(X, v[s], has_v[s], mem[s], has_m[s])
        Y = M * X.unsqueeze(1)
        out.append(torch.stack([istft(Y[:, k], hop, n) for k in (0, 1)], 1))
    return torch.cat(out)


def better_order(y: Tensor, a: Tensor, b: Tensor, mixed: Tensor) -> tuple[float, float]:
    """Mean improvement over both voices in the better order, and the share of mixtures above 0."""
    base = (si_sdr(mixed, a) + si_sdr(mixed, b)) / 2
    s = (si_sdr(y[:, 0], a) + si_sdr(y[:, 1], b)) / 2
    c = (si_sdr(y[:, 0], b) + si_sdr(y[:, 1], a)) / 2
    d = torch.maximum(s, c) - base
    return d.mean().item(), (d > 0).float().mean().item()


def separate_report(net: Model, pack: Pack, n: int = 48, seconds: float = 4.0) -> str:
    c, out = net.sep.cfg, []
    dev = pack.device
    for name, g in (("val voices", _voices_only(pack.val)), ("val visible", pack.val)):
        mx = Mixer(pack, g, "val", MixConfig(augment=False, seconds=seconds), 7)
        if name == "val visible":
            if g.visible < 3:
                continue
            a, b, *_ = mx.pairs(n, seconds)
        else:
            if g.people < 3:
                continue
            q = mx._finish(n, int(seconds * 25) * data.FRAME, torch.zeros(n, dtype=torch.bool, device=dev), torch.zeros(n, dtype=torch.bool, device=dev), False)
            a, b = q.wanted, q.other
        zero = torch.zeros(n, 1, device=dev)
        y = outputs(net, a + b, torch.zeros(n, int(seconds * 25), c.vdim, device=dev), zero, torch.zeros(n, c.edim, device=dev), zero)
        d, up = better_order(y, a, b, a + b)
        out.append(f"{name} {d:.2f} dB, >0 {up:.2f}")
        # A voice alone must come out whole, not halved between the two outputs: the level counts, so no SI-SDR.
        alone = outputs(net, a, torch.zeros(n, int(seconds * 25), c.vdim, device=dev), zero, torch.zeros(n, c.edim, device=dev), zero)
        snr = 10 * torch.log10(a.pow(2).sum(-1)[:, None] / (alone - a[:, None]).pow(2).sum(-1)).amax(1)
        out[-1] += f", alone >20 dB {(snr > 20).float().mean().item():.2f}"
        # One, then the other, then both: whoever speaks again must come out where they were.
        third = a.shape[1] // 3
        a, b = a.clone(), b.clone()
        a[:, third : 2 * third], b[:, :third] = 0, 0
        y = outputs(net, a + b, torch.zeros(n, int(seconds * 25), c.vdim, device=dev), zero, torch.zeros(n, c.edim, device=dev), zero)
        d, up = better_order(y, a, b, a + b)
        out[-1] += f", in turns {d:.2f} dB"
    return "; ".join(out)


def _voices_only(g: Group) -> Group:
    return Group(g.table[g.visible :], g.count[g.visible :], 0, g.domains[g.visible :])


def condition_report(net: Model, pack: Pack, quick: bool = True, seconds: float = 4.0, group: Group | None = None) -> str:
    """Per condition: SI-SDR improvement, share above 0, kept (nearer the visible person's voice than the other)."""
    g, n = group or pack.val, 48 if quick else 192
    if g.visible < 4:
        return "too few validation people"
    a, b, v, vo, vs, mem, ok = Mixer(pack, g, "val", PLAIN, 11).pairs(n, seconds)
    mixed, dev = a + b, pack.device
    one, zero = torch.ones(n, 1, device=dev), torch.zeros(n, 1, device=dev)
    with torch.no_grad():
        e = torch.cat([net.enc.hear(m) for m in mem.split(16)])
    base, none, okf = si_sdr(mixed, a), torch.zeros_like(v), ok.float()[:, None]
    still = v[:, :1].expand_as(v).contiguous()
    runs = [("true", v, one, zero), ("frozen", still, one, zero), ("shuffled", vs, one, zero), ("other", vo, one, zero), ("memory", none, zero, okf), ("true+memory", v, one, okf)]
    if not quick:
        wrong = e.roll(1, 0)
        runs += [("frozen+memory", still, one, okf), ("other+memory", vo, one, okf)]
    out = []
    for name, pic, hp, hm in runs + ([] if quick else [("WRONG memory", none, zero, okf), ("true+WRONG memory", v, one, okf)]):
        y = outputs(net, mixed, pic, hp, wrong if "WRONG" in name else e, hm)[:, 0]
        s, o = si_sdr(y, a), si_sdr(y, b)
        use = ok if "emory" in name else torch.ones_like(ok)
        d = (s - base)[use]
        out.append(f"{name} {d.mean().item():.2f} dB >0 {(d > 0).float().mean().item():.2f} kept {(s > o)[use].float().mean().item():.2f}")
    return "; ".join(out) + f" (n {n}, memory n {int(ok.sum())})"
