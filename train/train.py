"""Training: python train.py --stage sync|student|separate|condition --pack PACK --out DIR --minutes N [--resume]

Every stage writes DIR/STAGE.pt (weights and sizes), DIR/STAGE.opt.pt (optimiser, for --resume) and adds to DIR/log.txt.
Order: sync, student, separate, condition (with --init separate.pt, --features teacher|student).
"""
from __future__ import annotations

import argparse
import ctypes
import math
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attribution
import data
import evaluate
from data import FRAME, Group, Pack
from metrics import pair_loss
from mix import MixConfig, Mixer
from net import PRESETS, Model, Rnn, SepConfig, Student, SyncHead, stft

MAX_BYTES = 15 * 2**20


# ---------- checkpoints ----------

def _cast(x: object, dtype: torch.dtype) -> object:
    if isinstance(x, Tensor):
        return x.detach().cpu().to(dtype) if x.is_floating_point() and x.numel() > 1 else x.detach().cpu()
    if isinstance(x, dict):
        return {k: _cast(v, dtype) for k, v in x.items()}
    return [_cast(v, dtype) for v in x] if isinstance(x, list) else x


def _bytes(x: object) -> int:
    if isinstance(x, Tensor):
        return x.numel() * x.element_size()
    return sum(map(_bytes, x.values() if isinstance(x, dict) else x)) if isinstance(x, (dict, list)) else 0


def save(path: Path, net: nn.Module, meta: dict[str, object], opt: torch.optim.Optimizer | None, fp16: bool) -> None:
    w = _cast(net.state_dict(), torch.float32)
    if fp16 or _bytes(w) > MAX_BYTES:
        w = _cast(w, torch.float16)
    data.save(dict(weights=w, meta=meta), path)
    if opt is not None:
        o = _cast(opt.state_dict(), torch.float32)
        data.save(_cast(o, torch.bfloat16) if _bytes(o) > MAX_BYTES else o, path.with_suffix(".opt.pt"))


def load(path: Path, net: nn.Module, strict: bool = True) -> None:
    w = {k: v.float() if v.is_floating_point() else v for k, v in torch.load(path, map_location="cpu", weights_only=True)["weights"].items()}
    if not strict:
        own = net.state_dict()
        w = {k: v for k, v in w.items() if k in own and own[k].shape == v.shape}
        print(f"from {path}: {len(w)} of {len(own)} tensors")
    net.load_state_dict(w, strict=strict)


def meta_of(path: Path) -> dict[str, object]:
    return torch.load(path, map_location="cpu", weights_only=True)["meta"]


# ---------- the loop ----------

def busy() -> str:
    """GPU use by nvidia-smi, where there is one."""
    if not shutil.which("nvidia-smi"):
        return ""
    try:
        r = subprocess.run(["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader"], capture_output=True, text=True, timeout=10)
        return " gpu " + r.stdout.strip().splitlines()[0]
    except (subprocess.SubprocessError, IndexError):
        return ""


class Loop:
    def __init__(self, a: argparse.Namespace, name: str, net: nn.Module, meta: dict[str, object], loss: Callable[[float], Tensor],
                 judge: Callable[[], str], seconds: float, decay: float) -> None:
        self.a, self.net, self.meta, self.loss, self.judge, self.seconds = a, net, meta, loss, judge, seconds
        self.path = a.out / f"{name}.pt"
        self.opt = torch.optim.AdamW(net.parameters(), a.lr, weight_decay=decay)
        self.steps, self.hours = 0, 0.0
        self.average: dict[str, Tensor] | None = None
        if a.resume and self.path.exists():
            load(self.path, net)
            old = meta_of(self.path)
            self.steps, self.hours = int(old.get("steps", 0)), float(old.get("hours", 0))
            o = self.path.with_suffix(".opt.pt")
            if o.exists():
                self.opt.load_state_dict(torch.load(o, map_location="cpu", weights_only=True))
            print(f"going on from step {self.steps}, {self.hours:.1f} h")

    def follow(self, done: int) -> None:
        """The running average of the weights is what is judged, kept and shipped: it is steadier than any single step."""
        if not self.a.average:
            return
        now = self.net.state_dict()
        if self.average is None:
            self.average = {k: v.detach().clone() for k, v in now.items()}
            return
        decay = min(self.a.average, (done + 1) / (done + 10))
        for k, v in self.average.items():
            if v.is_floating_point():
                v.lerp_(now[k], 1 - decay)
            else:
                v.copy_(now[k])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The average in place of the weights while this lasts."""
        if self.average is None:
            yield
            return
        raw = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        try:
            yield
        finally:
            self.net.load_state_dict(raw)

    def say(self, text: str) -> None:
        print(text, flush=True)
        with (self.a.out / "log.txt").open("a") as f:
            f.write(text + "\n")

    def keep(self, last: bool) -> None:
        if self.path.stem == "student" and self.path.exists():
            os.replace(self.path, self.path.with_name("student_before.pt"))
        save(self.path, self.net, {**self.meta, "steps": self.steps, "hours": self.hours}, self.opt if last or self.a.save_opt else None, self.a.fp16)

    def report(self, t0: float, run: Tensor, first: int) -> None:
        if self.dev.type == "cuda":
            torch.cuda.synchronize()
        use, el = busy(), time.time() - t0
        rate = (self.steps - first) / max(el - self.judging, 1e-3)
        self.net.eval()
        q = time.time()
        with torch.no_grad():
            text = self.judge()
        self.net.train()
        self.judging += time.time() - q
        self.say(f"{self.path.stem} {el / 60:.1f} min step {self.steps} ({rate:.2f}/s, {rate * self.seconds:.0f} audio-s/s{use}) {self.hours:.2f} h loss {run.item():.3f} | {text}")

    def tune(self) -> None:
        """Which number format of the LSTMs is quicker here?"""
        rnns, took = [m for m in self.net.modules() if isinstance(m, Rnn)], {}
        for amp_on in (False, True, False, True):
            for r in rnns:
                r.amp = amp_on
            try:
                for k in range(4):
                    if k == 1:
                        torch.cuda.synchronize()
                        t = time.time()
                    self.loss(0.0).backward()
                torch.cuda.synchronize()
                took[amp_on] = (time.time() - t) / 3
            except RuntimeError as e:
                print("tune", amp_on, str(e)[:200], flush=True)
                took[amp_on] = 1e9
            self.opt.zero_grad(set_to_none=True)
        for r in rnns:
            r.amp = took[True] < 0.9 * took[False]
        self.say(f"step {took[False]:.3f} s with TF32 LSTMs, {took[True]:.3f} s with bf16; memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")

    def run(self) -> None:
        a = self.a
        self.dev = next(self.net.parameters()).device
        self.judging = 0.0
        t0, first, shown = time.time(), self.steps, time.time()
        total = a.minutes * 60
        run = torch.zeros((), device=self.dev)
        params = list(self.net.parameters())
        self.net.train()
        if self.dev.type == "cuda" and hasattr(self.net, "sep") and not self.a.rnn_amp:
            self.tune()
        while (el := time.time() - t0) < total and (not a.steps or self.steps - first < a.steps):
            at = el / total
            lr = (a.lr_end + (a.lr - a.lr_end) * 0.5 * (1 + math.cos(math.pi * at))) * min(1.0, (self.steps - first + 1) / 50)
            for g in self.opt.param_groups:
                g["lr"] = lr
            loss = self.loss(at)
            self.opt.zero_grad(set_to_none=True)
            loss.backward()
            for p in params:
                if p.grad is not None:
                    torch.nan_to_num_(p.grad, 0.0, 0.0, 0.0)
            nn.utils.clip_grad_norm_(params, a.clip)
            self.opt.step()
            self.follow(self.steps - first)
            self.steps += 1
            self.hours += self.seconds / 3600
            run = loss.detach() if self.steps - first == 1 else 0.98 * run + 0.02 * loss.detach()
            if self.steps - first == 5:
                if self.dev.type == "cuda":
                    torch.cuda.synchronize()
                    print(f"first 5 steps {time.time() - t0:.1f} s, memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
            if time.time() - shown > a.every:
                with self.averaged():
                    self.report(t0, run, first)
                    self.keep(False)
                shown = time.time()
        if self.average is not None:
            self.net.load_state_dict(self.average)
        self.report(t0, run, first)
        self.keep(True)


def has_bf16(dev: torch.device) -> bool:
    """Whether bf16 is quicker than float32 here: every GPU we use, and CPUs that multiply it in hardware."""
    if dev.type == "cuda":
        return True
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "avx512_bf16" in cpu.read_text()


def amp(dev: torch.device) -> torch.autocast:
    return torch.autocast(dev.type, dtype=torch.bfloat16, enabled=has_bf16(dev))


# ---------- stages ----------

def half_of(g: Group, half: int) -> Group:
    """Visible people of one parity only (so that two heads can watch each other); -1: all."""
    if half < 0:
        return g
    keep = torch.arange(half, g.visible, 2, device=g.table.device)
    return Group(g.table[keep], g.count[keep], len(keep), [g.domains[i] for i in keep.tolist()])


MARGIN, EDGE = 16, 4  # frames of extra sound each side; frames at the borders that are not compared (padding must not give the answer away)


def sync_loss(head: SyncHead, v: Tensor, x: Tensor, shifts: int = 6) -> Tensor:
    """v (B, L, D) with x, the sound from MARGIN frames before to MARGIN after. Everybody's picture against everybody's voice,
    both ways, and against the own voice shifted by 0.32 s and more."""
    L = v.shape[1]
    with amp(v.device):
        p, s = head.picture(v)[:, EDGE : L - EDGE], head.voice(head.mel(x))
    n = L - 2 * EDGE

    def at(shift: int) -> Tensor:
        return s[:, MARGIN + EDGE + shift : MARGIN + EDGE + shift + n]

    k = head.scale.exp() * 4
    m = torch.einsum("itd,jtd->ij", p, at(0)) / n * k
    t = torch.arange(len(v), device=v.device)
    loss = (F.cross_entropy(m, t) + F.cross_entropy(m.t(), t)) / 2
    far = [i for i in range(-MARGIN, MARGIN + 1) if abs(i) >= 8]
    q = [far[i] for i in torch.randperm(len(far))[:shifts].tolist()]
    own = torch.stack([(p * at(i)).sum(-1).mean(1) for i in [0, *q]], 1) * k
    return loss + F.cross_entropy(own, torch.zeros(len(v), dtype=torch.long, device=v.device))


def visible_batch(mx: Mixer, B: int, L: int) -> tuple[Tensor, Tensor]:
    """Feature rows and sound (MARGIN frames longer each side; often with a second voice, room) of B visible people."""
    n = (L + 2 * MARGIN) * FRAME
    yes = torch.ones(B, dtype=torch.bool, device=mx.dev)
    a, b = mx.two_people(B, yes, yes)
    x, rec, begin, _ = mx.voice(a, n, yes)
    y = mx.voice(b, n, yes)[0]
    loud = 10 ** (mx.u(B, 1, a=-20, b=-3) / 20) * mx.chance(B, 0.3)[:, None]
    return mx.rows(rec, begin + MARGIN * FRAME, L), mx.rooms(x) + loud * y


def stage_sync(a: argparse.Namespace, dev: torch.device) -> None:
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    mx = Mixer(pack, half_of(pack.train, a.half), "train", MixConfig(p_room=0.3), a.seed)
    head, L = SyncHead().to(dev), 50

    def loss(_: float) -> Tensor:
        rows, x = visible_batch(mx, a.batch, L)
        v = pack.feats[rows]
        return sync_loss(head, v + 0.1 * torch.randn_like(v), x)

    Loop(a, "sync" if a.half < 0 else f"sync{a.half}", head, dict(stage="sync", features=a.features), loss, lambda: evaluate.sync_report(head, pack), a.batch * 2.0, 0.05).run()


def warp(x: Tensor, mx: Mixer) -> Tensor:
    """Flip, turn, stretch, move and light, the same for all pictures of a clip: (B, T, S, S) in 0..255."""
    B = len(x)
    ang, size = mx.u(B, a=-0.14, b=0.14), mx.u(B, a=0.88, b=1.14)
    flip = 1 - 2 * mx.chance(B, 0.5).float()
    c, s = torch.cos(ang) * size, torch.sin(ang) * size
    th = torch.stack([torch.stack([c * flip, -s, mx.u(B, a=-0.12, b=0.12)], 1), torch.stack([s * flip, c, mx.u(B, a=-0.12, b=0.12)], 1)], 1)
    y = F.grid_sample(x, F.affine_grid(th, list(x.shape), align_corners=False), padding_mode="border", align_corners=False)
    return ((y - 128) * mx.u(B, 1, 1, 1, a=0.7, b=1.3) + 128 + mx.u(B, 1, 1, 1, a=-25, b=25)).clamp(0, 255)


def moved(x: Tensor, mx: Mixer) -> Tensor:
    """warp and shake in one sampling: (B, T, S, S) in 0..255."""
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
    y = F.grid_sample(x.flatten(0, 1)[:, None], F.affine_grid(th, [B * T, 1, *x.shape[2:]], align_corners=False), padding_mode="border", align_corners=False)[:, 0].reshape(x.shape)
    return ((y - 128) * mx.u(B, 1, 1, 1, a=0.7, b=1.3) + 128 + mx.u(B, 1, 1, 1, a=-25, b=25)).clamp(0, 255)


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
    taught = a.teacher_weight > 0 and not a.features_only
    pack = data.load_pack(a.pack, dev, crops=a.side, sound_only=not taught)
    mx = Mixer(pack, pack.train, "train", MixConfig(p_room=0.3), a.seed)
    net, L = StudentAndHead(a.side).to(dev), 50
    if a.init:
        load(a.init, net, strict=False)

    def loss(at: float) -> Tensor:
        rows, x = visible_batch(mx, a.batch, L)
        pics = moved(pack.crops[rows].float(), mx)  # outside autocast: affine_grid would round positions
        with amp(dev):
            y = net.student(pics)
        if not taught:
            return sync_loss(net.head, y, x)
        return a.teacher_weight * change_loss(y, pack.feats[rows]) + min(1.0, 2 * at) * 0.5 * sync_loss(net.head, y, x)

    def judge() -> str:
        p2 = replace(pack, feats=evaluate.student_rows(net.student, pack))
        fit = evaluate.change_fit(p2.feats, pack) if taught else (0.0, 0.0)
        return f"change cos train {fit[0]:.3f} val {fit[1]:.3f}; " + evaluate.sync_report(net.head, p2)

    if a.features_only:
        load(a.out / "student.pt", net)
        write_features(net, data.load_pack(a.pack, dev, crops=a.side, sound_only=True), mx, a, a.variants)
        return
    Loop(a, "student", net, dict(stage="student", side=a.side), loss, judge, a.batch * 2.0, 0.02).run()
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
                    changed[f + i : f + min(n, i + 1000)] = moved(part, mx)[0].round().byte()
            pack.crops = changed
        all_rows.append(evaluate.student_rows(net.student, pack).half().cpu())
    pack.crops = plain
    rows, first, frames = torch.stack(all_rows), pack.first.tolist(), pack.frames.tolist()
    data.save({f: rows[:, first[i] : first[i] + frames[i]].clone() for i, f in enumerate(pack.files) if frames[i]}, a.out / "student_features.pt")


def shake(x: Tensor, mx: Mixer) -> Tensor:
    """A slow wander of the crop (about 2 % of its side, new aim every 0.4 s), the same for nobody else."""
    B, T = x.shape[:2]
    k = max(2, T // 10 + 2)
    w = torch.randn(B, 3, k, device=x.device, generator=mx.gen) * torch.tensor([0.02, 0.02, 0.012], device=x.device)[None, :, None]
    w = F.interpolate(w, T, mode="linear", align_corners=True)
    z, o = 1 + w[:, 2], torch.zeros_like(w[:, 0])
    th = torch.stack([torch.stack([z, o, w[:, 0]], -1), torch.stack([o, z, w[:, 1]], -1)], -2).flatten(0, 1)
    y = x.flatten(0, 1)[:, None]
    return F.grid_sample(y, F.affine_grid(th, list(y.shape), align_corners=False), padding_mode="border", align_corners=False)[:, 0].reshape(x.shape)


def student_features(a: argparse.Namespace) -> dict[str, Tensor] | None:
    return torch.load(a.out / "student_features.pt", weights_only=True) if a.features == "student" else None


def build(a: argparse.Namespace, pack: Pack, dev: torch.device) -> Model:
    src = a.init or (a.out / "condition.pt" if a.resume and a.stage == "condition" else None) or (a.out / "separate.pt" if a.resume and a.stage == "separate" else None)
    cfg = SepConfig(**meta_of(src)["cfg"]) if src and Path(src).exists() else PRESETS[a.size]
    cfg = replace(cfg, rnn_amp=a.rnn_amp or (dev.type == "cpu" and has_bf16(dev)))
    net = Model(cfg, pack.train.people)
    if a.init:
        load(Path(a.init), net, strict=False)
    print(f"{cfg}; separator {sum(p.numel() for p in net.sep.parameters()) / 1e6:.2f} M parameters")
    return net.to(dev)


def output_pair(net: Model, mixed: Tensor, v: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor) -> tuple[Tensor, Tensor]:
    X = stft(mixed, net.sep.cfg.hop, net.sep.cfg.nfft)
    with amp(mixed.device):
        M = net.sep.masks(X, v, has_v, mem, has_m)
    return M * X.unsqueeze(1), X


def spectra(x: Tensor, cfg: SepConfig) -> Tensor:
    B, K, n = x.shape
    S = stft(x.reshape(B * K, n), cfg.hop, cfg.nfft)
    return S.reshape(B, K, *S.shape[1:])


def stage_separate(a: argparse.Namespace, dev: torch.device) -> None:
    pack = data.load_pack(a.pack, dev, sound_only=True)
    clean = MixConfig(seconds=a.seconds, level_db=3, p_late=0.0, p_noise=0.0, p_music=0.0, p_room=0.0, gain_db=(-6.0, 6.0))
    live = MixConfig(seconds=a.seconds, level_db=5, p_late=0.3, p_noise=0.1, p_music=0.05, p_room=0.1, gain_db=(-12.0, 6.0), p_alone=0.08)
    mx = Mixer(pack, pack.train, "train", clean if a.mixtures == "clean" else live, a.seed)
    net = build(a, pack, dev)
    zero = torch.zeros(a.batch, 1, device=dev)
    frames = int(a.seconds * 25)
    nothing, mem = torch.zeros(a.batch, frames, net.sep.cfg.vdim, device=dev), torch.zeros(a.batch, net.sep.cfg.edim, device=dev)

    def loss(_: float) -> Tensor:
        b = mx.voices(a.batch)
        Y, X = output_pair(net, b.mix, nothing, zero, mem, zero)
        S = spectra(torch.stack([b.wanted, b.other], 1), net.sep.cfg)
        return pair_loss(Y, S, X, torch.ones_like(b.open), a.compressed).mean() + unused(net)

    Loop(a, "separate", net, dict(stage="separate", **net.meta()), loss, lambda: evaluate.separate_report(net, pack), a.batch * a.seconds, 1e-3).run()


def unused(net: nn.Module) -> Tensor:
    """Keeps gradients defined for parts a step does not use."""
    return sum(p.sum() for p in net.parameters()) * 0.0


def stage_condition(a: argparse.Namespace, dev: torch.device) -> None:
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    mx = Mixer(pack, pack.train, "train", MixConfig(seconds=a.seconds, picture_jitter=True, p_visible=a.visible, p_visible_other=0.7, drop=0.08, drop_memory=a.drop_memory, p_mixed_memory=0.5, p_silent=0.08, p_broken=0.08, p_wrong_memory=0.02, p_noise=0.05, p_music=0.03, p_room=0.05, level_db=4, gain_db=(-10.0, 6.0), p_late=0.15), a.seed)
    net = build(a, pack, dev)

    def loss(_: float) -> Tensor:
        b = mx.conditioned(a.batch)
        with amp(dev):
            e = net.enc.hear(b.memory)
            who = F.cross_entropy(net.enc.who(e).float(), b.speaker, reduction="none")
        v = b.v + a.feature_noise * torch.randn_like(b.v)
        Y, X = output_pair(net, b.mix, v, b.has_v, e * b.has_m, b.has_m)
        S = spectra(torch.stack([b.wanted, b.mix - b.wanted], 1), net.sep.cfg)
        known = b.has_m[:, 0] * (b.wanted.abs().amax(1) > 0)
        some = 1 - 0.75 * (b.wanted.abs().amax(1) == 0).float()  # silence is easy and its decibels are many
        return (pair_loss(Y, S, X, b.open, a.compressed) * some).mean() + 0.2 * (who * known).sum() / (known.sum() + 1) + unused(net)

    Loop(a, "condition", net, dict(stage="condition", features=a.features, **net.meta()), loss, lambda: evaluate.condition_report(net, pack, quick=True), a.batch * a.seconds, 1e-3).run()
    net.eval()
    with torch.no_grad():
        text = "FINAL " + evaluate.condition_report(net, pack, quick=False)
    print(text)
    with (a.out / "log.txt").open("a") as f:
        f.write(text + "\n")


def stage_attribute(a: argparse.Namespace, dev: torch.device) -> None:
    """The separator of --init stays as it is; its voices are told apart by lips and memory. The voice encoder goes on learning."""
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    mx = Mixer(pack, pack.train, "train", attribution.training_mix(a.seconds, a.drop_memory), a.seed)
    old = a.out / "attribute.pt" if a.resume and (a.out / "attribute.pt").exists() else a.init
    if old is None:
        raise SystemExit("attribute: --init separate.pt is needed, the separator whose voices are to be told apart")
    cfg = replace(SepConfig(**meta_of(old)["cfg"]), rnn_amp=a.rnn_amp or (dev.type == "cpu" and has_bf16(dev)))
    net = attribution.Attributed(cfg, attribution.AttributionConfig(), pack.train.people).to(dev)
    for path, parts in ((old, ("sep", "att", "enc")), (a.lips, ("att",)), (a.voice, ("enc",))):  # the later ones win
        if path:
            load_parts(path, net, parts)
    net.sep.requires_grad_(False)
    for part in (net.att.v0, net.att.v1, net.att.v2, net.att.vo):
        part.requires_grad_(False)  # as the student's head has it
    head = SyncHead().to(dev).eval().requires_grad_(False)
    load_parts(a.lips or a.out / "student.pt", head, ("",), "head.")
    seen: list[Tensor] = []

    def loss(_: float) -> Tensor:
        each, like, who = attribution.loss_of(net, head, mx, a.batch, a.feature_noise)
        seen.append(torch.stack([each, like, who]).detach())
        return each + 3 * like + 0.2 * who

    def judge() -> str:
        parts = "/".join(f"{x:.3f}" for x in torch.stack(seen[-100:]).mean(0).tolist())
        seen.clear()
        return f"choice/likeness/speaker {parts}; {attribution.report(net, pack)}"

    Loop(a, "attribute", net, dict(stage="attribute", features=a.features, **net.meta()), loss, judge, a.batch * a.seconds, 1e-3).run()
    net.eval()
    text = "FINAL " + attribution.report(net, pack, quick=False)
    print(text)
    with (a.out / "log.txt").open("a") as f:
        f.write(text + "\n")


def load_parts(path: Path, net: nn.Module, parts: tuple[str, ...], inside: str = "") -> None:
    """What of a checkpoint fits and belongs to `parts`; `inside` is taken off the names. A student's head gives its picture side to the
    attributor (head.v* -> att.v*)."""
    own, got = net.state_dict(), torch.load(path, map_location="cpu", weights_only=True)["weights"]
    got = {k.removeprefix(inside) if inside else k.replace("head.v", "att.v"): v.float() for k, v in got.items() if v.is_floating_point()}
    got = {k: v for k, v in got.items() if k.startswith(tuple(p and f"{p}." for p in parts)) and k in own and own[k].shape == v.shape}
    print(f"from {path}: {len(got)} tensors, {', '.join(sorted({k.split('.')[0] for k in got}))}")
    net.load_state_dict(own | got)


def keep_memory() -> None:
    """Lets glibc keep freed memory: else each large tensor is fresh pages from the kernel, which costs a CPU more than the arithmetic
    (the picture front end: about 13 times)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--stage", required=True, choices=["sync", "student", "separate", "condition", "attribute"])
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=2)
    p.add_argument("--steps", type=int, default=0, help="stop after so many steps")
    p.add_argument("--size", choices=sorted(PRESETS), default="lite-live")
    p.add_argument("--batch", type=int, default=0)
    p.add_argument("--seconds", type=float, default=4.0)
    p.add_argument("--lr", type=float, default=0)
    p.add_argument("--lr-end", type=float, default=-1)
    p.add_argument("--average", type=float, default=0.998, help="decay a step of the running average of the weights; 0: none")
    p.add_argument("--clip", type=float, default=5.0)
    p.add_argument("--compressed", type=float, default=5.0, help="weight of the compressed-spectrum loss")
    p.add_argument("--feature-noise", type=float, default=0.2)
    p.add_argument("--visible", type=float, default=0.72, help="condition: share of items whose wanted voice has a picture")
    p.add_argument("--drop-memory", type=float, default=0.55, help="condition: share of those that have no memory beside it; high at first, or the memory is all that is learnt")
    p.add_argument("--mixtures", choices=["clean", "live"], default="clean", help="separate: two voices all along (learns fastest), or as they come: late, alone, louder, with noise and rooms")
    p.add_argument("--features", choices=["teacher", "student"], default="teacher")
    p.add_argument("--half", type=int, default=-1, choices=[-1, 0, 1])
    p.add_argument("--side", type=int, default=80)
    p.add_argument("--init", type=Path)
    p.add_argument("--lips", type=Path, help="attribute: student.pt whose head's picture side is the start")
    p.add_argument("--voice", type=Path, help="attribute: checkpoint whose voice encoder is the start")
    p.add_argument("--teacher-weight", type=float, default=1.0, help="student: weight of the teacher's features; 0: synchrony alone, no teacher needed")
    p.add_argument("--variants", type=int, default=8)
    p.add_argument("--features-only", action="store_true", help="student: only write the features again")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--fp16", action="store_true", help="half-precision checkpoints")
    p.add_argument("--save-opt", action="store_true", help="save the optimiser at every report, not only at the end")
    p.add_argument("--rnn-amp", action="store_true")
    p.add_argument("--every", type=float, default=60, help="seconds between reports")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    keep_memory()
    dev = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = dev.type == "cuda"
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(a.seed + int(time.time()) % 10007 * a.resume)
    a.seed += int(time.time()) % 10007 * a.resume
    a.out.mkdir(parents=True, exist_ok=True)
    if not a.batch:
        a.batch = {"sync": 256 if gpu else 32, "student": 96 if gpu else 8, "separate": 64 if gpu else 12, "condition": 64 if gpu else 12, "attribute": 64 if gpu else 12}[a.stage]
    a.lr = a.lr or {"sync": 2e-3, "student": 2e-3, "separate": 2e-3, "condition": 1e-3, "attribute": 1e-3}[a.stage]
    a.lr_end = a.lr / 25 if a.lr_end < 0 else a.lr_end
    print(f"{a.stage} on {dev} {torch.cuda.get_device_name() if gpu else os.cpu_count()}, torch {torch.__version__}, python {sys.version.split()[0]}", flush=True)
    {"sync": stage_sync, "student": stage_student, "separate": stage_separate, "condition": stage_condition, "attribute": stage_attribute}[a.stage](a, dev)


if __name__ == "__main__":
    main()
