import { InferenceError } from "../inference.js";
import { type ConvRow, type NormRow, weightShape } from "./table.js";
import type { VariableSource } from "./variables.js";

/** A scale and a shift for every channel: what a norm is at inference. */
export type Affine = { readonly scale: Float64Array; readonly shift: Float64Array };

/**
 * TensorFlow's weights (taps, y, z) to ONNX's (z, y, taps): kernel x in x out becomes out x in x kernel, transposed kernel x out x in
 * becomes in x out x kernel. Each output channel times its `scale`.
 */
export function toOnnx(
  values: Float32Array,
  row: Pick<ConvRow, "from" | "to" | "transposed">,
  scale?: Float64Array,
): Float32Array {
  const [ys, zs] = row.transposed ? [row.to, row.from] : [row.from, row.to];
  const taps = values.length / (ys * zs);
  const out = new Float32Array(values.length);
  let at = 0;
  for (let k = 0; k < taps; k++)
    for (let y = 0; y < ys; y++)
      for (let z = 0; z < zs; z++) {
        const factor = scale ? scale[row.transposed ? y : z]! : 1;
        out[(z * ys + y) * taps + k] = values[at++]! * factor;
      }
  return out;
}

/** Reads a source with its faults made plain: a variable of the wrong length, norms that would give no numbers. */
export class VariableReader {
  /** The last weights: the unfolded form asks for them again for every tap in time. */
  private last: { readonly scope: string; readonly values: Float32Array } | null = null;

  constructor(private readonly source: VariableSource) {}

  read(name: string, shape: readonly number[]): Float32Array {
    const values = this.source(name);
    const size = shape.reduce((p, d) => p * d, 1);
    if (values.length !== size)
      throw new InferenceError(
        "SL_MODEL_INVALID",
        `variable ${name}: ${values.length} values, expected ${size} (shape ${shape.join(" x ")})`,
      );
    return values;
  }

  weights(row: ConvRow): Float32Array {
    if (this.last?.scope !== row.scope)
      this.last = { scope: row.scope, values: this.read(`${row.scope}/weights`, weightShape(row)) };
    return this.last.values;
  }

  /** y = gamma (x - mean) / sqrt(variance + epsilon) + beta (section 3.5) as scale and shift. */
  norm(row: NormRow): Affine {
    const part = (what: string): Float32Array => this.read(`${row.scope}/${what}`, [row.channels]);
    const gamma = row.gamma ? part("gamma") : null;
    const [beta, mean, variance] = [part("beta"), part("moving_mean"), part("moving_variance")];
    const scale = Float64Array.from(variance, (v, i) => (gamma?.[i] ?? 1) / Math.sqrt(v + row.epsilon));
    const shift = Float64Array.from(beta, (b, i) => b - mean[i]! * scale[i]!);
    if (!scale.every(Number.isFinite) || !shift.every(Number.isFinite))
      throw new InferenceError("SL_MODEL_INVALID", `norm ${row.scope}: a scale or shift is not finite`);
    return { scale, shift };
  }

  /** What stands behind a convolution: its own norm or bias, then (folded residual blocks) the scale, maybe shift, of another norm. */
  behind(row: ConvRow, after?: { readonly norm: NormRow; readonly shift: boolean }): Affine {
    const own = row.norm
      ? this.norm(row.norm)
      : {
          scale: new Float64Array(row.to).fill(1),
          shift: Float64Array.from(this.read(`${row.scope}/biases`, [row.to])),
        };
    if (!after) return own;
    const next = this.norm(after.norm);
    return {
      scale: own.scale.map((v, i) => v * next.scale[i]!),
      shift: own.shift.map((v, i) => v * next.scale[i]! + (after.shift ? next.shift[i]! : 0)),
    };
  }
}
