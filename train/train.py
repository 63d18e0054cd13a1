"""Training: python train.py --stage sync|student|separate|condition|listen|attribute|speaker --pack PACK --out DIR --minutes N [--resume]

Every stage writes DIR/STAGE.pt (weights and sizes), DIR/STAGE.opt.pt (optimiser, for --resume) and adds to DIR/log.txt.
Order for what ships: student, separate, listen (--init separate.pt --lips student.pt --features student), attribute (--init listen.pt
--features student), speaker (--init attribute.pt); then calibrate.py and gate.py. Two eyes, as shipped: the same for a second student, join_features.py, join_eyes.py, then calibrate.py.
The other road: student, separate, condition (--init separate.pt --features teacher|student).
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from loop import keep_memory
from separators import PRESETS
from pictures import stage_student, stage_sync
from separation import stage_attribute, stage_condition, stage_listen, stage_separate, stage_speaker


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--stage", required=True, choices=["sync", "student", "separate", "condition", "listen", "attribute", "speaker"])
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=2)
    p.add_argument("--steps", type=int, default=0, help="stop after so many steps, if the minutes are not over before; the learning rate falls by whichever is nearer")
    p.add_argument("--size", choices=sorted(PRESETS), default="live")
    p.add_argument("--batch", type=int, default=0)
    p.add_argument("--seconds", type=float, default=4.0)
    p.add_argument("--lr", type=float, default=0)
    p.add_argument("--lr-end", type=float, default=-1)
    p.add_argument("--average", type=float, default=0.998, help="decay a step of the running average of the weights; 0: none")
    p.add_argument("--clip", type=float, default=5.0)
    p.add_argument("--compressed", type=float, default=5.0, help="weight of the compressed-spectrum loss")
    p.add_argument("--feature-noise", type=float, default=0.2)
    p.add_argument("--visible", type=float, default=0.72, help="condition: share of items whose wanted voice has a picture")
    p.add_argument("--drop-memory", type=float, default=0.55, help="condition: share of those that have no memory beside it; high at first, or the memory is all that is learnt")
    p.add_argument("--mixtures", choices=["clean", "live"], default="clean", help="separate: two voices all along (learns fastest), or as they come: late, alone, louder, with noise and rooms")
    p.add_argument("--turns", type=float, default=0.0, help="separate (clean mixtures), listen: share of items in which the two take turns; what ships had none")
    p.add_argument("--features", choices=["teacher", "student"], default="teacher")
    p.add_argument("--half", type=int, default=-1, choices=[-1, 0, 1], help="sync, student: every second of the people on camera; each half wants an --out of its own")
    p.add_argument("--without", default="", help="sync, student: no people of this domain (rendered, court ...)")
    p.add_argument("--side", type=int, default=80)
    p.add_argument("--init", type=Path)
    p.add_argument("--lips", type=Path, help="listen, attribute: student.pt whose head is the start")
    p.add_argument("--second", type=Path, help="listen: another student.pt, whose front end and head are a second eye beside that of --lips")
    p.add_argument("--voice", type=Path, help="attribute: checkpoint whose voice encoder is the start")
    p.add_argument("--teacher-weight", type=float, default=1.0, help="student: weight of the teacher's features; 0: synchrony alone, no teacher needed")
    p.add_argument("--variants", type=int, default=8, help="student: how often the pictures' features are written at the end (plain, then changed); 0: not at all")
    p.add_argument("--soft", type=float, default=0.3, help="student: share of items with pictures as soft as those of small faces")
    p.add_argument("--bend", action="store_true", help="student: pictures bent and lit as other faces would be, half of the items slower or faster")
    p.add_argument("--compile", action="store_true", help="student: let torch.compile fuse the front end (needs g++; on a CPU with AMX 1.7 times as quick)")
    p.add_argument("--features-only", action="store_true", help="student: only write the features again")
    p.add_argument("--group", type=int, default=1, help="student: segments of each person in a batch; with several (4), knowing whose face this is does not tell which voice fits: for the end of a training")
    p.add_argument("--separated", type=int, default=3000, help="speaker: mixtures of 6 s that are separated once, at the beginning; half of what is learnt from are their voices (0: none)")
    p.add_argument("--muon", action="store_true", help="matrices by Muon in place of AdamW (muon.py); not with an optimiser file of the other")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--fp16", action="store_true", help="half-precision checkpoints")
    p.add_argument("--save-opt", action="store_true", help="save the optimiser at every report, not only at the end")
    p.add_argument("--rnn-amp", action="store_true")
    p.add_argument("--every", type=float, default=60, help="seconds between reports")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    keep_memory()
    dev = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = dev.type == "cuda"
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.set_float32_matmul_precision("high")
    a.seed += int(time.time()) % 10007 * a.resume + 100_003 * int(os.environ.get("RANK", 0))  # each worker its own mixtures
    torch.manual_seed(a.seed)
    a.out.mkdir(parents=True, exist_ok=True)
    if not a.batch:
        a.batch = {"sync": 256 if gpu else 32, "student": 96 if gpu else 8, "separate": 64 if gpu else 12, "condition": 64 if gpu else 12, "listen": 64 if gpu else 12, "attribute": 64 if gpu else 12, "speaker": 96 if gpu else 32}[a.stage]
    a.lr = a.lr or {"sync": 2e-3, "student": 2e-3, "separate": 2e-3, "condition": 1e-3, "listen": 2e-3, "attribute": 1e-3, "speaker": 2e-3}[a.stage]
    a.lr_end = a.lr / 25 if a.lr_end < 0 else a.lr_end
    print(f"{a.stage} on {dev} {torch.cuda.get_device_name() if gpu else os.cpu_count()}, torch {torch.__version__}, python {sys.version.split()[0]}", flush=True)
    {"sync": stage_sync, "student": stage_student, "separate": stage_separate, "condition": stage_condition, "listen": stage_listen, "attribute": stage_attribute, "speaker": stage_speaker}[a.stage](a, dev)


if __name__ == "__main__":
    main()
