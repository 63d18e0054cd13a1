"""Stages that learn to separate: `separate` (sound alone), `condition` (told picture and memory), `listen` and `attribute` (whose voice is it)."""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attribution
import checkpoints
import data
import evaluate
import listening
import speaker
from checkpoints import load, load_parts, meta_of
from data import Pack
from formats import amp, has_bf16
from loop import Loop
from metrics import pair_loss
from mix import MixConfig, Mixer
from front_ends import SyncHead
from separators import PRESETS, Model, SepConfig
from stft import stft
from pictures import student_features


def build(a: argparse.Namespace, pack: Pack, dev: torch.device) -> Model:
    src = a.init or (a.out / "condition.pt" if a.resume and a.stage == "condition" else None) or (a.out / "separate.pt" if a.resume and a.stage == "separate" else None)
    cfg = SepConfig(**meta_of(src)["cfg"]) if src and Path(src).exists() else PRESETS[a.size]
    cfg = replace(cfg, rnn_amp=a.rnn_amp or (dev.type == "cpu" and has_bf16(dev)))
    net = Model(cfg, pack.train.people)
    if a.init:
        load(Path(a.init), net, strict=False)
    print(f"{cfg}; separator {sum(p.numel() for p in net.sep.parameters()) / 1e6:.2f} M parameters")
    return net.to(dev)


def output_pair(net: Model, mixed: Tensor, v: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor) -> tuple[Tensor, Tensor]:
    X = stft(mixed, net.sep.cfg.hop, net.sep.cfg.nfft)
    with amp(mixed.device):
        M = net.sep.masks(X, v, has_v, mem, has_m)
    return M * X.unsqueeze(1), X


def spectra(x: Tensor, cfg: SepConfig) -> Tensor:
    B, K, n = x.shape
    S = stft(x.reshape(B * K, n), cfg.hop, cfg.nfft)
    return S.reshape(B, K, *S.shape[1:])


def unused(net: nn.Module) -> Tensor:
    """Keeps gradients defined for parts a step does not use."""
    return sum(p.sum() for p in net.parameters()) * 0.0


def stage_separate(a: argparse.Namespace, dev: torch.device) -> None:
    pack = data.load_pack(a.pack, dev, sound_only=True)
    # Some voices alone: a separator that never heard one halves it between its outputs, and the person on camera loses 6 dB.
    clean = MixConfig(seconds=a.seconds, level_db=3, p_alone=0.25, p_turns=a.turns, p_late=0.0, p_noise=0.0, p_music=0.0, p_room=0.0, gain_db=(-6.0, 6.0))
    live = MixConfig(seconds=a.seconds, level_db=5, p_late=0.3, p_noise=0.1, p_music=0.05, p_room=0.1, gain_db=(-12.0, 6.0), p_alone=0.08)
    mx = Mixer(pack, pack.train, "train", clean if a.mixtures == "clean" else live, a.seed)
    net = build(a, pack, dev)
    zero = torch.zeros(a.batch, 1, device=dev)
    frames = int(a.seconds * 25)
    nothing, mem = torch.zeros(a.batch, frames, net.sep.cfg.vdim, device=dev), torch.zeros(a.batch, net.sep.cfg.edim, device=dev)

    def loss(_: float) -> Tensor:
        b = mx.voices(a.batch)
        Y, X = output_pair(net, b.mix, nothing, zero, mem, zero)
        S = spectra(torch.stack([b.wanted, b.other], 1), net.sep.cfg)
        # What is left to gain of a voice alone is small beside it, so its decibels have a gradient ten times as steep as those of two voices:
        # they must not rule. With 0.15 for 0.6 mixtures gain half a decibel more, and through the product people alone lose up to 8 dB.
        alone = (b.other.abs().amax(1) == 0).float()
        return (pair_loss(Y, S, X, torch.ones_like(b.open), a.compressed) * (1 - 0.4 * alone)).mean() + unused(net)

    Loop(a, "separate", net, dict(stage="separate", **net.meta()), loss, lambda: evaluate.separate_report(net, pack), a.batch * a.seconds, 1e-3).run()


def stage_condition(a: argparse.Namespace, dev: torch.device) -> None:
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    mx = Mixer(pack, pack.train, "train", MixConfig(seconds=a.seconds, picture_jitter=True, p_visible=a.visible, p_visible_other=0.7, drop=0.08, drop_memory=a.drop_memory, p_mixed_memory=0.5, p_silent=0.08, p_broken=0.08, p_wrong_memory=0.02, p_noise=0.05, p_music=0.03, p_room=0.05, level_db=4, gain_db=(-10.0, 6.0), p_late=0.15), a.seed)
    net = build(a, pack, dev)

    def loss(_: float) -> Tensor:
        b = mx.conditioned(a.batch)
        with amp(dev):
            e = net.enc.hear(b.memory)
            who = F.cross_entropy(net.enc.who(e).float(), b.speaker, reduction="none")
        v = b.v + a.feature_noise * torch.randn_like(b.v)
        Y, X = output_pair(net, b.mix, v, b.has_v, e * b.has_m, b.has_m)
        S = spectra(torch.stack([b.wanted, b.mix - b.wanted], 1), net.sep.cfg)
        known = b.has_m[:, 0] * (b.wanted.abs().amax(1) > 0)
        some = 1 - 0.75 * (b.wanted.abs().amax(1) == 0).float()  # silence is easy and its decibels are many
        return (pair_loss(Y, S, X, b.open, a.compressed) * some).mean() + 0.2 * (who * known).sum() / (known.sum() + 1) + unused(net)

    Loop(a, "condition", net, dict(stage="condition", features=a.features, **net.meta()), loss, lambda: evaluate.condition_report(net, pack, quick=True), a.batch * a.seconds, 1e-3).run()
    net.eval()
    with torch.no_grad():
        text = "FINAL " + evaluate.condition_report(net, pack, quick=False)
    print(text)
    with (a.out / "log.txt").open("a") as f:
        f.write(text + "\n")


def stage_listen(a: argparse.Namespace, dev: torch.device) -> None:
    """How separated voices look to the synchrony heads of --lips and --second; --init: separate.pt, or a whole live.pt to go on from."""
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    if a.init is None:
        raise SystemExit("listen: --init separate.pt is needed, the separator whose voices are to be told apart")
    mx = Mixer(pack, pack.train, "train", listening.mixtures(a.seconds, a.turns), a.seed)
    net, heads = attributed(a, pack, dev), []
    if len(net.att.each()) == 2 and a.second is None:
        raise SystemExit("listen: --second student.pt is needed, the head of the second eye that --init has")
    began = meta_of(a.init).get("attribution", dict(eyes=0)).get("eyes", 1)
    for i, (eye, path) in enumerate(zip(net.att.each(), (a.lips or a.out / "student.pt", a.second))):
        heads.append(SyncHead().to(dev).eval().requires_grad_(False))
        load_parts(path, heads[-1], ("",), "head.")
        if i >= began:
            listening.begin(eye, heads[-1])
        eye.drop.p = 0.1  # there are many voices: little is learnt by heart
        for part in (eye.a1, eye.a2, eye.a3, eye.ao):
            part.requires_grad_(True)
    Loop(a, "listen", net, dict(stage="listen", features=a.features, **net.meta()), lambda _: listening.loss_of(net, heads, mx, a.batch),
         lambda: attribution.report(net, pack), a.batch * a.seconds, 1e-3).run()


def stage_speaker(a: argparse.Namespace, dev: torch.device) -> None:
    """Who speaks, by the voice: beside the separator of --init, a whole live.pt; its features are not needed."""
    pack = data.load_pack(a.pack, dev, sound_only=True)
    net = attributed(a, pack, dev)
    learner, loss = speaker.learn(a, net, pack)
    Loop(a, "speaker", learner, dict(stage="speaker"), loss, lambda: speaker.report(net, pack), 4 * a.batch * a.seconds, 5e-2).run()
    checkpoints.save(a.out / "with_speaker.pt", net, net.meta(), None, False)


def attributed(a: argparse.Namespace, pack: Pack, dev: torch.device) -> attribution.Attributed:
    """The whole of it, nothing to be trained yet; of several checkpoints the later ones win."""
    cfg = replace(SepConfig(**meta_of(a.init)["cfg"]), rnn_amp=a.rnn_amp or (dev.type == "cpu" and has_bf16(dev)))
    whole = "attribution" in meta_of(a.init)
    eyes = 2 if a.second else meta_of(a.init)["attribution"].get("eyes", 1) if whole else 1
    size = speaker.SIZE if a.stage == "speaker" else meta_of(a.init)["attribution"].get("speaker", 0) if whole else 0
    net = attribution.Attributed(cfg, attribution.AttributionConfig(eyes=eyes, speaker=size), pack.train.people).to(dev)
    if a.second:
        load_parts(a.second, net, ("att",), head="att.second.")
    for path, parts in ((None if whole else a.lips or a.out / "student.pt", ("att",)), (a.init, ("sep", "att", "enc")), (a.voice, ("enc",))):
        if path:
            load_parts(path, net, parts)
    return net.requires_grad_(False)


def stage_attribute(a: argparse.Namespace, dev: torch.device) -> None:
    """What --init has stays as it is (listen.pt, or a separator alone); what is trained is whether lips speak at all."""
    pack = data.load_pack(a.pack, dev, student=student_features(a))
    mx = Mixer(pack, pack.train, "train", attribution.training_mix(a.seconds), a.seed)
    if a.init is None:
        raise SystemExit("attribute: --init separate.pt is needed, the separator whose voices are to be told apart")
    net = attributed(a, pack, dev)
    for part in (net.att.q1, net.att.q2):
        part.requires_grad_(True)
    Loop(a, "attribute", net, dict(stage="attribute", features=a.features, **net.meta()), lambda _: attribution.loss_of(net, mx, a.batch, a.feature_noise),
         lambda: attribution.report(net, pack), a.batch * a.seconds, 1e-3).run()
    net.eval()
    text = "FINAL " + attribution.report(net, pack, quick=False)
    print(text)
    with (a.out / "log.txt").open("a") as f:
        f.write(text + "\n")
