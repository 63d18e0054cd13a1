import type { TensorMap } from "./engine.js";

/**
 * How far an engine's output may be from the CPU's, as a part of the largest value of that output. Float32 sums in another order
 * differ by about 1e-6 to 1e-5; a wrong kernel by far more than this.
 */
export const TOLERANCE = 1e-3;
/**
 * An output whose largest value is below this is measured by this instead: gains, beliefs and states are of the size of 1, and a small
 * difference of two of them (`confidence`) has the error of the two.
 */
const LEAST_SCALE = 0.01;

/** Largest difference of any output, as a part of the largest value of that output (or of 0.01); infinite when names, sizes or finiteness differ. */
export function largestError(got: TensorMap, want: TensorMap): number {
  let worst = 0;
  for (const [name, { data }] of Object.entries(want)) {
    const other = got[name]?.data;
    if (!(data instanceof Float32Array) || !(other instanceof Float32Array) || other.length !== data.length)
      return Number.POSITIVE_INFINITY;
    let difference = 0;
    let scale = LEAST_SCALE;
    for (let i = 0; i < data.length; i++) {
      const d = Math.abs(other[i]! - data[i]!);
      // Written so that NaN counts as a difference.
      if (!(d <= difference)) difference = Number.isFinite(d) ? d : Number.POSITIVE_INFINITY;
      scale = Math.max(scale, Math.abs(data[i]!));
    }
    worst = Math.max(worst, difference / scale);
  }
  return worst;
}

/** The first output that holds a value which is not finite. */
export function notFinite(outputs: TensorMap): string | null {
  for (const [name, { data }] of Object.entries(outputs))
    if (data instanceof Float32Array) for (const v of data) if (!Number.isFinite(v)) return name;
  return null;
}
