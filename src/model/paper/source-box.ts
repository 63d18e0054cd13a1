import type { Box } from "../../pipeline/types.js";
import type { SourceMap } from "../inference.js";
import { squeezedSide } from "./geometry.js";

/** Cells beside the peak that have more than this share of its height over the mean belong to it. */
const SHARE = 0.5;

/**
 * Where the sound comes from: the cells around the map's peak that are nearly as high, as a box in fractions of the whole picture.
 * `side`: of the squares that the network sees, which are the middle of the picture.
 */
export function sourceBox({ height, width, data }: SourceMap, side: number): Box {
  const mean = data.reduce((sum, v) => sum + v, 0) / data.length;
  const peak = data.reduce((best, v, i) => (v > data[best]! ? i : best), 0);
  const floor = mean + SHARE * (data[peak]! - mean);
  const seen = new Set([peak]);
  let [top, left, bottom, right] = [height, width, 0, 0];
  for (const cell of seen) {
    const [row, column] = [Math.floor(cell / width), cell % width];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row + 1)];
    [left, right] = [Math.min(left, column), Math.max(right, column + 1)];
    // A set is gone through to its end also while it grows.
    if (column > 0 && data[cell - 1]! > floor) seen.add(cell - 1);
    if (column + 1 < width && data[cell + 1]! > floor) seen.add(cell + 1);
    if (row > 0 && data[cell - width]! > floor) seen.add(cell - width);
    if (row + 1 < height && data[cell + width]! > floor) seen.add(cell + width);
  }
  const whole = squeezedSide(side);
  const inset = (whole - side) / 2;
  const at = (part: number): number => (inset + part * side) / whole;
  const [x, y] = [at(left / width), at(top / height)];
  return { x, y, width: at(right / width) - x, height: at(bottom / height) - y };
}
