/** Pole of the cubic B-spline's inverse filter. */
const POLE = Math.sqrt(3) - 2;

/** Coefficients of the cubic spline through n values, in place; beyond the ends the values are mirrored (ends not repeated). */
function prefilter(line: Float64Array): void {
  const n = line.length;
  if (n < 2) return;
  const gain = (1 - POLE) * (1 - 1 / POLE);
  for (let i = 0; i < n; i++) line[i]! *= gain;
  let first = line[0]! + POLE ** (n - 1) * line[n - 1]!;
  for (let i = 1; i < n - 1; i++) first += (POLE ** i + POLE ** (2 * n - 2 - i)) * line[i]!;
  line[0] = first / (1 - POLE ** (2 * n - 2));
  for (let i = 1; i < n; i++) line[i]! += POLE * line[i - 1]!;
  line[n - 1] = (POLE / (POLE * POLE - 1)) * (line[n - 1]! + POLE * line[n - 2]!);
  for (let i = n - 2; i >= 0; i--) line[i] = POLE * (line[i + 1]! - line[i]!);
}

type Taps = { readonly at: Int32Array; readonly weights: Float64Array; readonly width: number };

/** For each output the inputs it is a sum of; first and last of both lie on each other. */
function tapsOf(from: number, to: number, order: 1 | 3): Taps {
  const width = order + 1;
  const at = new Int32Array(to * width);
  const weights = new Float64Array(to * width);
  for (let i = 0; i < to; i++) {
    const x = to > 1 ? (i * (from - 1)) / (to - 1) : 0;
    const below = Math.min(Math.floor(x), Math.max(0, from - 2));
    const t = x - below;
    const w =
      order === 1
        ? [1 - t, t]
        : [(1 - t) ** 3 / 6, (4 - 6 * t * t + 3 * t ** 3) / 6, (1 + 3 * t + 3 * t * t - 3 * t ** 3) / 6, t ** 3 / 6];
    for (let k = 0; k < width; k++) {
      at[i * width + k] = mirrored(below + k - (order === 3 ? 1 : 0), from);
      weights[i * width + k] = w[k]!;
    }
  }
  return { at, weights, width };
}

function mirrored(i: number, n: number): number {
  if (n === 1) return 0;
  if (i < 0) return -i;
  return i >= n ? 2 * (n - 1) - i : i;
}

/** `count` lines of `from` values, `step` apart inside a line, to lines of `to` values. */
function resample(
  x: Float64Array,
  size: { readonly outer: number; readonly from: number; readonly inner: number },
  to: number,
  order: 1 | 3,
): Float64Array {
  const { outer, from, inner } = size;
  const { at, weights, width } = tapsOf(from, to, order);
  const out = new Float64Array(outer * to * inner);
  const line = new Float64Array(from);
  for (let o = 0; o < outer; o++)
    for (let c = 0; c < inner; c++) {
      for (let i = 0; i < from; i++) line[i] = x[(o * from + i) * inner + c]!;
      if (order === 3) prefilter(line);
      for (let i = 0; i < to; i++) {
        let sum = 0;
        for (let k = 0; k < width; k++) sum += weights[i * width + k]! * line[at[i * width + k]!]!;
        out[(o * to + i) * inner + c] = sum;
      }
    }
  return out;
}

export type Size = { readonly height: number; readonly width: number };

/**
 * A picture or map (height, width, channels) to another size with corners aligned, through a linear (order 1) or cubic (3) spline: what
 * the release's `scipy.ndimage.zoom` gives. A size that stays is not touched. Throws RangeError for a wrong length.
 */
export function zoom(values: ArrayLike<number>, from: Size, to: Size, channels = 1, order: 1 | 3 = 3): Float64Array {
  if (values.length !== from.height * from.width * channels)
    throw new RangeError(`${values.length} values for ${from.height} x ${from.width} x ${channels}`);
  let x: Float64Array = Float64Array.from(values);
  if (from.height !== to.height)
    x = resample(x, { outer: 1, from: from.height, inner: from.width * channels }, to.height, order);
  if (from.width !== to.width)
    x = resample(x, { outer: to.height, from: from.width, inner: channels }, to.width, order);
  return x;
}

/** As `zoom`, for pixels: rounded and kept within 0..255, as the release's 8-bit pictures are. */
export function zoomPixels(pixels: Uint8Array, from: Size, to: Size, order: 1 | 3): Uint8Array {
  const y = zoom(pixels, from, to, 3, order);
  return Uint8Array.from(y, (v) => Math.min(255, Math.max(0, Math.floor(v + 0.5))));
}
