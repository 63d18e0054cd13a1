import type * as TF from "@tensorflow/tfjs-core";
import type { Node } from "./graph.js";
import { conv, convTranspose, filterOf, lstm, maxPool, Unsupported } from "./layers.js";
import { axisOf, byAxis, plain, type Tf, together, toOnnx, type Value } from "./value.js";

/** What an operator sees of the graph. Input i as a value, as a tensor in ONNX's order, as numbers known beforehand. */
export type Operands = {
  readonly tf: Tf;
  readonly node: Node;
  readonly value: (i: number) => Value;
  readonly tensor: (i: number) => TF.Tensor;
  readonly maybe: (i: number) => TF.Tensor | null;
  readonly ints: (i: number) => number[];
  /** Input i as weights of a convolution; kept between runs when they are constant. */
  readonly filter: (i: number) => TF.Tensor;
};
type Operator = (o: Operands) => Value | readonly Value[];

const unary =
  (f: (tf: Tf, x: TF.Tensor) => TF.Tensor): Operator =>
  ({ tf, value }) => ({ t: f(tf, value(0).t), last: value(0).last });

const binary =
  (f: (tf: Tf, a: TF.Tensor, b: TF.Tensor) => TF.Tensor): Operator =>
  ({ tf, value }) => {
    const { a, b, last } = together(tf, value(0), value(1));
    return { t: f(tf, a, b), last };
  };

/** Everything that needs ONNX's order of axes, or does not care. */
const ordered =
  (f: (o: Operands, x: TF.Tensor) => TF.Tensor): Operator =>
  (o) =>
    plain(f(o, o.tensor(0)));

const at = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

const reduction =
  (f: (tf: Tf, x: TF.Tensor, axes: number[], keep: boolean) => TF.Tensor): Operator =>
  ({ tf, node, tensor }) => {
    const x = tensor(0);
    const axes = node.attributes.ints("axes") ?? x.shape.map((_, i) => i);
    return plain(
      f(
        tf,
        x,
        axes.map((a) => at(a, x.rank)),
        node.attributes.int("keepdims", 1) === 1,
      ),
    );
  };

function slice({ tf, node, value, ints }: Operands): Value {
  const v = value(0);
  const [from, to] = [ints(1), ints(2)];
  const axes = node.inputs.length > 3 ? ints(3) : from.map((_, i) => i);
  const steps = node.inputs.length > 4 ? ints(4) : axes.map(() => 1);
  const begin = v.t.shape.map(() => 0);
  const end = [...v.t.shape];
  const strides = v.t.shape.map(() => 1);
  axes.forEach((axis, i) => {
    const a = axisOf(v, axis);
    const size = v.t.shape[a]!;
    const clamp = (x: number): number => Math.max(0, Math.min(size, x < 0 ? x + size : x));
    if (steps[i]! < 1) throw new Unsupported("Slice backwards");
    begin[a] = clamp(from[i]!);
    end[a] = clamp(to[i]!);
    strides[a] = steps[i]!;
  });
  const size = end.map((e, i) => Math.max(0, e - begin[i]!));
  const t = strides.every((s) => s === 1)
    ? tf.slice(v.t, begin, size)
    : tf.stridedSlice(
        v.t,
        begin,
        end.map((e, i) => Math.max(e, begin[i]!)),
        strides,
      );
  return { t, last: v.last };
}

function pad({ tf, node, value, ints, maybe }: Operands): Value {
  const v = value(0);
  const amounts = ints(1);
  const rank = v.t.rank;
  const each = byAxis(
    v,
    v.t.shape.map((_, i): [number, number] => [amounts[i]!, amounts[rank + i]!]),
  );
  const mode = node.attributes.text("mode", "constant");
  if (mode === "reflect") return { t: tf.mirrorPad(v.t, each, "reflect"), last: v.last };
  if (mode !== "constant") throw new Unsupported(`Pad ${mode}`);
  return { t: tf.pad(v.t, each, maybe(2)?.dataSync()[0] ?? 0), last: v.last };
}

function concat({ tf, node, value, tensor }: Operands): Value {
  const all = node.inputs.map((_, i) => value(i));
  const axis = node.attributes.int("axis");
  if (all.every((v) => v.last))
    return {
      t: tf.concat(
        all.map((v) => v.t),
        axisOf(all[0]!, axis),
      ),
      last: true,
    };
  const xs = all.map((_, i) => tensor(i));
  return plain(tf.concat(xs, at(axis, xs[0]!.rank)));
}

function reshape({ tf, node, tensor, ints }: Operands): Value {
  const x = tensor(0);
  if (node.attributes.int("allowzero") !== 0) throw new Unsupported("Reshape with allowzero");
  const to = ints(1).map((d, i) => (d === 0 ? x.shape[i]! : d));
  return plain(tf.reshape(x, to));
}

function batchNorm({ tf, node, value, tensor }: Operands): Value {
  const v = value(0);
  const [scale, shift, mean, variance] = [1, 2, 3, 4].map(tensor) as [TF.Tensor, TF.Tensor, TF.Tensor, TF.Tensor];
  const factor = tf.div(scale, tf.sqrt(tf.add(variance, node.attributes.float("epsilon", 1e-5))));
  const offset = tf.sub(shift, tf.mul(mean, factor));
  const shaped = (x: TF.Tensor): Value => plain(tf.reshape(x, [x.size, ...new Array<number>(v.t.rank - 2).fill(1)]));
  const by = together(tf, v, shaped(factor));
  return { t: tf.add(tf.mul(by.a, by.b), together(tf, v, shaped(offset)).b), last: by.last };
}

function layerNorm({ tf, node, tensor }: Operands): Value {
  const x = tensor(0);
  if (at(node.attributes.int("axis", -1), x.rank) !== x.rank - 1)
    throw new Unsupported("LayerNormalization, not last axis");
  const { mean, variance } = tf.moments(x, -1, true);
  const y = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, node.attributes.float("epsilon", 1e-5))));
  return plain(tf.add(tf.mul(y, tensor(1)), tensor(2)));
}

function softmax({ tf, node, tensor }: Operands): Value {
  const x = tensor(0);
  const axis = at(node.attributes.int("axis", -1), x.rank);
  const e = tf.exp(tf.sub(x, tf.max(x, axis, true)));
  return plain(tf.div(e, tf.sum(e, axis, true)));
}

function matMul({ tf, tensor }: Operands): Value {
  const [a, b] = [tensor(0), tensor(1)];
  if (b.rank !== 2 || a.rank < 2) return plain(tf.matMul(a, b));
  const [k, n] = b.shape as [number, number];
  const flat = tf.matMul(tf.reshape(a, [a.size / k, k]), b);
  return plain(tf.reshape(flat, [...a.shape.slice(0, -1), n]));
}

function expand({ tf, tensor, ints }: Operands): Value {
  const x = tensor(0);
  const to = ints(1);
  const rank = Math.max(x.rank, to.length);
  const [have, want] = [x.shape, to].map((s) => [...new Array<number>(rank - s.length).fill(1), ...s]);
  return plain(
    tf.broadcastTo(
      tf.reshape(x, have!),
      have!.map((d, i) => Math.max(d, want![i]!)),
    ),
  );
}

function split({ tf, node, tensor, ints }: Operands): Value[] {
  const x = tensor(0);
  return tf.split(x, ints(1), at(node.attributes.int("axis"), x.rank)).map(plain);
}

function cast({ tf, node, value }: Operands): Value {
  const type = ({ 1: "float32", 6: "int32", 7: "int32", 9: "bool" } as const)[node.attributes.int("to") as 1];
  if (!type) throw new Unsupported(`Cast to type ${node.attributes.int("to")}`);
  return { t: tf.cast(value(0).t, type), last: value(0).last };
}

/** The operators that `src/model/onnx` writes, and no others. */
export const OPERATORS: Readonly<Record<string, Operator>> = {
  Abs: unary((tf, x) => tf.abs(x)),
  Add: binary((tf, a, b) => tf.add(a, b)),
  BatchNormalization: batchNorm,
  Cast: cast,
  Concat: concat,
  Conv: ({ tf, node, value, filter, maybe }) => conv(tf, node, value(0), filter(1), maybe(2)),
  ConvTranspose: ({ tf, node, value, filter, maybe }) => convTranspose(tf, node, value(0), filter(1), maybe(2)),
  CumSum: ordered(({ tf, ints }, x) => tf.cumsum(x, at(ints(1)[0]!, x.rank))),
  Div: binary((tf, a, b) => tf.div(a, b)),
  Erf: unary((tf, x) => tf.erf(x)),
  Exp: unary((tf, x) => tf.exp(x)),
  Expand: expand,
  Gather: ordered(({ tf, node, tensor }, x) => tf.gather(x, tensor(1), at(node.attributes.int("axis"), x.rank))),
  Identity: unary((tf, x) => tf.clone(x)),
  LSTM: ({ tf, node, maybe }) => lstm(tf, node, node.inputs.map((_, i) => maybe(i)).concat([null, null, null])),
  LayerNormalization: layerNorm,
  LeakyRelu: ({ tf, node, value }) => ({
    t: tf.leakyRelu(value(0).t, node.attributes.float("alpha", 0.01)),
    last: value(0).last,
  }),
  Log: unary((tf, x) => tf.log(x)),
  MatMul: matMul,
  Max: binary((tf, a, b) => tf.maximum(a, b)),
  MaxPool: ({ tf, node, value }) => maxPool(tf, node, value(0)),
  Min: binary((tf, a, b) => tf.minimum(a, b)),
  Mod: binary((tf, a, b) => tf.mod(a, b)),
  Mul: binary((tf, a, b) => tf.mul(a, b)),
  Neg: unary((tf, x) => tf.neg(x)),
  PRelu: binary((tf, a, b) => tf.sub(tf.relu(a), tf.mul(b, tf.relu(tf.neg(a))))),
  Pad: pad,
  Pow: binary((tf, a, b) => tf.pow(a, b)),
  ReduceL2: reduction((tf, x, axes, keep) => tf.sqrt(tf.sum(tf.square(x), axes, keep))),
  ReduceMax: reduction((tf, x, axes, keep) => tf.max(x, axes, keep)),
  ReduceMean: reduction((tf, x, axes, keep) => tf.mean(x, axes, keep)),
  Relu: unary((tf, x) => tf.relu(x)),
  Reshape: reshape,
  Sigmoid: unary((tf, x) => tf.sigmoid(x)),
  Slice: slice,
  Softmax: softmax,
  Softplus: unary((tf, x) => tf.softplus(x)),
  Split: split,
  Sqrt: unary((tf, x) => tf.sqrt(x)),
  Squeeze: ordered(({ tf, ints }, x) =>
    tf.squeeze(
      x,
      ints(1).map((a) => at(a, x.rank)),
    ),
  ),
  Sub: binary((tf, a, b) => tf.sub(a, b)),
  Tanh: unary((tf, x) => tf.tanh(x)),
  Transpose: ordered(({ tf, node }, x) => tf.transpose(x, [...node.attributes.ints("perm")!])),
  Unsqueeze: ordered(({ tf, ints }, x) => tf.expandDims(x, at(ints(1)[0]!, x.rank + 1))),
};

export { filterOf, toOnnx };
