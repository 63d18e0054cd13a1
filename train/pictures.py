"""Stages that learn from pictures: `sync` (which voice fits these lips) and `student` (our own picture front end)."""
from __future__ import annotations

import argparse
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import data
import evaluate
from checkpoints import load
from data import FRAME, Group, Pack
from formats import amp
from loop import Loop
from mix import MixConfig, Mixer
from front_ends import Student, SyncHead
from stft import power, stft


def chosen(g: Group, half: int = -1, without: str = "") -> Group:
    """Visible people of one parity only (-1: all), and none of a domain (that of a person's first clip)."""
    if without and without not in g.domains:
        raise SystemExit(f"--without {without}: nobody is of that domain; there are {', '.join(sorted(set(g.domains[: g.visible])))}")
    if half < 0 and not without:
        return g
    keep = torch.tensor([i for i in range(max(0, half), g.visible, 1 if half < 0 else 2) if g.domains[i] != without], dtype=torch.long, device=g.table.device)
    if len(keep) < 3:
        raise SystemExit(f"--half {half} --without {without}: {len(keep)} people are left, at least 3 are wanted")
    return Group(g.table[keep], g.count[keep], len(keep), [g.domains[i] for i in keep.tolist()])


MARGIN, EDGE = 16, 4  # frames of extra sound each side; frames at the borders that are not compared (padding must not give the answer away)


TRACTS = torch.linspace(0.8, 1.25, 13)  # factors on the frequencies of a voice, as a shorter or longer vocal tract has them


def stretched_banks(bank: Tensor) -> Tensor:
    """(bins, bands) -> (len(TRACTS), bins, bands): each hears a sound as if its frequencies were so many times as high, but for the highest, which
    are bent so that none is lost."""
    top, f, a = len(bank) - 1, torch.arange(len(bank))[None].float(), TRACTS[:, None]
    knee = 0.8 * top / a.clamp_min(1.0)
    at = torch.where(f <= knee, f * a, knee * a + (f - knee) * (top - knee * a) / (top - knee))
    i = at.floor().long().clamp_max(top - 1)
    w = (at - i)[..., None]
    return bank.cpu()[i] * (1 - w) + bank.cpu()[i + 1] * w


def disguised(x: Tensor, banks: Tensor, mx: Mixer) -> Tensor:
    """(B, n) -> log mel as SyncHead.mel makes it, of somebody else saying the same: another length of the vocal tract (Jaitly and Hinton
    2013, "Vocal tract length perturbation") and another microphone. On 166 people a head learns faces with their voices by heart; when
    the voice is never the same it must look at how both move."""
    P = power(stft(x, 160))
    y = torch.log(torch.einsum("btf,bfm->btm", P, banks[mx.pick(len(banks), len(x))]) + 1e-5)
    colour = 0.25 * torch.randn(len(x), 1, 6, device=x.device, generator=mx.gen)
    return (y - y.mean((1, 2), keepdim=True)) / 2.5 + F.interpolate(colour, y.shape[-1], mode="linear")


def sync_loss(head: SyncHead, v: Tensor, mel: Tensor, shifts: int = 6, same: Tensor | None = None) -> Tensor:
    """v (B, L, D) with the log mel of the sound from MARGIN frames before to MARGIN after. Everybody's picture against everybody's voice,
    both ways, and against the own voice shifted by 0.32 s and more. `same` (B, B): pairs that are no mistake, of one recording at nearly one time."""
    L = v.shape[1]
    with amp(v.device):
        p, s = head.picture(v)[:, EDGE : L - EDGE], head.voice(mel)
    n = L - 2 * EDGE

    def at(shift: int) -> Tensor:
        return s[:, MARGIN + EDGE + shift : MARGIN + EDGE + shift + n]

    k = head.scale.exp() * 4
    m = torch.einsum("itd,jtd->ij", p, at(0)) / n * k
    if same is not None:
        m = m.masked_fill(same, -1e4)
    t = torch.arange(len(v), device=v.device)
    loss = (F.cross_entropy(m, t) + F.cross_entropy(m.t(), t)) / 2
    far = [i for i in range(-MARGIN, MARGIN + 1) if abs(i) >= 8]
    q = [far[i] for i in torch.randperm(len(far))[:shifts].tolist()]
    own = torch.stack([(p * at(i)).sum(-1).mean(1) for i in [0, *q]], 1) * k
    return loss + F.cross_entropy(own, torch.zeros(len(v), dtype=torch.long, device=v.device))


TEMPO = (0.85, 1.18)


def visible_batch(mx: Mixer, B: int, L: int, group: int = 1, tempo: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Feature rows and sound (MARGIN frames longer each side; often with a second voice, room) of B visible people, or of B / group of them with
    several segments each; which segments (B, B) are nearly the same. `tempo`: share of items that are played slower or faster (pictures said twice
    or left out, the sound's pitch changed with it)."""
    n = (L + 2 * MARGIN) * FRAME
    yes = torch.ones(B, dtype=torch.bool, device=mx.dev)
    a, b = mx.two_people(B, yes, yes)
    a = a[: B // group].repeat_interleave(group)
    b = torch.where(b == a, (b + 1) % mx.g.visible, b)
    speed = torch.where(mx.chance(B, tempo), mx.u(B, a=TEMPO[0], b=TEMPO[1]), torch.ones(B, device=mx.dev))
    x, rec, begin, _ = mx.voice(a, n, yes, speed)
    same = (rec[:, None] == rec) & ((begin[:, None] - begin).abs() < 8 * FRAME) & ~torch.eye(B, dtype=torch.bool, device=mx.dev)
    y = mx.voice(b, n, yes)[0]
    loud = 10 ** (mx.u(B, 1, a=-20, b=-3) / 20) * mx.chance(B, 0.3)[:, None]
    return mx.rows(rec, begin + (MARGIN * FRAME * speed).long(), L, speed), mx.rooms(x) + loud * y, same


def student_features(a: argparse.Namespace) -> dict[str, Tensor] | None:
    return torch.load(a.out / "student_features.pt", weights_only=True) if a.features == "student" else None


def stage_sync(a: argparse.Namespace, dev: torch.device) -> None:
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    pack.train = chosen(pack.train, a.half, a.without)
    mx = Mixer(pack, pack.train, "train", MixConfig(p_room=0.3), a.seed)
    head, L = SyncHead().to(dev), 50
    banks = stretched_banks(head.bank).to(dev)

    def loss(_: float) -> Tensor:
        rows, x, _ = visible_batch(mx, a.batch, L)
        v = pack.feats[rows]
        return sync_loss(head, v + 0.1 * torch.randn_like(v), disguised(x, banks, mx))

    Loop(a, "sync", head, dict(stage="sync", features=a.features), loss, lambda: evaluate.sync_report(head, pack), a.batch * 2.0, 0.05).run()


KNOTS = 5  # of a bent face, each way


def bent(B: int, S: int, mx: Mixer) -> Tensor:
    """Smooth displacements (B, S, S, 2), in halves of a side, that make another face of one: longer, wider, askew, with a mouth of another shape."""
    knots = torch.randn(B, 2, KNOTS, KNOTS, device=mx.dev, generator=mx.gen) * mx.u(B, 1, 1, 1, b=0.07)
    field = F.interpolate(knots, (S, S), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    at = torch.linspace(-1, 1, S, device=mx.dev)
    place = torch.stack(torch.meshgrid(at, at, indexing="ij")[::-1], -1)
    linear = torch.randn(B, 2, 2, device=mx.dev, generator=mx.gen) * torch.tensor([[0.07, 0.06], [0.06, 0.07]], device=mx.dev)
    return field + torch.einsum("bij,hwj->bhwi", linear, place)


def lit(x: Tensor, mx: Mixer) -> Tensor:
    """(B, T, S, S) in 0..255: skin lighter or darker than it is (a curve of brightness), light from one side, something before a part of the face."""
    B, _, S, _ = x.shape
    x = 255 * (x.clamp(1, 255) / 255) ** torch.exp(mx.u(B, 1, 1, 1, a=-0.5, b=0.5))
    at = torch.linspace(-1, 1, S, device=x.device)
    slope = 25 * torch.randn(B, 2, 1, 1, 1, device=x.device, generator=mx.gen)
    x = x + slope[:, 0] * at[:, None] + slope[:, 1] * at
    corner, size = mx.u(B, 2, 1, 1, 1, a=-1.2, b=1.0), mx.u(B, 2, 1, 1, 1, a=0.2, b=0.8)
    inside = [(edge > corner[:, i]) & (edge < corner[:, i] + size[:, i]) for i, edge in enumerate((at[:, None], at))]
    hidden = inside[0] & inside[1] & mx.chance(B, 0.2)[:, None, None, None]
    return torch.where(hidden, mx.u(B, 1, 1, 1, b=255), x)


def moved(x: Tensor, mx: Mixer, bend: bool = False) -> Tensor:
    """warp and shake in one sampling: (B, T, S, S) in 0..255. `bend`: the faces of other people made of them, in other light."""
    B, T = x.shape[:2]
    ang, size = mx.u(B, a=-0.14, b=0.14), mx.u(B, a=0.88, b=1.14)
    flip = 1 - 2 * mx.chance(B, 0.5).float()
    c, s = torch.cos(ang) * size, torch.sin(ang) * size
    R = torch.stack([torch.stack([c * flip, -s], 1), torch.stack([s * flip, c], 1)], 1)
    t0 = torch.stack([mx.u(B, a=-0.12, b=0.12), mx.u(B, a=-0.12, b=0.12)], 1)
    k = max(2, T // 10 + 2)
    w = torch.randn(B, 3, k, device=x.device, generator=mx.gen) * torch.tensor([0.02, 0.02, 0.012], device=x.device)[None, :, None]
    w = F.interpolate(w, T, mode="linear", align_corners=True)
    rot = R[:, None] * (1 + w[:, 2])[:, :, None, None]
    tr = torch.einsum("bij,bjt->bti", R, w[:, :2]) + t0[:, None]
    th = torch.cat([rot, tr[..., None]], -1).flatten(0, 1)
    grid = F.affine_grid(th, [B * T, 1, *x.shape[2:]], align_corners=False)
    if bend:
        grid = (grid.unflatten(0, (B, T)) + bent(B, x.shape[-1], mx)[:, None]).flatten(0, 1)
    y = F.grid_sample(x.flatten(0, 1)[:, None], grid, padding_mode="border", align_corners=False)[:, 0].reshape(x.shape)
    y = lit(y, mx) if bend else y
    return ((y - 128) * mx.u(B, 1, 1, 1, a=0.7, b=1.3) + 128 + mx.u(B, 1, 1, 1, a=-25, b=25)).clamp(0, 255)


def softened(x: Tensor, mx: Mixer, p: float) -> Tensor:
    """(B, T, S, S): some items as a small face gives them, of 16 to 48 px a side, with a camera's noise."""
    sizes = (16, 24, 32, 48)
    which = torch.where(mx.chance(len(x), p), mx.pick(len(sizes), len(x)), torch.full((len(x),), -1, device=x.device))
    x = x.clone()
    for k, size in enumerate(sizes):
        if len(at := (which == k).nonzero()[:, 0]):
            small = F.interpolate(x[at], (size, size), mode="area")
            small = small + 4 * torch.randn(small.shape, device=x.device, generator=mx.gen)
            x[at] = F.interpolate(small, x.shape[-2:], mode="bilinear").clamp(0, 255)
    return x


def change_loss(y: Tensor, t: Tensor) -> Tensor:
    """Mostly the change over 1, 2, 4 and 8 frames, a little the level."""
    loss = 0.25 * F.smooth_l1_loss(y, t)
    for k in (1, 2, 4, 8):
        loss = loss + F.smooth_l1_loss(y[:, k:] - y[:, :-k], t[:, k:] - t[:, :-k]) / (1 + 0.25 * k)
    ym, tm = y - y.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    return loss + 0.5 * (1 - F.cosine_similarity(ym, tm, dim=-1)).mean()


class StudentAndHead(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.student, self.head = Student(side), SyncHead()


def stage_student(a: argparse.Namespace, dev: torch.device) -> None:
    if a.batch % a.group:
        raise SystemExit(f"--batch {a.batch} is no multiple of --group {a.group}")
    taught = a.teacher_weight > 0 and not a.features_only
    pack = data.load_pack(a.pack, dev, crops=a.side, sound_only=not taught)
    pack.train = chosen(pack.train, a.half, a.without)
    mx = Mixer(pack, pack.train, "train", MixConfig(p_room=0.3), a.seed)
    net, L = StudentAndHead(a.side).to(dev), 50
    if a.init:
        load(a.init, net, strict=False)
    banks = stretched_banks(net.head.bank).to(dev)
    front = torch.compile(net.student) if a.compile else net.student

    def loss(at: float) -> Tensor:
        rows, x, same = visible_batch(mx, a.batch, L, a.group, 0.5 if a.bend else 0.0)
        pics = softened(moved(pack.crops[rows].float(), mx, a.bend), mx, a.soft)  # outside autocast: affine_grid would round positions
        with amp(dev):
            y = front(pics)
        fit = sync_loss(net.head, y, disguised(x, banks, mx), same=same)
        if not taught:
            return fit
        return a.teacher_weight * change_loss(y, pack.feats[rows]) + min(1.0, 2 * at) * 0.5 * fit

    def judge() -> str:
        p2 = replace(pack, feats=evaluate.student_rows(net.student, pack, quick=True))
        fit = evaluate.change_fit(p2.feats, pack) if taught else (0.0, 0.0)
        return f"change cos train {fit[0]:.3f} val {fit[1]:.3f}; " + evaluate.sync_report(net.head, p2)

    if a.features_only:
        load(a.out / "student.pt", net)
        write_features(net, data.load_pack(a.pack, dev, crops=a.side, sound_only=True), mx, a, a.variants)
        return
    Loop(a, "student", net, dict(stage="student", side=a.side), loss, judge, a.batch * 2.0, 0.02).run()
    if not a.variants:
        return
    every = data.load_pack(a.pack, dev, crops=a.side, sound_only=True)
    write_features(net, every, mx, a, a.variants)


def write_features(net: StudentAndHead, pack: Pack, mx: Mixer, a: argparse.Namespace, variants: int = 8) -> None:
    """The student's features of every clip: once as they are, then from pictures turned, stretched, lit and shaken as a live tracker would."""
    net.eval()
    plain, all_rows = pack.crops, []
    for k in range(variants):
        if k:
            changed = plain.clone()
            for f, n in zip(pack.first.tolist(), pack.frames.tolist()):
                for i in range(0, n, 1000):
                    part = plain[f + i : f + min(n, i + 1000)][None].float()
                    changed[f + i : f + min(n, i + 1000)] = softened(moved(part, mx, a.bend), mx, a.soft)[0].round().byte()
            pack.crops = changed
        all_rows.append(evaluate.student_rows(net.student, pack, quick=k > 0).half().cpu())
    pack.crops = plain
    rows, first, frames = torch.stack(all_rows), pack.first.tolist(), pack.frames.tolist()
    data.save({f: rows[:, first[i] : first[i] + frames[i]].clone() for i, f in enumerate(pack.files) if frames[i]}, a.out / "student_features.pt")
