import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { Film } from "./conditions.js";
import type { Clock, LiteConfig } from "./config.js";
import type { Layers } from "./layers.js";
import { powerOf } from "./sound.js";

/** Above 4 kHz bins are taken together in this many bands of equal width; below each bin is a band. */
const WIDE = 16;
/** The last frame's levels before there was one: log of the floor 1e-4 under every power. */
const SILENCE = -9.2;

type Bands = { readonly single: number; readonly each: number; readonly count: number };

function bandsOf(bins: number): Bands {
  const single = (bins - 1) / 2 + 1;
  return { single, each: (bins - single) / WIDE, count: single + WIDE };
}

/** (T, bins) -> (T, bands): means. */
function toBands(g: GraphBuilder, x: Value, { single, each }: Bands): Value {
  const wide = op.reduceMean(g, op.reshape(g, op.slice(g, x, 1, single), [-1, WIDE, each]), [2], false);
  return op.concat(g, [op.slice(g, x, 1, 0, single), wide], 1);
}

/** (T, bands) -> (T, bins): every bin of a band gets its value. */
function toBins(g: GraphBuilder, x: Value, { single, each }: Bands): Value {
  const ones = g.constant(new Float32Array(each).fill(1), [1, 1, each]);
  const wide = op.mul(g, op.reshape(g, op.slice(g, x, 1, single), [-1, WIDE, 1]), ones);
  return op.concat(g, [op.slice(g, x, 1, 0, single), op.reshape(g, wide, [-1, WIDE * each])], 1);
}

/** Spectrum (T, 2 bins) -> both masks (1, T, bins), each 0..1: the wanted voice, and the rest. */
export function lite(
  l: Layers,
  c: LiteConfig,
  clock: Clock,
  spectrum: Value,
  film: readonly Film[],
): { gain: Value; rest: Value } {
  const g = l.g;
  const bands = bandsOf(clock.bins);
  const n = bands.count;
  const H = c.width;
  const power = op.add(g, toBands(g, powerOf(g, spectrum, clock.bins), bands), 1e-4);
  const all = op.concat(g, [l.state("levels", [1, n], SILENCE), op.unary(g, "Log", power)], 0);
  l.keep("levels", op.slice(g, all, 0, -1));
  const level = op.slice(g, all, 0, 1);
  const change = op.sub(g, level, op.slice(g, all, 0, 0, -1));
  const heard = op.mul(g, op.concat(g, [level, change], 1), 0.3);
  // Over the frame that gets a mask and its look-ahead, so that no spectrum must be carried through the recurrent state.
  const { y: seen } = l.causal(heard, "sep.inp", 2 * n, H, c.ahead + 1, "heard_past");
  const first = op.gelu(g, l.norm(seen, "sep.n0", H));
  let z = first;
  for (let k = 0; k < c.blocks; k++) {
    const units = op.reshape(g, l.norm(z, `sep.norms.${k}`, H), [-1, clock.frames, H]);
    const lit = op.add(g, op.mul(g, units, film[k]!.scale), film[k]!.shift);
    const y = l.lstm(op.reshape(g, lit, [-1, 1, H]), `sep.rnns.${k}.lstm`, H, `block${k}`);
    z = op.add(g, z, op.reshape(g, y, [-1, H]));
  }
  const masks = op.unary(g, "Sigmoid", l.linear(op.concat(g, [z, first], 1), "sep.out", 2 * H, 2 * n));
  const mask = (from: number, to?: number): Value =>
    op.reshape(g, toBins(g, op.slice(g, masks, 1, from, to), bands), [1, -1, clock.bins]);
  return { gain: mask(0, n), rest: mask(n) };
}
