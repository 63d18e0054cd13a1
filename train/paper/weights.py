"""Weights of the paper's networks: initial values (section 4), checkpoints, and the safetensors file that `sightline model build` takes.

Layouts: the network has ONNX's (out x in x kernel, transposed in x out x kernel), files for the product have TensorFlow's (kernel x in x out,
transposed kernel x out x in). The same permutation turns one into the other in both cases.
"""
from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parent.parent))
from export_weights import write_tensors
from onnx_net import STATISTICS, TRAINED, Norms, OnnxNet

ROOT = Path(__file__).resolve().parent.parent.parent


def graph_file(path: Path, sightline: str, preset: str, width: float, size: int, frames: int, classes: int) -> None:
    """Has the product write the training graph; `sightline` is a command, by default the one built here."""
    command = shlex.split(sightline) if sightline else ["node", str(ROOT / "dist/src/cli/main.js")]
    command += ["model", "graph", "--preset", preset, "--width", str(width), "--image", str(size), "--classes", str(classes), "--out", str(path)]
    command += ["--frames", str(frames)] if frames else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()} (build the product first: make build)")


def initialise(net: OnnxNet, seed: int) -> None:
    """He's variance (fan-in, truncated normal) for the trunk, N(0, 0.02) for the u-net, norms at 1 and 0; gamma of the u-net N(1, 0.02)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            scope, last = name.rsplit("/", 1)
            if last in ("biases", "beta"):
                p.zero_()
            elif last == "gamma":
                nn.init.normal_(p, 1, 0.02, generator=generator) if scope.startswith("gen/") else p.fill_(1)
            elif scope.startswith("gen/"):
                nn.init.normal_(p, 0, 0.02, generator=generator)
            else:
                # TensorFlow divides by the deviation of a normal that is cut at two.
                std = math.sqrt(2 / p[0].numel()) / 0.87962566103423978
                nn.init.trunc_normal_(p, 0, std, -2 * std, 2 * std, generator=generator)
        for name, b in net.named_buffers():
            if name.endswith("/moving_variance"):
                b.fill_(1)


def save(path: Path, net: OnnxNet, about: dict[str, object], optimiser: torch.optim.Optimizer | None = None, aid: nn.Module | None = None) -> None:
    """Atomically: a run that is killed leaves the checkpoint before."""
    state = dict(weights={k: v.detach().cpu() for k, v in net.state_dict().items()}, norm_steps=net.norms.steps, about=about)
    if optimiser:
        state["optimiser"] = optimiser.state_dict()
    if aid:
        state["aid"] = aid.state_dict()
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> dict[str, object]:
    return torch.load(path, map_location="cpu", weights_only=True)


def start_from(path: Path, net: OnnxNet, whole: tuple[str, ...] = ()) -> str:
    """What of another training's checkpoint fits: trunk, statistics; not scales that it has not, nor heads of other classes. In words. `whole`: all
    weights of these scopes must come from there."""
    have, own = load(path)["weights"], net.state_dict()
    fits = {k: v for k, v in have.items() if k in own and own[k].shape == v.shape}
    net.load_state_dict(own | fits)
    if not fits:
        raise SystemExit(f"--init {path}: none of its {len(have)} tensors fits the network; width and preset must go together")
    lacks = [k for k in own if k.startswith(whole or ("\0",)) and k.endswith("/weights") and k not in fits]
    if lacks:
        raise SystemExit(f"--init {path}: {', '.join(lacks[:3])} ({len(lacks)} in all) are not there or of another shape; --freeze would keep them as chance made them")
    left = sorted({k.split("/")[0] for k in own if k not in fits})
    return f"{len(fits)} of {len(own)} tensors from {path}; anew: {', '.join(left) or 'nothing'} (where not there or of another shape)"


def unet_from(path: Path, net: OnnxNet) -> str:
    """The u-net of a network that hears only (`unet_pit`): where a layer here also takes what the trunk says, that part of its weights is zero, so that
    at first this u-net does what that one did, and the picture has to earn its say. In words."""
    have, own = load(path)["weights"], net.state_dict()
    taken, widened = {}, []
    for k, v in own.items():
        other = have.get(k)
        if other is None or not k.startswith("gen/"):
            continue
        if other.shape == v.shape:
            taken[k] = other
        elif k.endswith("/weights") and other.dim() == v.dim():
            # Inputs of a convolution lie on axis 1, of a transposed one on axis 0; the trunk's come after the u-net's own.
            axis = 0 if "/deconv" in k else 1
            if [s for i, s in enumerate(other.shape) if i != axis] != [s for i, s in enumerate(v.shape) if i != axis] or other.shape[axis] > v.shape[axis]:
                continue
            taken[k] = torch.zeros_like(v)
            taken[k].narrow(axis, 0, other.shape[axis]).copy_(other)
            widened.append(k)
    lacks = sorted(k for k in own if k.startswith("gen/") and k not in taken)
    if lacks:
        raise SystemExit(f"--unet {path}: it holds no u-net of this width; {', '.join(lacks[:3])} ({len(lacks)} in all) do not fit")
    net.load_state_dict(own | taken)
    return f"{len(taken)} tensors of the u-net from {path}; {len(widened)} of them with zeros for what the trunk says"


def resumed(path: Path, net: OnnxNet, optimiser: torch.optim.Optimizer | None = None, aid: nn.Module | None = None) -> dict[str, object]:
    state = load(path)
    net.load_state_dict(state["weights"])
    net.norms.steps = int(state["norm_steps"])
    if optimiser and "optimiser" in state:
        optimiser.load_state_dict(state["optimiser"])
    if aid:
        aid.load_state_dict(state["aid"])
    return state["about"]


def to_tensorflow(w: Tensor) -> Tensor:
    return w.permute(*range(2, w.dim()), 1, 0) if w.dim() > 1 else w


def export(path: Path, net: OnnxNet, training: dict[str, object]) -> None:
    """The safetensors file; with notes on network and training."""
    keep = {k: to_tensorflow(v) for k, v in net.state_dict().items() if k.rsplit("/", 1)[-1] in (*TRAINED, *STATISTICS)}
    bad = [k for k, v in keep.items() if not torch.isfinite(v).all()]
    if bad:
        raise SystemExit(f"{path} not written: values that are not finite in {', '.join(bad)}")
    n = net.notes
    paper = dict(preset=n["preset"], width=float(n["width"]), image=int(n["image"]), frames=int(n["frames"]), classes=int(n["classes"]), step=int(training.get("steps", 0)))
    write_tensors(path, keep, dict(paper=json.dumps(paper), training=json.dumps(training)))


def from_checkpoint(path: Path, graph: Path, norms: Norms | None = None) -> OnnxNet:
    net = OnnxNet(graph, norms)
    resumed(path, net)
    return net.eval()
