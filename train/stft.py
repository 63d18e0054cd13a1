"""Spectra of sound at 16 kHz and back, always in float32 whatever autocast says."""
from __future__ import annotations

import torch
from torch import Tensor

NFFT, SR = 512, 16000
BINS = NFFT // 2 + 1


def stft(x: Tensor, hop: int, nfft: int = NFFT) -> Tensor:
    """(B, n) -> complex (B, frames, nfft / 2 + 1); root-Hann window, frame t centred on sample t * hop."""
    w = torch.hann_window(nfft, device=x.device).sqrt()
    with torch.autocast(x.device.type, enabled=False):
        return torch.stft(x.float(), nfft, hop, nfft, w, center=True, return_complex=True).transpose(1, 2)


def istft(X: Tensor, hop: int, n: int) -> Tensor:
    nfft = 2 * (X.shape[-1] - 1)
    w = torch.hann_window(nfft, device=X.device).sqrt()
    with torch.autocast(X.device.type, enabled=False):
        return torch.istft(X.transpose(1, 2), nfft, hop, nfft, w, center=True, length=n)


def mel_bank(bands: int, low: float = 50, high: float = 7600, bins: int = BINS) -> Tensor:
    def mel(h: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + h / 700)
    m = torch.linspace(float(mel(torch.tensor(low))), float(mel(torch.tensor(high))), bands + 2)
    edge, f = 700 * (10 ** (m / 2595) - 1), torch.arange(bins) * (SR / 2 / (bins - 1))
    up = (f[:, None] - edge[:-2]) / (edge[1:-1] - edge[:-2])
    down = (edge[2:] - f[:, None]) / (edge[2:] - edge[1:-1])
    return torch.minimum(up, down).clamp_min(0)


def log_mel(power: Tensor, bank: Tensor) -> Tensor:
    """power (B, T, bins) -> (B, T, bands), mean taken out."""
    y = torch.log(power @ bank + 1e-5)
    return (y - y.mean((1, 2), keepdim=True)) / 2.5


def power(X: Tensor) -> Tensor:
    return X.real**2 + X.imag**2
