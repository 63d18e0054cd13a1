"""Makes the training pack: face crops, voices, noise, music and an index in one folder (and one tar).

    python pack.py --data DATA --teacher TEACHER.pt --detector YUNET.onnx --out PACK [--rendered HEADS] [--jobs 2] [--local]

DATA: folder with manifest.tsv, train/, val/, offscreen/, audio/. HEADS: folder of rendered clips (render_heads.sh): d* are silent people.

Needs here (not on the training machine): ffmpeg with libx264 and libopus, opencv, torch, the pip wheel `soundfile`.
Can be stopped and started again: what is already in PACK is kept; clips gone from the manifest are dropped from the index.

--local: the pack is used on this machine and need not be small. Crops are coded quickly and well, sound is not coded at all (it goes
straight into PACK/pool.npz), and all noise and music is taken. About a third of the time, and nothing of a codec is learnt.
"""
from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import shutil
import subprocess
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

import sound

FPS, SR, SIDE = 25, 16000, 112
SKIP_DOMAINS = {"studio", "meeting"}
LIMIT_MIB = 58


def read_tsv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def ffmpeg(*args: str, data: bytes | None = None) -> bytes:
    cmd = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", *args] if data is None else ["ffmpeg", "-v", "error", "-threads", "1", *args]
    return subprocess.run(cmd, input=data, stdout=subprocess.PIPE, check=True).stdout


def smooth(x: np.ndarray, median: int = 13, mean: int = 5) -> np.ndarray:
    def windows(y: np.ndarray, k: int) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(np.pad(y, k // 2, mode="edge"), k)
    return windows(np.median(windows(x, median), -1), mean).mean(-1)


def face_track(frames: np.ndarray, detector: str, step: int = 6) -> np.ndarray | None:
    """Centre x, y and half size of the main face for every frame, or None."""
    h, w = frames.shape[1:3]
    scale = min(1.0, 480 / max(h, w))
    size = (int(w * scale), int(h * scale))
    det = cv2.FaceDetectorYN.create(detector, "", size, 0.6)
    at: list[int] = []
    boxes: list[tuple[float, float, float]] = []
    for k in range(0, len(frames), step):
        _, found = det.detect(cv2.resize(frames[k], size))
        if found is None:
            continue
        c = [(b[0] + b[2] / 2, b[1] + b[3] / 2, max(b[2], b[3]) / 2) for b in found / scale]
        if boxes:
            px, py, ps = boxes[-1]
            best = min(c, key=lambda q: (q[0] - px) ** 2 + (q[1] - py) ** 2)
            if (best[0] - px) ** 2 + (best[1] - py) ** 2 > (4 * ps) ** 2:
                best = max(c, key=lambda q: q[2])
        else:
            best = max(c, key=lambda q: q[2])
        at.append(k)
        boxes.append(best)
    if len(boxes) < max(2, 0.5 * len(frames) / step):
        return None
    b, t = np.array(boxes, np.float64), np.arange(len(frames))
    return np.stack([smooth(np.interp(t, at, b[:, j])) for j in range(3)], 1)


def crop(frames: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Grey 112 x 112 crops: x +- 0.7 half sizes, y from -0.3 to +1.1 half sizes round the face centre."""
    out = np.empty((len(frames), SIDE, SIDE), np.uint8)
    for i, (x, y, s) in enumerate(track):
        g = cv2.cvtColor(frames[i], cv2.COLOR_BGR2GRAY)
        side = 1.4 * s
        if side > 2 * SIDE:  # shrink first, a plain warp would alias
            f = 2 * SIDE / side
            g, x, y, s, side = cv2.resize(g, None, fx=f, fy=f, interpolation=cv2.INTER_AREA), x * f, y * f, s * f, side * f
        k = SIDE / side
        m = np.array([[k, 0, -(x - 0.7 * s) * k], [0, k, -(y - 0.3 * s) * k]])
        out[i] = cv2.warpAffine(g, m, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=110)
    return out


def opus(pcm: bytes, out: Path, kbit: int) -> None:
    ffmpeg("-f", "s16le", "-ar", str(SR), "-ac", "1", "-i", "-", "-c:a", "libopus", "-b:a", f"{kbit}k", "-y", str(out), data=pcm)


def pcm16k(path: Path) -> bytes:
    return ffmpeg("-i", str(path), "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(SR), "-f", "s16le", "-")


SMALL = ("-preset", "slow", "-crf", "21", "-maxrate", "90k", "-bufsize", "180k", "-bf", "2")
LOCAL = ("-preset", "ultrafast", "-crf", "14", "-bf", "0")


def pack_clip(src: Path, mp4: Path, ogg: Path | None, width: int, height: int, detector: str) -> float:
    """Seconds packed; 0 if no face could be followed. `ogg` None: a local pack, the sound is read elsewhere."""
    raw = ffmpeg("-i", str(src), "-map", "0:v:0", "-vf", f"fps={FPS}:start_time=0,scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "bgr24", "-")
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    voice = pcm16k(src)
    n = min(len(frames), len(voice) // 2 // (SR // FPS))
    track = face_track(frames[:n], detector) if n >= FPS else None
    if track is None:
        return 0.0
    part = mp4.with_suffix(".part.mp4")
    ffmpeg("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{SIDE}x{SIDE}", "-r", str(FPS), "-i", "-", "-c:v", "libx264", *(SMALL if ogg else LOCAL),
           "-g", "250", "-pix_fmt", "yuv420p", "-y", str(part), data=crop(frames[:n], track).tobytes())
    if ogg:
        opus(voice[: n * SR // FPS * 2], ogg, 20)
    part.rename(mp4)
    return n / FPS


def extra_rows(data: Path, heads: Path | None) -> list[dict[str, str]]:
    """Training rows beyond the talking clips: rendered heads (speaking, silent) and real people who listen to an off-screen voice."""
    rows = []
    for r in read_tsv(data / "manifest.tsv"):
        if r["split"] == "offscreen_train":
            rows.append({**r, "id": "off_" + r["id"], "split": "train", "domain": "silent", "person": "off_" + r["id"]})
    for clip in sorted(heads.glob("*/clip.mp4")) if heads else []:
        truth = json.loads((clip.parent / "truth.json").read_text())
        name = "syn_" + clip.parent.name
        rows.append(dict(id=name, file=str(clip.resolve()), split="train", domain="silent" if clip.parent.name.startswith("d") else "rendered",
                         person=name, gender="?", language="?", width=str(truth["width"]), height=str(truth["height"]), seconds=str(truth["seconds"]), notes=""))
    return rows


def clip_job(job: tuple[dict[str, str], str, str, str, bool]) -> tuple[str, float]:
    row, data, out, detector, local = job
    cv2.setNumThreads(1)
    mp4, ogg = Path(out, "clips", row["id"] + ".mp4"), None if local else Path(out, "clips", row["id"] + ".opus")
    if mp4.exists() and (ogg is None or ogg.exists()):
        return row["id"], -1.0
    try:
        return row["id"], pack_clip(Path(data, row["file"]), mp4, ogg, int(row["width"]), int(row["height"]), detector)
    except (subprocess.CalledProcessError, ValueError, cv2.error) as e:
        print("left out", row["id"], e)
        return row["id"], 0.0


def sound_job(job: tuple[str, str, int]) -> None:
    src, dst, kbit = job
    if not Path(dst).exists():
        part = Path(dst).with_suffix(".part.opus")
        opus(pcm16k(Path(src)), part, kbit)
        part.rename(dst)


def write_pool(path: Path, index: list[dict[str, object]], sources: list[Path], jobs: int) -> None:
    """pool.npz as data.py caches it, straight from the sources; what is in an older pool is taken from there."""
    have: dict[str, np.ndarray] = {}
    if path.exists():
        z = np.load(path, allow_pickle=False)
        pool, borders = z["pool"], z["borders"]
        have = {f: pool[borders[i] : borders[i + 1]] for i, f in enumerate(str(z["key"]).split("|"))}

    def one(i: int) -> np.ndarray:
        name = str(index[i]["file"])
        if name in have:
            return have[name]
        x = np.frombuffer(pcm16k(sources[i]), np.int16)
        return sound.cut_silence(x) if index[i]["kind"] == "speech" else x

    with ThreadPoolExecutor(jobs) as ex:
        parts = list(ex.map(one, range(len(index))))
    part = path.with_suffix(".part.npz")
    np.savez(part, pool=np.concatenate(parts), borders=np.cumsum([0] + [len(p) for p in parts]).astype(np.int64), key="|".join(str(r["file"]) for r in index))
    part.replace(path)


def take(rows: list[dict[str, str]], kind: str, minutes: float) -> list[dict[str, str]]:
    """Shortest-first selection of noise or music up to a number of minutes (all of val)."""
    got, secs = [r for r in rows if r["kind"] == kind and r["split"] == "val"], 0.0
    for r in sorted((r for r in rows if r["kind"] == kind and r["split"] == "train"), key=lambda r: float(r["seconds"])):
        secs += float(r["seconds"])
        if secs <= minutes * 60:
            got.append(r)
    return got


def libsndfile() -> Path | None:
    spec = importlib.util.find_spec("_soundfile_data")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(iter(sorted(Path(next(iter(spec.submodule_search_locations))).glob("libsndfile*.so"))), None)


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--teacher", type=Path, required=True)
    p.add_argument("--detector", required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--rendered", type=Path, help="folder of rendered heads")
    p.add_argument("--tar", type=Path)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--noise-minutes", type=float, default=12)
    p.add_argument("--music-minutes", type=float, default=10)
    p.add_argument("--local", action="store_true", help="for training on this machine (see above)")
    p.add_argument("--limit", type=int, default=0, help="only the first N clips and 4 N voices (for tests)")
    a = p.parse_args()
    for d in ("clips", "sound"):
        (a.out / d).mkdir(parents=True, exist_ok=True)
    rows = [r for r in read_tsv(a.data / "manifest.tsv") if r["split"] in ("train", "val") and r["domain"] not in SKIP_DOMAINS]
    rows += extra_rows(a.data, a.rendered)
    audio = read_tsv(a.data / "audio" / "manifest.tsv")
    voices = [r for r in audio if r["kind"] == "speech"]
    if a.limit:
        rows, voices = rows[:: max(1, len(rows) // a.limit)][: a.limit], voices[:: max(1, len(voices) // (4 * a.limit))]
    most = [1e9, 1e9] if a.local else [a.noise_minutes, a.music_minutes]
    sounds = voices + take(audio, "noise", most[0]) + take(audio, "music", most[1])
    kbit = {"speech": 16, "noise": 24, "music": 24}
    with ProcessPoolExecutor(a.jobs) as ex:
        done = dict(ex.map(clip_job, [(r, str(a.data), str(a.out), a.detector, a.local) for r in rows]))
        if not a.local:
            list(ex.map(sound_job, [(str(a.data / "audio" / r["file"]), str(a.out / "sound" / (r["id"] + ".opus")), kbit[r["kind"]]) for r in sounds], chunksize=8))
    index = [dict(file=f"clips/{r['id']}", kind="clip", split=r["split"], speaker=r["person"], domain=r["domain"], gender=r["gender"],
                  language=r["language"], seconds=float(r["seconds"]), sure="offset unsure" not in r["notes"]) for r in rows if done[r["id"]] != 0]
    index += [dict(file=f"sound/{r['id']}", kind=r["kind"], split=r["split"], speaker=r["speaker"], domain=r["kind"], gender=r["gender"],
                   language=r["language"], seconds=float(r["seconds"]), sure=True) for r in sounds]
    if a.local:
        write_pool(a.out / "pool.npz", index, [a.data / r["file"] for r in rows if done[r["id"]] != 0] + [a.data / "audio" / r["file"] for r in sounds], a.jobs)
    (a.out / "index.json").write_text(json.dumps(index, indent=0))
    lib = libsndfile()
    if lib:
        shutil.copy(lib, a.out / "libsndfile.so")
    else:
        print("warning: no libsndfile found (pip install soundfile)")
    import torch
    state = torch.load(a.teacher, map_location="cpu", weights_only=False)
    key = "model.visualEncoder."
    torch.save({k[len(key):]: v for k, v in state.items() if k.startswith(key)}, a.out / "teacher.pt")
    keep = {a.out / (r["file"] + e) for r in index for e in ((".mp4", ".opus") if r["kind"] == "clip" else (".opus",))}
    keep |= {a.out / n for n in ("index.json", "libsndfile.so", "teacher.pt", *(["pool.npz"] if a.local else []))}
    size: dict[str, int] = {}
    for f in keep:
        if f.exists():
            k = f.parent.name + f.suffix if f.parent != a.out else f.name
            size[k] = size.get(k, 0) + f.stat().st_size
    for k, v in sorted(size.items()):
        print(f"{k:20s} {v / 2**20:7.2f} MiB")
    total = sum(size.values()) / 2**20
    secs = {k: sum(r["seconds"] for r in index if r["kind"] == k) / 60 for k in ("clip", "speech", "noise", "music")}
    print(f"total {total:.1f} MiB (limit {LIMIT_MIB});", ", ".join(f"{k} {v:.1f} min" for k, v in secs.items()), f"; {sum(v == 0 for v in done.values())} clips left out")
    if a.tar:
        with tarfile.open(a.tar, "w") as t:
            for f in sorted(keep):
                t.add(f, f.relative_to(a.out))
        print("tar", round(a.tar.stat().st_size / 2**20, 1), "MiB")
    if total > LIMIT_MIB and not a.local:
        raise SystemExit("too large: lower --noise-minutes or --music-minutes")


if __name__ == "__main__":
    main()
