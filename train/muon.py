"""An optimiser: matrices by Muon, all else by AdamW."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn

from formats import has_bf16


def orthogonal(G: Tensor, steps: int = 5) -> Tensor:
    """(..., n, m) -> nearly the orthogonal factor, by Newton and Schulz with the coefficients of Muon's authors (singular values end between 0.7 and 1.2)."""
    X = G / (G.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = X.shape[-2] > X.shape[-1]
    X = X.mT if tall else X
    for _ in range(steps):
        A = X @ X.mT
        X = 3.4445 * X + (-4.775 * A + 2.0315 * A @ A) @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": a matrix moves by the orthogonal part of its momentum, so that
    every direction of a layer learns at the same pace. Moves are as large as those of AdamW (0.2 a number; Liu et al. 2025, "Muon is scalable
    for LLM training"), so that one rate serves both. The four gates of an LSTM are four matrices; of a stack of matrices each counts alone.
    What had no gradient (parts that a stage does not use) does not move. `kernels`: which of those of convolutions in two and three dimensions, by
    name, count as matrices (first axis x all else); none by default. What is not to be trained is left out."""

    def __init__(self, net: nn.Module, lr: float, weight_decay: float, momentum: float = 0.95, kernels: Callable[[str], bool] | None = None) -> None:
        gates = {id(p) for m in net.modules() if isinstance(m, nn.LSTM) for n, p in m.named_parameters() if n.startswith("weight")}
        # Biases of a stack have two dimensions, too; a matrix proper is the weight of a layer or has three.
        whole = {id(p) for m in net.modules() for n, p in m.named_parameters(recurse=False) if "weight" in n and p.dim() == 2 or p.dim() == 3}
        trained = [p for p in net.parameters() if p.requires_grad]
        matrices = [p for p in trained if id(p) in whole and min(p.shape[-2:]) >= 8]
        if kernels:
            matrices += [p for n, p in net.named_parameters() if p.requires_grad and kernels(n) and p.dim() > 3 and min(p.shape[0], p[0].numel()) >= 8]
        chosen = {id(p) for p in matrices}
        rest = [p for p in trained if id(p) not in chosen]
        groups = [dict(params=matrices, parts=[4 if id(p) in gates else 1 for p in matrices]), dict(params=rest, parts=[0] * len(rest))]
        super().__init__(groups, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))
        device = next(net.parameters()).device
        self.low = torch.bfloat16 if device.type == "cuda" or has_bf16(device) else torch.float32

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for g in self.param_groups:
            for p, parts in zip(g["params"], g["parts"]):
                if p.grad is None or not (p.grad != 0).any():
                    continue
                p.mul_(1 - g["lr"] * g["weight_decay"])
                s = self.state[p]
                if not s:
                    s["m"] = torch.zeros_like(p)
                if parts:
                    s["m"].mul_(g["momentum"]).add_(p.grad)
                    u = (p.grad + g["momentum"] * s["m"]).to(self.low)
                    u = u.flatten(1) if u.dim() > 3 else u
                    o = orthogonal(u.unflatten(0, (parts, -1)) if parts > 1 else u).float()
                    p.add_(o.reshape(p.shape), alpha=-0.2 * g["lr"] * max(o.shape[-2:]) ** 0.5)
                    continue
                if "v" not in s:
                    s["v"], s["k"] = torch.zeros_like(p), torch.zeros(())
                s["k"] += 1
                k = s["k"].item()
                s["m"].lerp_(p.grad, 0.1)
                s["v"].lerp_(p.grad**2, 0.001)
                p.addcdiv_(s["m"] / (1 - 0.9**k), (s["v"] / (1 - 0.999**k)).sqrt() + 1e-8, value=-g["lr"])
