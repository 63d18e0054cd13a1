import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { Clock } from "./config.js";
import type { Layers } from "./layers.js";

/**
 * Matrix (window, 2 bins) with bins = window / 6 + 1, 0 to 8000 Hz: frames of 48 kHz sound times it = real parts of all bins, then
 * imaginary parts. Root of the periodic Hann window and a third of the sum: for sound without content above 8 kHz these are the
 * numbers of the transform of window / 3 points at 16 kHz that the network was trained on (window and bin frequencies are the same,
 * three times as many samples are summed). The imaginary part of the last bin is 0 as it is there (Nyquist). Stored as tables and
 * expanded when the engine loads the file, which keeps megabytes out of it.
 */
function fourier(g: GraphBuilder, window: number): Value {
  const bins = binsOf(window);
  const turn = (2 * Math.PI) / window;
  const table = (f: (x: number) => number): Value =>
    g.constant(Float32Array.from({ length: window }, (_, n) => f(turn * n)));
  const n = g.constant(
    BigInt64Array.from({ length: window }, (_, i) => BigInt(i)),
    [window, 1],
  );
  const k = g.constant(
    BigInt64Array.from({ length: bins }, (_, i) => BigInt(i)),
    [1, bins],
  );
  const angle = g.node("Mod", [op.mul(g, n, k), g.ints(window)], [window, bins]);
  const real = g.node("Gather", [table(Math.cos), angle], [window, bins]);
  const imaginary = g.node("Gather", [table((a) => -Math.sin(a)), angle], [window, bins]);
  const notNyquist = g.constant(
    Float32Array.from({ length: bins }, (_, i) => (i === bins - 1 ? 0 : 1)),
    [1, bins],
  );
  const shape = g.constant(
    Float32Array.from({ length: window }, (_, i) => Math.sqrt(0.5 - 0.5 * Math.cos(turn * i)) / 3),
    [window, 1],
  );
  return op.mul(g, op.concat(g, [real, op.mul(g, imaginary, notNyquist)], 1), shape);
}

const binsOf = (window: number): number => window / 6 + 1;

/** samples (1, U * 1920) with the state `sound` (1, kept) -> (U * frames, 2 bins): real parts, then imaginary parts. */
export function stepSpectrum(l: Layers, { window, hop, kept }: Clock, samples: Value): Value {
  const g = l.g;
  const all = op.concat(g, [l.state("sound", [1, kept]), samples], 1);
  l.keep("sound", op.slice(g, all, 1, -kept));
  const blocks = op.reshape(g, all, [-1, hop]);
  const perFrame = window / hop;
  const parts = Array.from({ length: perFrame }, (_, i) =>
    op.slice(g, blocks, 0, i, i === perFrame - 1 ? undefined : i + 1 - perFrame),
  );
  return op.matMul(g, op.concat(g, parts, 1), fourier(g, window));
}

/** Spectrum (T, 2 bins) or (1, 2 bins, T) -> half of axis 1: squares of real and imaginary part added. */
export function powerOf(g: GraphBuilder, spectrum: Value, bins: number): Value {
  const squares = op.mul(g, spectrum, spectrum);
  return op.add(g, op.slice(g, squares, 1, 0, bins), op.slice(g, squares, 1, bins));
}

/** samples (1, n) -> (frames, window / 6 + 1) powers, frames centred on multiples of the hop, the ends mirrored. */
export function powerSpectrum(g: GraphBuilder, samples: Value, window: number, hop: number): Value {
  return powerFrames(g, op.pad(g, samples, [0, window / 2, 0, window / 2], "reflect"), window, hop);
}

/** samples (1, n) -> (frames, window / 6 + 1) powers; the first frame begins with the first sample, none is padded. */
export function powerFrames(g: GraphBuilder, samples: Value, window: number, hop: number): Value {
  const bins = binsOf(window);
  const kernel = op.reshape(g, op.transpose(g, fourier(g, window), [1, 0]), [2 * bins, 1, window]);
  const both = op.conv(g, op.reshape(g, samples, [1, 1, -1]), kernel, null, { strides: [hop] });
  return op.transpose(g, op.reshape(g, powerOf(g, both, bins), [bins, -1]), [1, 0]);
}

/** Triangular bank (bins, bands) of the HTK mel scale for bins from 0 to 8000 Hz, as train/ computes it. */
export function melBank(bins: number, bands: number, low: number, high: number): Float32Array {
  const mel = (hz: number): number => 2595 * Math.log10(1 + hz / 700);
  const [from, to] = [mel(low), mel(high)];
  const edge = Array.from(
    { length: bands + 2 },
    (_, i) => 700 * (10 ** ((from + ((to - from) * i) / (bands + 1)) / 2595) - 1),
  );
  const bank = new Float32Array(bins * bands);
  for (let k = 0; k < bins; k++) {
    const f = (k * 8000) / (bins - 1);
    for (let b = 0; b < bands; b++) {
      const up = (f - edge[b]!) / (edge[b + 1]! - edge[b]!);
      const down = (edge[b + 2]! - f) / (edge[b + 2]! - edge[b + 1]!);
      bank[k * bands + b] = Math.max(0, Math.min(up, down));
    }
  }
  return bank;
}
