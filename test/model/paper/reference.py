"""The networks of Owens & Efros 2018 in PyTorch, written from the specification alone: what the ONNX graphs are compared with.

    python3 reference.py FOLDER ... [--repeat N] [--threads N]

FOLDER/request.json: {"sound": bool, "mono": bool, "middle": bool, "trunk": bool, "unet": bool, "fine_cam": bool, "gamma": bool,
"spectrum": frames of the spectrum, "image", "frames", "samples", "variables": [[name, shape], ...]}.
FOLDER/variables.bin: float32, one after another in that order, TensorFlow's layout. FOLDER/video.bin: uint8 (F, H, W, 3);
FOLDER/samples.bin: float32 (N, 2). Writes NAME.bin (float32) for every output and answers.json: {"outputs": [NAME, ...],
"ms" and "cpu_ms": [of every run], "peak_mib", "torch": version}.
Every odd padding is explicit, nothing is folded, and no code is shared with what is tested.
"""

import argparse
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F


def conv3d(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, stride: list[int], pads: list[int]):
    """For one window of few channels F.conv3d (2.13) takes a kernel that needs 80 times as long as oneDNN's: ask for that."""
    if torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, w, bias, pads, stride, [1, 1, 1], 1)
    return F.conv3d(x, w, bias, stride, pads)


class Net:
    def __init__(self, request: dict, variables: dict[str, torch.Tensor]):
        self.r = request
        self.v = variables
        self.layouts: dict[str, torch.Tensor] = {}

    # Convolution, SAME as TensorFlow computes it: ceil(n / s) outputs, the odd zero behind.
    def weights(self, scope: str) -> torch.Tensor:
        if scope not in self.layouts:
            w = self.v[scope + "/weights"]
            axes = w.dim() - 2
            self.layouts[scope] = w.permute(axes + 1, axes, *range(axes)).contiguous()
        return self.layouts[scope]

    @staticmethod
    def same(x: torch.Tensor, kernel, stride, value: float) -> torch.Tensor:
        pads: list[int] = []
        for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
            total = max((math.ceil(n / s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads, value=value) if any(pads) else x

    def conv(self, scope: str, x: torch.Tensor, stride) -> torch.Tensor:
        w = self.weights(scope)
        pads = [0] * len(stride)
        if all(s == 1 and k % 2 == 1 for s, k in zip(stride, w.shape[2:])):
            pads = [k // 2 for k in w.shape[2:]]  # as many before as after: the convolution itself can do it
        else:
            x = self.same(x, w.shape[2:], stride, 0.0)
        bias = self.v.get(scope + "/biases")
        y = conv3d(x, w, bias, stride, pads) if w.dim() == 5 else F.conv2d(x, w, bias, stride, pads)
        return y if bias is not None else self.norm(scope + "/BatchNorm", y)

    def deconv(self, scope: str, x: torch.Tensor, stride) -> torch.Tensor:
        w = self.weights(scope)
        bias = self.v.get(scope + "/biases")
        y = F.conv_transpose2d(x, w, bias, stride)  # everything: (n - 1) s + 4
        for axis, s in enumerate(stride, start=2):
            y = y.narrow(axis, 1, x.shape[axis] * s)  # one before goes; one (stride 2) or two (stride 1) after
        return y if bias is not None else self.norm(scope + "/BatchNorm", y)

    def norm(self, scope: str, x: torch.Tensor) -> torch.Tensor:
        epsilon = 1e-5 if scope.startswith("gen/") else 1e-3
        gamma = self.v.get(scope + "/gamma")
        v = self.v
        return F.batch_norm(
            x, v[scope + "/moving_mean"], v[scope + "/moving_variance"], gamma, v[scope + "/beta"], eps=epsilon
        )

    def block(self, scope: str, x: torch.Tensor, stride) -> torch.Tensor:
        y = F.relu(self.conv(scope + "_1", x, stride))
        y = self.conv(scope + "_2", y, [1] * len(stride))
        if scope + "_short/weights" in self.v:
            short = self.conv(scope + "_short", x, stride)
        elif len(stride) == 3:
            short = x[:, :, :: stride[0], :: stride[1], :: stride[2]]
        else:
            short = x[:, :, :: stride[0], :: stride[1]]
        return F.relu(self.norm(scope + "_bn", y + short))

    def sound_stem(self, samples: torch.Tensor, steps: int) -> torch.Tensor:
        if self.r["mono"]:
            samples = samples.mean(1, keepdim=True).expand(-1, 2)
        a = torch.sign(samples) * torch.log1p(255 * samples.abs()) / math.log(256)
        x = a.T[None, :, :, None]
        x = F.relu(self.conv("sf/conv1_1", x, [4, 4]))
        x = F.max_pool2d(x, (4, 1), (4, 1))
        x = self.block("sf/conv2_1", x, [4, 1])
        x = self.block("sf/conv3_1", x, [4, 1])
        x = self.block("sf/conv4_1", x, [4, 1])
        x = torch.stack([p.amax(2) for p in self.pieces(x, steps)], 2)
        return F.relu(self.conv("sf/conv5_1", x, [1, 1]))

    @staticmethod
    def pieces(x: torch.Tensor, steps: int) -> list[torch.Tensor]:
        n = x.shape[2]
        alpha = n / steps
        k = n // steps
        u = min((k + 2) / alpha - 1, (n + 1 - k) / alpha - (steps - 1)) * 0.2511744980841868
        bounds = [0] + [math.ceil(alpha * (i + u)) - 1 for i in range(1, steps)] + [n]
        return [x[:, :, a:b] for a, b in zip(bounds, bounds[1:])]

    def trunk(self, video: torch.Tensor, samples: torch.Tensor) -> list[torch.Tensor]:
        x = -1 + (2 / 255) * video.float()
        if self.r["middle"]:
            x = x[len(x) // 2 : len(x) // 2 + 1].expand(len(x), -1, -1, -1)
        x = x.permute(3, 0, 1, 2)[None].contiguous()
        x = F.relu(self.conv("im/conv1", x, [2, 2, 2]))
        x = F.max_pool3d(self.same(x, (1, 3, 3), (1, 2, 2), -math.inf), (1, 3, 3), (1, 2, 2))
        x = self.block("im/conv2_1", x, [1, 1, 1])
        x = scale0 = self.block("im/conv2_2", x, [2, 2, 2])
        sound = self.sound_stem(samples, x.shape[2])[..., None].expand(-1, -1, -1, *x.shape[3:])
        if not self.r["sound"]:
            sound = torch.zeros_like(sound)
        x = torch.cat([x, sound], 1)
        half = scale0.shape[1]
        short = torch.cat([x[:, :half], x[:, -half:]], 1)
        x = F.relu(self.conv("im/merge1", x, [1, 1, 1]))
        x = self.conv("im/merge2", x, [1, 1, 1])
        x = F.relu(self.norm("im/merge_block_bn", x + short))
        x = self.block("im/conv3_1", x, [1, 1, 1])
        x = scale1 = self.block("im/conv3_2", x, [1, 1, 1])
        x = self.block("im/conv4_1", x, [2, 2, 2])
        x = self.block("im/conv4_2", x, [1, 1, 1])
        x = self.block("im/conv5_1", x, [1, 1, 1] if self.r["fine_cam"] else [1, 2, 2])
        x = self.block("im/conv5_2", x, [1, 1, 1])
        return [scale0, scale1, x]

    @staticmethod
    def resize(x: torch.Tensor, size: int) -> torch.Tensor:
        """(C, n) -> (C, size): corners not aligned, half-pixel centres off."""
        n = x.shape[1]
        if n == size:
            return x
        at = torch.arange(size, dtype=torch.float64) * (n / size)
        low = at.floor().long()
        weight = (at - low).float()
        high = (low + 1).clamp(max=n - 1)
        return x[:, low] + (x[:, high] - x[:, low]) * weight

    def unet(self, db: torch.Tensor, phase: torch.Tensor, scales: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        x = torch.stack([2 * (db + 100) / 180 - 1, phase / math.pi])[None, ..., :1024]
        skips = []
        for i in range(1, 10):
            y = self.conv(f"gen/conv{i}", x, [1, 2] if i < 3 else [2, 2])
            x = 0.6 * y + 0.4 * y.abs()
            if scales and i in (3, 4, 5):
                seen = self.resize(scales[i - 3][0].mean((2, 3)), x.shape[2])
                y = x = torch.cat([x, seen[None, :, :, None].expand(-1, -1, -1, x.shape[3])], 1)
            skips.append(y)
        y = self.deconv("gen/deconv1", F.relu(x), [2, 2])
        for j in range(2, 9):
            y = F.relu(torch.cat([y, skips[9 - j]], 1))
            y = self.deconv(f"gen/deconv{j}", y, [1, 2] if j == 8 else [2, 2])
        y = F.relu(torch.cat([y, skips[0]], 1))
        out = {}
        for head in ("fg", "bg"):
            o = torch.tanh(self.deconv(f"gen/{head}", y, [1, 2]))[0]
            silence = torch.full_like(db[:, 1024:], -100.0)
            out[head + "_db"] = torch.cat([90 * (o[0] + 1) - 100, silence], 1)
            out[head + "_phase"] = torch.cat([math.pi * o[1], phase[:, 1024:]], 1)
        return out

    def __call__(self, video, samples, db, phase) -> dict[str, torch.Tensor]:
        out: dict[str, torch.Tensor] = {}
        scales: list[torch.Tensor] = []
        if self.r["trunk"]:
            scales = self.trunk(video, samples)
            last = scales[2]
            out["logit"] = self.conv("joint/logits", last.mean((2, 3, 4), keepdim=True), [1, 1, 1]).reshape(1)
            out["cam"] = self.conv("joint/logits", last, [1, 1, 1])[0, 0]
        if self.r["unet"]:
            out |= self.unet(db, phase, scales)
        return out


def stft(samples: np.ndarray, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1344) / 1344)
    x = np.stack([np.fft.rfft(samples[336 * k : 336 * k + 1344].astype(np.float64) * window, 2048) for k in range(frames)])
    x.imag[:, [0, 1024]] = 0.0
    db = 20 * np.log10(np.maximum(1e-5, np.abs(x)))
    return torch.from_numpy(db.astype(np.float32)), torch.from_numpy(np.angle(x).astype(np.float32))


def answer(folder: Path, repeat: int) -> None:
    request = json.loads((folder / "request.json").read_text())
    raw = torch.from_numpy(np.fromfile(folder / "variables.bin", np.float32))
    variables, at = {}, 0
    for name, shape in request["variables"]:
        size = math.prod(shape)
        variables[name] = raw[at : at + size].reshape(shape)
        at += size
    assert at == len(raw), f"variables.bin has {len(raw)} values, the request {at}"
    for name in variables:
        assert request["gamma"] or name.startswith("gen/") or not name.endswith("/gamma"), name
    side, frames = request["image"], request["frames"]
    video = torch.from_numpy(np.fromfile(folder / "video.bin", np.uint8).reshape(frames, side, side, 3))
    samples = np.fromfile(folder / "samples.bin", np.float32).reshape(request["samples"], 2)
    db, phase = stft(samples[:, 0], request["spectrum"]) if request["unet"] else (torch.empty(0), torch.empty(0))
    net = Net(request, variables)
    times, work = [], []
    with torch.inference_mode():
        for _ in range(repeat):
            begin, busy = time.perf_counter(), time.process_time()
            out = net(video, torch.from_numpy(samples), db, phase)
            times.append(1000 * (time.perf_counter() - begin))
            work.append(1000 * (time.process_time() - busy))
    if request["unet"]:
        out |= {"db": db, "phase": phase}
    for name, value in out.items():
        value.contiguous().numpy().tofile(folder / f"{name}.bin")
    # Not getrusage: a child's maximum begins with what its parent had when it was made.
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read()).group(1)) / 1024
    answers = {"outputs": list(out), "ms": times, "cpu_ms": work, "peak_mib": peak, "torch": torch.__version__}
    (folder / "answers.json").write_text(json.dumps(answers))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    for folder in a.folders:
        answer(folder, a.repeat)


if __name__ == "__main__":
    main()
