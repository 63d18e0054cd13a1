"""Networks. Everything that runs live is causal with its state passed in and out; look-ahead is plain delay:
the output for frame t is given out when frame t + look-ahead has been read."""
from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NFFT, SR = 512, 16000
BINS = NFFT // 2 + 1
State = list[Tensor]


# ---------- sound in and out (float32 always) ----------

def stft(x: Tensor, hop: int, nfft: int = NFFT) -> Tensor:
    """(B, n) -> complex (B, frames, nfft / 2 + 1); root-Hann window, frame t centred on sample t * hop."""
    w = torch.hann_window(nfft, device=x.device).sqrt()
    with torch.autocast(x.device.type, enabled=False):
        return torch.stft(x.float(), nfft, hop, nfft, w, center=True, return_complex=True).transpose(1, 2)


def istft(X: Tensor, hop: int, n: int) -> Tensor:
    nfft = 2 * (X.shape[-1] - 1)
    w = torch.hann_window(nfft, device=X.device).sqrt()
    with torch.autocast(X.device.type, enabled=False):
        return torch.istft(X.transpose(1, 2), nfft, hop, nfft, w, center=True, length=n)


def mel_bank(bands: int, low: float = 50, high: float = 7600, bins: int = BINS) -> Tensor:
    def mel(h: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + h / 700)
    m = torch.linspace(float(mel(torch.tensor(low))), float(mel(torch.tensor(high))), bands + 2)
    edge, f = 700 * (10 ** (m / 2595) - 1), torch.arange(bins) * (SR / 2 / (bins - 1))
    up = (f[:, None] - edge[:-2]) / (edge[1:-1] - edge[:-2])
    down = (edge[2:] - f[:, None]) / (edge[2:] - edge[1:-1])
    return torch.minimum(up, down).clamp_min(0)


def log_mel(power: Tensor, bank: Tensor) -> Tensor:
    """power (B, T, 257) -> (B, T, bands), mean taken out."""
    y = torch.log(power @ bank + 1e-5)
    return (y - y.mean((1, 2), keepdim=True)) / 2.5


def power(X: Tensor) -> Tensor:
    return X.real**2 + X.imag**2


# ---------- lip / voice synchrony ----------

class SyncHead(nn.Module):
    """Unit vectors at 25 fps for picture features and for sound (log mel at 100 frames/s); their dot product says how well they fit."""

    def __init__(self, vdim: int = 128, dim: int = 64, hidden: int = 96, drop: float = 0.3) -> None:
        super().__init__()
        self.v0, self.v1, self.v2 = nn.LayerNorm(vdim), nn.Conv1d(vdim, hidden, 5, padding=2), nn.Conv1d(hidden, hidden, 5, padding=2)
        self.a1, self.a2 = nn.Conv1d(40, hidden, 5, 2, 2), nn.Conv1d(hidden, hidden, 5, 2, 2)
        self.a3 = nn.Conv1d(hidden, hidden, 5, padding=2)
        self.vo, self.ao, self.drop = nn.Linear(hidden, dim), nn.Linear(hidden, dim), nn.Dropout(drop)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("bank", mel_bank(40), persistent=False)

    def picture(self, v: Tensor) -> Tensor:
        h = F.gelu(self.v1(self.drop(self.v0(v)).transpose(1, 2)))
        h = h + F.gelu(self.v2(self.drop(h)))
        return F.normalize(self.vo(h.transpose(1, 2)).float(), dim=-1)

    def mel(self, x: Tensor) -> Tensor:
        return log_mel(power(stft(x, 160)), self.bank)

    def voice(self, mel: Tensor) -> Tensor:
        h = F.gelu(self.a1(self.drop(mel).transpose(1, 2)))
        h = F.gelu(self.a2(h))
        h = h + F.gelu(self.a3(self.drop(h)))
        return F.normalize(self.ao(h.transpose(1, 2)).float(), dim=-1)

    def score(self, v: Tensor, x: Tensor) -> Tensor:
        a = self.voice(self.mel(x))[:, : v.shape[1]]
        return (self.picture(v) * a).sum(-1).mean(1)


# ---------- picture front end of our own ----------

class Student(nn.Module):
    """Grey crops (64 to 96 px) -> features at 25 fps. Looks 2 frames (80 ms) ahead."""

    AHEAD = 2

    def __init__(self, side: int = 64, widths: tuple[int, ...] = (24, 48, 96, 128), hidden: int = 256, dim: int = 128) -> None:
        super().__init__()
        self.cfg = dict(side=side, widths=tuple(widths), hidden=hidden, dim=dim)
        c = (2, *widths)
        self.conv = nn.ModuleList(nn.Conv2d(c[i], c[i + 1], 3, 2, 1) for i in range(4))
        self.norm = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        self.taps = nn.ParameterList(nn.Parameter(torch.tensor([0.0, 1.0, 0.0]).repeat(w, 1)) for w in widths[1:3])  # three taps over time per channel
        self.flat, self.n1 = nn.Linear((side // 16) ** 2 * widths[3], hidden), nn.LayerNorm(hidden)
        self.k1, self.k2, self.out = nn.Conv1d(hidden, hidden, 5), nn.Conv1d(hidden, hidden, 3), nn.Linear(hidden, dim)

    def state(self, b: int, device: torch.device | None = None) -> State:
        s, w, h = self.cfg["side"], self.cfg["widths"], self.cfg["hidden"]
        z = [(b, 1, s, s), (b, w[1], 2, s // 4, s // 4), (b, w[2], 2, s // 8, s // 8), (b, h, 4), (b, h, 2)]
        return [torch.zeros(q, device=device) for q in z]

    def step(self, x: Tensor, st: State) -> tuple[Tensor, State]:
        """x (B, T, S, S), 0..255; output t belongs to picture t - 2."""
        B, T, S = x.shape[:3]
        x = (x / 255 - 0.42) / 0.17
        prev = torch.cat([st[0], x[:, :-1]], 1)
        h = torch.stack([x, (x - prev) * 3], 2).reshape(B * T, 2, S, S).contiguous(memory_format=torch.channels_last)
        new: State = [x[:, -1:]]
        for i, (conv, norm) in enumerate(zip(self.conv, self.norm)):
            h = F.relu(norm(conv(h)))
            if i in (1, 2):  # channels stay last: quicker on a CPU. Under autocast the sum is in bf16, here and in the state
                C, Q = h.shape[1], h.shape[2]
                g = torch.cat([st[i].permute(0, 2, 3, 4, 1).to(h.dtype), h.permute(0, 2, 3, 1).reshape(B, T, Q, Q, C)], 1)
                new.append(g[:, -2:].permute(0, 4, 1, 2, 3))
                w = self.taps[i - 1].to(h.dtype)
                h = (w[:, 0] * g[:, :-2] + w[:, 1] * g[:, 1:-1] + w[:, 2] * g[:, 2:]).reshape(B * T, Q, Q, C).permute(0, 3, 1, 2)
        y = self.n1(self.flat(h.flatten(1))).reshape(B, T, -1).transpose(1, 2)
        for k, (conv, n) in enumerate(((self.k1, 4), (self.k2, 2))):
            g = torch.cat([st[3 + k], y.to(st[3 + k].dtype)], 2)
            new.append(g[:, :, -n:])
            y = g[:, :, n:] + F.gelu(conv(g))
        return self.out(y.transpose(1, 2)).float(), new

    def forward(self, x: Tensor) -> Tensor:
        """Whole clip: (B, T, S, S) -> (B, T, dim), the delay taken out."""
        x = torch.cat([x, x[:, -1:].expand(-1, self.AHEAD, -1, -1)], 1)
        st = self.state(x.shape[0], x.device)
        st[0] = (x[:, :1] / 255 - 0.42) / 0.17
        return self.step(x, st)[0][:, self.AHEAD :]


# ---------- voice memory ----------

class VoiceEncoder(nn.Module):
    """Power spectrum of a few seconds of one voice (hop 256) -> a vector of 64 numbers."""

    def __init__(self, dim: int = 64, hidden: int = 128, speakers: int = 1) -> None:
        super().__init__()
        self.inp = nn.Linear(64, hidden)
        self.c1, self.c2, self.c3 = nn.Conv1d(hidden, hidden, 5, 2), nn.Conv1d(hidden, hidden, 5, 2), nn.Conv1d(hidden, hidden, 3)
        self.out, self.who = nn.Linear(2 * hidden, dim), nn.Linear(dim, speakers)
        self.register_buffer("bank", mel_bank(64, 50, 8000), persistent=False)

    def forward(self, p: Tensor) -> Tensor:
        h = F.gelu(self.inp(log_mel(p, self.bank))).transpose(1, 2)
        h = F.gelu(self.c1(h))
        h = F.gelu(self.c2(h))
        h = F.gelu(self.c3(h)).float()
        m = h.mean(2)
        dev = ((h - m.unsqueeze(2)) ** 2).mean(2).add(1e-5).sqrt()
        return F.normalize(self.out(torch.cat([m, dev], -1)).float(), dim=-1) * 4

    def hear(self, x: Tensor) -> Tensor:
        return self.forward(power(stft(x, 256)))


# ---------- separator ----------

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
    """Base of both separators. step(): real and imaginary part (B, T, 257) each and the condition (B, T, cdim) -> masks (B, 2, T, 257)."""

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
        """Whole sequence: complex X (B, T, 257), v (B, Tv, vdim) -> masks (B, 2, T, 257)."""
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
