"""Spectra as the networks see them (sections 1.1 and 3.6): 64 ms periodic Hann windows every 16 ms, zeros up to 2048, no centring."""
from __future__ import annotations

import math

import torch
from torch import Tensor

RATE, FPS = 21_000, 29.97
WINDOW, STEP, SIZE, BINS = 1344, 336, 2048, 1025
FLOOR_DB, TRAINING_RMS, MIXTURE_RMS = -100.0, 0.1, 0.1 * math.sqrt(2)


def samples_of(frames: int) -> int:
    return int(RATE / FPS * frames + 0.5)


def spectrum_frames(samples: int) -> int:
    return 0 if samples < WINDOW else (samples - WINDOW) // STEP + 1


def hann(like: Tensor) -> Tensor:
    return torch.hann_window(WINDOW, periodic=True, device=like.device)


def transform(x: Tensor, frames: int) -> Tensor:
    """(..., N) -> complex (..., frames, 1025)."""
    pieces = x.float().unfold(-1, WINDOW, STEP)[..., :frames, :]
    return torch.fft.rfft(pieces * hann(x), SIZE)


def level_and_phase(z: Tensor) -> tuple[Tensor, Tensor]:
    """dB, not below -100, and the angle in (-pi, pi]; bins that are real have +pi, never -pi."""
    im = torch.where(z.imag == 0, torch.zeros_like(z.imag), z.imag)
    return 20 * torch.log10(z.abs().clamp_min(1e-5)), torch.atan2(im, z.real)


def wave(z: Tensor) -> Tensor:
    """Back to sound, (..., (frames - 1) 336 + 1344), divided by what the windows add up to."""
    pieces = torch.fft.irfft(z, SIZE)[..., :WINDOW] * hann(z)
    frames, length = z.shape[-2], (z.shape[-2] - 1) * STEP + WINDOW
    y, cover = pieces.new_zeros(*pieces.shape[:-2], length), pieces.new_zeros(length)
    for k in range(frames):
        at = slice(k * STEP, k * STEP + WINDOW)
        y[..., at] += pieces[..., k, :]
        cover[at] += hann(z) ** 2
    return y / cover.clamp_min(0.01)


def levelled(x: Tensor, rms: float) -> Tensor:
    """x (..., N, channels), each channel at the level; near silence it stays at rms / 1e-4."""
    return x * (rms / x.square().mean(-2, keepdim=True).sqrt().clamp_min(1e-4))


def si_sdr(got: Tensor, want: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis."""
    got, want = got - got.mean(-1, keepdim=True), want - want.mean(-1, keepdim=True)
    part = (got * want).sum(-1, keepdim=True) / want.square().sum(-1, keepdim=True).clamp_min(1e-9) * want
    return 10 * torch.log10(part.square().sum(-1).clamp_min(1e-9) / (got - part).square().sum(-1).clamp_min(1e-9))
