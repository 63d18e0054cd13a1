import { RealFft } from "../../src/pipeline/fft.js";
import { SAMPLE_RATE } from "../../src/pipeline/types.js";

/** Samples from .. to (48 kHz). */
export type Span = { readonly from: number; readonly to: number };

const FRAME = 960;
/** Below this mean power (-70 dBFS) there is nothing to be changed. */
const AUDIBLE = 1e-7;

export const span = (fromSeconds: number, toSeconds: number): Span => ({
  from: Math.round(fromSeconds * SAMPLE_RATE),
  to: Math.round(toSeconds * SAMPLE_RATE),
});

const energy = (x: Float32Array, { from, to }: Span): number => {
  let sum = 0;
  for (let i = Math.max(0, from); i < Math.min(to, x.length); i++) sum += x[i]! * x[i]!;
  return sum;
};

/** Level of `after` against `before` in dB; -100 to 100. 0 where `before` is silent. */
export function levelChange(before: Float32Array, after: Float32Array, where: Span): number {
  const was = energy(before, where);
  return was === 0 ? 0 : bounded(10 * Math.log10(energy(after, where) / was));
}

/** Decibels that JSON can hold. */
export const bounded = (decibels: number): number =>
  Number.isNaN(decibels) ? -100 : Math.min(100, Math.max(-100, decibels));

/** The largest absolute level change over windows of one second, half a second apart, in which something is heard. */
export function worstChange(before: Float32Array, after: Float32Array): number {
  let worst = 0;
  for (let from = 0; from + SAMPLE_RATE <= before.length; from += SAMPLE_RATE / 2) {
    const where = { from, to: from + SAMPLE_RATE };
    if (energy(before, where) / SAMPLE_RATE > AUDIBLE)
      worst = Math.max(worst, Math.abs(levelChange(before, after, where)));
  }
  return worst;
}

const fft = new RealFft(1024);
const WINDOW = Float64Array.from({ length: fft.size }, (_, i) => Math.sin((Math.PI * (i + 0.5)) / fft.size));

/**
 * By how many dB the energy of `part`, one voice of `mix`, was changed by the gains that made `out` from `mix`; 0 when it passed whole.
 * The gain of each cell (21 ms, 47 Hz, frames 5 ms apart) is Re(out mix*) / |mix|^2, between 0 and 1; frames are those centred in
 * `where`. Unlike a projection of `out` onto `part` it does not mistake the other voice for it in short spans.
 */
export function passed(mix: Float32Array, out: Float32Array, part: Float32Array, where: Span): number {
  const [m, o, p] = [0, 1, 2].map(() => new Float64Array(2 * fft.bins)) as [Float64Array, Float64Array, Float64Array];
  const frame = new Float64Array(fft.size);
  const transform = (x: Float32Array, at: number, spectrum: Float64Array): void => {
    for (let i = 0; i < fft.size; i++) frame[i] = WINDOW[i]! * (x[at + i] ?? 0);
    fft.forward(frame, spectrum);
  };
  let whole = 0;
  let left = 0;
  for (let middle = where.from; middle < where.to; middle += 256) {
    const at = middle - fft.size / 2;
    transform(mix, at, m);
    transform(out, at, o);
    transform(part, at, p);
    for (let k = 0; k < m.length; k += 2) {
      const power = m[k]! ** 2 + m[k + 1]! ** 2;
      const gain = power === 0 ? 1 : Math.min(1, Math.max(0, (o[k]! * m[k]! + o[k + 1]! * m[k + 1]!) / power));
      const voice = p[k]! ** 2 + p[k + 1]! ** 2;
      whole += voice;
      left += gain * gain * voice;
    }
  }
  return whole === 0 ? 0 : bounded(10 * Math.log10(left / whole));
}

/** Frames of 20 ms that lie within `belowDb` of the loudest tenth: speech, in a recording with one voice. */
export function speechFrames(x: Float32Array, belowDb = 20): boolean[] {
  const powers: number[] = [];
  for (let at = 0; at + FRAME <= x.length; at += FRAME) powers.push(energy(x, { from: at, to: at + FRAME }) / FRAME);
  const loud = [...powers].sort((a, b) => a - b)[Math.floor(0.9 * powers.length)] ?? 0;
  return powers.map((p) => p > loud * 10 ** (-belowDb / 10));
}

/** The longest pause that begins after `before` seconds and ends `after` seconds before the end; null: none of `least` seconds. */
export function longestPause(x: Float32Array, before: number, after: number, least: number): Span | null {
  const speech = speechFrames(x);
  let best: Span | null = null;
  for (let i = 0; i < speech.length; ) {
    let end = i;
    while (end < speech.length && !speech[end]) end++;
    const pause = { from: i * FRAME, to: end * FRAME };
    const length = pause.to - pause.from;
    const inside = pause.from >= before * SAMPLE_RATE && pause.to <= x.length - after * SAMPLE_RATE;
    if (inside && length >= least * SAMPLE_RATE && length > (best === null ? 0 : best.to - best.from)) best = pause;
    i = end + 1;
  }
  return best;
}

/** From the first speech on. */
export function withoutSilentBegin(x: Float32Array): Float32Array {
  return x.subarray(Math.max(0, speechFrames(x).indexOf(true)) * FRAME);
}
