import type { Size } from "./spline.js";
import type { ActivationMap } from "./window.js";

const SIGMA = 2;
/** Standard deviations after which the bell is cut off. */
const TRUNCATE = 4;
/** Side of a crop: the mean of the frame's sides over this, at least LEAST_SIDE (what the network takes as published). */
const SHARE = 2.5;
const LEAST_SIDE = 224;

/** In pixels of the frame. */
export type Crop = { readonly x: number; readonly y: number; readonly side: number };

/** One axis of a blur by a Gaussian; beyond the ends the values are mirrored, ends repeated. */
function blurred(x: Float32Array, outer: number, n: number, inner: number): Float32Array {
  const radius = Math.floor(TRUNCATE * SIGMA + 0.5);
  const bell = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp((-0.5 * (i - radius) ** 2) / SIGMA ** 2));
  const total = bell.reduce((a, b) => a + b);
  const place = (i: number): number => {
    const m = ((i % (2 * n)) + 2 * n) % (2 * n);
    return m < n ? m : 2 * n - 1 - m;
  };
  const out = new Float32Array(x.length);
  for (let o = 0; o < outer; o++)
    for (let c = 0; c < inner; c++)
      for (let i = 0; i < n; i++) {
        let sum = 0;
        for (let k = -radius; k <= radius; k++) sum += bell[k + radius]! * x[(o * n + place(i + k)) * inner + c]!;
        out[(o * n + i) * inner + c] = sum / total;
      }
  return out;
}

/**
 * The cell from which most of the sound comes in a window: each map blurred (Gaussian, 2 cells), |value|, mean over time, the first
 * largest cell row by row (spec section 5, "crop from CAM").
 */
export function loudestCell(map: ActivationMap): { readonly row: number; readonly column: number } {
  const { frames, height, width } = map;
  const smooth = blurred(blurred(map.data, frames, height, width), frames * height, width, 1);
  const mean = new Float32Array(height * width);
  for (const [i, v] of smooth.entries()) mean[i % mean.length]! += Math.abs(v) / frames;
  let most = 0;
  for (const v of mean) most = Math.max(most, v);
  const first = mean.findIndex((v) => v >= most - 1e-8);
  return { row: Math.floor(first / width), column: first % width };
}

/**
 * Square round the loudest cell, moved inside the frame. A frame lower or narrower than 224 pixels (where the release's arithmetic goes
 * astray) gives its whole smaller side.
 */
export function cropFromMap(map: ActivationMap, frame: Size): Crop {
  const { row, column } = loudestCell(map);
  const centre = (cell: number, cells: number, pixels: number): number => Math.round(((cell + 0.5) * pixels) / cells);
  const wanted = Math.max(LEAST_SIDE, Math.floor((frame.height + frame.width) / 2 / SHARE));
  const side = Math.min(wanted, frame.height, frame.width);
  const begin = (middle: number, pixels: number): number =>
    Math.min(pixels - side, Math.max(0, middle - Math.floor(side / 2)));
  return {
    x: begin(centre(column, map.width, frame.width), frame.width),
    y: begin(centre(row, map.height, frame.height), frame.height),
    side,
  };
}
