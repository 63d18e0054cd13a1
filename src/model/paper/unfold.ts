import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { toOnnx } from "./layout.js";
import { samePads, samePadsOf } from "./same.js";
import type { ConvRow } from "./table.js";

/**
 * A convolution over time, height and width written as two-dimensional ones over frames (T, channels, H, W): the same sum, term by
 * term. Engines have faster kernels for it (on the CPU 10 to 45 % less time), and it can be quantised.
 *
 * Few input channels (the picture, 3): the frames of all taps are laid side by side as channels and convolved once. Else one
 * convolution per tap, added up. Channels are filled up to a multiple of 4 because onnxruntime's WebGPU kernel (1.30) gives wrong
 * numbers for 15.
 */
const FEW = 4;
const CHANNEL_UNIT = 4;

export type Folded = {
  /** TensorFlow's weights: (time, height, width, in, out). */
  readonly weights: () => Float32Array;
  readonly scale: () => Float64Array;
  /** Puts a tensor into the graph, or finds it there. */
  readonly weight: (name: string, shape: readonly number[], make: () => Float32Array) => Value;
};

type Tensor = { readonly name: string; readonly shape: readonly number[]; readonly make: () => Float32Array };

const isFew = (row: ConvRow): boolean => row.kernel[0]! > 1 && row.from < FEW;

/** The tensors of a row in the file: one, or one for each tap. */
function tensorsOf(row: ConvRow, folded: Pick<Folded, "weights" | "scale">): Tensor[] {
  const [taps, ...plane] = row.kernel as [number, number, number];
  const each = plane[0] * plane[1] * row.from * row.to;
  const ofTap = (tap: number): Float32Array =>
    toOnnx(folded.weights().subarray(tap * each, (tap + 1) * each), row, folded.scale());
  const all = Array.from({ length: taps }, (_, tap) => tap);
  if (!isFew(row))
    return all.map((tap) => ({
      name: `${row.scope}/weights/${tap}`,
      shape: [row.to, row.from, ...plane],
      make: () => ofTap(tap),
    }));
  const filled = Math.ceil((taps * row.from) / CHANNEL_UNIT) * CHANNEL_UNIT;
  const make = (): Float32Array => beside(all.map(ofTap), row.to, filled * plane[0] * plane[1]);
  return [{ name: `${row.scope}/weights`, shape: [row.to, filled, ...plane], make }];
}

/**
 * All taps beside each other, for frames that `stackedFrames` laid so: one convolution in place of several. `values` gives a tensor's
 * numbers.
 */
export function stackedWeights(
  row: ConvRow,
  folded: Pick<Folded, "weights" | "scale">,
  values: (tensor: Tensor) => Float32Array,
): { readonly shape: readonly number[]; readonly make: () => Float32Array } {
  const parts = tensorsOf(row, folded);
  const [to, from, ...plane] = parts[0]!.shape as [number, number, number, number];
  const shape = [to, parts.length * from, ...plane];
  return {
    shape,
    make: () =>
      beside(
        parts.map(values),
        to,
        shape.slice(1).reduce((a, b) => a * b),
      ),
  };
}

type Cut = { readonly options: op.ConvOptions; readonly taps: number; readonly frames: (tap: number) => Value };

/** Frames of each tap of x (T, in, H, W) after SAME padding in time. */
function cut(g: GraphBuilder, row: ConvRow, x: Value, nothing?: Value): Cut {
  const [taps, ...plane] = row.kernel as [number, number, number];
  const [step, ...strides] = row.stride as [number, number, number];
  const [length, , ...size] = x.shape as [number, number, number, number];
  const time = samePads(length, taps, step);
  const amounts = [time.before, 0, 0, 0, time.after, 0, 0, 0];
  const padded = time.before + time.after > 0 ? op.pad(g, x, amounts, "constant", nothing) : x;
  const frames = (tap: number): Value =>
    taps === 1 && step === 1 ? padded : op.strided(g, padded, [{ axis: 0, from: tap, step, count: time.out }]);
  return { options: { strides, pads: samePadsOf(size, plane, strides) }, taps, frames };
}

/** Taps as channels, filled up to what the weights have. `nothing`: what padding holds, default 0. */
export function stackedFrames(
  g: GraphBuilder,
  row: ConvRow,
  x: Value,
  nothing?: Value,
): { readonly x: Value; readonly options: op.ConvOptions } {
  const { options, taps, frames } = cut(g, row, x, nothing);
  const all = Array.from({ length: taps }, (_, tap) => frames(tap));
  const stacked = taps === 1 ? all[0]! : op.concat(g, all, 1);
  const channels = taps * row.from;
  const rest = isFew(row) ? Math.ceil(channels / CHANNEL_UNIT) * CHANNEL_UNIT - channels : 0;
  return { x: rest > 0 ? op.pad(g, stacked, [0, 0, 0, 0, 0, rest, 0, 0], "constant", nothing) : stacked, options };
}

/** x (T, in, H, W) -> (T', out, H', W'), SAME padding. */
export function unfoldedConv(g: GraphBuilder, row: ConvRow, x: Value, bias: Value, folded: Folded): Value {
  const weights = tensorsOf(row, folded).map(({ name, shape, make }) => folded.weight(name, shape, make));
  if (isFew(row)) {
    const stacked = stackedFrames(g, row, x);
    return op.conv(g, stacked.x, weights[0]!, bias, stacked.options);
  }
  const { options, frames } = cut(g, row, x);
  return weights
    .map((w, tap) => op.conv(g, frames(tap), w, tap === 0 ? bias : null, options))
    .reduce((a, b) => op.add(g, a, b));
}

/** Rows of several matrices (each `rows` long) behind each other, zeros up to `width`. */
function beside(parts: readonly Float32Array[], rows: number, width: number): Float32Array {
  const out = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    let at = row * width;
    for (const part of parts) {
      const n = part.length / rows;
      out.set(part.subarray(row * n, (row + 1) * n), at);
      at += n;
    }
  }
  return out;
}
