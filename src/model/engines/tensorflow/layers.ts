import type * as TF from "@tensorflow/tfjs-core";
import type { Node } from "./graph.js";
import type { Tf, Value } from "./value.js";
import { plain, toLast } from "./value.js";

/** Axes of the picture, sound or spectrum: 1, 2 or 3. */
type Spatial = {
  readonly strides: number[];
  readonly before: number[];
  readonly after: number[];
  readonly axes: number;
};

function spatial(node: Node, axes: number): Spatial {
  const { attributes } = node;
  const pads = attributes.ints("pads") ?? new Array<number>(2 * axes).fill(0);
  if ((attributes.ints("dilations") ?? []).some((d) => d !== 1)) throw new Unsupported(`${node.type} with dilations`);
  const strides = [...(attributes.ints("strides") ?? new Array<number>(axes).fill(1))];
  return { strides, before: pads.slice(0, axes), after: pads.slice(axes), axes };
}

/** An operator, or a form of one, that this executor does not have. */
export class Unsupported extends Error {
  override readonly name = "Unsupported";
}

/** x padded on its spatial axes (channels last). TensorFlow's own SAME is not ONNX's, so pads are laid on by hand. */
function padded(tf: Tf, x: TF.Tensor, { before, after }: Spatial, value = 0): TF.Tensor {
  if (before.every((p) => p === 0) && after.every((p) => p === 0)) return x;
  const each = before.map((p, i): [number, number] => [p, after[i]!]);
  return tf.pad(x, [[0, 0], ...each, [0, 0]], value);
}

/** A one-dimensional layer as a two-dimensional one of height 1. */
const tall = (tf: Tf, x: TF.Tensor): TF.Tensor => tf.expandDims(x, 1);

/**
 * ONNX weights (out, in, ...) as TensorFlow wants them (..., in, out); transposed convolutions (in, out, ...) as (..., out, in): the same
 * permutation.
 */
export function filterOf(tf: Tf, w: TF.Tensor): TF.Tensor {
  const axes = w.rank - 2;
  const t = tf.transpose(w, [...Array.from({ length: axes }, (_, i) => i + 2), 1, 0]);
  return axes === 1 ? tf.expandDims(t, 0) : t;
}

/** @param filter from `filterOf` */
export function conv(tf: Tf, node: Node, v: Value, filter: TF.Tensor, bias: TF.Tensor | null): Value {
  const axes = v.t.rank - 2;
  const s = spatial(node, axes);
  const x = padded(tf, toLast(tf, v), s);
  const group = node.attributes.int("group", 1);
  let y: TF.Tensor;
  if (group > 1) {
    // (h, w, 1, channels): one filter a channel, all that we use of groups.
    if (axes !== 2 || filter.shape[2] !== 1 || group !== filter.shape[3])
      throw new Unsupported(`${node.type} with ${group} groups`);
    const depthwise = tf.transpose(filter, [0, 1, 3, 2]) as TF.Tensor4D;
    y = tf.depthwiseConv2d(x as TF.Tensor4D, depthwise, s.strides as [number, number], "valid");
  } else if (axes === 3)
    y = tf.conv3d(x as TF.Tensor5D, filter as TF.Tensor5D, s.strides as [number, number, number], "valid");
  else if (axes === 2) y = tf.conv2d(x as TF.Tensor4D, filter as TF.Tensor4D, s.strides as [number, number], "valid");
  else {
    // TensorFlow wants both strides alike where one axis is 1: its stride does not matter.
    const flat = tf.conv2d(tall(tf, x) as TF.Tensor4D, filter as TF.Tensor4D, [s.strides[0]!, s.strides[0]!], "valid");
    y = tf.squeeze(flat, [1]);
  }
  return { t: bias ? tf.add(y, bias) : y, last: true };
}

/** @param filter from `filterOf`; two axes, as the u-net has them */
export function convTranspose(tf: Tf, node: Node, v: Value, filter: TF.Tensor, bias: TF.Tensor | null): Value {
  if (v.t.rank !== 4 || node.attributes.int("group", 1) !== 1)
    throw new Unsupported(`${node.type} of rank ${v.t.rank}`);
  const s = spatial(node, 2);
  const x = toLast(tf, v) as TF.Tensor4D;
  const [n, h, w] = x.shape;
  const [kh, kw, out] = filter.shape as [number, number, number];
  const whole: [number, number, number, number] = [n, (h - 1) * s.strides[0]! + kh, (w - 1) * s.strides[1]! + kw, out];
  const y = tf.conv2dTranspose(x, filter as TF.Tensor4D, whole, s.strides as [number, number], "valid");
  const size = [n, whole[1] - s.before[0]! - s.after[0]!, whole[2] - s.before[1]! - s.after[1]!, out];
  const cut = tf.slice(y, [0, s.before[0]!, s.before[1]!, 0], size);
  return { t: bias ? tf.add(cut, bias) : cut, last: true };
}

export function maxPool(tf: Tf, node: Node, v: Value): Value {
  const kernel = [...node.attributes.ints("kernel_shape")!];
  const axes = v.t.rank - 2;
  const s = spatial(node, axes);
  const x = padded(tf, toLast(tf, v), s, Number.NEGATIVE_INFINITY);
  if (axes === 3) {
    const y = tf.maxPool3d(
      x as TF.Tensor5D,
      kernel as [number, number, number],
      s.strides as [number, number, number],
      "valid",
    );
    return { t: y, last: true };
  }
  const [k, strides] =
    axes === 1
      ? [
          [1, ...kernel],
          [1, ...s.strides],
        ]
      : [kernel, s.strides];
  const y = tf.maxPool(
    (axes === 1 ? tall(tf, x) : x) as TF.Tensor4D,
    k as [number, number],
    strides as [number, number],
    "valid",
  );
  return { t: axes === 1 ? tf.squeeze(y, [1]) : y, last: true };
}

/**
 * x (time, batch, in), w (1, 4H, in), r (1, 4H, H), b (1, 8H), h and c (1, batch, H); gates in ONNX order: input, output, forget, cell.
 * Gives (time, 1, batch, H) and the new h and c.
 */
export function lstm(tf: Tf, node: Node, [x, w, r, b, , h0, c0]: readonly (TF.Tensor | null)[]): Value[] {
  const H = node.attributes.int("hidden_size");
  if (node.attributes.text("direction", "forward") !== "forward" || !x || !w || !r || !b || !h0 || !c0)
    throw new Unsupported(`${node.type} that is not forward, with bias and state`);
  const [time, batch, size] = x.shape as [number, number, number];
  const [bw, br] = tf.split(tf.reshape(b, [8 * H]), 2) as [TF.Tensor, TF.Tensor];
  const wx = tf.matMul(tf.reshape(x, [time * batch, size]), tf.reshape(w, [4 * H, size]), false, true);
  const all = tf.reshape(tf.add(wx, tf.add(bw, br)), [time, batch, 4 * H]);
  const recurrent = tf.reshape(r, [4 * H, H]);
  let h = tf.reshape(h0, [batch, H]);
  let c = tf.reshape(c0, [batch, H]);
  const steps: TF.Tensor[] = [];
  for (let k = 0; k < time; k++) {
    const now = tf.reshape(tf.slice(all, [k, 0, 0], [1, batch, 4 * H]), [batch, 4 * H]);
    const [i, o, f, g] = tf.split(tf.add(now, tf.matMul(h, recurrent, false, true)), 4, 1) as TF.Tensor[];
    c = tf.add(tf.mul(tf.sigmoid(f!), c), tf.mul(tf.sigmoid(i!), tf.tanh(g!)));
    h = tf.mul(tf.sigmoid(o!), tf.tanh(c));
    steps.push(h);
  }
  const y = tf.reshape(tf.stack(steps), [time, 1, batch, H]);
  return [plain(y), plain(tf.reshape(h, [1, batch, H])), plain(tf.reshape(c, [1, batch, H]))];
}
