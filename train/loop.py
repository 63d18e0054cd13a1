"""The training loop: minutes, learning rate, running average, reports, resuming."""
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
from typing import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from checkpoints import load, meta_of, save
from muon import Muon
from separators import Rnn


def busy() -> str:
    """GPU use by nvidia-smi, where there is one."""
    if not shutil.which("nvidia-smi"):
        return ""
    try:
        r = subprocess.run(["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader"], capture_output=True, text=True, timeout=10)
        return " gpu " + r.stdout.strip().splitlines()[0]
    except (subprocess.SubprocessError, IndexError):
        return ""


class Workers:
    """Processes that share a run (`torchrun --nproc-per-node 2 train.py ...`): on a CPU two of one thread pass nearly twice the sound of one of
    two threads, whose small products do not split well. Each makes its own mixtures, gradients are averaged at every step, the first one
    keeps the time, judges and saves."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")
        self.first = self.count == 1 or dist.get_rank() == 0

    def agreed(self, value: float) -> float:
        """The first one's value; all must use the same rate, or their weights part."""
        if self.count == 1:
            return value
        x = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(x, 0)
        return x.item()

    def alike(self, net: nn.Module) -> None:
        """The first one's weights for all."""
        for p in net.state_dict().values() if self.count > 1 else ():
            dist.broadcast(p, 0)

    def average(self, params: list[nn.Parameter]) -> None:
        if self.count == 1:
            return
        grads = [p.grad for p in params if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        for g, part in zip(grads, flat.div_(self.count).split([g.numel() for g in grads])):
            g.copy_(part.view_as(g))


class Loop:
    def __init__(self, a: argparse.Namespace, name: str, net: nn.Module, meta: dict[str, object], loss: Callable[[float], Tensor],
                 judge: Callable[[], str], seconds: float, decay: float) -> None:
        self.a, self.net, self.meta, self.loss, self.judge, self.seconds = a, net, meta, loss, judge, seconds
        self.path = a.out / f"{name}.pt"
        self.opt = Muon(net, a.lr, decay) if a.muon else torch.optim.AdamW(net.parameters(), a.lr, weight_decay=decay)
        self.steps, self.hours = 0, 0.0
        self.average: dict[str, Tensor] | None = None
        self.workers = Workers()
        self.seconds *= self.workers.count
        if a.resume and self.path.exists():
            load(self.path, net)
            old = meta_of(self.path)
            self.steps, self.hours = int(old.get("steps", 0)), float(old.get("hours", 0))
            o = self.path.with_suffix(".opt.pt")
            if o.exists():
                self.opt.load_state_dict(torch.load(o, map_location="cpu", weights_only=True))
            print(f"going on from step {self.steps}, {self.hours:.1f} h")
        self.workers.alike(net)

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
        def done() -> float:
            return max((time.time() - t0) / total, (self.steps - first) / a.steps if a.steps else 0.0)

        while (at := self.workers.agreed(done())) < 1:
            lr = (a.lr_end + (a.lr - a.lr_end) * 0.5 * (1 + math.cos(math.pi * at))) * min(1.0, (self.steps - first + 1) / 50)
            for g in self.opt.param_groups:
                g["lr"] = lr
            loss = self.loss(at)
            self.opt.zero_grad(set_to_none=True)
            loss.backward()
            for p in params:
                if p.grad is not None:
                    torch.nan_to_num_(p.grad, 0.0, 0.0, 0.0)
            self.workers.average(params)
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
            if self.workers.first and time.time() - shown > a.every:
                with self.averaged():
                    self.report(t0, run, first)
                    self.keep(False)
                shown = time.time()
        if self.average is not None:
            self.net.load_state_dict(self.average)
        if self.workers.first:
            self.report(t0, run, first)
            self.keep(True)


def keep_memory() -> None:
    """Lets glibc keep freed memory: else each large tensor is fresh pages from the kernel, which costs a CPU more than the arithmetic
    (the picture front end: about 13 times)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)
