"""Expected numbers for test/model/live-parity.test.ts: the PyTorch networks run over a few seconds, one pass.

    KIT=folder-of-net.py python train/parity_live.py --out test/model/fixtures/live.safetensors             the tiny fixture in the repository
    ... --out /tmp/big.safetensors --width 64 --blocks 4 --side 64 --every 1                                 any other size
    ... --out /tmp/real.safetensors --weights models.safetensors                                             a trained model

Sound, crops and (without --weights) the weights come from a hash of name and index that the test repeats, so that the file holds only the
expected values: gain and rest at every `every`-th bin, the voice memory. Also checks here that the streamed numbers are those of the
whole-sequence run `sep.masks` once the start has been forgotten.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, os.environ.get("KIT", str(Path(__file__).parent)))
from export_weights import read_tensors, write_tensors  # noqa: E402
from net import Model, SepConfig, Student, power  # noqa: E402

UNIT, HOP, WINDOW, AHEAD = 1920, 384, 1536, 9
# picture off in the middle, memory off at the end
SEGMENTS = [dict(units=40, picture=1, memory=1), dict(units=15, picture=0, memory=1), dict(units=20, picture=1, memory=0)]


def noise(name: str, n: int) -> np.ndarray:
    """Values in -1..1, float64; 32-bit mixing of the index, seeded by FNV-1a of the name."""
    seed = 2166136261
    for b in name.encode():
        seed = (seed ^ b) * 16777619 % 2**32
    x = (np.arange(n, dtype=np.uint64) * 2654435761 + seed) % 2**32
    for shift, times in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(times) % 2**32
    return x / 2**31 - 1


def weight(name: str, shape: list[int]) -> Tensor:
    v = noise(name, int(np.prod(shape)))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        v = 1 + 0.3 * v
    elif "weight" in name:
        v = v * np.sqrt((1 if "lstm" in name else 3) / np.prod(shape[1:]))  # larger LSTM weights would make it chaotic
    else:
        v = 0.3 * v
    return torch.from_numpy(v.astype(np.float32)).reshape(shape)


def spectrum(x: Tensor, hop: int, center: bool) -> Tensor:
    """48 kHz (1, n) -> (1, frames, 257), as the 16 kHz transform."""
    w = torch.hann_window(WINDOW).sqrt()
    X = torch.stft(x, WINDOW, hop, WINDOW, w, center=center, return_complex=True)[:, :257].transpose(1, 2) / 3
    X.imag[:, :, 256] = 0
    return X


def put(net: nn.Module, prefix: str, have: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Fills all tensors but counters and buffers that are not trained; gives what was used, by full name."""
    own = {k: v for k, v in net.state_dict().items() if v.is_floating_point() and not k.startswith("enc.who")}
    new = {k: have[prefix + k] if have else weight(prefix + k, list(v.shape)) for k, v in own.items()}
    net.load_state_dict(new, strict=False)
    return {prefix + k: v for k, v in new.items()}


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--weights", type=Path)
    p.add_argument("--width", type=int, default=8)
    p.add_argument("--blocks", type=int, default=2)
    p.add_argument("--side", type=int, default=32)
    p.add_argument("--every", type=int, default=16)
    a = p.parse_args()
    torch.set_num_threads(1)
    have = None
    c = dict(side=a.side, widths=[4, 6, 8, 8], hidden=16, width=a.width, blocks=a.blocks, hop=128, ahead=AHEAD, vdim=12, vhidden=10, edim=8, voiceHidden=128)
    if a.weights:
        have, notes = read_tensors(a.weights)
        c = json.loads(notes["config"])
    elif a.width > 16:
        c.update(widths=[16, 32, 64, 96], hidden=192, vdim=128, vhidden=96, edim=64)
    cfg = SepConfig("dual", c["width"], c["blocks"], 128, AHEAD, False, c["vdim"], c["vhidden"], c["edim"])
    stu, net = Student(c["side"], tuple(c["widths"]), c["hidden"], c["vdim"]).eval(), Model(cfg, 1).eval()
    used = put(stu, "student.", have) | put(net, "", have)

    units, S = sum(s["units"] for s in SEGMENTS), c["side"]
    loud = np.abs(np.sin(np.arange(units * UNIT) * 0.0005))
    x = torch.from_numpy((noise("sound", units * UNIT) * 0.3 * loud).astype(np.float32))[None]
    crops = torch.from_numpy(np.floor(noise("crops", units * S * S) * 60 + 128).astype(np.float32)).reshape(1, units, S, S)
    mem = torch.from_numpy(noise("memory", c["edim"]).astype(np.float32))[None]

    X = spectrum(torch.cat([torch.zeros(1, WINDOW - HOP), x], 1), HOP, False)
    st, ps, conds, at = stu.state(1), net.sep.picture.state(1), [], 0
    for s in SEGMENTS:
        n = s["units"]
        pics = crops[:, at : at + n] if s["picture"] else last.expand(-1, n, -1, -1)  # noqa: F821
        st[0] = (pics[:, :1] / 255 - 0.42) / 0.17
        v, st = stu.step(pics, st)
        y, ps = net.sep.picture.step(v, ps)
        conds.append(net.sep.condition(y.repeat_interleave(5, 1), torch.full((1, 1), float(s["picture"])), mem, torch.full((1, 1), float(s["memory"]))))
        last, at = pics[:, -1:], at + n
    m = net.sep.step(X.real, X.imag, torch.cat(conds, 1), net.sep.state(1))[0][0, ..., 0]

    n, one = SEGMENTS[0]["units"], torch.ones(1, 1)
    whole = net.sep.masks(spectrum(x[:, : n * UNIT], HOP, True), stu(crops[:, :n]), one, mem, one)[0]
    t = torch.arange(20 * 5, n * 5 - 10)  # step frame t is the whole run's frame t - 1 - AHEAD
    late = (m[:, t] - whole[:, t - 1 - AHEAD]).abs().amax((0, 2))
    diff = late[-25:].max().item()
    print(f"streamed against sep.masks after 0.8 s: {late[:25].max():.1e}, after 1.2 s {diff:.1e}; gain {m[0].mean():.3f} +- {m[0].std():.3f}, from {m.min():.3f} to {m.max():.3f}")
    assert diff < 3e-5, "the clocks differ"

    voice = net.enc(power(spectrum(x, 2 * HOP, True)))
    notes = dict(config=json.dumps(c), segments=json.dumps(SEGMENTS), every=str(a.every), shapes=json.dumps({k: list(q.shape) for k, q in used.items()}))
    write_tensors(a.out, dict(gain=m[0, :, :: a.every], rest=m[1, :, :: a.every], voice=voice), notes)
    print(f"{a.out}: {a.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
