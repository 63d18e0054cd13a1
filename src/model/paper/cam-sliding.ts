import { FRAME_RATE, PAPER_RATE } from "./sizes.js";
import { zoom } from "./spline.js";
import type { ActivationMap } from "./window.js";

/** Crops along each side of the frame, the share of the side that one has, and the shifts of the sound in seconds. */
const CROPS = 5;
const SHARE = 224 / 256;
const SHIFTS = [-2, -1, 0, 1, 2];

export type SlidingInput = {
  /** RGB squares (side, side, 3): whole frames. */
  readonly frames: readonly Uint8Array[];
  readonly side: number;
  /** Sound of the window at 21 kHz. */
  readonly left: Float32Array;
  readonly right: Float32Array;
};

export type SlidingOptions = {
  /** Also the sound moved by -2 ... 2 s against the picture. */
  readonly shifts: boolean;
  /** The release takes a map's frames for the picture's, so that no moved sound ever counts (of windows up to 4.2 s): so here. */
  readonly releaseExact: boolean;
  /** Side of the pictures that the network takes. */
  readonly side: number;
  /** The network on crops of that side. */
  readonly map: (pictures: readonly Uint8Array[], left: Float32Array, right: Float32Array) => Promise<ActivationMap>;
};

/** Where crops begin, in pixels. */
export function cropPlaces(side: number, crop: number): number[] {
  return Array.from({ length: CROPS }, (_, i) => Math.floor((i * (side - crop)) / (CROPS - 1)));
}

/** Sound from `seconds` later on, zeros where the window has none. */
export function shifted(samples: Float32Array, seconds: number): Float32Array {
  const by = Math.trunc(seconds * PAPER_RATE);
  const out = new Float32Array(samples.length);
  if (by >= 0) out.set(samples.subarray(by));
  else if (-by < samples.length) out.set(samples.subarray(0, by), -by);
  return out;
}

/**
 * Maps of a window that count when its sound is moved: those whose time the moved sound still covers. `perMap`: picture frames of a map.
 */
export function validMaps(
  maps: number,
  seconds: number,
  perMap: number,
): { readonly from: number; readonly to: number } {
  const lost = (s: number): number => Math.ceil(Math.trunc(Math.max(s, 0) * FRAME_RATE) / perMap);
  return { from: Math.min(maps, lost(-seconds)), to: Math.max(0, maps - lost(seconds)) };
}

/**
 * A map of the frame's own resolution (spec section 5, "multi-crop CAM"): 5 x 5 crops of 7/8 of the frame's side, each shown to the
 * network at its own size, every map brought to the crop's size by a cubic spline, |value|, and the mean of all that cover a pixel.
 */
export async function slidingMap(input: SlidingInput, options: SlidingOptions): Promise<ActivationMap> {
  const { frames, side, left, right } = input;
  const crop = Math.trunc(SHARE * side);
  const places = cropPlaces(side, crop);
  const square = { height: crop, width: crop };
  let sum: Float64Array | null = null;
  let count = new Float64Array(0);
  let maps = 0;
  for (const y of places)
    for (const x of places) {
      const pictures = each(frames, (f) => cropped(f, side, { x, y, side: crop }, options.side));
      for (const seconds of options.shifts ? SHIFTS : [0]) {
        const known = maps > 0 ? validMaps(maps, seconds, options.releaseExact ? 1 : frames.length / maps) : null;
        // What would count nowhere need not be computed; the first run (which tells how many maps there are) is not known yet.
        if (known !== null && known.from >= known.to) continue;
        const map = await options.map(pictures, shifted(left, seconds), shifted(right, seconds));
        maps = map.frames;
        sum ??= new Float64Array(maps * side * side);
        if (count.length === 0) count = new Float64Array(sum.length);
        const valid = validMaps(maps, seconds, options.releaseExact ? 1 : frames.length / maps);
        for (let t = valid.from; t < valid.to; t++) {
          const cells = map.data.subarray(t * map.height * map.width, (t + 1) * map.height * map.width);
          const fine = zoom(cells, map, square);
          for (let row = 0; row < crop; row++)
            for (let column = 0; column < crop; column++) {
              const at = (t * side + y + row) * side + x + column;
              sum[at]! += Math.abs(fine[row * crop + column]!);
              count[at]! += 1;
            }
        }
      }
    }
  const data = Float32Array.from(sum!, (v, i) => v / Math.max(count[i]!, 1e-5));
  return { frames: maps, height: side, width: side, data };
}

/** As map; frames that are the same object (doubled ones) are worked on once. */
function each(frames: readonly Uint8Array[], make: (frame: Uint8Array) => Uint8Array): Uint8Array[] {
  const made = new Map<Uint8Array, Uint8Array>();
  return frames.map((f) => {
    const have = made.get(f) ?? make(f);
    made.set(f, have);
    return have;
  });
}

/**
 * A square of an RGB square (side, side, 3) brought to `to` pixels by a linear spline with corners aligned and rounded: `zoomPixels` of
 * order 1 on the cut, without the cut.
 */
export function cropped(
  rgb: Uint8Array,
  side: number,
  crop: { readonly x: number; readonly y: number; readonly side: number },
  to: number,
): Uint8Array {
  const step = to > 1 ? (crop.side - 1) / (to - 1) : 0;
  const below = Array.from({ length: to }, (_, i) => Math.min(Math.floor(i * step), Math.max(0, crop.side - 2)));
  const out = new Uint8Array(3 * to * to);
  let at = 0;
  for (let j = 0; j < to; j++) {
    const row = 3 * (crop.y + below[j]!) * side;
    const next = below[j]! + 1 < crop.side ? 3 * side : 0;
    const v = j * step - below[j]!;
    for (let i = 0; i < to; i++) {
      const u = i * step - below[i]!;
      const right = below[i]! + 1 < crop.side ? 3 : 0;
      for (let c = 0; c < 3; c++, at++) {
        const a = row + 3 * (crop.x + below[i]!) + c;
        const upper = (1 - v) * rgb[a]! + v * rgb[a + next]!;
        const beside = (1 - v) * rgb[a + right]! + v * rgb[a + next + right]!;
        out[at] = Math.floor((1 - u) * upper + u * beside + 0.5);
      }
    }
  }
  return out;
}
