import type { Picture } from "../../pipeline/types.js";

/** Where the planes of an I420 picture lie in its data (GStreamer's layout). */
export type Planes = {
  readonly yStride: number;
  readonly uvStride: number;
  readonly uOffset: number;
  readonly vOffset: number;
  readonly byteLength: number;
};

const round2 = (n: number): number => (n + 1) & ~1;
const round4 = (n: number): number => (n + 3) & ~3;

export function planesOf(width: number, height: number): Planes {
  const yStride = round4(width);
  const uvStride = round4(round2(width) / 2);
  const uOffset = yStride * round2(height);
  const uvBytes = (uvStride * round2(height)) / 2;
  return { yStride, uvStride, uOffset, vOffset: uOffset + uvBytes, byteLength: uOffset + 2 * uvBytes };
}

/** @throws RangeError when the data are too short for the declared size */
export function checkPicture(picture: Picture): void {
  const { width, height, data } = picture;
  const whole = Number.isInteger(width) && Number.isInteger(height) && Number.isInteger(picture.atSample);
  if (!whole || width < 1 || height < 1)
    throw new RangeError(`a picture of ${width} x ${height} at ${picture.atSample}`);
  const needed = planesOf(width, height).byteLength;
  if (data.length < needed)
    throw new RangeError(`a picture of ${width} x ${height} needs ${needed} bytes, not ${data.length}`);
}

/** A rectangle in picture pixels; it may reach over the edges. Pixel i covers [i, i + 1]. */
export type Rect = { readonly x: number; readonly y: number; readonly width: number; readonly height: number };

/** Points per axis that are averaged for one output pixel: enough against aliasing for a detector, cheap at any input size. */
const MAX_TAPS = 3;

/**
 * RGB picture of side x side, cut from the picture: black outside of it. Each output pixel is the mean of up to `mostTaps` x `mostTaps`
 * points, by default 3 x 3 as the face detector needs them. Matrix: BT.709 from 720 lines on, BT.601 below (what encoders do where nothing is signalled); a detector does not mind.
 */
export function rgbSquare(
  picture: Picture,
  rect: Rect,
  side: number,
  out = new Uint8Array(side * side * 3),
  mostTaps = MAX_TAPS,
): Uint8Array {
  const { data, width, height } = picture;
  const { yStride, uvStride, uOffset, vOffset } = planesOf(width, height);
  const columns = points(rect.x, rect.width, side, width, mostTaps);
  const rows = points(rect.y, rect.height, side, height, mostTaps);
  const { taps: tx } = columns;
  const { taps: ty } = rows;
  const hd = height >= 720;
  const [kr, kb] = hd ? [0.2126, 0.0722] : [0.299, 0.114];
  const full = picture.fullRange;
  const yScale = full ? 1 : 255 / 219;
  const yBase = full ? 0 : 16;
  const cScale = full ? 1 : 255 / 224;
  const rv = 2 * (1 - kr) * cScale;
  const bu = 2 * (1 - kb) * cScale;
  const gu = (-bu * kb) / (1 - kr - kb);
  const gv = (-rv * kr) / (1 - kr - kb);
  let o = 0;
  for (let j = 0; j < side; j++) {
    for (let i = 0; i < side; i++, o += 3) {
      const firstColumn = columns.at[i * tx]!;
      const firstRow = rows.at[j * ty]!;
      if (firstColumn < 0 || firstRow < 0) {
        out[o] = out[o + 1] = out[o + 2] = 0;
        continue;
      }
      let sum = 0;
      for (let b = 0; b < ty; b++) {
        const line = rows.at[j * ty + b]! * yStride;
        for (let a = 0; a < tx; a++) sum += data[line + columns.at[i * tx + a]!]!;
      }
      const middle = (rows.at[j * ty + (ty >> 1)]! >> 1) * uvStride + (columns.at[i * tx + (tx >> 1)]! >> 1);
      const y = (sum / (tx * ty) - yBase) * yScale;
      const u = data[uOffset + middle]! - 128;
      const v = data[vOffset + middle]! - 128;
      out[o] = clamp(y + rv * v);
      out[o + 1] = clamp(y + gu * u + gv * v);
      out[o + 2] = clamp(y + bu * u);
    }
  }
  return out;
}

/** The whole picture as RGB (height, width, 3) by BT.601, each colour sample for its four pixels. */
export function rgbOf(picture: Omit<Picture, "atSample">): Uint8Array {
  const { data, width, height, fullRange } = picture;
  const { yStride, uvStride, uOffset, vOffset } = planesOf(width, height);
  const [yScale, yBase, cScale] = fullRange ? [1, 0, 1] : [255 / 219, 16, 255 / 224];
  const out = new Uint8Array(3 * width * height);
  let o = 0;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++, o += 3) {
      const colour = (row >> 1) * uvStride + (column >> 1);
      const y = (data[row * yStride + column]! - yBase) * yScale;
      const u = (data[uOffset + colour]! - 128) * cScale;
      const v = (data[vOffset + colour]! - 128) * cScale;
      out[o] = clamp(y + 1.402 * v);
      out[o + 1] = clamp(y - 0.344136 * u - 0.714136 * v);
      out[o + 2] = clamp(y + 1.772 * u);
    }
  return out;
}

/** The other way, studio range: RGB (height, width, 3) with even sides -> I420; a colour sample is the mean of its four pixels. */
export function i420Of(rgb: Uint8Array, width: number, height: number): Uint8Array {
  const { yStride, uvStride, uOffset, vOffset, byteLength } = planesOf(width, height);
  const out = new Uint8Array(byteLength);
  const luma = (i: number): number => 0.299 * rgb[i]! + 0.587 * rgb[i + 1]! + 0.114 * rgb[i + 2]!;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++)
      out[row * yStride + column] = clamp(16 + (219 / 255) * luma(3 * (row * width + column)));
  for (let row = 0; row < height; row += 2)
    for (let column = 0; column < width; column += 2) {
      let [y, red, blue] = [0, 0, 0];
      for (const at of [0, 1, width, width + 1]) {
        const i = 3 * (row * width + column + at);
        y += luma(i) / 4;
        red += rgb[i]! / 4;
        blue += rgb[i + 2]! / 4;
      }
      const at = (row / 2) * uvStride + column / 2;
      out[uOffset + at] = clamp(128 + ((224 / 255) * (blue - y)) / 1.772);
      out[vOffset + at] = clamp(128 + ((224 / 255) * (red - y)) / 1.402);
    }
  return out;
}

const clamp = (v: number): number => (v <= 0 ? 0 : v >= 255 ? 255 : Math.round(v));

/** For every output index `taps` source indices; -1 where the centre lies outside. */
function points(
  from: number,
  length: number,
  side: number,
  size: number,
  mostTaps: number,
): { at: Int32Array; taps: number } {
  const step = length / side;
  const taps = step <= 1 ? 1 : Math.min(mostTaps, Math.ceil(step));
  const at = new Int32Array(side * taps);
  for (let i = 0; i < side; i++) {
    const centre = from + (i + 0.5) * step;
    for (let a = 0; a < taps; a++) {
      const p = Math.floor(from + (i + (a + 0.5) / taps) * step);
      at[i * taps + a] = centre < 0 || centre >= size ? -1 : Math.min(size - 1, Math.max(0, p));
    }
  }
  return { at, taps };
}
