"""A checkpoint without what the shipped model holds already, and back, to the bit:

    python train/slim.py live.pt --model models/live --out train/checkpoints/live.pt        # leaves out what its files have
    python train/slim.py train/checkpoints/live.pt --model models/live --out live.pt        # whole again: for --init, export_weights.py ...

Also a `student` (picture front end and lip/voice head), of which the model holds the front end and the lips' half of the head, as its first eye or its second.

The weights of a model lie in the repository once. What the model lacks (parts that only training needs, biases that it adds up, numbers that became constants)
stays in the slim file, with the checksum of the model that it belongs to: a new model and its slim checkpoint are committed together.
"""
from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

import data

# How the model writes a tensor down: as it is or with other ends, transposed, a convolution along time as one matrix, an LSTM's gates in ONNX's order.
FORMS = {
    "reshape": lambda a, shape: a.reshape(shape),
    "transpose": lambda a, shape: a.T.reshape(shape),
    "taps": lambda a, shape: a.reshape(shape[2], shape[1], shape[0]).transpose(2, 1, 0),
    "gates": lambda a, shape: a.reshape(4, -1)[[0, 2, 3, 1]].reshape(shape),
}


def held(model: Path) -> tuple[dict[str, np.ndarray], str]:
    """Tensors by name, and what the files are that the card names."""
    sums, tensors = hashlib.sha256(), {}
    if not (model / "card.json").is_file():
        raise SystemExit(f"{model}: holds no card.json")
    files = json.loads((model / "card.json").read_text())["files"]
    for name in (files[part] for part in ("sound", "step", "voice") if part in files):
        data = (model / name).read_bytes()
        sums.update(data)
        tensors |= {i.name: numpy_helper.to_array(i).astype(np.float32) for i in onnx.load_from_string(data).graph.initializer}
    return tensors, sums.hexdigest()


def names_of(key: str) -> list[str]:
    """What a tensor of a checkpoint may be called in the model: as it is, or as part of one of its eyes (a student knows nothing of the other)."""
    part, _, rest = key.partition(".")
    eye = dict(student="student", head="att").get(part)
    return [key, *([f"{eye}.{rest}", f"{eye}.second.{rest}"] if eye else [])]


def form_of(a: np.ndarray, t: Tensor) -> str | None:
    for name, form in FORMS.items():
        if a.size == t.numel() and (name != "taps" or t.dim() == 3) and (name != "gates" or a.size % 4 == 0) and np.array_equal(np.ascontiguousarray(form(a, t.shape)).view(np.int32), t.float().contiguous().numpy().view(np.int32)):
            return name
    return None


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--model", type=Path, required=True, help="the model's folder")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    tensors, sha256 = held(a.model)
    state = torch.load(a.checkpoint, map_location="cpu", weights_only=True)
    slim = state.pop("slim", None)
    if slim is None:
        forms = {}
        for k, t in state["weights"].items():
            for name in names_of(k):
                if name in tensors and (form := form_of(tensors[name], t)):
                    forms[k] = [form, list(t.shape), str(t.dtype).removeprefix("torch."), name]
                    break
        state["slim"] = dict(sha256=sha256, order=list(state["weights"]), forms=forms)
        state["weights"] = {k: t for k, t in state["weights"].items() if k not in forms}
        print(f"{len(forms)} tensors are in {a.model}, {len(state['weights'])} stay")
    else:
        if slim["sha256"] != sha256:
            raise SystemExit(f"{a.checkpoint} belongs to another model than {a.model}: {slim['sha256'][:12]}, not {sha256[:12]}")
        back = {k: torch.from_numpy(np.ascontiguousarray(FORMS[form](tensors[name], shape))).to(getattr(torch, dtype)) for k, (form, shape, dtype, name) in slim["forms"].items()}
        state["weights"] = {k: back[k] if k in back else state["weights"][k] for k in slim["order"]}
        print(f"{len(back)} tensors from {a.model}")
    data.save(state, a.out)


if __name__ == "__main__":
    main()
