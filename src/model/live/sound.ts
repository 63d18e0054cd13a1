import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { BINS, HOP, KEPT, WINDOW } from "./config.js";
import type { Layers } from "./layers.js";

/**
 * Matrix (1536, 514): frames of 48 kHz sound times it = real parts of bins 0..256, then imaginary parts. Root of the periodic
 * Hann window and a third of the sum: for sound without content above 8 kHz these are the numbers of the 512-point transform at
 * 16 kHz that the network was trained on (window and bin frequencies are the same, three times as many samples are summed).
 * The imaginary part of bin 256 is 0 as it is there (Nyquist). Stored as tables and expanded when the engine loads the file,
 * which keeps 3 MB out of it.
 */
function fourier(g: GraphBuilder): Value {
  const column = (f: (n: number) => number): Value =>
    g.constant(
      Float32Array.from({ length: WINDOW }, (_, n) => f(n)),
      [WINDOW, 1],
    );
  const turn = (2 * Math.PI) / WINDOW;
  const table = (f: (x: number) => number): Value =>
    g.constant(Float32Array.from({ length: WINDOW }, (_, n) => f(turn * n)));
  const n = g.constant(
    BigInt64Array.from({ length: WINDOW }, (_, i) => BigInt(i)),
    [WINDOW, 1],
  );
  const k = g.constant(
    BigInt64Array.from({ length: BINS }, (_, i) => BigInt(i)),
    [1, BINS],
  );
  const angle = g.node("Mod", [op.mul(g, n, k), g.ints(WINDOW)], [WINDOW, BINS]);
  const real = g.node("Gather", [table(Math.cos), angle], [WINDOW, BINS]);
  const imaginary = g.node("Gather", [table((a) => -Math.sin(a)), angle], [WINDOW, BINS]);
  const notNyquist = g.constant(
    Float32Array.from({ length: BINS }, (_, i) => (i === BINS - 1 ? 0 : 1)),
    [1, BINS],
  );
  const window = column((i) => Math.sqrt(0.5 - 0.5 * Math.cos(turn * i)) / 3);
  return op.mul(g, op.concat(g, [real, op.mul(g, imaginary, notNyquist)], 1), window);
}

function spectra(g: GraphBuilder, blocks: Value, perFrame: number): Value {
  const parts = Array.from({ length: perFrame }, (_, i) =>
    op.slice(g, blocks, 0, i, i === perFrame - 1 ? undefined : i + 1 - perFrame),
  );
  return op.matMul(g, op.concat(g, parts, 1), fourier(g));
}

/** samples (1, U * 1920) with the state `sound` (1, 1152) -> (5U, 514): real parts, then imaginary parts. */
export function stepSpectrum(l: Layers, samples: Value): Value {
  const g = l.g;
  const all = op.concat(g, [l.state("sound", [1, KEPT]), samples], 1);
  l.keep("sound", op.slice(g, all, 1, -KEPT));
  return spectra(g, op.reshape(g, all, [-1, HOP]), WINDOW / HOP);
}

/** samples (1, n) -> (frames, 257) powers at hop 768, frames centred on multiples of it, the ends mirrored. */
export function powerSpectrum(g: GraphBuilder, samples: Value, hop: number): Value {
  const padded = op.pad(g, samples, [0, WINDOW / 2, 0, WINDOW / 2], "reflect");
  const kernel = op.reshape(g, op.transpose(g, fourier(g), [1, 0]), [2 * BINS, 1, WINDOW]);
  const both = op.conv(g, op.reshape(g, padded, [1, 1, -1]), kernel, null, { strides: [hop] });
  const squares = op.mul(g, both, both);
  const sum = op.add(g, op.slice(g, squares, 1, 0, BINS), op.slice(g, squares, 1, BINS));
  return op.transpose(g, op.reshape(g, sum, [BINS, -1]), [1, 0]);
}

/** Triangular bank (257, bands) of the HTK mel scale, as train/ computes it. */
export function melBank(bands: number, low: number, high: number): Float32Array {
  const mel = (hz: number): number => 2595 * Math.log10(1 + hz / 700);
  const [from, to] = [mel(low), mel(high)];
  const edge = Array.from(
    { length: bands + 2 },
    (_, i) => 700 * (10 ** ((from + ((to - from) * i) / (bands + 1)) / 2595) - 1),
  );
  const bank = new Float32Array(BINS * bands);
  for (let k = 0; k < BINS; k++) {
    const f = (k * 8000) / (BINS - 1);
    for (let b = 0; b < bands; b++) {
      const up = (f - edge[b]!) / (edge[b + 1]! - edge[b]!);
      const down = (edge[b + 2]! - f) / (edge[b + 2]! - edge[b + 1]!);
      bank[k * bands + b] = Math.max(0, Math.min(up, down));
    }
  }
  return bank;
}
