import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { BandConfig, Clock } from "./config.js";
import type { Layers } from "./layers.js";
import { powerOf } from "./sound.js";

/** Numbers of each band in the summary of a frame. */
const SHARE = 16;
/** The levels before there was sound: 0.3 times the log of the floor 1e-4 under every power. */
const SILENCE = -2.76;
const FLOOR = 1e-4;

/** Edges in Hz: bands of 100 Hz to 1 kHz, 200 Hz to 3 kHz, 400 Hz to 5 kHz, 600 Hz above. */
const EDGES_HZ = [
  ...steps(0, 1000, 100),
  ...steps(1000, 3000, 200),
  ...steps(3000, 5000, 400),
  ...steps(5000, 8000, 600),
];

function steps(from: number, to: number, by: number): number[] {
  return Array.from({ length: (to - from) / by }, (_, i) => from + i * by);
}

export type BandLayout = {
  readonly count: number;
  /** Bins of the widest band. */
  readonly widest: number;
  /** Bin of every place of every band, count * widest: narrow bands repeat their last bin. */
  readonly bins: readonly number[];
  /** Place of every bin among those. */
  readonly places: readonly number[];
};

/** The bands of a spectrum of `bins` bins from 0 to 8 kHz; the last one takes the bin at 8 kHz too. */
export function bandLayout(bins: number): BandLayout {
  const edges = [...EDGES_HZ.map((hz) => Math.round((hz * (bins - 1)) / 8000)), bins];
  const count = edges.length - 1;
  const widths = Array.from({ length: count }, (_, k) => edges[k + 1]! - edges[k]!);
  const widest = Math.max(...widths);
  return {
    count,
    widest,
    bins: widths.flatMap((width, k) => Array.from({ length: widest }, (_, i) => edges[k]! + Math.min(i, width - 1))),
    places: widths.flatMap((width, k) => Array.from({ length: width }, (_, i) => k * widest + i)),
  };
}

/** x (bands, T, from) -> (bands, T, to): every band has its own weights. */
function eachBand(l: Layers, x: Value, name: string, bands: number, from: number, to: number): Value {
  return op.matMul(l.g, x, l.g.weight(name, [bands, from, to], l.raw(name, [bands, from, to])));
}

function biasOfEach(l: Layers, x: Value, name: string, bands: number, size: number): Value {
  return op.add(l.g, x, l.g.weight(name, [bands, 1, size], l.raw(name, [bands, size])));
}

/** One block, z (T, bands, width): along time within each band, all with the same weights; then a summary of the frame, which has a
 * memory of its own, tells every band of the others. */
function block(l: Layers, c: BandConfig, bands: number, z: Value, k: number): Value {
  const g = l.g;
  const [C, H] = [c.width, c.hidden];
  const name = `sep.blocks.${k}`;
  const along = l.lstm(l.norm(z, `${name}.n1`, C), `${name}.rnn.lstm`, C, `band${k}`);
  const x = op.add(g, z, l.linear(along, `${name}.o`, C, C));
  const parts = l.linear(l.norm(x, `${name}.n2`, C), `${name}.m1`, C, SHARE);
  const summary = op.gelu(g, l.linear(op.reshape(g, parts, [-1, SHARE * bands]), `${name}.m2`, SHARE * bands, H));
  const kept = l.lstm(op.reshape(g, summary, [-1, 1, H]), `${name}.full.lstm`, H, `frame${k}`);
  const told = l.linear(op.concat(g, [summary, op.reshape(g, kept, [-1, H])], 1), `${name}.m3`, 2 * H, SHARE * bands);
  const heard = op.gelu(g, op.reshape(g, told, [-1, bands, SHARE]));
  return op.add(g, x, l.linear(heard, `${name}.m4`, SHARE, C));
}

/** Spectrum (T, 2 bins) -> two masks (1, T, bins), each 0..1: two voices without names. */
export function bands(l: Layers, c: BandConfig, clock: Clock, spectrum: Value): { gain: Value; rest: Value } {
  const g = l.g;
  const C = c.width;
  const { count, widest, bins, places } = bandLayout(clock.bins);
  const indices = (of: readonly number[]): Value => g.constant(BigInt64Array.from(of, BigInt));
  const level = op.mul(g, op.unary(g, "Log", op.add(g, powerOf(g, spectrum, clock.bins), FLOOR)), 0.3);
  // The frame that gets a mask and its look-ahead are read together, so that no spectrum must be carried through the recurrent state.
  const rows = op.concat(g, [l.state("levels", [c.ahead, clock.bins], SILENCE), level], 0);
  l.keep("levels", op.slice(g, rows, 0, -c.ahead));
  const placed = op.reshape(g, op.gather(g, rows, indices(bins), 1), [-1, count, widest]);
  const taps = Array.from({ length: c.ahead + 1 }, (_, i) =>
    op.slice(g, placed, 0, i, i === c.ahead ? undefined : i - c.ahead),
  );
  const near = op.transpose(g, op.concat(g, taps, 2), [1, 0, 2]);
  const seen = biasOfEach(l, eachBand(l, near, "sep.inp", count, widest * (c.ahead + 1), C), "sep.pos", count, C);
  const first = op.transpose(g, op.gelu(g, l.norm(seen, "sep.n0", C)), [1, 0, 2]);
  let z = first;
  for (let k = 0; k < c.blocks; k++) z = block(l, c, count, z, k);
  const last = op.transpose(g, op.concat(g, [l.norm(z, "sep.n3", C), first], 2), [1, 0, 2]);
  const wide = op.gelu(g, biasOfEach(l, eachBand(l, last, "sep.o1", count, 2 * C, 2 * C), "sep.b1", count, 2 * C));
  const both = biasOfEach(l, eachBand(l, wide, "sep.o2", count, 2 * C, 2 * widest), "sep.b2", count, 2 * widest);
  const masks = op.unary(g, "Sigmoid", op.transpose(g, both, [1, 0, 2]));
  const where = indices(places);
  const mask = (from: number, to?: number): Value => {
    const flat = op.reshape(g, op.slice(g, masks, 2, from, to), [1, -1, count * widest]);
    return op.gather(g, flat, where, 2);
  };
  return { gain: mask(0, widest), rest: mask(widest) };
}
