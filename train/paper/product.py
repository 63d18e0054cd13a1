"""A model folder of the product (`sightline model build`, `import`, `quantize`) in place of the training network, to be judged beside it."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn


class ProductModel(nn.Module):
    """`net(inputs, outputs)` as OnnxNet has it, window by window through onnxruntime; the sound may have a batch that is a multiple of the pictures'."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__()
        card = json.loads((folder / "card.json").read_text())
        paper = card["paper"]
        self.notes = {"frames": str(paper["window"]["frames"]), "image": str(paper["side"]), "preset": paper["preset"]}
        self.about = f"{card['name']} {card['version']}, preset {paper['preset']}, {paper['form']}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(folder / card["files"]["step"]), options, providers=["CPUExecutionProvider"])
        self.shapes = {i.name: i.shape for i in self.session.get_inputs()}
        self.register_parameter("nothing", nn.Parameter(torch.zeros(1)))

    def forward(self, inputs: dict[str, Tensor], outputs: tuple[str, ...]) -> dict[str, Tensor]:
        video, samples = inputs["video"], inputs["samples"]
        rows = []
        for k in range(len(samples)):
            given = dict(video=video[k % len(video)].numpy(), samples=samples[k].float().numpy())
            rows.append(self.session.run(list(outputs), {n: np.ascontiguousarray(given[n]).reshape(s) for n, s in self.shapes.items()}))
        return {o: torch.from_numpy(np.concatenate([r[i].reshape(1, -1) for r in rows])) for i, o in enumerate(outputs)}
