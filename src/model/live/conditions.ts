import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { LiteConfig, LiveConfig } from "./config.js";
import type { Layers } from "./layers.js";

const VOICE = 64;

/** What a separator is told beside the sound; features are those of the picture two units ago. */
export type Conditions = {
  readonly features: Value;
  readonly hasPicture: Value;
  readonly memory: Value;
  readonly hasMemory: Value;
};

/** Scale (1 already added) and shift of one block, (U, 1, width) each: the frames of a unit share them. */
export type Film = { readonly scale: Value; readonly shift: Value };

/** Features (U, vdim) -> picture condition (U, vhidden). */
function lips(l: Layers, c: LiveConfig, features: Value): Value {
  const g = l.g;
  const y = op.gelu(g, l.linear(l.norm(features, "sep.picture.norm", c.vdim), "sep.picture.inp", c.vdim, c.vhidden));
  const z = op.gelu(g, l.causal(y, "sep.picture.conv", c.vhidden, c.vhidden, 3, "lips").y);
  return op.reshape(g, l.lstm(op.reshape(g, z, [-1, 1, c.vhidden]), "sep.picture.rnn.lstm", c.vhidden, "lips"), [
    -1,
    c.vhidden,
  ]);
}

/** Name of the layer that gives block k its scale and shift. */
const name = (k: number): string => `sep.films.${k}`;

/** Scale and shift of every block of a separator that is told nothing: the biases of the layers. */
export function blindFilms(l: Layers, { width, blocks }: LiteConfig): Film[] {
  return Array.from({ length: blocks }, (_, k) => {
    const bias = l.raw(`${name(k)}.bias`, [2 * width]);
    const part = (what: string, values: Float32Array): Value => l.g.weight(`${name(k)}.${what}`, [1, 1, width], values);
    return {
      scale: part(
        "scale",
        bias.slice(0, width).map((x) => x + 1),
      ),
      shift: part("shift", bias.slice(width)),
    };
  });
}

/**
 * Scale and shift of every block from the conditions. What does not change with the picture (voice memory, the two flags, bias) is one
 * row, worked out once a step.
 */
export function films(l: Layers, c: LiveConfig, { width, blocks }: LiteConfig, on: Conditions): Film[] {
  const g = l.g;
  const m = op.gelu(g, l.linear(on.memory, "sep.voice.0", c.edim, VOICE));
  const steady = op.concat(g, [op.mul(g, m, on.hasMemory), on.hasPicture, on.hasMemory], 1);
  const moving = op.mul(g, lips(l, c, on.features), on.hasPicture);
  const n = 2 * width;
  const cdim = c.vhidden + VOICE + 2;
  const all = n * blocks;
  const wMoving = new Float32Array(c.vhidden * all);
  const wSteady = new Float32Array((VOICE + 2) * all);
  const bias = new Float32Array(all);
  for (let k = 0; k < blocks; k++) {
    const w = l.raw(`${name(k)}.weight`, [n, cdim]);
    const b = l.raw(`${name(k)}.bias`, [n]);
    for (let o = 0; o < n; o++) {
      const to = k * n + o;
      bias[to] = b[o]! + (o < width ? 1 : 0);
      for (let i = 0; i < c.vhidden; i++) wMoving[i * all + to] = w[o * cdim + i]!;
      for (let i = 0; i < VOICE + 2; i++) wSteady[i * all + to] = w[o * cdim + c.vhidden + i]!;
    }
  }
  const fixed = op.add(
    g,
    op.matMul(g, steady, g.weight("film.steady", [VOICE + 2, all], wSteady)),
    g.weight("film.bias", [all], bias),
  );
  const both = op.add(g, op.matMul(g, moving, g.weight("film.picture", [c.vhidden, all], wMoving)), fixed);
  const parts = op.split(g, op.reshape(g, both, [-1, 1, all]), 2, new Array<number>(2 * blocks).fill(width));
  return Array.from({ length: blocks }, (_, k) => ({ scale: parts[2 * k]!, shift: parts[2 * k + 1]! }));
}
