import type * as TF from "@tensorflow/tfjs-core";

/** The part of TensorFlow.js that the executor needs: every one of its packages has it. */
export type Tf = typeof TF;

/**
 * A tensor on its way through the graph. ONNX keeps channels on axis 1 (N, C, ...), TensorFlow convolves with channels last (N, ..., C):
 * `last` says that the axes lie in that order, `shape` of the tensor being permuted. Converted only where an operator needs the other.
 */
export type Value = { readonly t: TF.Tensor; readonly last: boolean };

export const plain = (t: TF.Tensor): Value => ({ t, last: false });

/** (N, C, a, b) -> (N, a, b, C) */
export function toLast(tf: Tf, v: Value): TF.Tensor {
  if (v.last || v.t.rank < 3) return v.t;
  const rank = v.t.rank;
  return tf.transpose(v.t, [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1]);
}

/** (N, a, b, C) -> (N, C, a, b) */
export function toOnnx(tf: Tf, v: Value): TF.Tensor {
  if (!v.last) return v.t;
  const rank = v.t.rank;
  return tf.transpose(v.t, [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)]);
}

/** Where an axis of ONNX's order lies in the value's tensor. Negative axes count from the end. */
export function axisOf(v: Value, axis: number): number {
  const rank = v.t.rank;
  const a = axis < 0 ? axis + rank : axis;
  if (!v.last || a === 0) return a;
  return a === 1 ? rank - 1 : a - 1;
}

/** Numbers given by ONNX axis, in the order of the value's tensor. */
export function byAxis<T>(v: Value, perAxis: readonly T[]): T[] {
  const out = [...perAxis];
  perAxis.forEach((x, axis) => {
    out[axisOf(v, axis)] = x;
  });
  return out;
}

/**
 * Two operands whose axes agree, and the order of the result: channels last where one has them so and the other can follow
 * (same rank, or fewer axes, as a slope per channel has).
 */
export function together(tf: Tf, a: Value, b: Value): { a: TF.Tensor; b: TF.Tensor; last: boolean } {
  if (!a.last && !b.last) return { a: a.t, b: b.t, last: false };
  const rank = a.last ? a.t.rank : b.t.rank;
  if (Math.max(a.t.rank, b.t.rank) > rank) return { a: toOnnx(tf, a), b: toOnnx(tf, b), last: false };
  const follow = (v: Value): TF.Tensor => {
    if (v.last || v.t.size === 1) return v.t;
    const full = tf.reshape(v.t, [...new Array<number>(rank - v.t.rank).fill(1), ...v.t.shape]);
    return toLast(tf, plain(full));
  };
  return { a: follow(a), b: follow(b), last: true };
}
