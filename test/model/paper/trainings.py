"""Runs train/paper's commands one after another in one process, because to import PyTorch takes longer than to train these networks:
trainings.py TRAIN_PAPER JOBS.json.

JOBS.json is a list of
  {"train": [arguments of train.py]};
  {"outputs": {"run": RUN, "task": TASK, "folder": FOLDER}}: what the checkpoint's network says in PyTorch to FOLDER/inputs.json (name -> type,
    shape) and FOLDER/NAME.bin; writes outputs.json and NAME.bin;
  {"evaluate": [arguments of evaluate.py]};
  {"norms": {"graph": FILE, "out": FILE}}: of a trunk that sees one batch again and again, the largest difference of its map in training and at
    inference, with batch renormalisation and without, then that of a batch of pictures used twice and given twice, all over the largest value.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
import evaluate  # noqa: E402
import train  # noqa: E402
from onnx_net import Norms, OnnxNet  # noqa: E402
from weights import from_checkpoint, initialise  # noqa: E402


def outputs(run: str, task: str, folder: str) -> None:
    net = from_checkpoint(Path(run, f"{task}.pt"), Path(run, f"{task}.onnx"))
    asked = json.loads(Path(folder, "inputs.json").read_text())
    given = {k: torch.from_numpy(np.fromfile(Path(folder, f"{k}.bin"), v["type"]).reshape(v["shape"])) for k, v in asked.items()}
    with torch.no_grad():
        got = net(given, tuple(net.outputs))
    for name, y in got.items():
        y.contiguous().numpy().tofile(Path(folder, f"{name}.bin"))
    Path(folder, "outputs.json").write_text(json.dumps(list(got)))


@torch.no_grad()
def norms(graph: str, out: str) -> None:
    found: dict[str, float] = {}
    for name, renorm in (("renorm", True), ("plain", False)):
        net = OnnxNet(graph, Norms(renorm=renorm))
        initialise(net, 0)
        frames, side = net.inputs["video"][1:3]
        generator = torch.Generator().manual_seed(0)
        video = torch.randint(0, 255, (2, frames, side, side, 3), dtype=torch.uint8, generator=generator)
        sound = 0.1 * torch.randn(4, net.inputs["samples"][1], 2, generator=generator)
        for _ in range(100):
            trained = net.train()(dict(video=video, samples=sound), ("cam",))["cam"]
        used_twice = net.eval()(dict(video=video, samples=sound), ("cam",))["cam"]
        given_twice = net(dict(video=video.repeat(2, 1, 1, 1, 1), samples=sound), ("cam",))["cam"]
        most = float(trained.abs().max())
        found[name] = float((trained - used_twice).abs().max()) / most
        found["twice"] = float((used_twice - given_twice).abs().max()) / most
    Path(out).write_text(json.dumps(found))


for job in json.loads(Path(sys.argv[2]).read_text()):
    if "train" in job:
        sys.argv = ["train.py", *job["train"]]
        train.main()
    elif "evaluate" in job:
        sys.argv = ["evaluate.py", *job["evaluate"]]
        evaluate.main()
    elif "norms" in job:
        norms(**job["norms"])
    else:
        outputs(**job["outputs"])
