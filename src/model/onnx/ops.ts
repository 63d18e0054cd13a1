import { addDims, broadcast, convDim, type Dim, dim, mulDims, type Shape, sameDim, shapeText, sizeOf } from "./dims.js";
import { type Attribute, type ElementType, float, type GraphBuilder, reshaped, type Value } from "./graph-builder.js";

/** Layers: one small function each, values in, value out, with the output's shape and the work counted. */

export function unary(
  g: GraphBuilder,
  type: "Relu" | "Sigmoid" | "Softplus" | "Abs" | "Tanh" | "Sqrt" | "Erf" | "Log" | "Neg" | "Exp",
  x: Value,
): Value {
  return g.node(type, [x], x.shape);
}

export function binary(
  g: GraphBuilder,
  type: "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min",
  a: Value,
  b: Value | number,
): Value {
  const other = typeof b === "number" ? g.scalar(b) : b;
  return g.node(type, [a, other], broadcast(a.shape, other.shape));
}
export const add = (g: GraphBuilder, a: Value, b: Value | number): Value => binary(g, "Add", a, b);
export const sub = (g: GraphBuilder, a: Value, b: Value | number): Value => binary(g, "Sub", a, b);
export const mul = (g: GraphBuilder, a: Value, b: Value | number): Value => binary(g, "Mul", a, b);
export const div = (g: GraphBuilder, a: Value, b: Value | number): Value => binary(g, "Div", a, b);

/** x * 0.5 * (1 + erf(x / sqrt 2)), written so that onnxruntime recognises and fuses it. */
export function gelu(g: GraphBuilder, x: Value): Value {
  const e = add(g, unary(g, "Erf", div(g, x, Math.SQRT2)), 1);
  return mul(g, mul(g, x, e), 0.5);
}

const onnxType: Record<ElementType, number> = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9 };
export function cast(g: GraphBuilder, x: Value, type: ElementType): Value {
  return g.node("Cast", [x], x.shape, { attributes: { to: onnxType[type] }, type });
}

/** `to` may hold one -1; a size that is free must be that -1. */
export function reshape(g: GraphBuilder, x: Value, to: readonly number[]): Value {
  return g.node("Reshape", [x, g.ints(...to)], reshaped(x.shape, to));
}

export function transpose(g: GraphBuilder, x: Value, perm: readonly number[]): Value {
  return g.node(
    "Transpose",
    [x],
    perm.map((i) => x.shape[i]!),
    { attributes: { perm } },
  );
}

export function concat(g: GraphBuilder, xs: readonly Value[], axis: number): Value {
  const first = xs[0]!;
  const shape = first.shape.map((d, i) => (i === axis ? xs.map((x) => x.shape[axis]!).reduce(addDims) : d));
  for (const x of xs) {
    if (x.shape.length !== shape.length || x.shape.some((d, i) => i !== axis && !sameDim(d, shape[i]!))) {
      throw new TypeError(`concat on axis ${axis}: ${xs.map((v) => shapeText(v.shape)).join(" ")}`);
    }
  }
  return g.node("Concat", xs, shape, { attributes: { axis } });
}

/** x[from:to] on one axis as in NumPy: negative counts from the end, `to` undefined = up to the end. */
export function slice(g: GraphBuilder, x: Value, axis: number, from: number, to?: number): Value {
  const size = x.shape[axis]!;
  const end = to === undefined ? size : to < 0 ? addDims(size, to) : to;
  const begin = from < 0 ? addDims(size, from) : from;
  const length = addDims(end, mulDims(begin, -1));
  if (typeof length === "number" && length <= 0)
    throw new TypeError(`slice ${from}:${to ?? ""} of ${shapeText(x.shape)} axis ${axis} is empty`);
  const shape = x.shape.map((d, i) => (i === axis ? length : d));
  return g.node("Slice", [x, g.ints(from), g.ints(to ?? Number.MAX_SAFE_INTEGER), g.ints(axis)], shape);
}

/** x[from::step] on some axes, `count` values of each. */
export function strided(
  g: GraphBuilder,
  x: Value,
  cuts: readonly { readonly axis: number; readonly from: number; readonly step: number; readonly count: number }[],
): Value {
  const shape = x.shape.map((d, i) => cuts.find((c) => c.axis === i)?.count ?? d);
  const starts = g.ints(...cuts.map((c) => c.from));
  const ends = g.ints(...cuts.map((c) => c.from + (c.count - 1) * c.step + 1));
  const axes = g.ints(...cuts.map((c) => c.axis));
  return g.node("Slice", [x, starts, ends, axes, g.ints(...cuts.map((c) => c.step))], shape);
}

/** Cuts an axis into equal or given parts. */
export function split(g: GraphBuilder, x: Value, axis: number, sizes: readonly number[]): Value[] {
  const shapes = sizes.map((s): Shape => x.shape.map((d, i) => (i === axis ? s : d)));
  return g.nodeMany("Split", [x, g.ints(...sizes)], shapes, { attributes: { axis } });
}

export type Pads = readonly number[];
export type ConvOptions = {
  readonly strides?: readonly number[] /** Begins of all axes, then ends. */;
  readonly pads?: Pads;
  readonly group?: number;
};

/** x (batch, in, ...), w (out, in / group, ...), b (out) or null. One, two or three spatial axes. */
export function conv(g: GraphBuilder, x: Value, w: Value, b: Value | null, options: ConvOptions = {}): Value {
  const { shape, macs, attributes } = convolved(x, w, options);
  return g.node("Conv", b ? [x, w, b] : [x, w], shape, { attributes, macs });
}

function convolved(x: Value, w: Value, options: ConvOptions) {
  const axes = w.shape.length - 2;
  const kernel = w.shape.slice(2) as number[];
  const strides = options.strides ?? kernel.map(() => 1);
  const pads = options.pads ?? new Array<number>(2 * axes).fill(0);
  const group = options.group ?? 1;
  if (!sameDim(x.shape[1]!, mulDims(w.shape[1]!, group)))
    throw new TypeError(`conv: input ${shapeText(x.shape)}, weight ${shapeText(w.shape)}, ${group} groups`);
  const spatial = kernel.map((k, i) => convDim(x.shape[2 + i]!, k, strides[i]!, pads[i]! + pads[axes + i]!));
  const shape = [x.shape[0]!, w.shape[0]!, ...spatial];
  const macs = mulDims(sizeOf(shape), sizeOf(w.shape.slice(1)));
  return { shape, macs, attributes: { strides, pads, group, kernel_shape: kernel } };
}

/** How integers stand for numbers: scale * (integer - zero). Scale is float32, zero of the integers' type. */
export type Quantum = { readonly scale: Value; readonly zero: Value };

/** To the nearest byte, what lies outside to 0 or 255. */
export function quantize(g: GraphBuilder, x: Value, to: Quantum): Value {
  return g.node("QuantizeLinear", [x, to.scale, to.zero], x.shape, { type: "uint8" });
}

export function dequantize(g: GraphBuilder, x: Value, from: Quantum): Value {
  return g.node("DequantizeLinear", [x, from.scale, from.zero], x.shape, { type: "float32" });
}

/** As `conv`, of bytes x with int8 weights (one scale for each output channel), b int32 in steps of both scales; gives bytes. */
export function qlinearConv(
  g: GraphBuilder,
  x: { readonly of: Value; readonly as: Quantum },
  w: { readonly of: Value; readonly as: Quantum },
  b: Value,
  to: Quantum,
  options: ConvOptions = {},
): Value {
  const { shape, macs, attributes } = convolved(x.of, w.of, options);
  const inputs = [x.of, x.as.scale, x.as.zero, w.of, w.as.scale, w.as.zero, to.scale, to.zero, b];
  return g.node("QLinearConv", inputs, shape, { attributes, macs });
}

/** x (batch, in, ...), w (in, out, ...), b (out); one group. */
export function convTranspose(
  g: GraphBuilder,
  x: Value,
  w: Value,
  b: Value | null,
  options: { strides: readonly number[]; pads: Pads },
): Value {
  const kernel = w.shape.slice(2) as number[];
  const spatial = kernel.map((k, i) =>
    addDims(
      mulDims(addDims(x.shape[2 + i]!, -1), options.strides[i]!),
      k - options.pads[i]! - options.pads[kernel.length + i]!,
    ),
  );
  const shape = [x.shape[0]!, w.shape[1]!, ...spatial];
  const macs = mulDims(sizeOf(x.shape), sizeOf(w.shape.slice(1)));
  return g.node("ConvTranspose", b ? [x, w, b] : [x, w], shape, {
    attributes: { ...options, kernel_shape: kernel },
    macs,
  });
}

/** a (..., m, k) times b (k, n), or a (batch, m, k) times b (batch, k, n). */
export function matMul(g: GraphBuilder, a: Value, b: Value): Value {
  const k = a.shape.at(-1)!;
  const each = b.shape.length === 3 && a.shape.length === 3 && sameDim(a.shape[0]!, b.shape[0]!);
  if ((b.shape.length !== 2 && !each) || !sameDim(k, b.shape.at(-2)!))
    throw new TypeError(`matMul: ${shapeText(a.shape)} times ${shapeText(b.shape)}`);
  const shape = [...a.shape.slice(0, -1), b.shape.at(-1)!];
  return g.node("MatMul", [a, b], shape, { macs: mulDims(sizeOf(shape), k) });
}

/** Mean 0 and deviation 1 over the last axis, then scale and shift. */
export function layerNorm(g: GraphBuilder, x: Value, scale: Value, shift: Value, epsilon = 1e-5): Value {
  return g.node("LayerNormalization", [x, scale, shift], x.shape, {
    attributes: { axis: -1, epsilon: float(epsilon) },
  });
}

/**
 * x (time, batch, in), w (1, 4H, in), r (1, 4H, H), b (1, 8H), h and c (1, batch, H); gates in ONNX order: input, output, forget, cell.
 * Gives y (time, batch, H) and the new h and c.
 */
export function lstm(
  g: GraphBuilder,
  x: Value,
  w: Value,
  r: Value,
  b: Value,
  h: Value,
  c: Value,
): { y: Value; h: Value; c: Value } {
  const hidden = r.shape[2] as number;
  const [time, batch] = [x.shape[0]!, x.shape[1]!];
  const macs = mulDims(mulDims(time, batch), 4 * hidden * ((w.shape[2] as number) + hidden));
  const [y, hn, cn] = g.nodeMany("LSTM", [x, w, r, b, null, h, c], [[time, 1, batch, hidden], h.shape, c.shape], {
    attributes: { hidden_size: hidden },
    macs,
  });
  return { y: g.node("Squeeze", [y, g.ints(1)], [time, batch, hidden]), h: hn, c: cn };
}

/** One slope per channel: slope (channels, 1, 1) or like x. */
export function prelu(g: GraphBuilder, x: Value, slope: Value): Value {
  return g.node("PRelu", [x, slope], broadcast(x.shape, slope.shape));
}

export function maxPool(
  g: GraphBuilder,
  x: Value,
  kernel: readonly number[],
  strides: readonly number[],
  pads: Pads = kernel.concat(kernel).map(() => 0),
): Value {
  const spatial = kernel.map((k, i) => convDim(x.shape[2 + i]!, k, strides[i]!, pads[i]! + pads[kernel.length + i]!));
  return g.node("MaxPool", [x], [x.shape[0]!, x.shape[1]!, ...spatial], {
    attributes: { kernel_shape: kernel, strides, pads },
  });
}

/** `amounts`: begins of all axes, then ends; `value` is what a constant pad holds: a number, or a scalar of x's type. */
export function pad(
  g: GraphBuilder,
  x: Value,
  amounts: readonly number[],
  mode: "constant" | "reflect" = "constant",
  value: number | Value = 0,
): Value {
  const rank = x.shape.length;
  const shape = x.shape.map((d, i): Dim => addDims(d, amounts[i]! + amounts[rank + i]!));
  const inputs =
    value === 0
      ? [x, g.ints(...amounts)]
      : [x, g.ints(...amounts), typeof value === "number" ? g.scalar(value) : value];
  return g.node("Pad", inputs, shape, { attributes: { mode } });
}

/** Batch norm with given statistics over axis 1: scale, shift, mean, variance (channels) each. */
export function batchNorm(
  g: GraphBuilder,
  x: Value,
  norm: { scale: Value; shift: Value; mean: Value; variance: Value },
  epsilon: number,
): Value {
  const inputs = [x, norm.scale, norm.shift, norm.mean, norm.variance];
  return g.node("BatchNormalization", inputs, x.shape, { attributes: { epsilon: float(epsilon) } });
}

/** Slope for x < 0. */
export function leakyRelu(g: GraphBuilder, x: Value, slope: number): Value {
  return g.node("LeakyRelu", [x], x.shape, { attributes: { alpha: float(slope) } });
}

/** Repeats x along its axes of size 1; `to` has x's rank, 1 keeps an axis as it is. */
export function expand(g: GraphBuilder, x: Value, to: readonly number[]): Value {
  return g.node("Expand", [x, g.ints(...to)], broadcast(x.shape, to));
}

export function unsqueeze(g: GraphBuilder, x: Value, axis: number): Value {
  return g.node("Unsqueeze", [x, g.ints(axis)], [...x.shape.slice(0, axis), 1, ...x.shape.slice(axis)]);
}

export function squeeze(g: GraphBuilder, x: Value, axis: number): Value {
  if (x.shape[axis] !== 1) throw new TypeError(`squeeze of axis ${axis} of ${shapeText(x.shape)}`);
  return g.node("Squeeze", [x, g.ints(axis)], x.shape.toSpliced(axis, 1));
}

/** x at the places that `indices` (int64) names on an axis: the axis gets the shape of `indices`, also where that has two axes. */
export function gather(g: GraphBuilder, x: Value, indices: Value, axis: number): Value {
  const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)];
  return g.node("Gather", [x, indices], shape, { attributes: { axis } });
}

/** Maximum over one axis, which goes. */
export function reduceMax(g: GraphBuilder, x: Value, axis: number): Value {
  return g.node("ReduceMax", [x], x.shape.toSpliced(axis, 1), { attributes: { axes: [axis], keepdims: 0 } });
}

/** Least and largest value of all, each a scalar. */
export function extremes(g: GraphBuilder, x: Value): { least: Value; most: Value } {
  const attributes = { axes: x.shape.map((_, i) => i), keepdims: 0 };
  return { least: g.node("ReduceMin", [x], [], { attributes }), most: g.node("ReduceMax", [x], [], { attributes }) };
}

export function reduceMean(g: GraphBuilder, x: Value, axes: readonly number[], keep = true): Value {
  const shape = keep
    ? x.shape.map((d, i): Dim => (axes.includes(i) ? 1 : d))
    : x.shape.filter((_, i) => !axes.includes(i));
  return g.node("ReduceMean", [x], shape, { attributes: { axes, keepdims: keep ? 1 : 0 } });
}

/** Sums from the beginning of an axis up to each place. */
export function cumSum(g: GraphBuilder, x: Value, axis: number): Value {
  return g.node("CumSum", [x, g.ints(axis)], x.shape);
}

export function softmax(g: GraphBuilder, x: Value, axis: number): Value {
  return g.node("Softmax", [x], x.shape, { attributes: { axis } });
}

/** Rows along the last axis divided by their Euclidean length (at least 1e-12, as PyTorch's normalize). */
export function unitRows(g: GraphBuilder, x: Value): Value {
  const axis = x.shape.length - 1;
  const length = g.node("ReduceL2", [x], [...x.shape.slice(0, axis), 1], { attributes: { axes: [axis], keepdims: 1 } });
  return div(g, x, binary(g, "Max", length, 1e-12));
}

/** Any other operator, the output shape given by hand. */
export function other(
  g: GraphBuilder,
  type: string,
  inputs: readonly (Value | null)[],
  shape: Shape,
  attributes: Readonly<Record<string, Attribute>> = {},
): Value {
  return g.node(type, inputs, shape, { attributes });
}

export { dim, float };
