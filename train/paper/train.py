"""Trains a network of the paper:

    python train/paper/train.py --task align|separate|cam|action --preset P --size 112 --width 0.25 --minutes N --out RUN
        [--data DIR] [--rendered DIR] [--classes DIR] [--init TASK.pt] [--resume] [--seed S] [--device cpu|cuda]

Writes RUN/TASK.pt (checkpoint: --resume, --init), RUN/TASK.safetensors (for `sightline model build`), RUN/log.jsonl (a line a report), RUN/cache
(decoded clips) and RUN/TASK.onnx (the training graph, from the product). README.md has a command for each training.
"""
from __future__ import annotations

import argparse
import json
import math
import queue
import shlex
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import weights
from action import Action, class_rows
from align import Align
from clips import Clips, manifest_rows, rendered_rows, sound_rows
from loop import keep_memory
from muon import Muon
from onnx_net import Norms, OnnxNet
from separate import Separate

TASKS = {"align": Align, "cam": Align, "separate": Separate, "action": Action}
PRESETS = {"align": ["shift", "shift_lowfps"], "cam": ["cam"], "separate": ["full", "large", "static", "scratch", "mono", "no-audio", "unet_pit"], "action": ["action", "action-no-audio"]}
TRUNK = ("im/", "sf/")
# The large recipe (section 4.6) but for its 40 ms windows: the product's spectra have 64 ms.
LARGE = dict(phase_weight=0.2, ambience=0.08, frames=125)


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--task", required=True, choices=sorted(TASKS))
    p.add_argument("--preset", help="; ".join(f"{k}: {', '.join(v)}" for k, v in PRESETS.items()))
    p.add_argument("--size", type=int, default=112, help="side of the pictures; the paper's is 224")
    p.add_argument("--width", type=float, default=0.25, help="factor of the channels; the paper's is 1")
    p.add_argument("--frames", type=int, default=0, help="pictures of a window; default the preset's")
    p.add_argument("--minutes", type=float, default=2, help="of this piece")
    p.add_argument("--steps", type=int, default=0, help="end after so many steps, if that is earlier")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--data", type=Path, help="folder with manifest.tsv; its split `train` is trained on, `val` only judged")
    p.add_argument("--rendered", type=Path, help="folder of rendered heads (render_heads.sh)")
    p.add_argument("--classes", type=Path, help="action: folder of classes (UCF-101's layout)")
    p.add_argument("--skip", default="", help="domains of the manifest to leave out, by comma")
    p.add_argument("--limit", type=int, default=0, help="only so many clips of each split")
    p.add_argument("--init", type=Path, help="checkpoint of another training to start from")
    p.add_argument("--unet", type=Path, help="separate: checkpoint of `unet_pit` to begin the u-net with, so that all variants begin alike")
    p.add_argument("--freeze", action="store_true", help="separate: the trunk stays as --init gave it")
    p.add_argument("--resume", action="store_true", help="go on from RUN/TASK.pt")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--amp", action="store_true", help="bfloat16: on a GPU throughout, on a CPU the inner convolutions of the u-net")
    p.add_argument("--batch", type=int, default=0, help="default the paper's a GPU: align 5 pairs, separate 6 (unet_pit 24), action 8")
    p.add_argument("--lr", type=float, default=0, help="default the paper's: align and action 0.01, separate 1e-4")
    p.add_argument("--fuse", action="store_true", help="align: with --init of a run that had --contrast: the layers after the fusion begin with what the comparison found")
    p.add_argument("--optimiser", choices=["momentum", "adam", "muon"], help="default the paper's: align and action momentum, separate adam; muon: kernels by Muon, without L2")
    p.add_argument("--cosine", action="store_true", help="the rate falls to a hundredth over this piece; default as published: constant, separate a tenth every 120 000 steps")
    p.add_argument("--decay", type=float, default=0.9997, help="of the norms' moving statistics")
    p.add_argument("--no-renorm", action="store_true", help="ordinary batch norm where the paper renormalises")
    p.add_argument("--contrast", type=float, default=0, help="align: weight of the comparison before the fusion (contrast.py); 0, as published: none")
    p.add_argument("--loss", choices=["fgbg", "pit", "both"], help="separate: default fgbg, unet_pit pit")
    p.add_argument("--phase-weight", type=float, default=-1, help="separate: default 0.01, large 0.2")
    p.add_argument("--gains", type=float, default=0, help="separate: weight of the error of the gains that the product makes of the spectra; 0, as published: none")
    p.add_argument("--ambience", type=float, default=-1, help="separate: share of mixtures with noise or music; default 0, large 0.08")
    p.add_argument("--every", type=float, default=60, help="seconds between reports, each with a checkpoint")
    p.add_argument("--judge", type=int, default=32, help="items of val judged at a report; 0: none")
    p.add_argument("--graph", type=Path, help="training graph that `sightline model graph` wrote; default: the product is asked for it")
    p.add_argument("--sightline", default="", help="command of the product; default node dist/src/cli/main.js")
    a = p.parse_args()
    a.preset = a.preset or PRESETS[a.task][0]
    if a.preset not in PRESETS[a.task]:
        p.error(f"--preset {a.preset}: task {a.task} takes {', '.join(PRESETS[a.task])}")
    large = LARGE if a.preset == "large" else {}
    a.frames = a.frames or large.get("frames", 0)
    a.phase_weight = a.phase_weight if a.phase_weight >= 0 else large.get("phase_weight", 0.01)
    a.ambience = a.ambience if a.ambience >= 0 else large.get("ambience", 0.0)
    if a.preset == "scratch" and a.init:
        p.error("--preset scratch starts from nothing: leave --init out")
    if a.device == "cuda" and not torch.cuda.is_available():
        p.error("--device cuda: PyTorch finds no GPU here; use --device cpu")
    if a.amp and a.device != "cuda" and a.task != "separate":
        p.error("--amp on a CPU is for --task separate: it concerns the u-net (3-D convolutions are slower in bfloat16)")
    if a.task != "separate" and (a.unet or a.freeze):
        p.error("--unet and --freeze go with --task separate")
    if a.optimiser == "muon" and a.task != "separate":
        p.error("--optimiser muon goes with --task separate")
    if a.freeze and not a.init:
        p.error("--freeze keeps the trunk of --init, which is missing")
    if a.fuse and not (a.task == "align" and a.init and a.contrast > 0):
        p.error("--fuse goes with --task align, --contrast and --init")
    if (a.task == "action") != bool(a.classes):
        p.error("--classes belongs to --task action, which needs it")
    return a


def command_line() -> str:
    """As it was given, without where on this machine things lie."""
    return shlex.join(["train.py", *(Path(v).name if v.startswith("/") else v for v in sys.argv[1:])])


def read_clips(a: argparse.Namespace) -> tuple[Clips, Clips | None, list[str]]:
    """Clips to train on, clips to judge on, names of classes."""
    names: list[str] = []
    if a.classes:
        names, train, val = class_rows(a.classes)
    else:
        skip = set(filter(None, a.skip.split(",")))
        train = manifest_rows(a.data, "train", skip) if a.data else []
        val = manifest_rows(a.data, "val", skip) if a.data else []
        train += rendered_rows(a.rendered) if a.rendered else []
    if a.limit:
        train, val = train[:: max(1, len(train) // a.limit)][: a.limit], val[:: max(1, len(val) // a.limit)][: a.limit]
    jobs = a.threads or 1
    return Clips(train, a.out / "cache", a.size, jobs), Clips(val, a.out / "cache", a.size, jobs) if val else None, names


class Loader(threading.Thread):
    """Makes batches ahead. Batch k of a seed is always the same, so a resumed run sees what an uninterrupted one would have."""

    def __init__(self, task: Align | Separate | Action, seed: int, first: int) -> None:
        super().__init__(daemon=True)
        self.task, self.seed, self.next = task, seed, first
        self.ready: queue.Queue[dict[str, np.ndarray] | Exception] = queue.Queue(3)
        self.start()

    def run(self) -> None:
        try:
            while True:
                self.ready.put(self.task.batch(np.random.default_rng([self.seed, self.next])))
                self.next += 1
        except Exception as e:  # noqa: BLE001 - the loop that waits for the batch raises it
            self.ready.put(e)

    def get(self, device: torch.device) -> dict[str, torch.Tensor]:
        got = self.ready.get()
        if isinstance(got, Exception):
            raise got
        return {k: torch.from_numpy(np.ascontiguousarray(v)).to(device, non_blocking=True) for k, v in got.items()}


def optimiser_of(a: argparse.Namespace, task: Align | Separate | Action, net: OnnxNet) -> torch.optim.Optimizer:
    """L2 on convolution weights only (separate: of the u-net only); as a part of the gradient, as TensorFlow has it."""
    named = net.trained(task.outputs)
    decayed = [k for k in named if k.endswith("/weights") and (a.task != "separate" or k.startswith("gen/"))]
    groups = [dict(params=[named[k] for k in decayed], weight_decay=task.l2), dict(params=[p for k, p in named.items() if k not in set(decayed)], weight_decay=0.0)]
    aid = getattr(task, "aid", None)
    groups += [dict(params=list(aid.parameters()), weight_decay=0.0)] if aid is not None else []
    groups = [g for g in groups if g["params"]]
    if a.optimiser == "muon":
        # As usual for Muon: what the input goes into and the output comes out of is left to Adam.
        return Muon(net, a.lr, 0.0, kernels=lambda name: not name.startswith(("im/conv1/", "sf/conv1_1/", "gen/conv1/", "gen/fg/", "gen/bg/")))
    return torch.optim.Adam(groups, a.lr) if (a.optimiser or task.optimiser) == "adam" else torch.optim.SGD(groups, a.lr, momentum=0.9)


def rate(a: argparse.Namespace, step: int, share: float) -> float:
    if a.cosine:
        return a.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, share)))) * min(1.0, (step + 1) / 50)
    return a.lr * (0.1 ** (step // 120_000) if a.task == "separate" else 1)


def main() -> None:
    a = arguments()
    keep_memory()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    device = torch.device(a.device)
    a.out.mkdir(parents=True, exist_ok=True)
    clips, val, names = read_clips(a)
    a.ambience_files = sound_rows(a.data, ("noise", "music")) if a.data and a.ambience > 0 else []
    graph, checkpoint = a.out / f"{a.task}.onnx", a.out / f"{a.task}.pt"
    if a.graph:
        shutil.copyfile(a.graph, graph)
    else:
        weights.graph_file(graph, a.sightline, a.preset, a.width, a.size, a.frames, len(names))
    net = OnnxNet(graph, Norms(a.decay, not a.no_renorm))
    asked = dict(preset=a.preset, width=a.width, image=a.size, classes=len(names), **(dict(frames=a.frames) if a.frames else {}))
    wrong = [f"{k} {net.notes[k]} (asked: {v})" for k, v in asked.items() if net.notes[k] != str(v) and float(net.notes[k] if k != "preset" else "nan") != v]
    if wrong:
        raise SystemExit(f"--graph {a.graph}: it has {', '.join(wrong)}")
    weights.initialise(net, a.seed)
    if a.init:
        print(weights.start_from(a.init, net, TRUNK if a.freeze else ()), flush=True)
    if a.unet:
        print(weights.unet_from(a.unet, net), flush=True)
    if a.freeze:
        net.freeze(*TRUNK)
    if a.amp and a.device == "cpu":
        net.halve("gen/conv", "gen/deconv")  # not the heads: their output is a level in dB
    net.to(device)
    task = TASKS[a.task](a, net, clips, val)
    if getattr(task, "aid", None) is not None and a.init:
        before = weights.load(a.init)
        if "aid" in before:
            task.aid.load_state_dict(before["aid"])  # the comparison goes on
        elif a.fuse:
            raise SystemExit(f"--init {a.init}: it was trained without --contrast; there is nothing to --fuse")
        if a.fuse:
            print(task.fuse(net), flush=True)
    a.lr = a.lr or task.lr
    opt = optimiser_of(a, task, net)
    about = dict(steps=0, minutes=0.0, hours=0.0)
    if a.resume and checkpoint.exists():
        about |= weights.resumed(checkpoint, net, opt, getattr(task, "aid", None))
        print(f"going on from step {about['steps']}, {about['minutes']:.1f} min, {about['hours']:.2f} h", flush=True)
    about |= dict(task=a.task, preset=a.preset, size=a.size, width=a.width, frames=int(net.notes["frames"]), seed=a.seed, lr=a.lr, batch=task.batch_size, device=a.device,
                  init=str(a.init.name) if a.init else about.get("init"), classes=names, torch=str(torch.__version__), command=command_line())
    print(f"{a.task} {a.preset} {a.size} px, width {a.width}: {sum(p.numel() for p in net.trained(task.outputs).values()) / 1e6:.2f} M parameters trained; {task.about}; {device}", flush=True)
    run(a, net, task, opt, about, checkpoint, device)


def run(a: argparse.Namespace, net: OnnxNet, task: Align | Separate | Action, opt: torch.optim.Optimizer, about: dict[str, object], checkpoint: Path, device: torch.device) -> None:
    first, first_minutes, judging = int(about["steps"]), float(about["minutes"]), 0.0
    loader = Loader(task, a.seed, first)
    params = [p for g in opt.param_groups for p in g["params"]]
    begin = shown = time.time()
    means: dict[str, float] = {}
    net.train()

    def report(last: bool) -> None:
        nonlocal judging, shown
        spent = time.time() - begin
        about["minutes"] = first_minutes + spent / 60
        speed = (int(about["steps"]) - first) / max(1e-3, spent - judging)
        now = time.time()
        scores: dict[str, float] = {}
        if a.judge:
            net.eval()
            scores = task.judge(net, a.judge)
            net.train()
        judging += time.time() - now
        line = {**{k: about[k] for k in ("task", "preset", "seed", "steps", "minutes", "hours")}, **means, **{f"val_{k}": v for k, v in scores.items()}, "steps_per_s": speed, "lr": opt.param_groups[0]["lr"]}
        with (a.out / "log.jsonl").open("a") as f:
            f.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()}) + "\n")
        print(f"{about['minutes']:.1f} min step {about['steps']} ({speed:.2f}/s, {speed * task.seconds:.1f} s of clips a second) " + " ".join(f"{k} {v:.3f}" for k, v in {**means, **{f'val {k}': v for k, v in scores.items()}}.items()), flush=True)
        about["scores"] = scores
        weights.save(checkpoint, net, about, opt, getattr(task, "aid", None))
        if last:
            weights.export(checkpoint.with_suffix(".safetensors"), net, about)
        shown = time.time()

    while (share := (time.time() - begin) / (60 * a.minutes)) < 1 and (not a.steps or int(about["steps"]) - first < a.steps):
        step = int(about["steps"])
        for g in opt.param_groups:
            g["lr"] = rate(a, step - first if a.cosine else step, max(share, (step - first) / a.steps if a.steps else 0))
        with torch.autocast(device.type, torch.bfloat16, enabled=a.amp and device.type == "cuda"):
            loss, parts = task.loss(net, loader.get(device))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        if task.clip_norm:
            nn.utils.clip_grad_norm_(params, task.clip_norm)
        opt.step()
        for k, v in dict(loss=loss.detach(), **parts).items():
            if k == "loss" and not torch.isfinite(v):
                raise SystemExit(f"step {step}: the loss is {float(v)}; RUN/{a.task}.pt is the checkpoint before it. A lower --lr may help")
            means[k] = float(v) if step == first else means[k] + max(0.02, 1 / (step - first + 1) ** 0.7) * (float(v) - means[k])
        if step == first:
            with (a.out / "log.jsonl").open("a") as f:
                f.write(json.dumps(dict(task=a.task, command=about["command"], first_loss=means["loss"], **{k: about[k] for k in ("seed", "steps", "lr", "batch")})) + "\n")
        about["steps"] = step + 1
        about["hours"] = float(about["hours"]) + task.seconds / 3600
        if time.time() - shown > a.every:
            report(False)
    report(True)


if __name__ == "__main__":
    main()
