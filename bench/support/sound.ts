import { type ChildProcess, spawn } from "node:child_process";
import { RealFft } from "../../src/pipeline/fft.js";
import { adts } from "./clip.js";
import { median } from "./numbers.js";
import type { TakenSound } from "./taker.js";

const RATE = 48_000;
const FRAME = 1024;

/** Decoded sound; sample i of both channels belongs to `startMs + i / 48` while `startMs` holds (no gap in the timestamps). */
export type Pcm = { readonly planes: readonly Float32Array[]; readonly startMs: number };

/** The sound of a file from time 0 on, by ffmpeg. */
export async function decodeClip(path: string): Promise<Pcm> {
  const child = spawn("ffmpeg", [
    ...["-v", "error", "-nostdin", "-i", path, "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0"],
    ...["-f", "f32le", "-ac", "2", "-ar", String(RATE), "pipe:1"],
  ]);
  return { planes: planesOf(await outputOf(child)), startMs: 0 };
}

/** Decodes AAC frames (48 kHz, one config) with ffmpeg; 1024 samples a frame, in order. @throws Error when ffmpeg gives another number */
export async function decodeSounds(sounds: readonly TakenSound[], config: Buffer): Promise<Pcm> {
  const child = spawn("ffmpeg", ["-v", "error", "-f", "aac", "-i", "pipe:0", "-f", "f32le", "-ac", "2", "pipe:1"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.on("error", () => {});
  child.stdin.end(Buffer.concat(sounds.map((s) => adts(config, s.data))));
  const planes = planesOf(await outputOf(child));
  const frames = planes[0]!.length;
  if (frames !== sounds.length * FRAME)
    throw new Error(`${sounds.length} AAC frames decoded to ${frames} samples, not ${sounds.length * FRAME}`);
  // Timestamps are whole milliseconds: the median takes the rounding out.
  return { planes, startMs: median(sounds.map((s, i) => s.ptsMs - (i * FRAME * 1000) / RATE)) };
}

async function outputOf(child: ChildProcess): Promise<Buffer> {
  const parts: Buffer[] = [];
  child.stdout!.on("data", (data: Buffer) => parts.push(data));
  await new Promise<void>((resolve, reject) => {
    child.on("close", () => resolve());
    child.on("error", reject);
  });
  return Buffer.concat(parts);
}

/** Interleaved stereo floats -> the two channels. */
function planesOf(bytes: Buffer): Float32Array[] {
  const frames = Math.floor(bytes.length / 8);
  const planes = [new Float32Array(frames), new Float32Array(frames)];
  for (let i = 0; i < frames; i++) {
    planes[0]![i] = bytes.readFloatLE(8 * i);
    planes[1]![i] = bytes.readFloatLE(8 * i + 4);
  }
  return planes;
}

/** Largest difference of two following samples of any channel, between two times. */
export function largestStep(pcm: Pcm, fromMs: number, toMs: number): number {
  const first = Math.max(1, Math.round(((fromMs - pcm.startMs) * RATE) / 1000));
  let most = 0;
  for (const plane of pcm.planes) {
    const end = Math.min(plane.length, Math.round(((toMs - pcm.startMs) * RATE) / 1000));
    for (let i = first; i < end; i++) most = Math.max(most, Math.abs(plane[i]! - plane[i - 1]!));
  }
  return most;
}

const MS = RATE / 1000;
/** Levels are those of 5 ms round each millisecond. */
const HALF_WINDOW_MS = 2.5;
/** Sound of less is not missed, power (-70 dBFS). */
const HEARD = 1e-7;
/** The shift is known to so many milliseconds: what is there a little earlier or later counts as well. */
const SLACK_MS = 5;
/** Sound that comes back for less (the window included) does not end a hole. */
const SPLINTER_MS = 10;

/**
 * Longest stretch that is heard in `input` and lies more than `downDb` lower in `output`, milliseconds: a hole. Measured against the same
 * moment of the input, so that a pause in it, or what separation takes away within its limit, is none. Sound that never comes is a hole.
 * @param fromMs time of the input, as is `toMs`
 * @param shiftMs the same sound has a timestamp later by so much in `output`
 * @throws RangeError when the times or the shift are not known: that is no "0 ms"
 */
export function longestHoleMs(
  input: Pcm,
  output: Pcm,
  [fromMs, toMs]: readonly [number, number],
  shiftMs: number,
  downDb: number,
): number {
  if (!(toMs > fromMs && Number.isFinite(fromMs + toMs + shiftMs)))
    throw new RangeError(`holes from ${fromMs} to ${toMs} ms, shift ${shiftMs} ms: not a stretch of time`);
  const before = levels(input, fromMs, toMs);
  const after = levels(output, fromMs + shiftMs, toMs + shiftMs);
  const ratio = 10 ** (-downDb / 10);
  let began = -1;
  let last = -1;
  let longest = 0;
  for (let i = 0; i < before.length; i++) {
    const least = Math.min(...before.slice(Math.max(0, i - SLACK_MS), i + SLACK_MS + 1));
    // What is not heard in the input says nothing either way.
    if (least <= HEARD) continue;
    if (after[i]! >= ratio * least) {
      if (i - last > SPLINTER_MS) began = -1;
      continue;
    }
    if (began < 0) began = i;
    last = i;
    longest = Math.max(longest, i + 1 - began);
  }
  return longest;
}

/** Mean power round each millisecond between two times, mean over the channels; what a recording does not have is silent. */
function levels(pcm: Pcm, fromMs: number, toMs: number): Float64Array {
  const half = HALF_WINDOW_MS * MS;
  const first = Math.round((fromMs - pcm.startMs) * MS) - half;
  const count = Math.floor(toMs - fromMs);
  const sums = new Float64Array(count * MS + 2 * half + 1);
  for (let i = 1; i < sums.length; i++) {
    let power = 0;
    for (const plane of pcm.planes) power += (plane[first + i - 1] ?? 0) ** 2;
    sums[i] = sums[i - 1]! + power / pcm.planes.length;
  }
  return Float64Array.from({ length: count }, (_, k) => (sums[k * MS + 2 * half]! - sums[k * MS]!) / (2 * half));
}

/**
 * How much later the same sound lies in `output` than in `input` by their timestamps, milliseconds: the peak of the
 * cross-correlation of 1.4 s from `atMs` (input time), +-500 ms around `expectedMs`. Null when nothing alike is there.
 */
export function soundShiftMs(input: Pcm, output: Pcm, atMs: number, expectedMs: number): number | null {
  const size = 1 << 17;
  const length = 1 << 16;
  const margin = 24_000;
  const a = cut(input, atMs, length, size);
  const b = cut(output, atMs + expectedMs - (margin * 1000) / RATE, length + 2 * margin, size);
  if (a === null || b === null) return null;
  const fft = new RealFft(size);
  const A = new Float64Array(2 * fft.bins);
  const B = new Float64Array(2 * fft.bins);
  fft.forward(a.values, A);
  fft.forward(b.values, B);
  for (let k = 0; k < 2 * fft.bins; k += 2) {
    const re = A[k]! * B[k]! + A[k + 1]! * B[k + 1]!;
    const im = A[k]! * B[k + 1]! - A[k + 1]! * B[k]!;
    // Partly whitened: the peak is sharp although speech is low-pass.
    const weight = 1 / Math.sqrt(Math.hypot(re, im) + 1e-9);
    A[k] = re * weight;
    A[k + 1] = im * weight;
  }
  const correlation = new Float64Array(size);
  fft.inverse(A, correlation);
  let best = 0;
  for (let lag = 0; lag <= 2 * margin; lag++) if (correlation[lag]! > correlation[best]!) best = lag;
  if (!(correlation[best]! > 0)) return null;
  return b.startMs - a.startMs + (best * 1000) / RATE;
}

function cut(pcm: Pcm, fromMs: number, length: number, size: number): { values: Float64Array; startMs: number } | null {
  const first = Math.round(((fromMs - pcm.startMs) * RATE) / 1000);
  const [left, right] = [pcm.planes[0]!, pcm.planes[1]!];
  if (first < 0 || first + length > left.length) return null;
  const values = new Float64Array(size);
  for (let i = 0; i < length; i++) values[i] = left[first + i]! + right[first + i]!;
  return { values, startMs: pcm.startMs + (first * 1000) / RATE };
}

/** Times at which a beep of 1 kHz begins after at least 20 ms without one, by a matched filter of 5 ms. */
export function beepsMs(pcm: Pcm, threshold = 0.1): number[] {
  const x = pcm.planes[0]!;
  const span = 240; // 5 ms, five periods
  const begins: number[] = [];
  let re = 0;
  let im = 0;
  let quietFor = 0;
  const turn = (2 * Math.PI * 1000) / RATE;
  for (let i = 0; i < x.length; i++) {
    re += x[i]! * Math.cos(turn * i);
    im += x[i]! * Math.sin(turn * i);
    if (i < span) continue;
    re -= x[i - span]! * Math.cos(turn * (i - span));
    im -= x[i - span]! * Math.sin(turn * (i - span));
    const level = (2 * Math.hypot(re, im)) / span;
    if (level < threshold) quietFor++;
    else {
      // The filter is half full at half the level: a beep of 0.5 crosses 0.1 after a fifth of the span.
      if (quietFor > 960) begins.push(pcm.startMs + ((i - (span * threshold) / 0.5) * 1000) / RATE);
      quietFor = 0;
    }
  }
  return begins;
}
