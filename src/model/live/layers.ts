import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { tensorOf, type Weights } from "../weights.js";

/** A tensor kept between steps: goes in as NAME, comes out as NAME_next. `init`: what each of its numbers is at the start. */
export type State = { readonly name: string; readonly shape: readonly number[]; readonly init: number };

/** Layers with trained weights: PyTorch's names and layouts in, ONNX's out. */
export class Layers {
  readonly states: State[] = [];

  constructor(
    readonly g: GraphBuilder,
    private readonly weights: Weights,
  ) {}

  raw(name: string, shape: readonly number[]): Float32Array {
    return tensorOf(this.weights, name, shape);
  }

  vector(name: string, size: number): Value {
    return this.g.weight(name, [size], this.raw(name, [size]));
  }

  state(name: string, shape: readonly number[], init = 0): Value {
    this.states.push({ name, shape, init });
    return this.g.input(name, "float32", shape);
  }

  keep(name: string, value: Value): void {
    this.g.output(`${name}_next`, value);
  }

  /** x (..., from) -> (..., to). */
  linear(x: Value, name: string, from: number, to: number): Value {
    const w = this.g.weight(`${name}.weight`, [from, to], transposed(this.raw(`${name}.weight`, [to, from]), to, from));
    return op.add(this.g, op.matMul(this.g, x, w), this.vector(`${name}.bias`, to));
  }

  norm(x: Value, name: string, size: number): Value {
    return op.layerNorm(this.g, x, this.vector(`${name}.weight`, size), this.vector(`${name}.bias`, size));
  }

  /**
   * Causal Conv1d over time of rows x (T, from): rows of the last `kernel - 1` steps are the state `kept`. Written as one
   * product of (T, kernel * from): faster than a convolution for the few rows of a step. Also gives the rows with their past.
   */
  causal(x: Value, name: string, from: number, to: number, kernel: number, kept: string): { y: Value; rows: Value } {
    const g = this.g;
    const rows = op.concat(g, [this.state(kept, [kernel - 1, from]), x], 0);
    this.keep(kept, op.slice(g, rows, 0, -(kernel - 1)));
    return { y: this.taps(rows, name, from, to, kernel), rows };
  }

  /** Conv1d over rows (T + kernel - 1, from) without padding -> (T, to). */
  taps(rows: Value, name: string, from: number, to: number, kernel: number): Value {
    const g = this.g;
    const taps = Array.from({ length: kernel }, (_, k) =>
      op.slice(g, rows, 0, k, k === kernel - 1 ? undefined : k - kernel + 1),
    );
    const raw = this.raw(`${name}.weight`, [to, from, kernel]);
    const w = new Float32Array(raw.length);
    for (let o = 0; o < to; o++)
      for (let i = 0; i < from; i++)
        for (let k = 0; k < kernel; k++) w[(k * from + i) * to + o] = raw[(o * from + i) * kernel + k]!;
    const y = op.matMul(g, op.concat(g, taps, 1), g.weight(`${name}.weight`, [kernel * from, to], w));
    return op.add(g, y, this.vector(`${name}.bias`, to));
  }

  /** Conv1d without padding along the last axis: x (N, from, T) -> (N, to, T'). */
  conv(x: Value, name: string, [to, from, kernel]: readonly [number, number, number], stride = 1): Value {
    const shape = [to, from, kernel];
    const weight = this.g.weight(`${name}.weight`, shape, this.raw(`${name}.weight`, shape));
    return op.conv(this.g, x, weight, this.vector(`${name}.bias`, to), { strides: [stride] });
  }

  /** x (T, batch, size) -> the same shape; states h and c (1, batch, size) under `kept`_h and `kept`_c. */
  lstm(x: Value, name: string, size: number, kept: string): Value {
    const g = this.g;
    const batch = x.shape[1] as number;
    const gates = (what: string, width: number): Float32Array =>
      gateOrder(this.raw(`${name}.${what}`, width === 1 ? [4 * size] : [4 * size, width]), size * width);
    const w = g.weight(`${name}.weight_ih_l0`, [1, 4 * size, size], gates("weight_ih_l0", size));
    const r = g.weight(`${name}.weight_hh_l0`, [1, 4 * size, size], gates("weight_hh_l0", size));
    const both = new Float32Array(8 * size);
    both.set(gates("bias_ih_l0", 1));
    both.set(gates("bias_hh_l0", 1), 4 * size);
    const b = g.weight(`${name}.bias`, [1, 8 * size], both);
    const out = op.lstm(
      g,
      x,
      w,
      r,
      b,
      this.state(`${kept}_h`, [1, batch, size]),
      this.state(`${kept}_c`, [1, batch, size]),
    );
    this.keep(`${kept}_h`, out.h);
    this.keep(`${kept}_c`, out.c);
    return out.y;
  }
}

export function transposed(x: Float32Array, rows: number, columns: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) y[j * rows + i] = x[i * columns + j]!;
  return y;
}

/** PyTorch keeps gates as input, forget, cell, output; ONNX as input, output, forget, cell. `part`: values of one gate. */
function gateOrder(x: Float32Array, part: number): Float32Array {
  const y = new Float32Array(x.length);
  [0, 3, 1, 2].forEach((from, to) => {
    y.set(x.subarray(from * part, (from + 1) * part), to * part);
  });
  return y;
}
