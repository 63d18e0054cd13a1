"""Runs the training form of a network that `sightline model graph` wrote, as a PyTorch module with gradients.

There is one definition of the paper's networks, src/model/paper; this file knows operators, not networks. Trained tensors keep their TensorFlow
names (`im/conv1/weights`), in ONNX's layout (out x in x kernel; transposed in x out x kernel). An operator that src/model/paper does not use is
an error here.
"""
from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

TRAINED = ("weights", "biases", "gamma", "beta")
STATISTICS = ("moving_mean", "moving_variance")
RENORM_DECAY = 0.99
CONVOLUTIONS = ("Conv", "ConvTranspose")
TYPES = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 9: torch.bool}


class GraphError(Exception):
    """The file is no training graph of ours; the message says which node or tensor and why."""


class Norms:
    """How batch norms follow what they see (section 1.1): decay of the moving statistics, at most `decay`, and quicker at the beginning, or a run
    of a few thousand steps would end with the statistics of its first ones; batch renormalisation for the scopes that have it."""

    def __init__(self, decay: float = 0.9997, renorm: bool = True) -> None:
        self.decay, self.on, self.steps = decay, renorm, 0

    def momentum(self) -> float:
        return 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))

    def renorms(self, scope: str) -> bool:
        return self.on and (scope.endswith("_bn") or scope.startswith("gen/"))


class OnnxNet(nn.Module):
    """`net(inputs, outputs)`: dictionaries of tensors by name. Only what the asked outputs need is computed.

    The sound may have a batch that is a multiple of the pictures': the pictures' features then serve each part of it in turn, computed once.
    """

    def __init__(self, path: str | Path, norms: Norms | None = None) -> None:
        super().__init__()
        model = onnx.load(str(path))
        self.notes = {p.key: p.value for p in model.metadata_props}
        if self.notes.get("form") != "training":
            raise GraphError(f"{path}: form is {self.notes.get('form')!r}; only the training form has trainable norms (sightline model graph)")
        self.norms = norms or Norms()
        self.frozen: tuple[str, ...] = ()
        self.halves: tuple[str, ...] = ()
        self.inputs = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
        self.outputs = [o.name for o in model.graph.output]
        self.constants: dict[str, np.ndarray] = {}
        for tensor in model.graph.initializer:
            value = numpy_helper.to_array(tensor)
            last = tensor.name.rsplit("/", 1)[-1]
            if last in TRAINED:
                self.register_parameter(tensor.name, nn.Parameter(torch.from_numpy(value.copy())))
            elif last in STATISTICS:
                self.register_buffer(tensor.name, torch.from_numpy(value.copy()))
            else:
                self.constants[tensor.name] = value
                if value.dtype == np.float32 or value.ndim > 1:  # used in arithmetic or as places to gather; moves with the module
                    self.register_buffer(tensor.name, torch.from_numpy(value.copy()), persistent=False)
        self.nodes = list(model.graph.node)
        self.maker = {o: n for n in self.nodes for o in n.output}
        for n in self.nodes:
            if n.op_type not in OPERATORS:
                raise GraphError(f"{path}: node {n.name}: operator {n.op_type} is not known; known are {', '.join(sorted(OPERATORS))}")
        self.attributes = {n.name: {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in self.nodes}
        for n in self.nodes:
            if n.op_type == "BatchNormalization" and self.renorm_scope(n):
                channels = self.get(n.input[3]).shape
                scope = self.scope(n)
                for what, shape in (("renorm_mean", channels), ("renorm_mean_weight", ()), ("renorm_stddev", channels), ("renorm_stddev_weight", ())):
                    self.register_buffer(f"{scope}/{what}", torch.zeros(shape))
        self.plans: dict[tuple[str, ...], list[tuple[onnx.NodeProto, list[str]]]] = {}

    def get(self, name: str) -> Tensor:
        found = self._parameters.get(name)
        return found if found is not None else self._buffers[name]

    def scope(self, node: onnx.NodeProto) -> str:
        return node.input[3].rsplit("/", 1)[0]

    def renorm_scope(self, node: onnx.NodeProto) -> bool:
        scope = self.scope(node)
        return scope.endswith("_bn") or scope.startswith("gen/")

    def plan(self, outputs: tuple[str, ...]) -> list[tuple[onnx.NodeProto, list[str]]]:
        """Nodes that these outputs need, in order, each with the values that nobody needs after it."""
        if outputs not in self.plans:
            unknown = [o for o in outputs if o not in self.maker]
            if unknown:
                raise GraphError(f"no output {', '.join(unknown)}; there are {', '.join(self.outputs)}")
            needed, left = set(outputs), []
            for n in reversed(self.nodes):
                if needed & set(n.output):
                    left.append([n, [i for i in n.input if i and i not in needed]])
                    needed |= set(n.input)
            self.plans[outputs] = [(n, [v for v in last if v in self.maker and v not in outputs]) for n, last in reversed(left)]
        return self.plans[outputs]

    def fusion(self) -> tuple[str, str]:
        """Names of what meets where the sound joins the pictures: their features (B, C, T, H, W) and its (S, D, T, 1)."""
        for n in self.nodes:
            for pictures, sound in (n.input, n.input[::-1]) if n.op_type == "Concat" and len(n.input) == 2 else ():
                if sound in self.maker and self.maker[sound].op_type == "Expand":
                    return pictures, self.maker[self.maker[sound].input[0]].input[0]
        raise GraphError("sound and pictures do not meet in this graph")

    def trained(self, outputs: tuple[str, ...]) -> dict[str, nn.Parameter]:
        """The parameters that these outputs depend on."""
        used = {i for n, _ in self.plan(outputs) for i in n.input}
        return {k: p for k, p in self.named_parameters() if k in used and p.requires_grad}

    def freeze(self, *scopes: str) -> None:
        """What these scopes hold is not trained any more; their norms use the statistics that they have."""
        self.frozen = scopes
        for name, p in self.named_parameters():
            if name.startswith(scopes):
                p.requires_grad_(False)

    def halve(self, *scopes: str) -> None:
        """On a CPU: the convolutions of these scopes are trained in bfloat16, where that is the quicker way; all else stays as it is."""
        self.halves = scopes

    def forward(self, inputs: dict[str, Tensor], outputs: tuple[str, ...]) -> dict[str, Tensor]:
        values: dict[str, Tensor] = dict(inputs)

        def value(name: str) -> Tensor:
            if name in values:
                return values[name]
            try:
                return self.get(name)
            except KeyError:
                raise GraphError(f"input {name} is missing; the graph takes {', '.join(self.inputs)}") from None

        for node, done in self.plan(outputs):
            op = OPERATORS[node.op_type]
            with torch.autocast("cpu", torch.bfloat16) if self.training and node.name.startswith(self.halves or ("\0",)) and node.op_type in CONVOLUTIONS else nullcontext():
                values[node.output[0]] = op(self, node, value)
            for name in done:
                values.pop(name, None)
        if self.training:
            self.norms.steps += 1
        return {o: values[o] for o in outputs}

    def ints(self, name: str) -> list[int]:
        return [int(v) for v in np.atleast_1d(self.constants[name])]


Value = Callable[[str], Tensor]
Node = onnx.NodeProto


def padded(x: Tensor, pads: list[int], value: float = 0.0) -> Tensor:
    """`pads` as in ONNX: begins of all axes (as many of the last ones as there are), then ends."""
    axes = len(pads) // 2
    if not any(pads):
        return x
    return F.pad(x, [p for a in reversed(range(axes)) for p in (pads[a], pads[axes + a])], value=value)


def is_even(pads: list[int]) -> bool:
    return pads[: len(pads) // 2] == pads[len(pads) // 2 :]


def conv(net: OnnxNet, n: Node, value: Value) -> Tensor:
    a = net.attributes[n.name]
    w = value(n.input[1])
    x = value(n.input[0])
    x = x if torch.is_autocast_enabled(x.device.type) else x.to(w.dtype)
    b = value(n.input[2]) if len(n.input) > 2 else None
    pads = list(a["pads"])
    even = is_even(pads)
    if not even:
        x, pads = padded(x, pads), [0] * len(pads)
    half = pads[: len(pads) // 2]
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    if x.dim() == 5 and x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        # For few channels F.conv3d (2.13) takes a kernel that needs many times as long as oneDNN's: ask for that.
        return torch.mkldnn_convolution(x, w, b, half, list(a["strides"]), [1, 1, 1], a.get("group", 1))
    return convolve(x, w, b, a["strides"], half, 1, a.get("group", 1))


def conv_transpose(net: OnnxNet, n: Node, value: Value) -> Tensor:
    a = net.attributes[n.name]
    w = value(n.input[1])
    x = value(n.input[0])
    x = x if torch.is_autocast_enabled(x.device.type) else x.to(w.dtype)
    b = value(n.input[2]) if len(n.input) > 2 else None
    pads = list(a["pads"])
    axes = len(pads) // 2
    if is_even(pads):
        return F.conv_transpose2d(x, w, b, a["strides"], pads[:axes])
    y = F.conv_transpose2d(x, w, b, a["strides"])
    return padded(y, [-p for p in pads])


def batch_norm(net: OnnxNet, n: Node, value: Value) -> Tensor:
    x, scale, shift, mean, variance = (value(i) for i in n.input)
    eps = float(net.attributes[n.name]["epsilon"])
    scope = net.scope(n)
    if not net.training or scope.startswith(net.frozen or ("\0",)):
        return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, eps)
    momentum = net.norms.momentum()
    with torch.no_grad():
        # The variance without Bessel's correction, as TensorFlow's norms over more than two axes take it.
        var, m = torch.var_mean(x.float(), [0, *range(2, x.dim())], correction=0)
        if not net.norms.renorms(scope):
            mean.lerp_(m, momentum)
            variance.lerp_(var, momentum)
            r = d = None
        else:
            # Batch renormalisation without clipping, as TensorFlow computes it: forward by running statistics, backward by the batch's.
            std = (var + eps).sqrt()
            running = {k: net.get(f"{scope}/renorm_{k}") for k in ("mean", "mean_weight", "stddev", "stddev_weight")}
            mixed_mean = running["mean"] + (1 - running["mean_weight"]) * m
            mixed_std = running["stddev"] + (1 - running["stddev_weight"]) * std
            r, d = std / mixed_std, (m - mixed_mean) / mixed_std
            for key, now in (("mean", m), ("stddev", std)):
                running[key].lerp_(now, 1 - RENORM_DECAY)
                running[f"{key}_weight"].lerp_(torch.ones_like(running[f"{key}_weight"]), 1 - RENORM_DECAY)
            mean.lerp_(running["mean"] / running["mean_weight"], momentum)
            variance.lerp_(((running["stddev"] / running["stddev_weight"]).square() - eps).clamp_min(0), momentum)
    if r is not None:
        scale, shift = scale * r, scale * d + shift
    return F.batch_norm(x, None, None, scale, shift, True, 0.0, eps)


def max_pool(net: OnnxNet, n: Node, value: Value) -> Tensor:
    a = net.attributes[n.name]
    x = padded(value(n.input[0]), list(a["pads"]), float("-inf"))
    pool = {4: F.max_pool2d, 5: F.max_pool3d}[x.dim()]
    return pool(x, a["kernel_shape"], a["strides"])


def cut(net: OnnxNet, n: Node, value: Value) -> Tensor:
    x = value(n.input[0])
    starts, ends, axes = (net.ints(i) for i in n.input[1:4])
    steps = net.ints(n.input[4]) if len(n.input) > 4 else [1] * len(axes)
    where = [slice(None)] * x.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps):
        where[axis] = slice(start, min(end, x.shape[axis]), step)
    return x[tuple(where)]


def concat(net: OnnxNet, n: Node, value: Value) -> Tensor:
    parts = [value(i) for i in n.input]
    batch = max(p.shape[0] for p in parts)
    for p in parts:
        if batch % p.shape[0]:
            raise GraphError(f"{n.name}: batches of {p.shape[0]} and {batch} do not go together")
    parts = [p if p.shape[0] == batch else p.repeat(batch // p.shape[0], *[1] * (p.dim() - 1)) for p in parts]
    return torch.cat(parts, net.attributes[n.name]["axis"])


def gather(net: OnnxNet, n: Node, value: Value) -> Tensor:
    x, places, axis = value(n.input[0]), value(n.input[1]), net.attributes[n.name]["axis"]
    y = x.index_select(axis, places.reshape(-1))
    return y.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def reduce_mean(net: OnnxNet, n: Node, value: Value) -> Tensor:
    a = net.attributes[n.name]
    return value(n.input[0]).mean(list(a["axes"]), keepdim=bool(a.get("keepdims", 1)))


def reduce_max(net: OnnxNet, n: Node, value: Value) -> Tensor:
    a = net.attributes[n.name]
    return value(n.input[0]).amax(list(a["axes"]), keepdim=bool(a.get("keepdims", 1)))


def pad(net: OnnxNet, n: Node, value: Value) -> Tensor:
    if net.attributes[n.name].get("mode", b"constant") != b"constant":
        raise GraphError(f"{n.name}: only constant padding is known")
    fill = float(net.constants[n.input[2]]) if len(n.input) > 2 else 0.0
    return padded(value(n.input[0]), net.ints(n.input[1]), fill)


def expand(net: OnnxNet, n: Node, value: Value) -> Tensor:
    x = value(n.input[0])
    return x.expand([s if t == 1 else t for s, t in zip(x.shape, net.ints(n.input[1]))])


def unsqueeze(net: OnnxNet, n: Node, value: Value) -> Tensor:
    x = value(n.input[0])
    for axis in sorted(net.ints(n.input[1])):
        x = x.unsqueeze(axis)
    return x


def squeeze(net: OnnxNet, n: Node, value: Value) -> Tensor:
    return value(n.input[0]).squeeze(tuple(net.ints(n.input[1])))


def unary(f: Callable[[Tensor], Tensor]) -> Callable[[OnnxNet, Node, Value], Tensor]:
    return lambda net, n, value: f(value(n.input[0]))


def binary(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[[OnnxNet, Node, Value], Tensor]:
    return lambda net, n, value: f(value(n.input[0]), value(n.input[1]))


OPERATORS: dict[str, Callable[[OnnxNet, Node, Value], Tensor]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "BatchNormalization": batch_norm,
    "MaxPool": max_pool,
    "Slice": cut,
    "Concat": concat,
    "Gather": gather,
    "ReduceMean": reduce_mean,
    "ReduceMax": reduce_max,
    "Pad": pad,
    "Expand": expand,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Relu": unary(torch.relu),
    "Tanh": unary(torch.tanh),
    "Log": unary(torch.log),
    "Neg": unary(torch.neg),
    "Identity": unary(lambda x: x),
    "Add": binary(torch.add),
    "Sub": binary(torch.sub),
    "Mul": binary(torch.mul),
    "MatMul": binary(torch.matmul),
    "LeakyRelu": lambda net, n, value: F.leaky_relu(value(n.input[0]), float(net.attributes[n.name]["alpha"])),
    "Transpose": lambda net, n, value: value(n.input[0]).permute(*net.attributes[n.name]["perm"]),
    "Reshape": lambda net, n, value: value(n.input[0]).reshape(net.ints(n.input[1])),
    "Cast": lambda net, n, value: value(n.input[0]).to(TYPES[net.attributes[n.name]["to"]]),
}
