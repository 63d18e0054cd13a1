import type { GraphBuilder, Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { PIXEL } from "./scaling.js";
import type { ConvRow } from "./table.js";
import { type Folded, stackedFrames, stackedWeights } from "./unfold.js";

/** Least and largest value of a tensor over the windows of a calibration. */
export type Range = readonly [least: number, most: number];
/** By `SCOPE/in` and `SCOPE/out` of a convolution of the picture. */
export type Ranges = Readonly<Record<string, Range>>;

/** The rows that are computed in integers: convolutions of the picture and of the fusion. Sound, heads and u-net stay float. */
export const inIntegers = (row: ConvRow): boolean => row.kernel.length === 3 && row.scope.startsWith("im/");

/**
 * Weights are -64..64, seven bits: AVX2's kernel adds two products of a byte and a weight in 16 bits, and
 * 2 * 255 * 64 = 32640 is the largest that fits. With eight bits it saturates silently.
 */
export const WEIGHT_LIMIT = 64;
const BYTE = 255;
/** Room in the bias's 32 bits for the sums of the convolution. */
const BIAS_LIMIT = 2 ** 30;
const LEAST_SCALE = 1e-12;

/** Bytes stand for scale * (byte - zero) + offset. */
type Meaning = { readonly scale: number; readonly zero: number; readonly offset: number };

/** Pixels as they are: -1..1 has its middle between 127 and 128, so half a step is left for the bias. */
const PIXELS: Meaning = { scale: PIXEL.scale, zero: 128, offset: PIXEL.shift + 128 * PIXEL.scale };

/** 0 is always a byte of its own: it pads. */
function meaningOf([least, most]: Range, relu: boolean): Meaning {
  const from = relu ? 0 : Math.min(0, least);
  const scale = Math.fround(Math.max((Math.max(0, most) - from) / BYTE, LEAST_SCALE));
  return { scale, zero: Math.min(BYTE, Math.round(-from / scale)), offset: 0 };
}

export type Quantised = { readonly weights: Int8Array; readonly scales: Float32Array; readonly biases: Int32Array };

/** Weights (out, ...) and biases in integers, a scale for each output channel; `x` says what the input's bytes mean. */
export function quantisedWeights(
  weights: Float32Array,
  biases: Float32Array,
  x: { readonly scale: number; readonly offset: number },
): Quantised {
  const rows = biases.length;
  const each = weights.length / rows;
  const out = { weights: new Int8Array(weights.length), scales: new Float32Array(rows), biases: new Int32Array(rows) };
  for (let row = 0; row < rows; row++) {
    let most = 0;
    for (let i = row * each; i < (row + 1) * each; i++) most = Math.max(most, Math.abs(weights[i]!));
    // A channel without weights still has its bias, which must fit, too.
    const least = Math.max(LEAST_SCALE, Math.abs(biases[row]!) / (x.scale * BIAS_LIMIT));
    const scale = Math.fround(Math.max(most / WEIGHT_LIMIT, least));
    let sum = 0;
    for (let i = row * each; i < (row + 1) * each; i++) {
      const w = Math.max(-WEIGHT_LIMIT, Math.min(WEIGHT_LIMIT, Math.round(weights[i]! / scale)));
      out.weights[i] = w;
      sum += w;
    }
    out.scales[row] = scale;
    out.biases[row] = Math.round((biases[row]! / scale + x.offset * sum) / x.scale);
  }
  return out;
}

/** Convolutions of the unfolded form in integers, and the way of values into bytes and back. */
export class IntegerLayers {
  /** What the bytes of a value mean, by its name. */
  private readonly meanings = new Map<string, Meaning>();
  /** Values that are there as bytes already, by the name of the float one. */
  private readonly bytes = new Map<string, Value>();
  private readonly quanta = new Map<string, op.Quantum>();
  private weightZero: Value | null = null;

  constructor(
    private readonly g: GraphBuilder,
    private readonly ranges: Ranges,
  ) {}

  /** Pixels 0..255, of either type, as bytes that the first convolution takes. */
  pixels(x: Value): Value {
    const y = x.type === "uint8" ? x : op.quantize(this.g, x, this.quantum({ scale: 1, zero: 0, offset: 0 }));
    this.meanings.set(y.name, PIXELS);
    return y;
  }

  /** y holds bytes of x, moved or chosen. */
  alike(y: Value, x: Value): Value {
    const meaning = this.meanings.get(x.name);
    if (meaning) this.meanings.set(y.name, meaning);
    return y;
  }

  real(x: Value): Value {
    const meaning = this.meanings.get(x.name);
    return meaning ? op.dequantize(this.g, x, this.quantum(meaning)) : x;
  }

  /** Throws RangeError when the calibration lacks the row. `relu`: what is below 0 becomes 0, by itself. */
  conv(
    row: ConvRow,
    x: Value,
    relu: boolean,
    folded: Pick<Folded, "weights" | "scale"> & {
      readonly biases: () => Float32Array;
      readonly values: (tensor: { name: string; shape: readonly number[]; make: () => Float32Array }) => Float32Array;
    },
  ): Value {
    const g = this.g;
    const given = this.asBytes(x, `${row.scope}/in`);
    const from = this.meanings.get(given.name)!;
    const to = meaningOf(this.range(`${row.scope}/out`), relu);
    const { shape, make } = stackedWeights(row, folded, folded.values);
    // Three tensors of one computation, asked for one after another.
    let made: Quantised | null = null;
    const quantised = (): Quantised => {
      made ??= quantisedWeights(make(), folded.biases(), from);
      return made;
    };
    const w = g.integers(`${row.scope}/weights`, "int8", shape, () => quantised().weights);
    const scale = g.lateConstant(`${row.scope}/scales`, [row.to], () => quantised().scales);
    const b = g.integers(`${row.scope}/biases`, "int32", [row.to], () => {
      const { biases } = quantised();
      made = null; // the last of the three
      return biases;
    });
    this.weightZero ??= g.constant(Int8Array.of(0), []);
    const [in8, out8] = [this.quantum(from), this.quantum(to)];
    const stacked = stackedFrames(g, row, given, from.zero === 0 ? undefined : in8.zero);
    const y = op.qlinearConv(
      g,
      { of: stacked.x, as: in8 },
      { of: w, as: { scale, zero: this.weightZero } },
      b,
      out8,
      stacked.options,
    );
    this.meanings.set(y.name, to);
    return y;
  }

  private asBytes(x: Value, key: string): Value {
    if (this.meanings.has(x.name)) return x;
    const meaning = meaningOf(this.range(key), false);
    const y = this.bytes.get(x.name) ?? op.quantize(this.g, x, this.quantum(meaning));
    this.bytes.set(x.name, y);
    if (!this.meanings.has(y.name)) this.meanings.set(y.name, meaning);
    return y;
  }

  private range(key: string): Range {
    const range = this.ranges[key];
    if (!range?.every(Number.isFinite)) throw new RangeError(`int8: the calibration has no range of ${key}`);
    return range;
  }

  private quantum({ scale, zero }: Meaning): op.Quantum {
    const key = `${scale}/${zero}`;
    const quantum = this.quanta.get(key) ?? {
      scale: this.g.scalar(scale),
      zero: this.g.constant(Uint8Array.of(zero), []),
    };
    this.quanta.set(key, quantum);
    return quantum;
  }
}
