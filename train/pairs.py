"""Whose voice fits these lips? Students on validation people, every segment of everyone's lips against every segment of all others' voices:

    python train/pairs.py --pack PACK NAME=student.pt [NAME=student.pt ...]

Prints for segments of 1, 2 and 4 s how often a person's own voice fits better than another's (mean over people; chance 0.5), with the picture
moving and held still, for each student and for all of them together. Recordings are levelled as a whole: the lines of a training, which level each
segment and draw 192 pairs, give other numbers.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import data
from checkpoints import load, meta_of
from data import FRAME, Pack
from mix import Mixer
from front_ends import SyncHead
from pictures import StudentAndHead

EDGE = 8  # pictures at the borders of a recording that are left out
Vectors = dict[int, tuple[int, Tensor, Tensor]]  # recording -> person, lips and voice (pictures, 64)


def side_of(path: Path) -> int:
    return int(str(meta_of(path)["side"]))


@torch.no_grad()
def vectors(pack: Pack, path: Path, still: bool) -> Vectors:
    net = StudentAndHead(side_of(path))
    load(path, net)
    net.eval()
    out: Vectors = {}
    for person in range(pack.val.visible):
        for r in sorted(set(pack.val.table[person].tolist())):
            first, n, start = int(pack.first[r]), int(pack.frames[r]), int(pack.start[r])
            pics = pack.crops[first : first + n]
            if still:
                pics = pics[n // 2 : n // 2 + 1].expand_as(pics)
            sound = Mixer.level(pack.pool[start : start + n * FRAME].float()[None] / 32768)
            out[r] = person, lips(net, pics), voice(net.head, sound)[:n]
    return out


def lips(net: StudentAndHead, pics: Tensor) -> Tensor:
    """In pieces, each with the pictures before it that the front end remembers."""
    parts = []
    for i in range(0, len(pics), 500):
        before = min(i, 12)
        parts.append(net.student(pics[i - before : i + 512][None].float())[0, before : before + 500])
    return net.head.picture(torch.cat(parts)[None])[0]


def voice(head: SyncHead, x: Tensor) -> Tensor:
    return head.voice(head.mel(x))[0]


def scores(found: Vectors, seconds: float) -> tuple[Tensor, Tensor]:
    """How well the lips of segment i fit the voice of segment j (n, n); whose each is (n)."""
    L, p, s, who = int(25 * seconds), [], [], []
    for person, seen, heard in found.values():
        for i in range(EDGE, min(len(seen), len(heard)) - L - EDGE + 1, L):
            p.append(seen[i : i + L].flatten())
            s.append(heard[i : i + L].flatten())
            who.append(person)
    return torch.stack(p) @ torch.stack(s).T, torch.tensor(who)


def right(m: Tensor, who: Tensor) -> float:
    """Each pair of people counts the same, however many segments they have."""
    won = (m.diag()[:, None] > m).float()
    by = F.one_hot(who.unique(return_inverse=True)[1]).float()
    by = by / by.sum(0)  # segments x people
    pairs = by.T @ won @ by
    n = len(pairs)
    return ((pairs.sum() - pairs.diag().sum()) / (n * (n - 1))).item()


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("students", nargs="+", metavar="NAME=FILE")
    a = p.parse_args()
    named = {name: Path(path) for name, path in (s.split("=", 1) for s in a.students)}
    sides = {side_of(path) for path in named.values()}
    if len(sides) > 1:
        raise SystemExit(f"students of pictures of {sorted(sides)} px cannot be compared in one run")
    pack = data.load_pack(a.pack, torch.device("cpu"), crops=sides.pop(), sound_only=True)
    found = {still: {name: vectors(pack, path, still) for name, path in named.items()} for still in (False, True)}
    for seconds in (1.0, 2.0, 4.0):
        text = []
        each = {still: [scores(v, seconds) for v in found[still].values()] for still in found}
        for k, name in enumerate(named):
            text.append(f"{name} {right(*each[False][k]):.3f} (still {right(*each[True][k]):.3f})")
        if len(named) > 1:
            both = [(sum(m for m, _ in each[still]), each[still][0][1]) for still in (False, True)]
            text.append(f"together {right(*both[0]):.3f} (still {right(*both[1]):.3f})")
        print(f"{seconds:g} s: " + ", ".join(text), flush=True)


if __name__ == "__main__":
    main()
