"""The voice side of the attributor on separated voices: what it says of a voice as the separator gives it should be what the synchrony head
says of the clean one, and less where that can't be told. Only voices are needed, so that nothing is learnt of the people on camera."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution import Attributed, Eye, spoken
from formats import amp
from mix import MixConfig, Mixer
from front_ends import SyncHead
from stft import stft

LATE = 4  # pictures that the attributor's rows are late by
START = 2 * LATE  # of the first pictures nothing is learnt


def mixtures(seconds: float, turns: float = 0.0) -> MixConfig:
    return MixConfig(seconds=seconds, level_db=5, p_late=0.2, p_turns=turns, p_noise=0.1, p_music=0.05, p_room=0.15, gain_db=(-12.0, 6.0))


def begin(a: Eye, head: SyncHead) -> None:
    """The head's voice side as the start: the other voice has no say yet, and vectors are about as long as they will be."""
    with torch.no_grad():
        a.a1.weight.zero_()
        a.a1.weight[:, : head.a1.in_channels] = head.a1.weight
        a.a1.bias.copy_(head.a1.bias)
        for own, old in ((a.a2, head.a2), (a.a3, head.a3)):
            own.load_state_dict(old.state_dict())
        a.ao.weight.copy_(head.ao.weight / 8)
        a.ao.bias.copy_(head.ao.bias / 8)


def loss_of(net: Attributed, heads: list[SyncHead], mx: Mixer, batch: int) -> Tensor:
    """Squared distance to the clean voice's vector, by each eye and its head; to nothing where that voice says nothing, which counts a tenth."""
    with torch.no_grad():
        b, c = mx.voices(batch), net.sep.cfg
        U = b.mix.shape[1] // 640
        X = stft(b.mix, c.hop, c.nfft)
        with amp(X.device):
            M = net.blind(X)
        M = M.float()
        clean = torch.stack([b.wanted, b.other], 1)
        S = stft(clean.flatten(0, 1), c.hop, c.nfft).unflatten(0, (-1, 2))
        wrong = (M[:, :, None] * X[:, None, None] - S[:, None]).abs().pow(2).sum((-1, -2))  # item, output, voice
        crossed = wrong[:, 0, 1] + wrong[:, 1, 0] < wrong[:, 0, 0] + wrong[:, 1, 1]

        def ordered(t: Tensor) -> Tensor:
            t = t[:, :U].unflatten(0, (-1, 2))
            return torch.where(crossed.reshape(-1, *[1] * (t.dim() - 1)), t.flip(1), t)[:, :, START - LATE : U - LATE]

        says = ordered(spoken(clean.flatten(0, 1), U))
        targets = [ordered(head.voice(head.mel(clean.flatten(0, 1)))) for head in heads]
        flat, _ = net.att.flat(net.att.hear(M[:, :, : 2 * U], net.heard(b.mix, U))[0], net.att.state(batch)[0])
    losses = []
    for eye, target in zip(net.att.each(), targets):
        rows, _ = eye.voices(flat, eye.eye_state(batch)[2:6])
        z = eye.ao(rows).float().unflatten(0, (-1, 2))[:, :, START:]
        losses.append(((z - target * says[..., None]).pow(2).sum(-1) * (0.1 + 0.9 * says)).mean())
    return sum(losses) / len(losses)
