import { InferenceError } from "../inference.js";
import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { IntegerLayers, inIntegers, type Ranges } from "./int8.js";
import { type Affine, toOnnx, VariableReader } from "./layout.js";
import { samePads, samePadsOf, transposedCrop } from "./same.js";
import { PIXEL } from "./scaling.js";
import { type ConvRow, type NormRow, type Row, weightShape } from "./table.js";
import { unfoldedConv } from "./unfold.js";
import type { VariableSource } from "./variables.js";

/**
 * How the network is written down; the first three compute the same. `training`: convolutions and norms apart, every variable under its
 * TensorFlow name. `folded`: norms folded into the convolutions. `unfolded`: folded, and the picture's 3-D convolutions as 2-D ones.
 * `int8`: unfolded, and those in integers, nearly the same.
 */
export type Form = "training" | "folded" | "unfolded" | "int8";

export type LayerOptions = {
  /** Of form `int8`: from a calibration. */
  readonly ranges?: Ranges;
  /** Tensors of the unfolded form by their name in the file: then the source is not asked. */
  readonly tensors?: (name: string) => Float32Array;
  /** Told what a calibration wants to know, by its key in `Ranges`. */
  readonly probe?: (key: string, value: Value) => void;
};

/** A row of the tables as it came out: size of the output in TensorFlow's order (without batch), pads per axis, multiply-adds. */
export type Level = {
  readonly scope: string;
  readonly shape: readonly number[];
  readonly pads: readonly (readonly [number, number])[];
  readonly macs: number;
};

/** What a residual block adds: a value as it is, or a 1-wide convolution of one. */
type Shortcut = { readonly as: Value } | { readonly through: string; readonly of: Value };

/** Two axes: sound (time, 1) or spectrum (time, frequency). Three: picture (time, height, width). */
type Axes = 2 | 3;

/** The rows of the table as layers of a graph. Channels are axis 1 in every form. */
export class PaperLayers {
  readonly levels: Level[] = [];
  private readonly convs = new Map<string, ConvRow>();
  private readonly norms = new Map<string, NormRow>();
  private readonly reader: VariableReader;
  private readonly shared = new Map<string, Value>();
  /** Of form `int8`. */
  private readonly integers: IntegerLayers | null;

  constructor(
    readonly g: GraphBuilder,
    rows: readonly Row[],
    source: VariableSource,
    readonly form: Form,
    private readonly options: LayerOptions = {},
  ) {
    if (form === "int8" && !options.ranges) throw new RangeError("form int8 needs the ranges of a calibration");
    this.integers = form === "int8" ? new IntegerLayers(g, options.ranges!) : null;
    for (const row of rows) {
      if (row.kind === "conv") this.convs.set(row.scope, row);
      else this.norms.set(row.scope, row);
    }
    this.reader = new VariableReader(source);
  }

  /** Whether a picture is (time, channels, height, width), without batch. */
  get unfolded(): boolean {
    return this.form === "unfolded" || this.form === "int8";
  }

  /** Axes of time (and height, width) of a value. */
  axesOf(axes: Axes): readonly number[] {
    if (axes === 2) return [2, 3];
    return this.unfolded ? [0, 2, 3] : [2, 3, 4];
  }

  sizesOf(x: Value, axes: Axes): number[] {
    return this.axesOf(axes).map((axis) => x.shape[axis] as number);
  }

  relu(x: Value): Value {
    return op.unary(this.g, "Relu", x);
  }

  /** Pixels 0..255 as the first convolution takes them. */
  pixels(x: Value): Value {
    if (this.integers) return this.integers.pixels(x);
    const floats = x.type === "uint8" ? op.cast(this.g, x, "float32") : x;
    return op.add(this.g, op.mul(this.g, floats, PIXEL.scale), PIXEL.shift);
  }

  /** y holds values of x, moved or chosen. */
  alike(y: Value, x: Value): Value {
    return this.integers?.alike(y, x) ?? y;
  }

  /** Convolution SCOPE with its norm, or its bias. */
  conv(scope: string, x: Value, label = scope): Value {
    return this.apply(this.row(scope), x, label);
  }

  /** relu of a convolution; in integers it costs nothing. */
  convRelu(scope: string, x: Value): Value {
    return this.apply(this.row(scope), x, scope, { relu: true });
  }

  /** relu(norm(second(x) + shortcut)): the second half of a residual block. */
  join(norm: string, second: string, x: Value, shortcut: Shortcut): Value {
    const g = this.g;
    const row = this.norms.get(norm)!;
    if (this.form === "training") {
      const y = this.conv(second, x);
      const short = "as" in shortcut ? shortcut.as : this.conv(shortcut.through, shortcut.of);
      return g.scoped(norm, () => this.relu(this.normalised(row, op.add(g, y, short))));
    }
    const y = this.apply(this.row(second), x, second, { after: { norm: row, shift: true } });
    const short =
      "as" in shortcut
        ? g.scoped(norm, () => op.mul(g, this.real(shortcut.as), this.scaleOf(row, shortcut.as)))
        : this.apply(this.row(shortcut.through), shortcut.of, shortcut.through, { after: { norm: row, shift: false } });
    // The sum stays float in every form: what a residual network hands on from block to block is not rounded.
    return g.scoped(norm, () => this.relu(op.add(g, this.real(y), this.real(short))));
  }

  /**
   * Residual block: SCOPE_1, relu, SCOPE_2, plus shortcut, SCOPE_bn, relu. The shortcut is SCOPE_short where channels change, else x
   * itself, of which a stride takes every second (fourth) value.
   */
  block(scope: string, x: Value): Value {
    const y = this.convRelu(`${scope}_1`, x);
    const through = `${scope}_short`;
    const shortcut = this.convs.has(through)
      ? { through, of: x }
      : { as: this.g.scoped(scope, () => this.subsampled(x, this.row(`${scope}_1`).stride)) };
    return this.join(`${scope}_bn`, `${scope}_2`, y, shortcut);
  }

  /** Keeps what a row of the table should show. */
  note(scope: string, y: Value, axes: Axes, pads: readonly (readonly [number, number])[] = [], macs = 0): Value {
    this.levels.push({ scope, shape: [...this.sizesOf(y, axes), y.shape[1] as number], pads, macs });
    return y;
  }

  private row(scope: string): ConvRow {
    const row = this.convs.get(scope);
    if (!row) throw new TypeError(`the table has no convolution ${scope}`);
    return row;
  }

  private subsampled(x: Value, stride: readonly number[]): Value {
    if (stride.every((s) => s === 1)) return x;
    const axes = this.axesOf(stride.length as Axes);
    const cuts = axes.map((axis, i) => ({
      axis,
      from: 0,
      step: stride[i]!,
      count: Math.ceil((x.shape[axis] as number) / stride[i]!),
    }));
    const y = op.strided(
      this.g,
      x,
      cuts.filter((c) => c.step > 1),
    );
    return this.alike(y, x);
  }

  private real(x: Value): Value {
    return this.integers?.real(x) ?? x;
  }

  private apply(
    row: ConvRow,
    x: Value,
    label: string,
    { after, relu = false }: { after?: { norm: NormRow; shift: boolean }; relu?: boolean } = {},
  ): Value {
    const probe = inIntegers(row) ? this.options.probe : undefined;
    probe?.(`${row.scope}/in`, x);
    const integers = inIntegers(row) ? this.integers : null;
    const y = this.noted(row, x, label, () => {
      if (integers) return this.inIntegers(integers, row, x, relu, after);
      return this.plain(row, x, after);
    });
    const z = relu && !integers ? this.relu(y) : y;
    probe?.(`${row.scope}/out`, z);
    return z;
  }

  private inIntegers(
    integers: IntegerLayers,
    row: ConvRow,
    x: Value,
    relu: boolean,
    after?: { norm: NormRow; shift: boolean },
  ): Value {
    const behind = (): Affine => this.reader.behind(row, after);
    return integers.conv(row, x, relu, {
      weights: () => this.reader.weights(row),
      scale: () => behind().scale,
      biases: this.values(`${row.scope}/biases`, [row.to], () => Float32Array.from(behind().shift)),
      values: ({ name, shape, make }) => this.values(name, shape, make)(),
    });
  }

  private plain(row: ConvRow, x: Value, after?: { norm: NormRow; shift: boolean }): Value {
    if (this.form === "training") {
      const bias = row.norm ? null : this.vector(`${row.scope}/biases`, row.to);
      const z = this.convolved(row, x, this.weights(row, null), bias);
      return row.norm ? this.normalised(row.norm, z) : z;
    }
    const behind = (): Affine => this.reader.behind(row, after);
    const bias = this.weight(`${row.scope}/biases`, [row.to], () => Float32Array.from(behind().shift));
    if (!this.unfolded || row.kernel.length !== 3) return this.convolved(row, x, this.weights(row, behind), bias);
    return unfoldedConv(this.g, row, x, bias, {
      weights: () => this.reader.weights(row),
      scale: () => behind().scale,
      weight: (...tensor) => this.weight(...tensor),
    });
  }

  private noted(row: ConvRow, x: Value, label: string, make: () => Value): Value {
    const g = this.g;
    const axes = row.kernel.length as Axes;
    const sizes = this.sizesOf(x, axes);
    const before = g.macs;
    const y = g.scoped(row.scope, make);
    const pads = sizes.map((size, i): [number, number] => {
      const p = row.transposed
        ? samePads(row.stride[i]!, row.kernel[i]!, row.stride[i]!)
        : samePads(size, row.kernel[i]!, row.stride[i]!);
      return [p.before, p.after];
    });
    const work = g.macs.perUnit - before.perUnit + (g.macs.fixed - before.fixed);
    return this.note(label, y, axes, pads, work);
  }

  private convolved(row: ConvRow, x: Value, w: Value, bias: Value | null): Value {
    const strides = row.stride;
    if (row.transposed)
      return op.convTranspose(this.g, x, w, bias, { strides, pads: transposedCrop(row.kernel, strides) });
    const sizes = this.sizesOf(x, row.kernel.length as Axes);
    return op.conv(this.g, x, w, bias, { strides, pads: samePadsOf(sizes, row.kernel, strides) });
  }

  private weights(row: ConvRow, behind: (() => Affine) | null): Value {
    const [y, z] = weightShape(row).slice(-2);
    return this.weight(`${row.scope}/weights`, [z!, y!, ...row.kernel], () => {
      const scale = behind?.().scale;
      return toOnnx(this.reader.weights(row), row, scale);
    });
  }

  private normalised(row: NormRow, x: Value): Value {
    const statistic = (what: string): Value => {
      const name = `${row.scope}/${what}`;
      return this.g.lateConstant(name, [row.channels], () => this.reader.read(name, [row.channels]));
    };
    const scale = row.gamma
      ? this.vector(`${row.scope}/gamma`, row.channels)
      : this.g.constant(new Float32Array(row.channels).fill(1));
    const shift = this.vector(`${row.scope}/beta`, row.channels);
    const [mean, variance] = [statistic("moving_mean"), statistic("moving_variance")];
    return op.batchNorm(this.g, x, { scale, shift, mean, variance }, row.epsilon);
  }

  /** Scale of a norm, shaped to go with x. */
  private scaleOf(row: NormRow, x: Value): Value {
    const shape = [row.channels, ...x.shape.slice(2).map(() => 1)];
    return this.weight(`${row.scope}/scale`, shape, () => Float32Array.from(this.reader.norm(row).scale));
  }

  private vector(name: string, size: number): Value {
    return this.weight(name, [size], () => this.reader.read(name, [size]));
  }

  /** A trained tensor, once: the alignment head is used twice with the same weights. */
  private weight(name: string, shape: readonly number[], make: () => Float32Array): Value {
    const value = this.shared.get(name) ?? this.g.weight(name, shape, this.values(name, shape, make));
    this.shared.set(name, value);
    return value;
  }

  /** Who makes a tensor's numbers: the source's variables, or a file that has them. */
  private values(name: string, shape: readonly number[], make: () => Float32Array): () => Float32Array {
    const { tensors } = this.options;
    if (!tensors) return make;
    return () => {
      const values = tensors(name);
      if (values.length !== shape.reduce((p, d) => p * d, 1))
        throw new InferenceError(
          "SL_MODEL_INVALID",
          `tensor ${name}: ${values.length} values for shape ${shape.join(" x ")}`,
        );
      return values;
    };
  }
}
