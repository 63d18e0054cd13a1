"""Runs train/paper's commands one after another in one process, because to import PyTorch takes longer than to train these networks:
trainings.py TRAIN_PAPER JOBS.json.

JOBS.json: a list of {"train": [arguments of train.py]} and {"outputs": {"run": RUN, "task": TASK, "folder": FOLDER}}. The latter gives what the
checkpoint's network says in PyTorch to FOLDER/inputs.json (name -> type, shape) and FOLDER/NAME.bin; writes outputs.json and NAME.bin.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
import train  # noqa: E402
from weights import from_checkpoint  # noqa: E402


def outputs(run: str, task: str, folder: str) -> None:
    net = from_checkpoint(Path(run, f"{task}.pt"), Path(run, f"{task}.onnx"))
    asked = json.loads(Path(folder, "inputs.json").read_text())
    given = {k: torch.from_numpy(np.fromfile(Path(folder, f"{k}.bin"), v["type"]).reshape(v["shape"])) for k, v in asked.items()}
    with torch.no_grad():
        got = net(given, tuple(net.outputs))
    for name, y in got.items():
        y.contiguous().numpy().tofile(Path(folder, f"{name}.bin"))
    Path(folder, "outputs.json").write_text(json.dumps(list(got)))


for job in json.loads(Path(sys.argv[2]).read_text()):
    if "train" in job:
        sys.argv = ["train.py", *job["train"]]
        train.main()
    else:
        outputs(**job["outputs"])
