import type { Picture } from "../../pipeline/types.js";
import type { Detection } from "../inference.js";
import { planesOf, type Rect } from "./i420.js";

/**
 * Where a face lies, as the live model was taught: centre and half of the larger side of the box that YuNet draws. Picture pixels;
 * pixel i covers [i, i + 1].
 */
export type FacePose = { readonly x: number; readonly y: number; readonly half: number };

/**
 * From BlazeFace's box and keypoints to YuNet's box. Fitted by least squares (outliers over four deviations left out) on 924 frontal to
 * half-profile faces of the training split, tested on 203 faces of other people: one frame each, YuNet against BlazeFace back
 * (letterboxed). Error left (rms, in half sizes): x 0.034 (test 0.040), y 0.047 (0.042), size 6 % (6 %), of which a good part is
 * YuNet's own scatter from frame to frame. With the box alone, without keypoints: x 0.05, y 0.06, size 6 %.
 */
const CALIBRATION = {
  /** Share of the way from the box's centre to the nose. */
  xNose: 0.1394,
  /** In box widths: constant, and shares of the way from the box's centre to the mouth and to the middle of the eyes. */
  yShift: -0.0466,
  yMouth: 0.2043,
  yEyes: 0.455,
  /** In box widths, and of the distance from mouth to the middle of the eyes. */
  half: 0.5886,
  halfMouthEyes: 0.0894,
} as const;

/** @param detection in fractions of a picture of this width and height (pixels) */
export function poseOf(detection: Detection, width: number, height: number): FacePose {
  const at = (i: number): [number, number] => [
    detection.keypoints[2 * i]! * width,
    detection.keypoints[2 * i + 1]! * height,
  ];
  const [rightX, rightY] = at(0);
  const [leftX, leftY] = at(1);
  const [noseX] = at(2);
  const [mouthX, mouthY] = at(3);
  const eyesX = (rightX + leftX) / 2;
  const eyesY = (rightY + leftY) / 2;
  const size = detection.width * width;
  const boxX = detection.x * width + size / 2;
  const boxY = (detection.y + detection.height / 2) * height;
  const k = CALIBRATION;
  return {
    x: boxX + k.xNose * (noseX - boxX),
    y: boxY + k.yShift * size + k.yMouth * (mouthY - boxY) + k.yEyes * (eyesY - boxY),
    half: k.half * size + k.halfMouthEyes * Math.hypot(mouthX - eyesX, mouthY - eyesY),
  };
}

/** The square that the model sees: x from centre - 0.7 to + 0.7 half sizes, y from - 0.3 to + 1.1. */
export function mouthSquare(pose: FacePose): Rect {
  return { x: pose.x - 0.7 * pose.half, y: pose.y - 0.3 * pose.half, width: 1.4 * pose.half, height: 1.4 * pose.half };
}

/** YuNet's boxes are 1.39 times as high as wide (median of the same faces). */
const BOX_ASPECT = 1.39;

/** The face's box, for people to see. */
export function faceRect(pose: FacePose): Rect {
  const width = (2 * pose.half) / BOX_ASPECT;
  return { x: pose.x - width / 2, y: pose.y - pose.half, width, height: 2 * pose.half };
}

/** Grey where the square reaches over the picture's edge (full range). */
const OUTSIDE = 110;

/**
 * The mouth square as side x side grey values, full range: the mean of the area that each output pixel covers; linear interpolation
 * where the source is coarser than the crop. Against the training's own path (OpenCV, over 112 pixels) on 287 real frames the crops lie
 * within 0.5 pixels (95 %) and differ by 2.7 grey levels in the median. Work: the source pixels of the square once, plus `side` rows.
 */
export function cropMouth(
  picture: Picture,
  pose: FacePose,
  side: number,
  out = new Uint8Array(side * side),
): Uint8Array {
  const square = mouthSquare(pose);
  const { yStride } = planesOf(picture.width, picture.height);
  const scale = picture.fullRange ? 1 : 255 / 219;
  const base = picture.fullRange ? 0 : 16;
  const outside = OUTSIDE / scale + base;
  const columns = weights(square.x, square.width, side, picture.width);
  const rows = weights(square.y, square.height, side, picture.height);
  const sums = new Float64Array(side * side);
  const line = new Float64Array(side);
  // Each source row is squeezed to `side` values once and then added to the one or more output rows that it belongs to.
  for (let y = rows.first; y <= rows.last; y++) {
    const inside = y >= 0 && y < picture.height;
    if (inside) squeeze(picture.data, y * yStride, picture.width, columns, outside, line);
    else line.fill(outside);
    for (let j = rows.owners[2 * (y - rows.first)]!; j < rows.owners[2 * (y - rows.first) + 1]!; j++) {
      const weight = rows.values[j * rows.taps + y - rows.begin[j]!]!;
      for (let i = 0, o = j * side; i < side; i++, o++) sums[o]! += weight * line[i]!;
    }
  }
  for (let o = 0; o < sums.length; o++) {
    const v = (sums[o]! - base) * scale;
    out[o] = v <= 0 ? 0 : v >= 255 ? 255 : Math.round(v);
  }
  return out;
}

/** One axis: output index i is the sum of `taps` source pixels from begin[i] on, times values (their sum is 1). */
type Axis = {
  readonly begin: Int32Array;
  readonly values: Float64Array;
  readonly taps: number;
  /** Source pixels that are needed, both inclusive; they may lie outside of the picture. */
  readonly first: number;
  readonly last: number;
  /** For source pixel first + k: the output indices owners[2k] up to owners[2k + 1] (exclusive) use it. */
  readonly owners: Int32Array;
};

function weights(from: number, length: number, side: number, size: number): Axis {
  const step = length / side;
  // Shrinking: a box as wide as the output pixel. Enlarging: a triangle of two source pixels.
  const reach = step >= 1 ? step / 2 : 1;
  const taps = Math.ceil(2 * reach) + 1;
  const begin = new Int32Array(side);
  const values = new Float64Array(side * taps);
  for (let i = 0; i < side; i++) {
    // Far outside every pixel is border: keep the indices near the picture, so that the work stays bounded.
    const centre = Math.min(size + length, Math.max(-length, from + (i + 0.5) * step));
    const start = Math.floor(centre - reach);
    begin[i] = start;
    let total = 0;
    for (let k = 0; k < taps; k++) {
      const covered = Math.min(centre + reach, start + k + 1) - Math.max(centre - reach, start + k);
      const w = step >= 1 ? Math.max(0, covered) : Math.max(0, 1 - Math.abs(start + k + 0.5 - centre));
      values[i * taps + k] = w;
      total += w;
    }
    for (let k = 0; k < taps; k++) values[i * taps + k]! /= total;
  }
  const first = begin[0]!;
  const last = begin[side - 1]! + taps - 1;
  const owners = new Int32Array(2 * (last - first + 1));
  for (let y = first, low = 0, high = 0; y <= last; y++) {
    while (low < side && begin[low]! + taps <= y) low++;
    while (high < side && begin[high]! <= y) high++;
    owners[2 * (y - first)] = low;
    owners[2 * (y - first) + 1] = high;
  }
  return { begin, values, taps, first, last, owners };
}

/** One source row, `width` pixels from `at` on, to line.length values. */
function squeeze(data: Uint8Array, at: number, width: number, axis: Axis, outside: number, line: Float64Array): void {
  const { begin, values, taps } = axis;
  for (let i = 0; i < line.length; i++) {
    let sum = 0;
    for (let k = 0; k < taps; k++) {
      const x = begin[i]! + k;
      sum += values[i * taps + k]! * (x >= 0 && x < width ? data[at + x]! : outside);
    }
    line[i] = sum;
  }
}
