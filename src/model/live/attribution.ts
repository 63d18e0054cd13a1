import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { Conditions } from "./conditions.js";
import type { AttributionConfig, Clock, LiveConfig } from "./config.js";
import type { Layers } from "./layers.js";
import { melBank, powerOf } from "./sound.js";

/** The last levels before there were any: log of the floor 1e-4 under every power. */
const SILENCE = -9.2;
/** Share of the evidence that one picture keeps: from 2 s to 10 s, as it was trained. */
const KEEPING = { least: 0.98, range: 0.016 } as const;
const MEMORY_WEIGHT = 0.05;

/** What the blind separator gave: masks (1, T, bins) each, no one knows whose, and the spectrum (T, 2 bins) of the newest frames. */
export type BlindVoices = { readonly masks: readonly [Value, Value]; readonly spectrum: Value };

/**
 * Whose voice is the one that belongs to the face? Both separated voices are compared with the lips, and with the voice memory; what
 * each picture says is added up over seconds (state `evidence`), and the masks are mixed as far as each voice is believed to be the
 * wanted one. "Neither" is possible: the visible person is silent. Evidence is about what was seen and heard four pictures before, so
 * the comparison needs no look-ahead and adds no latency. While there is no picture nothing is forgotten: the choice outlasts a
 * cut-away. Names and layouts are those of train/attribution.py.
 *
 * @returns masks (1, T, bins) of the wanted voice and of the rest
 */
export function attribute(
  l: Layers,
  c: LiveConfig,
  a: AttributionConfig,
  clock: Clock,
  on: Conditions,
  { masks, spectrum }: BlindVoices,
): { gain: Value; rest: Value } {
  const g = l.g;
  const both = op.concat(g, masks, 0);
  const heard = voices(l, a, clock, op.mul(g, op.mul(g, both, both), delayed(l, c, clock, spectrum)));
  const seen = lips(l, c, a, on.features);
  const match = op.reduceMean(
    g,
    op.mul(
      g,
      op.unitRows(g, l.linear(seen, "att.vo", a.hidden, a.dim)),
      op.unitRows(g, l.linear(heard, "att.ao", a.hidden, a.dim)),
    ),
    [2],
  );
  const cosine = op.mul(g, match, a.dim);
  const sure = op.mul(
    g,
    op.unary(g, "Softplus", l.linear(heard, "att.asure", a.hidden, 1)),
    l.raw("att.scale", [])[0]!,
  );
  const bySight = op.mul(g, op.mul(g, sure, op.sub(g, cosine, l.raw("att.fit", [])[0]!)), on.hasPicture);
  const alike = op.matMul(g, l.linear(heard, "att.who", a.hidden, c.edim), op.reshape(g, on.memory, [c.edim, 1]));
  const byMemory = op.mul(g, op.mul(g, alike, MEMORY_WEIGHT), on.hasMemory);
  const total = gathered(l, op.add(g, bySight, byMemory), on.hasPicture);

  // (2, U, 1) and "neither" -> shares of belief, the same for all frames of a unit.
  const neither = op.add(g, op.mul(g, op.slice(g, total, 0, 0, 1), 0), l.raw("att.neither", [])[0]!);
  const belief = op.softmax(g, op.concat(g, [total, neither], 0), 0);
  const ones = g.constant(new Float32Array(clock.frames).fill(1), [1, 1, clock.frames]);
  const weight = op.reshape(g, op.mul(g, op.slice(g, belief, 0, 0, 2), ones), [2, -1, 1]);
  const gain = op.mul(g, op.reduceMean(g, op.mul(g, weight, both), [0]), 2);
  const sum = op.mul(g, op.reduceMean(g, both, [0]), 2);
  return { gain, rest: op.sub(g, sum, gain) };
}

/** Powers (T, bins) of the frames that the masks are for: `ahead` frames before the newest. */
function delayed(l: Layers, c: LiveConfig, clock: Clock, spectrum: Value): Value {
  const { ahead } = c.separator;
  const all = op.concat(l.g, [l.state("powers", [ahead, clock.bins]), powerOf(l.g, spectrum, clock.bins)], 0);
  l.keep("powers", op.slice(l.g, all, 0, -ahead));
  return op.slice(l.g, all, 0, 0, -ahead);
}

/** Features (U, vdim) -> rows (U, hidden), four pictures late. */
function lips(l: Layers, c: LiveConfig, a: AttributionConfig, features: Value): Value {
  const g = l.g;
  const y = op.gelu(g, l.causal(l.norm(features, "att.v0", c.vdim), "att.v1", c.vdim, a.hidden, 5, "seen_past").y);
  return op.add(g, y, op.gelu(g, l.causal(y, "att.v2", a.hidden, a.hidden, 5, "seen_past2").y));
}

/** Powers (2, T, bins) of the two voices -> rows (2, U, hidden), four pictures late. */
function voices(l: Layers, a: AttributionConfig, clock: Clock, powers: Value): Value {
  const g = l.g;
  const bank = g.constant(melBank(clock.bins, a.bands, 50, 7600), [clock.bins, a.bands]);
  const level = op.transpose(g, op.unary(g, "Log", op.add(g, op.matMul(g, powers, bank), 1e-4)), [0, 2, 1]);
  const before = op.concat(g, [l.state("voice_levels", [2, a.bands, 1], SILENCE), op.slice(g, level, 2, 0, -1)], 2);
  l.keep("voice_levels", op.slice(g, level, 2, -1));
  const x = op.mul(g, op.concat(g, [level, op.sub(g, level, before)], 1), 0.3);
  const { frames } = clock;
  const first = op.gelu(g, causalConv(l, x, "att.a1", [a.hidden, 2 * a.bands, 5], 1, "voice_past"));
  const unit = op.gelu(g, causalConv(l, first, "att.a2", [a.hidden, a.hidden, 2 * frames + 1], frames, "voice_past2"));
  const last = op.gelu(g, causalConv(l, unit, "att.a3", [a.hidden, a.hidden, 5], 1, "voice_past3"));
  return op.transpose(g, op.add(g, unit, last), [0, 2, 1]);
}

/** Conv1d over time of x (2, from, T), T a multiple of `stride`, which ends with the newest frame; its past is the state `kept`. */
function causalConv(
  l: Layers,
  x: Value,
  name: string,
  shape: readonly [to: number, from: number, kernel: number],
  stride: number,
  kept: string,
): Value {
  const g = l.g;
  const [to, from, kernel] = shape;
  const all = op.concat(g, [l.state(kept, [2, from, kernel - stride]), x], 2);
  l.keep(kept, op.slice(g, all, 2, stride - kernel));
  const weight = g.weight(`${name}.weight`, [...shape], l.raw(`${name}.weight`, shape));
  return op.conv(g, all, weight, l.vector(`${name}.bias`, to), { strides: [stride] });
}

/** e (2, U, 1), one row a picture -> what has come together by then, the older the less; with no picture nothing fades. */
function gathered(l: Layers, e: Value, hasPicture: Value): Value {
  const g = l.g;
  const hold = l.raw("att.hold", [])[0]!;
  const keeping = KEEPING.least + KEEPING.range / (1 + Math.exp(-hold));
  const rate = op.unary(g, "Log", op.add(g, op.mul(g, hasPicture, keeping - 1), 1));
  const count = op.cumSum(g, op.add(g, op.mul(g, e, 0), 1), 1);
  const fade = op.unary(g, "Exp", op.mul(g, count, rate));
  const since = op.cumSum(g, op.div(g, e, fade), 1);
  const total = op.mul(g, fade, op.add(g, since, l.state("evidence", [2, 1, 1])));
  l.keep("evidence", op.slice(g, total, 1, -1));
  return total;
}
