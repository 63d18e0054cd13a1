import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { PaperLayers } from "./layers.js";
import { legacyMatrix } from "./resize.js";
import { DB, HEAD_DB } from "./scaling.js";
import { BINS, FLOOR_DB } from "./spectrum.js";
import type { Scales } from "./trunk.js";

const SLOPE = 0.2;

/** A part's spectrum, (batch, frames, 1025) each: level in dB and phase. */
export type Part = { readonly db: Value; readonly phase: Value };

/** Mixture's level and phase -> (batch, 2, frames, 1024), both about -1..1; the last bin is left out. */
function stacked(l: PaperLayers, mixture: Part): Value {
  const g = l.g;
  const bins = (x: Value): Value => op.unsqueeze(g, op.slice(g, x, 2, 0, BINS - 1), 1);
  const level = op.add(g, op.mul(g, bins(mixture.db), DB.scale), DB.shift);
  return op.concat(g, [level, op.mul(g, bins(mixture.phase), 1 / Math.PI)], 1);
}

/** A scale of the trunk at the times of `like`, the same at every frequency: mean over the picture, legacy resize in time. */
function told(l: PaperLayers, scale: Value, like: Value): Value {
  const g = l.g;
  const mean = l.unfolded
    ? op.unsqueeze(g, op.transpose(g, op.reduceMean(g, scale, [2, 3], false), [1, 0]), 0)
    : op.reduceMean(g, scale, [3, 4], false);
  const [from, to] = [mean.shape[2] as number, like.shape[2] as number];
  const matrix = (): Value => g.constant(legacyMatrix(from, to), [from, to]);
  const shape = [mean.shape[0]!, mean.shape[1]!, to];
  const timed = from === to ? mean : op.other(g, "MatMul", [mean, matrix()], shape);
  return op.expand(g, op.unsqueeze(g, timed, 3), [1, 1, 1, like.shape[3] as number]);
}

/** tanh of a head (batch, 2, frames, 1024) -> level and phase, with the last bin: silence in the mixture's phase. */
function spectrumOf(l: PaperLayers, head: Value, mixture: Part): Part {
  const g = l.g;
  const y = op.unary(g, "Tanh", head);
  const plane = (i: number): Value => op.squeeze(g, op.slice(g, y, 1, i, i + 1), 1);
  const db = op.add(g, op.mul(g, plane(0), HEAD_DB.scale), HEAD_DB.shift);
  const last = op.slice(g, mixture.phase, 2, BINS - 1);
  return {
    db: op.pad(g, db, [0, 0, 0, 0, 0, 1], "constant", FLOOR_DB),
    phase: op.concat(g, [op.mul(g, plane(1), Math.PI), last], 2),
  };
}

/**
 * u-net (section 2.2): the mixture's spectrum, frames a multiple of 128, and the trunk's scales (null: sound alone) -> both parts. No
 * masks: it gives the spectra themselves. fg = on screen, bg = off screen; without scales their order means nothing.
 */
export function unet(l: PaperLayers, mixture: Part, scales: Scales | null): { fg: Part; bg: Part } {
  const g = l.g;
  const skips: Value[] = [];
  let x = stacked(l, mixture);
  for (let i = 1; i <= 9; i++) {
    const y = l.conv(`gen/conv${i}`, x);
    x = op.leakyRelu(g, y, SLOPE);
    const scale = scales && i >= 3 && i <= 5 ? scales[i - 3]! : null;
    // Where the picture joins, what was joined is also the skip; elsewhere the skip is taken before the leaky relu.
    if (scale) x = l.note(`gen/join${i - 3}`, op.concat(g, [x, told(l, scale, x)], 1), 2);
    skips.push(scale ? x : y);
  }
  let y = l.conv("gen/deconv1", l.relu(skips[8]!));
  for (let j = 2; j <= 8; j++) y = l.conv(`gen/deconv${j}`, l.relu(op.concat(g, [y, skips[9 - j]!], 1)));
  const last = l.relu(op.concat(g, [y, skips[0]!], 1));
  return {
    fg: spectrumOf(l, l.conv("gen/fg", last), mixture),
    bg: spectrumOf(l, l.conv("gen/bg", last), mixture),
  };
}
