import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { aacFrameTag, aacSequenceTag } from "../../src/transport/flv/audio.js";
import { FlvReader, type FlvTag } from "../../src/transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag, readVideo } from "../../src/transport/flv/video.js";

/**
 * The clip of the measurements: the demonstration's talking head in any size, with a white patch in the upper left corner for two
 * pictures and a beep of 1 kHz for 50 ms (the speech is silent around it) at every whole second. 24 s = 720 pictures at 30 a second =
 * 1125 AAC frames, so that it goes on for ever without a seam.
 */
export type ClipOptions = {
  readonly size?: string;
  readonly bFrames?: number;
  readonly videoKbps?: number;
  /** Seconds of one round; a multiple of 8 (240 pictures = 375 AAC frames), at most 24. */
  readonly seconds?: number;
};

export type Clip = {
  readonly avcC: Buffer;
  readonly aacConfig: Buffer;
  /** In decoding order; `shown` is the place in presentation order. */
  readonly pictures: readonly { readonly data: Buffer; readonly key: boolean; readonly shown: number }[];
  readonly sounds: readonly Buffer[];
};

export const CLIP_FPS = 30;
const AAC_SAMPLES = 1024;
const RATE = 48_000;

const root = ((): string => {
  let folder = fileURLToPath(new URL(".", import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = join(folder, "..");
  return folder;
})();

/** The repository's root, from the sources and from dist/. */
export const ROOT = root;
export const DEMO_CLIP = join(ROOT, "demo", "talk.flv");

/** Makes the clip with ffmpeg, or reads the one that an earlier call left in `folder`. Takes up to a minute at 1080p. */
export function makeClip(folder: string, options: ClipOptions = {}): Clip {
  const { size = "1920x1080", bFrames = 0, videoKbps = 4000, seconds = 24 } = options;
  if (seconds % 8 !== 0 || seconds > 24 || seconds <= 0)
    throw new RangeError("8, 16 or 24 seconds make whole AAC frames");
  const name = `bench-${size}-${bFrames}-${videoKbps}-${seconds}`;
  const picturePath = join(folder, `${name}.flv`);
  const soundPath = join(folder, `${name}.aac`);
  const [width, height] = size.split("x").map(Number) as [number, number];
  // Only the patch changes: a flash over the whole picture would be a cut for the face follower.
  const patch = `x=0:y=0:w=${Math.round(width / 8)}:h=${Math.round(height / 8)}:t=fill`;
  if (!existsSync(picturePath)) {
    const filter = [
      `scale=${width}:${height}:flags=bilinear`,
      `drawbox=${patch}:color=black`,
      `drawbox=${patch}:color=white:enable='lt(mod(n,${CLIP_FPS}),2)'`,
      "format=yuv420p",
    ].join(",");
    encode(picturePath, [
      ...["-i", DEMO_CLIP, "-an", "-t", String(seconds), "-vf", filter, "-c:v", "libx264", "-preset", "veryfast"],
      ...["-g", "60", "-keyint_min", "60", "-sc_threshold", "0", "-bf", String(bFrames)],
      ...["-b:v", `${videoKbps}k`, "-maxrate", `${videoKbps}k`, "-bufsize", `${2 * videoKbps}k`, "-f", "flv"],
    ]);
  }
  if (!existsSync(soundPath)) {
    // Three rounds are encoded and the middle one is cut out, so that round after round decodes without a seam.
    const beep = `aevalsrc='if(lt(mod(t,1),0.05),0.5*sin(2*PI*1000*t),0)':s=${RATE}:c=mono:d=${3 * seconds}`;
    const graph = [
      `[0:a]atrim=0:${seconds},asetpts=N/SR/TB,aformat=sample_fmts=fltp:sample_rates=${RATE}:channel_layouts=stereo,aloop=2:${seconds * RATE}`,
      `volume=0.8,volume='if(gt(mod(t,1),0.94)+lt(mod(t,1),0.09),0,1)':eval=frame:enable=1,asetnsamples=480[talk]`,
      `${beep}[beep]`,
    ];
    encode(soundPath, [
      ...["-i", DEMO_CLIP, "-filter_complex"],
      `${graph[0]},asetnsamples=480,${graph[1]};${graph[2]};[talk][beep]amix=inputs=2:normalize=0:duration=first[a]`,
      ...["-map", "[a]", "-ac", "2", "-c:a", "aac", "-b:a", "128k", "-f", "adts"],
    ]);
  }
  return { ...readPictures(picturePath), ...readSounds(soundPath, (seconds * RATE) / AAC_SAMPLES) };
}

function encode(path: string, args: readonly string[]): void {
  const part = `${path}.part`;
  execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-y", ...args, part], {
    stdio: ["ignore", "ignore", "inherit"],
    timeout: 240_000,
  });
  renameSync(part, path);
}

function readPictures(path: string): Pick<Clip, "avcC" | "pictures"> {
  let avcC: Buffer | null = null;
  const frames: { data: Buffer; key: boolean; ptsMs: number }[] = [];
  for (const tag of new FlvReader().push(readFileSync(path))) {
    if (tag.type !== 9) continue;
    const packet = readVideo(tag.body);
    if (packet.kind === "sequence") avcC ??= packet.avcC;
    if (packet.kind === "frame")
      frames.push({ data: packet.data, key: packet.key, ptsMs: tag.timestampMs + packet.ctsMs });
  }
  if (avcC === null) throw new Error(`${path}: no H.264`);
  const order = frames.map((f) => f.ptsMs).sort((a, b) => a - b);
  const shown = new Map(order.map((ptsMs, i) => [ptsMs, i]));
  return { avcC, pictures: frames.map(({ data, key, ptsMs }) => ({ data, key, shown: shown.get(ptsMs)! })) };
}

/** The encoder's delay is one frame: frame k + 1 decodes to the sound that began at k * 1024 (1 is added to the middle round). */
function readSounds(path: string, count: number): Pick<Clip, "aacConfig" | "sounds"> {
  const { config, frames } = readAdts(readFileSync(path));
  return { aacConfig: config, sounds: frames.slice(count + 1, 2 * count + 1) };
}

export function readAdts(bytes: Buffer): { config: Buffer; frames: Buffer[] } {
  const frames: Buffer[] = [];
  for (let at = 0; at + 7 <= bytes.length; ) {
    const length = ((bytes[at + 3]! & 3) << 11) | (bytes[at + 4]! << 3) | (bytes[at + 5]! >> 5);
    if (bytes[at] !== 0xff || length < 8) throw new Error(`no ADTS frame at byte ${at}`);
    frames.push(bytes.subarray(at + ((bytes[at + 1]! & 1) === 0 ? 9 : 7), at + length));
    at += length;
  }
  const profile = (bytes[2]! >> 6) + 1;
  const rate = (bytes[2]! >> 2) & 15;
  const channels = ((bytes[2]! & 1) << 2) | (bytes[3]! >> 6);
  return { config: Buffer.of((profile << 3) | (rate >> 1), ((rate & 1) << 7) | (channels << 3)), frames };
}

/** The other way: one ADTS frame of a raw AAC frame with this AudioSpecificConfig (AAC-LC). */
export function adts(config: Buffer, frame: Buffer): Buffer {
  const rate = ((config[0]! & 7) << 1) | (config[1]! >> 7);
  const channels = (config[1]! >> 3) & 15;
  const length = frame.length + 7;
  const head = Buffer.of(
    0xff,
    0xf1,
    (1 << 6) | (rate << 2) | (channels >> 2),
    ((channels & 3) << 6) | (length >> 11),
    (length >> 3) & 255,
    ((length & 7) << 5) | 31,
    0xfc,
  );
  return Buffer.concat([head, frame]);
}

/** Round after round as FLV tags with exact times (no error adds up), sound and pictures by decoding time. */
export function* clipTags(clip: Clip, seconds: number): Generator<FlvTag> {
  const { pictures, sounds } = clip;
  const reorder = Math.max(...pictures.map((p, i) => i - p.shown));
  yield avcSequenceTag(clip.avcC, 0);
  yield aacSequenceTag(clip.aacConfig, 0);
  const ms = (n: number): number => Math.round((n * 1000) / CLIP_FPS);
  // With B-frames the first picture is shown `reorder` pictures after its decoding time 0; the sound begins with it.
  const soundMs = (k: number): number => Math.round(ms(reorder) + (k * AAC_SAMPLES * 1000) / RATE);
  let n = 0;
  let k = 0;
  for (; n < seconds * CLIP_FPS; n++) {
    for (; soundMs(k) <= ms(n); k++) yield aacFrameTag(sounds[k % sounds.length]!, soundMs(k));
    const picture = pictures[n % pictures.length]!;
    const round = n - (n % pictures.length);
    yield avcFrameTag(picture.data, picture.key, ms(n), ms(round + picture.shown + reorder) - ms(n));
  }
}
