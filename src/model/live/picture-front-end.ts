import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { LiveConfig } from "./config.js";
import type { Layers } from "./layers.js";

/** Convolution 3x3 / 2 with its batch norm folded in (running mean and variance, epsilon 1e-5). */
function convNorm(l: Layers, x: Value, eye: string, i: number, from: number, to: number): Value {
  const w = Float32Array.from(l.raw(`${eye}.conv.${i}.weight`, [to, from, 3, 3]));
  const b = Float32Array.from(l.raw(`${eye}.conv.${i}.bias`, [to]));
  const part = (what: string): Float32Array => l.raw(`${eye}.norm.${i}.${what}`, [to]);
  const [gamma, beta, mean, variance] = [part("weight"), part("bias"), part("running_mean"), part("running_var")];
  for (let o = 0; o < to; o++) {
    const scale = gamma[o]! / Math.sqrt(variance[o]! + 1e-5);
    for (let k = 0; k < from * 9; k++) w[o * from * 9 + k]! *= scale;
    b[o] = (b[o]! - mean[o]!) * scale + beta[o]!;
  }
  const g = l.g;
  const y = op.conv(
    g,
    x,
    g.weight(`${eye}.conv.${i}.weight`, [to, from, 3, 3], w),
    g.weight(`${eye}.conv.${i}.bias`, [to], b),
    { strides: [2, 2], pads: [1, 1, 1, 1] },
  );
  return op.unary(g, "Relu", y);
}

/** Three taps over time for each channel: x (U, channels, q, q) -> the same, looking one picture ahead (one picture late). */
function taps(l: Layers, x: Value, eye: string, i: number, channels: number, q: number): Value {
  const g = l.g;
  const kept = `${stateOf(eye)}_taps${i}`;
  const all = op.concat(g, [l.state(kept, [2, channels, q, q]), x], 0);
  l.keep(kept, op.slice(g, all, 0, -2));
  const raw = l.raw(`${eye}.taps.${i}`, [channels, 3]);
  const tap = (k: number): Value =>
    g.weight(
      `${eye}.taps.${i}.${k}`,
      [1, channels, 1, 1],
      Float32Array.from({ length: channels }, (_, c) => raw[c * 3 + k]!),
    );
  const at = (k: number): Value => op.mul(g, op.slice(g, all, 0, k, k === 2 ? undefined : k - 2), tap(k));
  return op.add(g, op.add(g, at(0), at(1)), at(2));
}

const stateOf = (eye: string): string => eye.replaceAll(".", "_");

/**
 * Crops (1, U, side, side) of 0..255 -> what the front ends look at, (U, 2, side, side): each picture, and how it differs from the one before. The
 * picture before the first one counts as equal to it (state `seen` is 0 at the start and after a step without picture). In a step without
 * picture the given crops are not looked at: the last one stands still, mid-grey if there was none.
 */
export function shown(l: Layers, c: LiveConfig, crops: Value, hasPicture: Value): Value {
  const g = l.g;
  const s = c.side;
  const grey = op.cast(g, op.reshape(g, crops, [-1, 1, s, s]), "float32");
  const given = op.mul(g, op.sub(g, op.div(g, grey, 255), 0.42), 1 / 0.17);
  const seen = l.state("seen", [1, 1]);
  const last = l.state("crop", [1, 1, s, s]);
  const x = op.add(g, last, op.mul(g, op.sub(g, given, last), hasPicture));
  l.keep("seen", hasPicture);
  l.keep("crop", op.slice(g, x, 0, -1));
  const first = op.slice(g, x, 0, 0, 1);
  const before = op.add(g, first, op.mul(g, op.sub(g, last, first), seen));
  const previous = op.slice(g, op.concat(g, [before, x], 0), 0, 0, -1);
  return op.concat(g, [x, op.mul(g, op.sub(g, x, previous), 3)], 1);
}

/** Picture front end of the eye with weights EYE.*: what is shown -> features (U, vdim); row p is the feature of picture p - 2. */
export function student(l: Layers, c: LiveConfig, pictures: Value, eye = "student"): Value {
  const g = l.g;
  const s = c.side;
  let h = pictures;
  for (let i = 0; i < 4; i++) {
    h = convNorm(l, h, eye, i, i === 0 ? 2 : c.widths[i - 1]!, c.widths[i]!);
    if (i === 1 || i === 2) h = taps(l, h, eye, i - 1, c.widths[i]!, s / 2 ** (i + 1));
  }
  const flat = c.widths[3] * (s / 16) ** 2;
  let y = l.norm(l.linear(op.reshape(g, h, [-1, flat]), `${eye}.flat`, flat, c.hidden), `${eye}.n1`, c.hidden);
  for (const [name, kernel] of [
    ["k1", 5],
    ["k2", 3],
  ] as const) {
    const z = l.causal(y, `${eye}.${name}`, c.hidden, c.hidden, kernel, `${stateOf(eye)}_${name}`);
    y = op.add(g, y, op.gelu(g, z.y));
  }
  return l.linear(y, `${eye}.out`, c.hidden, c.vdim);
}
