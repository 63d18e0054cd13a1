"""Which number format is quick here."""
from __future__ import annotations

from pathlib import Path

import torch


def has_bf16(dev: torch.device) -> bool:
    """Whether bf16 is quicker than float32 here: every GPU we use, and CPUs that multiply it in hardware."""
    if dev.type == "cuda":
        return True
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "avx512_bf16" in cpu.read_text()


def amp(dev: torch.device) -> torch.autocast:
    return torch.autocast(dev.type, dtype=torch.bfloat16, enabled=has_bf16(dev))
