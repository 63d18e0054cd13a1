import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { Layers } from "./layers.js";

/** The newest of x, time along `axis`, behind the last ones, which are the state `kept` of this shape. */
export function withPast(l: Layers, x: Value, shape: readonly [number, number, number], kept: string, axis = 2): Value {
  const all = op.concat(l.g, [l.state(kept, shape), x], axis);
  l.keep(kept, op.slice(l.g, all, axis, -shape[axis]!));
  return all;
}

/** x (N, U, n) added up over time with the state `kept`, which begins as `init`; a unit later exp(rate) of it is left. */
export function fadingSum(l: Layers, x: Value, rate: Value, kept: string, init = 0): Value {
  const g = l.g;
  const count = op.cumSum(g, op.add(g, op.mul(g, x, 0), 1), 1);
  const fade = op.unary(g, "Exp", op.mul(g, count, rate));
  const since = op.cumSum(g, op.div(g, x, fade), 1);
  const before = l.state(kept, [x.shape[0] as number, 1, x.shape[2] as number], init);
  const total = op.mul(g, fade, op.add(g, since, before));
  l.keep(kept, op.slice(g, total, 1, -1));
  return total;
}

/** x (2, ...) -> (1, ...). */
export const sumOfTwo = (l: Layers, x: Value): Value =>
  op.add(l.g, op.slice(l.g, x, 0, 0, 1), op.slice(l.g, x, 0, 1, 2));
