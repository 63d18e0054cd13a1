"""Mixtures made on the device, a whole batch at a time; no loop over items."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data import FRAME, Group, Pack

LEVEL = 0.05


@dataclass
class MixConfig:
    seconds: float = 4.0
    p_visible: float = 0.5  # items whose wanted voice has a picture
    p_visible_other: float = 0.6  # of those: the other voice belongs to another visible person
    level_db: float = 10.0  # the other voice against the wanted one, +-
    gain_db: tuple[float, float] = (-18.0, 9.0)
    p_noise: float = 0.4
    p_music: float = 0.15
    p_room: float = 0.4
    p_late: float = 0.4  # the other voice begins later, or ends earlier
    p_silent: float = 0.12  # the visible person says nothing
    p_alone: float = 0.0  # sound only: there is no second voice
    p_turns: float = 0.0  # sound only: the two take turns, and talk at once for a part of the time
    picture_jitter: bool = False
    p_broken: float = 0.12  # frozen picture, or another person's
    drop: float = 0.3  # each condition
    drop_memory: float = 0.3  # where there is a picture
    p_wrong_memory: float = 0.05
    p_mixed_memory: float = 0.0  # the memory was taken while another voice was heard too (2 to 20 dB lower), as it is live
    memory_seconds: float = 5.0
    augment: bool = True


@dataclass
class Batch:
    wanted: Tensor  # B x n
    other: Tensor  # the second voice (for the sound-only stage)
    mix: Tensor
    v: Tensor  # B x frames x D
    has_v: Tensor  # B x 1
    memory: Tensor  # B x m, sound
    has_m: Tensor
    speaker: Tensor  # wanted person's number
    open: Tensor  # nothing tells which voice is wanted: either order will do
    visible: Tensor  # the wanted voice has a picture


class Mixer:
    def __init__(self, pack: Pack, group: Group, split: str, cfg: MixConfig, seed: int = 0) -> None:
        self.p, self.g, self.cfg, self.split, self.dev = pack, group, cfg, split, pack.device
        self.gen = torch.Generator(device=self.dev)
        self.gen.manual_seed(seed)

    # -- random numbers on the device
    def u(self, *shape: int, a: float = 0.0, b: float = 1.0) -> Tensor:
        return torch.rand(*shape, device=self.dev, generator=self.gen) * (b - a) + a

    def pick(self, high: Tensor | int, n: int) -> Tensor:
        return (self.u(n) * high).long().clamp_max((high - 1))

    def chance(self, n: int, p: float) -> Tensor:
        return self.u(n) < p

    # -- pieces of sound
    def cut(self, start: Tensor, begin: Tensor, length: Tensor, n: int, speed: Tensor | None = None) -> Tensor:
        """n samples from `begin` inside recordings at `start`; zero outside; linear interpolation where speed is given."""
        t = torch.arange(n, device=self.dev)
        pos = begin[:, None] + (t[None] if speed is None else t[None] * speed[:, None])
        i = pos.floor().long()
        ok = (i >= 0) & (i + 1 < length[:, None])
        at = (start[:, None] + i).clamp(0, self.p.pool.numel() - 2)
        x = self.p.pool[at].float()
        if speed is not None:
            f = pos - i
            x = x * (1 - f) + self.p.pool[at + 1].float() * f
        return x * ok / 32768

    def place(self, rec: Tensor, n: int, tries: int = 3) -> Tensor:
        """A start (multiple of 640) where there is sound, the best of a few draws."""
        k = (self.p.length[rec] // FRAME - n // FRAME).clamp_min(0)
        c = (self.u(len(rec), tries) * (k[:, None] + 1)).long().clamp_max(k[:, None])
        a = (self.p.start[rec] // FRAME)[:, None] + c
        top = self.p.energy.numel() - 1
        e = (self.p.energy[(a + n // FRAME).clamp_max(top)] - self.p.energy[a.clamp_max(top)]).float() / (n // FRAME)
        best = (e.clamp_max(4e-4) + 1e-9 * self.u(len(rec), tries)).argmax(1, keepdim=True)
        return c.gather(1, best)[:, 0] * FRAME

    def recording(self, person: Tensor) -> Tensor:
        return self.g.table[person, self.pick(self.g.count[person], len(person))]

    @staticmethod
    def level(x: Tensor) -> Tensor:
        return x * (LEVEL / (x.pow(2).mean(-1, keepdim=True).sqrt() + 1e-4))

    def voice(self, person: Tensor, n: int, steady: Tensor, speed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sound at standard level, recording, start and speed; unless one is given, speed 1 where steady (it has a picture)."""
        rec = self.recording(person)
        speed = speed if speed is not None else torch.where(steady, torch.ones(len(person), device=self.dev), self.u(len(person), a=0.87, b=1.15)) if self.cfg.augment else torch.ones(len(person), device=self.dev)
        begin = self.place(rec, n)
        return self.level(self.cut(self.p.start[rec], begin, self.p.length[rec], n, speed)), rec, begin, speed

    def memory(self, person: Tensor, rec: Tensor, begin: Tensor, n: int, speed: Tensor) -> tuple[Tensor, Tensor]:
        """Some seconds of the same person away from the piece in use, and whether there are any (at least 1.5 s)."""
        m = int(self.cfg.memory_seconds * 16000)
        r2 = self.recording(person)
        same = r2 == rec
        length, gap = self.p.length[r2], 3200
        after = (begin + (n * speed).long() + gap)
        room_before, room_after = (begin - gap).clamp_min(0), (length - after).clamp_min(0)
        use_after = room_after > room_before
        room = torch.where(same, torch.maximum(room_before, room_after), length)
        lo = torch.where(same & use_after, after, torch.zeros_like(after))
        start = lo + (self.u(len(rec)) * (room - m).clamp_min(0)).long()
        x = self.cut(self.p.start[r2], start, torch.minimum(length, lo + room), m, speed)
        short = (room < m)[:, None]  # repeat what there is
        t = torch.arange(m, device=self.dev)[None] % room.clamp_min(1)[:, None]
        at = (self.p.start[r2][:, None] + lo[:, None] + t).clamp(0, self.p.pool.numel() - 1)
        x = torch.where(short, self.p.pool[at].float() / 32768, x)
        return self.level(x), room >= 24000

    def rows(self, rec: Tensor, begin: Tensor, frames: int, speed: Tensor | None = None) -> Tensor:
        t = torch.arange(frames, device=self.dev)[None]
        t = begin[:, None] // FRAME + t if speed is None else (begin[:, None] / FRAME + t * speed[:, None]).round().long()
        if self.cfg.augment and self.split == "train" and self.cfg.picture_jitter:  # the picture up to 40 ms early or late, as live clocks make it
            t = (t + self.pick(3, len(rec))[:, None] - 1).clamp_min(0)
        r = self.p.first[rec][:, None] + torch.minimum(t, (self.p.frames[rec] - 1).clamp_min(0)[:, None])
        if self.cfg.augment and self.split == "train" and self.p.variants > 1:
            r = r + self.p.per * self.pick(self.p.variants, len(rec))[:, None]
        return r

    # -- sound effects
    def rooms(self, x: Tensor) -> Tensor:
        """Decaying-noise rooms, a direct sound in front; some items stay dry. Also a gentle tilt of the spectrum."""
        B, n = x.shape
        L = 4800
        t = torch.arange(L, device=self.dev) / 16000
        t60, drr = self.u(B, 1, a=0.15, b=0.7), self.u(B, 1, a=0.0, b=12.0)
        h = torch.randn(B, L, device=self.dev, generator=self.gen) * torch.exp(-6.9 * t[None] / t60)
        h[:, :32] = 0
        h = h / (h.pow(2).sum(1, keepdim=True).sqrt() + 1e-6) * 10 ** (-drr / 20) * self.chance(B, self.cfg.p_room)[:, None]
        h[:, 0] = 1
        tilt = self.u(B, a=-0.4, b=0.4)
        h[:, 1] += tilt
        N = 1 << (n + L - 1).bit_length()
        y = torch.fft.irfft(torch.fft.rfft(x, N) * torch.fft.rfft(h, N), N)[:, :n]
        return self.level(y)

    def extra(self, recs: Tensor, B: int, n: int, p: float, low: float, high: float) -> Tensor:
        if len(recs) == 0 or p <= 0:
            return torch.zeros(B, n, device=self.dev)
        r = recs[self.pick(len(recs), B)]
        begin = (self.u(B) * (self.p.length[r] - n).clamp_min(1)).long()
        t = (begin[:, None] + torch.arange(n, device=self.dev)[None]) % self.p.length[r][:, None]
        x = self.p.pool[self.p.start[r][:, None] + t].float() / 32768
        return self.level(x) * 10 ** (self.u(B, 1, a=-high, b=-low) / 20) * self.chance(B, p)[:, None]

    def gate(self, B: int, n: int) -> Tensor:
        """1 where the second voice may sound: all along, or from some moment, or until some moment (20 ms edges)."""
        t = torch.arange(n, device=self.dev)[None] / n
        at, late, end = self.u(B, 1, a=0.1, b=0.7), self.chance(B, self.cfg.p_late)[:, None], self.chance(B, 0.35)[:, None]
        ramp = ((t - at) * n / 320).clamp(0, 1)
        return torch.where(late, torch.where(end, 1 - ramp, ramp), torch.ones_like(ramp))

    def turns(self, B: int, n: int) -> Tensor:
        """(B, 2, n): 1 where each of the two may sound, in four pieces: one, the other or both (20 ms edges). Who has spoken before is told by
        the voice alone then: a separator that never heard that gives whoever speaks after a pause either output."""
        cuts = self.u(B, 3, a=0.1, b=0.9).sort(1).values
        piece = (torch.arange(n, device=self.dev)[None, None] / n >= cuts[:, :, None]).sum(1)  # B x n: 0..3
        who = self.pick(5, 4 * B).reshape(B, 4)  # 0, 1: the first; 2, 3: the second; 4: both
        on = torch.stack([(who < 2) | (who == 4), who >= 2], 1).float()
        on[:, 0, 0] = 1
        sharp = on.gather(2, piece[:, None].expand(-1, 2, -1))
        return F.avg_pool1d(F.pad(sharp, (160, 159), mode="replicate"), 320, 1)

    # -- batches
    def two_people(self, B: int, visible: Tensor, visible_other: Tensor) -> tuple[Tensor, Tensor]:
        V, P = self.g.visible, self.g.people
        a = torch.where(visible if V > 0 else torch.zeros_like(visible), self.pick(max(1, V), B), self.pick(P, B))
        step_v, step_p = 1 + self.pick(max(1, V - 1), B), 1 + self.pick(max(1, P - 1), B)
        return a, torch.where(visible_other & (a < V), (a + step_v) % max(1, V), (a + step_p) % P)

    def voices(self, B: int) -> Batch:
        """Two voices for the sound-only stage."""
        c = self.cfg
        n = int(c.seconds * 25) * FRAME
        return self._finish(B, n, self.chance(B, 0.4), self.chance(B, 0.6), conditioned=False)

    def conditioned(self, B: int) -> Batch:
        n = int(self.cfg.seconds * 25) * FRAME
        return self._finish(B, n, self.chance(B, self.cfg.p_visible), self.chance(B, self.cfg.p_visible_other), conditioned=True)

    def _finish(self, B: int, n: int, visible: Tensor, visible_other: Tensor, conditioned: bool) -> Batch:
        c = self.cfg
        a, b = self.two_people(B, visible, visible_other)
        steady = visible if conditioned else torch.zeros_like(visible)
        x, rec, begin, speed = self.voice(a, n, steady)
        y, _, _, _ = self.voice(b, n, torch.zeros_like(visible))
        if c.augment:
            x, y = self.rooms(x), self.rooms(y)
            y = y * 10 ** (self.u(B, 1, a=-c.level_db, b=c.level_db) / 20) * self.gate(B, n)
        if not conditioned:
            y = y * ~self.chance(B, c.p_alone)[:, None]
            if c.p_turns:
                on = torch.where(self.chance(B, c.p_turns)[:, None, None], self.turns(B, n), torch.ones(1, device=self.dev))
                x, y = x * on[:, 0], y * on[:, 1]
        extra = torch.zeros_like(x)
        if c.augment:
            extra = self.extra(self.p.noise[self.split], B, n, c.p_noise, 3, 25) + self.extra(self.p.music[self.split], B, n, c.p_music, 5, 25)
        frames = n // FRAME
        pic = visible & (self.p.frames[rec] > 0)
        v = self.p.feats[self.rows(rec, begin, frames)] * pic[:, None, None]
        has_v, has_m = pic.clone(), torch.zeros_like(pic)
        mem = torch.zeros(B, int(c.memory_seconds * 16000), device=self.dev)
        open_ = torch.ones_like(pic)
        if conditioned:
            mem, ok = self.memory(a, rec, begin, n, speed)
            silent = self.chance(B, c.p_silent) & pic
            broken = self.chance(B, c.p_broken) & pic & ~silent
            held = v[:, :1].expand_as(v)  # one moment held
            if len(self.p.silent):  # a silent face that moves: listening, smiling, chewing
                q = self.p.silent[self.pick(len(self.p.silent), B)]
                at = (self.u(B) * (self.p.frames[q] - frames).clamp_min(1)).long() * FRAME
                quiet = self.p.feats[self.rows(q, at, frames)]
                v = torch.where((silent & self.chance(B, 0.75))[:, None, None], quiet, torch.where(silent[:, None, None], held, v))
            else:
                v = torch.where(silent[:, None, None], held, v)
            frozen = self.chance(B, 0.5)
            swapped = v.roll(1, 0)
            swap_ok = pic.roll(1, 0) & (a.roll(1, 0) != b) & (a.roll(1, 0) != a)
            v = torch.where((broken & (frozen | ~swap_ok))[:, None, None], held, torch.where(broken[:, None, None], swapped, v))
            has_v = pic & ~self.chance(B, c.drop)
            has_m = ok & ~torch.where(has_v, self.chance(B, c.drop_memory), self.chance(B, 0.15))
            wrong = self.chance(B, c.p_wrong_memory) & has_v & has_m & ~broken & ~silent & (a.roll(1, 0) != b)
            mem = torch.where(wrong[:, None], mem.roll(1, 0), mem)
            rest = mem.roll(2, 0) * 10 ** (self.u(B, 1, a=-20, b=-2) / 20) * self.chance(B, c.p_mixed_memory)[:, None]
            mem = self.level(mem + rest)
            mem = mem + 0.003 * torch.randn(mem.shape, device=self.dev, generator=self.gen) * self.u(B, 1)
            has_v = has_v | silent
            x = x * ~silent[:, None]
            open_ = ~(has_m | (has_v & ~broken))
        gain = 10 ** (self.u(B, 1, a=c.gain_db[0], b=c.gain_db[1]) / 20) if c.augment else torch.ones(B, 1, device=self.dev)
        x, y, extra = x * gain, y * gain, extra * gain
        f = lambda t: t.float()[:, None]  # noqa: E731
        return Batch(x, y, x + y + extra, v, f(has_v), mem, f(has_m), a, open_, pic)

    def pairs(self, B: int, seconds: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Clean pairs of visible people for judging: voices, both features, a third person's feature, memory of the first and whether it exists."""
        n, V = int(seconds * 25) * FRAME, self.g.visible
        a = torch.arange(B, device=self.dev) % V
        b = (a + 1 + self.pick(V - 1, B)) % V
        d = (b + 1 + self.pick(V - 1, B)) % V
        d = torch.where(d == a, (d + 1) % V, d)
        d = torch.where(d == b, (d + 1) % V, d)
        one = torch.ones(B, device=self.dev)
        out = []
        for p in (a, b, d):
            r = self.recording(p)
            s = self.place(r, n)
            out.append((r, s, self.level(self.cut(self.p.start[r], s, self.p.length[r], n)), self.p.feats[self.rows(r, s, n // FRAME)]))
        m, ok = self.memory(a, out[0][0], out[0][1], n, one)
        return out[0][2], out[1][2], out[0][3], out[1][3], out[2][3], m, ok
