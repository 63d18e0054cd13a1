"""Separators, causal with their state passed in and out; look-ahead is plain delay: the masks of frame t are given out when frame
t + look-ahead has been read."""
from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from front_ends import State, VoiceEncoder
from stft import SR

@dataclass
class SepConfig:
    kind: str = "lite"  # lite: one LSTM stack over the whole spectrum; band: an LSTM in each band and one over a summary of all
    width: int = 256  # lite: LSTM size; band: numbers of a band
    blocks: int = 2
    hop: int = 256
    ahead: int = 2  # frames of look-ahead
    vdim: int = 128
    vhidden: int = 96
    edim: int = 64
    nfft: int = 512  # window of the spectrum at 16 kHz
    hidden: int = 160  # band only: size of the LSTM over the summary of a frame
    rnn_amp: bool = False  # let autocast choose the LSTM's number format (default: float32 / TF32)


PRESETS = {
    "tiny": SepConfig("lite", 16, 1),
    "lite": SepConfig("lite", 256, 2),
    "lite+": SepConfig("lite", 384, 3),
    "lite-live": SepConfig("lite", 320, 2, 320, 4, nfft=640),  # 40 ms windows every 20 ms: two frames a picture
    "live": SepConfig("band", 64, 4, 320, 4, nfft=640),
}


class Rnn(nn.Module):
    """One LSTM layer. Under autocast it stays in float32 unless `amp` is set: on a GPU bf16 is rarely quicker, on a CPU with
    avx512_bf16 it is 2 to 4 times (and then the batch should be 12 or 24: oneDNN falls off a cliff at 16 and 32)."""

    def __init__(self, size: int, amp: bool) -> None:
        super().__init__()
        self.lstm, self.amp = nn.LSTM(size, size, batch_first=True), amp

    def forward(self, x: Tensor, h: Tensor, c: Tensor, batch_first: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        device = x.device.type
        if not torch.is_autocast_enabled(device) and batch_first:
            y, (h, c) = self.lstm(x, (h, c))
            return y, h, c
        low = torch.bfloat16 if self.amp and torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            weights = [p.to(low) for p in self.lstm._flat_weights]
            return torch._VF.lstm(x.to(low), (h.to(low), c.to(low)), weights, True, 1, 0.0, self.training, False, batch_first)


class Picture(nn.Module):
    """Picture features -> condition at 25 fps, causal, with state."""

    def __init__(self, vdim: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.inp, self.conv = nn.LayerNorm(vdim), nn.Linear(vdim, hidden), nn.Conv1d(hidden, hidden, 3)
        self.rnn = Rnn(hidden, False)

    def state(self, b: int, device: torch.device | None = None) -> State:
        h = self.inp.out_features
        return [torch.zeros(b, h, 2, device=device), torch.zeros(1, b, h, device=device), torch.zeros(1, b, h, device=device)]

    def step(self, v: Tensor, st: State) -> tuple[Tensor, State]:
        y = F.gelu(self.inp(self.norm(v))).transpose(1, 2)
        g = torch.cat([st[0], y.to(st[0].dtype)], 2)
        y, h, c = self.rnn(F.gelu(self.conv(g)).transpose(1, 2), st[1], st[2])
        return y, [g[:, :, -2:], h, c]


class Body(nn.Module):
    """Base of both separators. step(): real and imaginary part (B, T, bins) each and the condition (B, T, cdim) -> masks (B, 2, T, bins); bins = cfg.nfft / 2 + 1."""

    def __init__(self, cfg: SepConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.picture = Picture(cfg.vdim, cfg.vhidden)
        self.voice = nn.Sequential(nn.Linear(cfg.edim, 64), nn.GELU())
        self.cdim = cfg.vhidden + 64 + 2

    def condition(self, pic: Tensor, has_pic: Tensor, mem: Tensor, has_mem: Tensor) -> Tensor:
        """pic (B, T, vhidden), mem (B, edim), has_* (B, 1) in 0..1 -> (B, T, cdim); zero where a condition is missing."""
        hp, hm = has_pic.unsqueeze(1).expand(-1, pic.shape[1], -1), has_mem.unsqueeze(1).expand(-1, pic.shape[1], -1)
        m = self.voice(mem).unsqueeze(1).expand(-1, pic.shape[1], -1)
        return torch.cat([pic * hp, m * hm, hp, hm], -1)

    def film(self) -> nn.Linear:
        f = nn.Linear(self.cdim, 2 * self.cfg.width)
        f.weight.data *= 0.3
        nn.init.zeros_(f.bias)
        return f

    def state(self, b: int, device: torch.device | None = None) -> State:
        raise NotImplementedError

    def step(self, re: Tensor, im: Tensor, cond: Tensor, st: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def align(self, y: Tensor, frames: int) -> Tensor:
        """Picture condition at 25 fps -> at the sound's frame rate."""
        i = (torch.arange(frames, device=y.device) * self.cfg.hop // 640).clamp_max(y.shape[1] - 1)
        return y[:, i]

    def masks(self, X: Tensor, v: Tensor, has_pic: Tensor, mem: Tensor, has_mem: Tensor) -> Tensor:
        """Whole sequence: complex X (B, T, bins), v (B, Tv, vdim) -> masks (B, 2, T, bins)."""
        B, T, _ = X.shape
        y, _ = self.picture.step(v, self.picture.state(B, X.device))
        c = self.condition(self.align(y, T), has_pic, mem, has_mem)
        a = self.cfg.ahead
        X, c = F.pad(torch.view_as_real(X), (0, 0, 0, 0, 0, a)), torch.cat([c[:, :1].expand(-1, a, -1), c], 1)  # the sound waits for its look-ahead, the picture does not
        m, _ = self.step(X[..., 0], X[..., 1], c, self.state(B, X.device))
        return m[:, :, a:].float()


class Lite(Body):
    """Real masks on single bins to 4 kHz and 16 bands above. The first layer is a convolution over the frame that gets a mask and its
    look-ahead: an LSTM that reads only the newest frame would have to carry `ahead` whole spectra in its state to mask the oldest."""

    def __init__(self, cfg: SepConfig) -> None:
        super().__init__(cfg)
        bins, low = cfg.nfft // 2 + 1, cfg.nfft // 4 + 1  # single bins to 4 kHz
        e = torch.linspace(low, bins, 17).round().int().tolist()
        n = self.n = low + 16
        w = torch.zeros(bins, n)
        w[:low, :low] = torch.eye(low)
        for i in range(16):
            w[e[i] : e[i + 1], low + i] = 1
        self.register_buffer("bands", w, persistent=False)
        H = cfg.width
        self.inp, self.n0 = nn.Conv1d(2 * n, H, cfg.ahead + 1), nn.LayerNorm(H)
        self.rnns = nn.ModuleList(Rnn(H, cfg.rnn_amp) for _ in range(cfg.blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(H) for _ in range(cfg.blocks))
        self.films = nn.ModuleList(self.film() for _ in range(cfg.blocks))
        self.out = nn.Linear(2 * H, 2 * n)

    def state(self, b: int, device: torch.device | None = None) -> State:
        h = [torch.zeros(1, b, self.cfg.width, device=device) for _ in range(2 * self.cfg.blocks)]
        return [torch.full((b, 1, self.n), -9.2, device=device), torch.zeros(b, 2 * self.n, self.cfg.ahead, device=device), *h]

    def step(self, re: Tensor, im: Tensor, cond: Tensor, st: State) -> tuple[Tensor, State]:
        f = torch.log((re**2 + im**2) @ (self.bands / self.bands.sum(0, keepdim=True)) + 1e-4)
        d = f - torch.cat([st[0], f[:, :-1]], 1)
        g = torch.cat([st[1], torch.cat([f, d], -1).transpose(1, 2) * 0.3], 2)
        new: State = [f[:, -1:], g[:, :, g.shape[2] - self.cfg.ahead :]]
        z = z0 = F.gelu(self.n0(self.inp(g).transpose(1, 2)))
        for i, (rnn, norm, film) in enumerate(zip(self.rnns, self.norms, self.films)):
            a, b = film(cond).chunk(2, -1)
            y, h, c = rnn(norm(z) * (1 + a) + b, st[2 + 2 * i], st[3 + 2 * i])
            z = z + y
            new += [h, c]
        m = torch.sigmoid(self.out(torch.cat([z, z0], -1))).reshape(re.shape[0], -1, 2, self.n)
        return (m @ self.bands.t()).transpose(1, 2), new


def band_edges(nfft: int) -> list[int]:
    """Edges in bins: bands of 100 Hz to 1 kHz, 200 Hz to 3 kHz, 400 Hz to 5 kHz, 600 Hz above (the last takes the bin at half the rate)."""
    hz = [*range(0, 1000, 100), *range(1000, 3000, 200), *range(3000, 5000, 400), *range(5000, 8000, 600)]
    return [round(h * nfft / SR) for h in hz] + [nfft // 2 + 1]


def low_norm(n: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm in the number format of its input: autocast would go to float32 and back."""
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, n.normalized_shape, n.weight, n.bias)


class BandBlock(nn.Module):
    """Along time within each band (all bands share the weights), then across them: a summary of the frame with a memory of its own."""

    def __init__(self, c: int, bands: int, hidden: int, amp: bool) -> None:
        super().__init__()
        self.n1, self.rnn, self.o = nn.LayerNorm(c), Rnn(c, amp), nn.Linear(c, c)
        self.n2, self.m1, self.m2 = nn.LayerNorm(c), nn.Linear(c, 16), nn.Linear(16 * bands, hidden)
        self.full, self.m3, self.m4 = Rnn(hidden, amp), nn.Linear(2 * hidden, 16 * bands), nn.Linear(16, c)

    def forward(self, x: Tensor, st: State) -> tuple[Tensor, State]:
        """x (T, B, K, C)."""
        T, B, K, C = x.shape
        y, h, c = self.rnn(low_norm(self.n1, x).reshape(T, B * K, C), st[0], st[1], False)
        x = x + self.o(y).reshape(T, B, K, C)
        g = F.gelu(self.m2(self.m1(low_norm(self.n2, x)).reshape(T, B, K * 16)))
        r, H, S = self.full(g, st[2], st[3], False)
        return x + self.m4(F.gelu(self.m3(torch.cat([g.to(r.dtype), r], -1)).reshape(T, B, K, 16))), [h, c, H, S]


class Bands(Body):
    """Real masks; log power in 30 bands of 4 to 25 bins. Each band has its own way in and out; between, blocks that the bands share. Like Lite it
    reads the frame that gets a mask with its look-ahead. Told nothing by picture or memory. Time goes first inside: nothing is copied for the LSTMs."""

    def __init__(self, cfg: SepConfig) -> None:
        super().__init__(cfg)
        C, e = cfg.width, band_edges(cfg.nfft)
        self.K, self.W = len(e) - 1, max(b - a for a, b in zip(e, e[1:]))
        index, back = torch.zeros(self.K, self.W, dtype=torch.long), torch.zeros(e[-1], dtype=torch.long)
        for k, (a, b) in enumerate(zip(e, e[1:])):
            index[k] = (a + torch.arange(self.W)).clamp_max(b - 1)  # narrow bands repeat their last bin
            back[a:b] = k * self.W + torch.arange(b - a)
        self.register_buffer("index", index.flatten(), persistent=False)
        self.register_buffer("back", back, persistent=False)
        n = self.W * (cfg.ahead + 1)
        self.inp, self.pos, self.n0 = nn.Parameter(torch.randn(self.K, n, C) * n**-0.5), nn.Parameter(torch.zeros(self.K, C)), nn.LayerNorm(C)
        self.blocks = nn.ModuleList(BandBlock(C, self.K, cfg.hidden, cfg.rnn_amp) for _ in range(cfg.blocks))
        self.n3 = nn.LayerNorm(C)
        self.o1, self.b1 = nn.Parameter(torch.randn(self.K, 2 * C, 2 * C) * (2 * C) ** -0.5), nn.Parameter(torch.zeros(self.K, 2 * C))
        self.o2, self.b2 = nn.Parameter(torch.randn(self.K, 2 * C, 2 * self.W) * 0.3 * (2 * C) ** -0.5), nn.Parameter(torch.zeros(self.K, 2 * self.W))

    def state(self, b: int, device: torch.device | None = None) -> State:
        per = [(1, b * self.K, self.cfg.width)] * 2 + [(1, b, self.cfg.hidden)] * 2
        return [torch.full((self.cfg.ahead, b, self.cfg.nfft // 2 + 1), -2.76, device=device), *(torch.zeros(s, device=device) for _ in range(self.cfg.blocks) for s in per)]

    def step(self, re: Tensor, im: Tensor, cond: Tensor, st: State) -> tuple[Tensor, State]:
        B, T, _ = re.shape
        low = torch.bfloat16 if torch.is_autocast_enabled(re.device.type) else torch.float32
        g = torch.cat([st[0], torch.log(re**2 + im**2 + 1e-4).transpose(0, 1) * 0.3], 0)
        new: State = [g[g.shape[0] - self.cfg.ahead :]]
        g = g.to(low)[:, :, self.index].reshape(-1, B, self.K, self.W)
        near = torch.cat([g[i : i + T] for i in range(self.cfg.ahead + 1)], -1)
        x = torch.bmm(near.permute(2, 0, 1, 3).reshape(self.K, T * B, -1), self.inp) + self.pos.unsqueeze(1).to(low)
        x = first = F.gelu(low_norm(self.n0, x)).reshape(self.K, T, B, -1).permute(1, 2, 0, 3)
        for i, block in enumerate(self.blocks):
            x, s = block(x, st[1 + 4 * i : 5 + 4 * i])
            new += s
        y = torch.cat([low_norm(self.n3, x), first], -1).permute(2, 0, 1, 3).reshape(self.K, T * B, -1)
        y = F.gelu(torch.bmm(y, self.o1) + self.b1.unsqueeze(1).to(low))
        y = torch.bmm(y, self.o2) + self.b2.unsqueeze(1).to(low)
        m = torch.sigmoid(y.float()).reshape(self.K, T, B, 2, self.W).permute(2, 3, 1, 0, 4).reshape(B, 2, T, -1)
        return m[..., self.back], new


def separator(cfg: SepConfig) -> Body:
    return (Lite if cfg.kind == "lite" else Bands)(cfg)


class Model(nn.Module):
    """Separator and voice encoder together, as trained and saved."""

    def __init__(self, cfg: SepConfig, speakers: int) -> None:
        super().__init__()
        self.sep, self.enc = separator(cfg), VoiceEncoder(cfg.edim, speakers=speakers)

    def masks(self, X: Tensor, v: Tensor, has_v: Tensor, mem: Tensor, has_m: Tensor) -> Tensor:
        return self.sep.masks(X, v, has_v, mem, has_m)

    def meta(self) -> dict[str, object]:
        return dict(cfg=asdict(self.sep.cfg), speakers=self.enc.who.out_features)
