/**
 * TensorFlow 1's bilinear resize without corner alignment and without half-pixel centres (spec section 3.3): output i looks at
 * i * (from / to), so an enlargement repeats the last value.
 */
export type Tap = { readonly lower: number; readonly upper: number; readonly weight: number };

/** For each output the two inputs it lies between; value = lower + (upper - lower) * weight. */
export function legacyTaps(from: number, to: number): Tap[] {
  const scale = Math.fround(from / to);
  return Array.from({ length: to }, (_, i) => {
    const position = Math.fround(i * scale);
    const lower = Math.min(Math.floor(position), from - 1);
    return { lower, upper: Math.min(lower + 1, from - 1), weight: position - lower };
  });
}

/** The same as a matrix (from, to): row vector times it = resized. */
export function legacyMatrix(from: number, to: number): Float32Array {
  const m = new Float32Array(from * to);
  for (const [i, tap] of legacyTaps(from, to).entries()) {
    m[tap.lower * to + i]! += 1 - tap.weight;
    m[tap.upper * to + i]! += tap.weight;
  }
  return m;
}

type Size = { readonly height: number; readonly width: number };

/** A picture (height, width, channels) to another size, without rounding: what the class activation network sees of a full frame. */
export function resizePicture(pixels: Uint8Array | Float32Array, from: Size, to: Size, channels: number): Float32Array {
  if (pixels.length !== from.height * from.width * channels)
    throw new RangeError(`${pixels.length} values for a picture of ${from.height} x ${from.width} x ${channels}`);
  const out = new Float32Array(to.height * to.width * channels);
  const rows = legacyTaps(from.height, to.height);
  const columns = legacyTaps(from.width, to.width);
  let at = 0;
  for (const row of rows) {
    const top = row.lower * from.width;
    const bottom = row.upper * from.width;
    for (const column of columns) {
      for (let c = 0; c < channels; c++) {
        const left = column.lower * channels + c;
        const right = column.upper * channels + c;
        const topLeft = pixels[top * channels + left]!;
        const bottomLeft = pixels[bottom * channels + left]!;
        const upper = topLeft + (pixels[top * channels + right]! - topLeft) * column.weight;
        const lower = bottomLeft + (pixels[bottom * channels + right]! - bottomLeft) * column.weight;
        out[at++] = upper + (lower - upper) * row.weight;
      }
    }
  }
  return out;
}
