"""Expected numbers for test/model/live-parity.test.ts: the PyTorch networks run over a few seconds, one pass.

    python train/parity_live.py --kind lite --out test/model/fixtures/lite.safetensors     the tiny fixtures in the repository
    ... --kind band --out /tmp/big.safetensors --width 64 --blocks 4 --side 64 --every 1                        any other size
    ... --out /tmp/real.safetensors --weights models.safetensors                                               a trained model

Sound, crops and (without --weights) the weights come from a hash of name and index that the test repeats, so that the file holds only the
expected values: gain and rest at every `every`-th bin, the voice memory. Also checks here that the streamed numbers are those of the
whole-sequence run `sep.masks` once the start has been forgotten.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from export_weights import read_tensors, ships, write_tensors  # noqa: E402
from attribution import AttributionConfig, Attributed  # noqa: E402
from front_ends import Student  # noqa: E402
from separators import Model, SepConfig  # noqa: E402
from stft import power  # noqa: E402

UNIT = 1920
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
    if name == "att.keeping":  # a share
        return torch.tensor(0.99 + 0.005 * float(v[0]), dtype=torch.float32)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        v = 1 + 0.3 * v
    elif "weight" in name:
        v = v * np.sqrt((1 if "lstm" in name else 3) / np.prod(shape[1:]))  # larger LSTM weights would make it chaotic
    else:
        v = 0.3 * v
    return torch.from_numpy(v.astype(np.float32)).reshape(shape)


def spectrum(x: Tensor, nfft: int, hop: int, center: bool) -> Tensor:
    """48 kHz (1, n) -> (1, frames, nfft / 2 + 1), as the 16 kHz transform of nfft points every hop."""
    bins = nfft // 2 + 1
    X = torch.stft(x, 3 * nfft, 3 * hop, 3 * nfft, torch.hann_window(3 * nfft).sqrt(), center=center, return_complex=True)[:, :bins].transpose(1, 2) / 3
    X.imag[:, :, -1] = 0
    return X


def put(net: nn.Module, prefix: str, have: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Fills all tensors but counters and buffers that are not trained; gives what was used, by full name."""
    own = {k: v for k, v in net.state_dict().items() if v.is_floating_point() and ships(k, isinstance(net, Attributed))}
    new = {k: have[prefix + k] if have else weight(prefix + k, list(v.shape)) for k, v in own.items()}
    net.load_state_dict(new, strict=False)
    return {prefix + k: v for k, v in new.items()}


def attributed(net: Attributed, M: Tensor, x: Tensor, seen: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Masks of the wanted voice and the rest as a stream; of each picture confidence, lips, and of both voices belief, fit and who speaks. The masks belong to
    the sound `ahead` frames before the newest."""
    at, told, weights, st = 0, [], [], net.att.state(1)
    late = 3 * net.sep.cfg.ahead * net.sep.cfg.hop
    P = power(spectrum(torch.cat([torch.zeros(1, late + 768), x], 1), 512, net.att.HOP, False))[:, : 2 * M.shape[2]]
    for s, v in zip(SEGMENTS, seen):
        n = s["units"] * net.att.frames
        now = v, M[:, :, at : at + n], P[:, 2 * at : 2 * (at + n)], torch.full((1, 1), float(s["picture"])), st
        told.append(net.att.look(*now))
        w, _, st = net.att.step(*now)
        weights.append(w)
        at += n
    each = {k: torch.cat([getattr(x, k)[0] for x in told]) for k in ("confidence", "lips", "belief", "fit")}
    each = {k: v.T.contiguous() if v.dim() == 2 else v for k, v in each.items()}
    if net.att.speaker:
        each["speaker"] = torch.cat([x.speaker[0] for x in told], 1)
    return net.mixed(M, torch.cat(weights, 1))[0], each


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--weights", type=Path)
    p.add_argument("--kind", choices=("lite", "blind", "band"), default="lite", help="lite: told picture and memory; blind, band: a separator whose voices are told apart by attribution")
    p.add_argument("--width", type=int, default=8)
    p.add_argument("--blocks", type=int, default=2)
    p.add_argument("--hidden", type=int, default=12)
    p.add_argument("--side", type=int, default=32)
    p.add_argument("--every", type=int, default=16)
    a = p.parse_args()
    torch.set_num_threads(1)
    have, size = None, dict(width=a.width, blocks=a.blocks)
    blind = a.kind != "lite"
    kind = "band" if a.kind == "band" else "lite"
    clock = dict(nfft=640, hop=320, ahead=4, **(dict(hidden=a.hidden) if kind == "band" else {}))
    c = dict(side=a.side, widths=[4, 6, 8, 8], hidden=16, vdim=12, vhidden=10, edim=8, voiceHidden=128, separator=dict(kind=kind, **size, **clock))
    if blind:
        c["attribution"] = dict(hidden=12, dim=8, bands=16, lags=2, eyes=2 if kind == "band" else 1, speaker=6 if kind == "band" else 0)
    if a.weights:
        have, notes = read_tensors(a.weights)
        c = json.loads(notes["config"])
    elif a.width > 16:
        c.update(widths=[24, 48, 96, 128], hidden=256, vdim=128, vhidden=96, edim=64)
    blind = "attribution" in c
    cfg = SepConfig(**c["separator"], vdim=c["vdim"], vhidden=c["vhidden"], edim=c["edim"])
    nfft, hop, ahead = cfg.nfft, cfg.hop, cfg.ahead
    per_unit, kept = UNIT // (3 * hop), 3 * (nfft - hop)
    eyes = c["attribution"].get("eyes", 1) if blind else 1
    stus, net = [Student(c["side"], tuple(c["widths"]), c["hidden"], c["vdim"]).eval() for _ in range(eyes)], (Attributed(cfg, AttributionConfig(**c["attribution"]), 1) if blind else Model(cfg, 1)).eval()
    used = put(net, "", have)
    for stu, prefix in zip(stus, ("student.", "student.second.")):
        used |= put(stu, prefix, have)

    units, S = sum(s["units"] for s in SEGMENTS), c["side"]
    loud = np.abs(np.sin(np.arange(units * UNIT) * 0.0005))
    x = torch.from_numpy((noise("sound", units * UNIT) * 0.3 * loud).astype(np.float32))[None]
    crops = torch.from_numpy(np.floor(noise("crops", units * S * S) * 60 + 128).astype(np.float32)).reshape(1, units, S, S)
    mem = torch.from_numpy(noise("memory", c["edim"]).astype(np.float32))[None]

    X = spectrum(torch.cat([torch.zeros(1, kept), x], 1), nfft, hop, False)
    sts, ps, conds, seen, at = [stu.state(1) for stu in stus], net.sep.picture.state(1), [], [], 0
    for s in SEGMENTS:
        n = s["units"]
        pics = crops[:, at : at + n] if s["picture"] else last.expand(-1, n, -1, -1)  # noqa: F821
        rows = []
        for i, stu in enumerate(stus):
            sts[i][0] = (pics[:, :1] / 255 - 0.42) / 0.17
            v, sts[i] = stu.step(pics, sts[i])
            rows.append(v)
        seen.append(torch.cat(rows, -1))
        y, ps = net.sep.picture.step(rows[0], ps)
        conds.append(net.sep.condition(y.repeat_interleave(per_unit, 1), torch.full((1, 1), float(s["picture"])), mem, torch.full((1, 1), float(s["memory"]))))
        last, at = pics[:, -1:], at + n
    conditions = torch.cat(conds, 1)
    M = net.sep.step(X.real, X.imag, torch.zeros_like(conditions) if blind else conditions, net.sep.state(1))[0]
    m, told = attributed(net, M, x, seen) if blind else (M[0], {})

    # Frame t of the stream is centred on 3 * (nfft / 2 - (nfft - hop) + hop * t): frame t + first of the whole run, whose mask is that of `ahead` frames before.
    n, one = SEGMENTS[0]["units"], torch.ones(1, 1)
    start, v = x[:, : n * UNIT], torch.cat([stu(crops[:, :n]) for stu in stus], -1)
    if blind:
        masks, P = net.blind(spectrum(start, nfft, hop, True)), power(spectrum(start, 512, net.att.HOP, True))[:, : 4 * n]
        whole = net.mixed(masks, net.att.step(v, masks[:, :, : 2 * n], P, one, net.att.state(1))[0])[0]
    else:
        whole = net.masks(spectrum(start, nfft, hop, True), v, one, mem, one)[0]
    first = (nfft // 2 - (nfft - hop)) // hop - ahead

    def apart(begin: int, shift: int = 0) -> float:
        t = torch.arange(begin * per_unit, (n - 3) * per_unit)  # the last ones want what comes after the whole run's end
        return (m[:, t] - whole[:, t + first + shift]).abs().max().item()

    diff, other = apart(n - 10), min(apart(n - 10, -1), apart(n - 10, 1))
    print(f"streamed against sep.masks after {0.04 * n / 2:.1f} s: {apart(n // 2):.1e}, after {0.04 * (n - 10):.1f} s {diff:.1e}, a frame off {other:.1e}; "
          f"gain {m[0].mean():.3f} +- {m[0].std():.3f}, from {m.min():.3f} to {m.max():.3f}")
    assert diff < (0.25 * other if blind else 0.02 * other if have else 3e-5), "the clocks differ"  # trained memories, and evidence, forget slowly

    voice = net.enc(power(spectrum(x, 512, 256, True)))
    notes = dict(config=json.dumps(c), segments=json.dumps(SEGMENTS), every=str(a.every), shapes=json.dumps({k: list(q.shape) for k, q in used.items()}))
    write_tensors(a.out, dict(gain=m[0, :, :: a.every], rest=m[1, :, :: a.every], voice=voice, **told), notes)
    print(f"{a.out}: {a.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
