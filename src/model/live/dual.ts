import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { Film } from "./conditions.js";
import type { Clock, DualConfig } from "./config.js";
import type { Layers } from "./layers.js";

const MIX = 16;
const MIX_HIDDEN = 192;
const BINS = 257;
/** Bands inside of the network: 257 halved three times. */
const BANDS = 33;

/** Depthwise convolution of five taps over the bands, x (T, bands, width). */
function overBands(l: Layers, x: Value, name: string, width: number): Value {
  const g = l.g;
  const w = g.weight(`${name}.weight`, [width, 1, 5], l.raw(`${name}.weight`, [width, 1, 1, 5]));
  const y = op.conv(g, op.transpose(g, x, [0, 2, 1]), w, l.vector(`${name}.bias`, width), {
    pads: [2, 2],
    group: width,
  });
  return op.gelu(g, op.transpose(g, y, [0, 2, 1]));
}

/** One block: along time for each band, then across bands. z (frames, bands, width). */
function block(l: Layers, c: DualConfig, clock: Clock, z: Value, film: Film, k: number): Value {
  const g = l.g;
  const C = c.width;
  const name = `sep.blocks.${k}`;
  // The frames of a unit share one condition: seen as (U, frames * bands, width) it broadcasts, no copy.
  const units = op.reshape(g, l.norm(z, `${name}.n1`, C), [-1, clock.frames * BANDS, C]);
  const lit = op.reshape(g, op.add(g, op.mul(g, units, film.scale), film.shift), [-1, BANDS, C]);
  const x = op.add(g, z, l.linear(l.lstm(lit, `${name}.rnn.lstm`, C, `block${k}`), `${name}.o`, C, C));
  const y = l.norm(x, `${name}.n2`, C);
  const bands = op.reshape(g, l.linear(y, `${name}.m1`, C, MIX), [-1, BANDS * MIX]);
  const mixed = l.linear(
    op.gelu(g, l.linear(bands, `${name}.m2`, BANDS * MIX, MIX_HIDDEN)),
    `${name}.m3`,
    MIX_HIDDEN,
    BANDS * MIX,
  );
  const wide = l.linear(op.gelu(g, op.reshape(g, mixed, [-1, BANDS, MIX])), `${name}.m4`, MIX, C);
  const near = l.linear(overBands(l, y, `${name}.c1`, C), `${name}.c2`, C, C);
  return op.add(g, op.add(g, x, wide), near);
}

function convAcross(
  l: Layers,
  x: Value,
  name: string,
  from: number,
  to: number,
  kernel: readonly [number, number],
): Value {
  const g = l.g;
  const side = (kernel[1] - 1) / 2;
  const w = g.weight(`${name}.weight`, [to, from, ...kernel], l.raw(`${name}.weight`, [to, from, ...kernel]));
  return op.gelu(g, op.conv(g, x, w, l.vector(`${name}.bias`, to), { strides: [1, 2], pads: [0, side, 0, side] }));
}

function convBack(l: Layers, x: Value, name: string, from: number, to: number, kernel: number): Value {
  const g = l.g;
  const side = (kernel - 1) / 2;
  const w = g.weight(`${name}.weight`, [from, to, 1, kernel], l.raw(`${name}.weight`, [from, to, 1, kernel]));
  return op.convTranspose(g, x, w, l.vector(`${name}.bias`, to), { strides: [1, 2], pads: [0, side, 0, side] });
}

/** Real and imaginary parts (T, 514) -> the network's picture of the sound (1, 3, T, 257): both, and the magnitude, to the power 0.3. */
function compressed(l: Layers, spectrum: Value): Value {
  const g = l.g;
  const re = op.slice(g, spectrum, 1, 0, BINS);
  const im = op.slice(g, spectrum, 1, BINS);
  const power = op.add(g, op.add(g, op.mul(g, re, re), op.mul(g, im, im)), 1e-8);
  const k = op.binary(g, "Pow", power, -0.35);
  const plane = (x: Value): Value => op.reshape(g, x, [1, 1, -1, BINS]);
  return op.concat(
    g,
    [plane(op.mul(g, re, k)), plane(op.mul(g, im, k)), plane(op.mul(g, op.unary(g, "Sqrt", power), k))],
    1,
  );
}

/** Name of the layer that gives block k its scale and shift. */
export const dualFilm = (k: number): string => `sep.blocks.${k}.film`;

/** Spectrum (T, 514) -> both masks (1, T, 257), each 0..1: the wanted voice, and the rest. */
export function dual(
  l: Layers,
  c: DualConfig,
  clock: Clock,
  spectrum: Value,
  film: readonly Film[],
): { gain: Value; rest: Value } {
  const g = l.g;
  const C = c.width;
  const x = op.concat(g, [l.state("spectrum", [1, 3, 1, BINS]), compressed(l, spectrum)], 2);
  l.keep("spectrum", op.slice(g, x, 2, -1));
  const a = convAcross(l, x, "sep.e1", 3, C / 2, [2, 5]);
  const b = convAcross(l, a, "sep.e2", C / 2, C, [1, 5]);
  const d = convAcross(l, b, "sep.e3", C, C, [1, 3]);
  let z = op.add(
    g,
    op.reshape(g, op.transpose(g, d, [0, 2, 3, 1]), [-1, BANDS, C]),
    g.weight("sep.pos", [BANDS, C], l.raw("sep.pos", [BANDS, C])),
  );
  for (let k = 0; k < c.blocks; k++) z = block(l, c, clock, z, film[k]!, k);
  const back = op.reshape(g, op.transpose(g, z, [2, 0, 1]), [1, C, -1, BANDS]);
  const y3 = op.gelu(g, convBack(l, op.concat(g, [back, d], 1), "sep.d3", 2 * C, C, 3));
  const y2 = op.gelu(g, convBack(l, op.concat(g, [y3, b], 1), "sep.d2", 2 * C, C / 2, 5));
  const masks = op.unary(g, "Sigmoid", convBack(l, op.concat(g, [y2, a], 1), "sep.d1", C, 2, 5));
  const [gain, rest] = op.split(g, masks, 1, [1, 1]);
  return { gain: op.reshape(g, gain!, [1, -1, BINS]), rest: op.reshape(g, rest!, [1, -1, BINS]) };
}
