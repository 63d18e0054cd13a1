import type { GainGrid } from "../../pipeline/types.js";
import { PAPER_RATE } from "./sizes.js";
import { BINS, FFT_SIZE, type Spectrum, STEP, WINDOW } from "./spectrum.js";

/** Samples of the 48 kHz timeline in a sample of the model's 21 kHz: 16 / 7. */
export const RATIO = { up: 7, down: 16 } as const;
/** Distance of two frames of spectrum, and the centre of frame 0 after the window's first sample, at 48 kHz; whole numbers. */
export const FRAME_HOP = (STEP * RATIO.down) / RATIO.up;
export const FRAME_CENTRE = (WINDOW * RATIO.down) / (2 * RATIO.up);

/** Decibels of a magnitude to its natural logarithm. */
const NEPER = Math.LN10 / 20;

/** On-screen share of each cell: on / (on + off) of the predicted magnitudes, 0.5 where both are silence. */
export function windowGains(on: Spectrum, off: Spectrum): Float32Array {
  if (on.db.length !== off.db.length)
    throw new RangeError(`spectra of ${on.frames} and ${off.frames} frames do not belong together`);
  const gains = new Float32Array(on.db.length);
  for (let i = 0; i < gains.length; i++) gains[i] = 1 / (1 + Math.exp((off.db[i]! - on.db[i]!) * NEPER));
  // The last bin is not predicted: it goes with the one below.
  for (let last = BINS - 1; last < gains.length; last += BINS) gains[last] = gains[last - 1]!;
  return gains;
}

/**
 * Where the frames of a window lie on the 48 kHz timeline that are centred from `from` (as near before it as there are) to `until`, and which
 * frame of the window the first of them is. `atSample`: where the window begins.
 */
export function windowLayout(
  atSample: number,
  from: number,
  until: number,
): { readonly layout: Omit<GainGrid, "data">; readonly first: number } {
  const index = (sample: number): number => (sample - atSample - FRAME_CENTRE) / FRAME_HOP;
  const first = Math.floor(index(from));
  const last = Math.max(first, Math.ceil(index(until)));
  const layout = {
    atSample: atSample + FRAME_CENTRE + first * FRAME_HOP,
    hopSamples: FRAME_HOP,
    frames: last - first + 1,
    bins: BINS,
    binHz: PAPER_RATE / FFT_SIZE,
  };
  return { layout, first };
}

/** The gains of a window as a grid (`windowLayout`). Where the window ends before, its outermost frame holds on. */
export function windowGrid(gains: Float32Array, atSample: number, from: number, until: number): GainGrid {
  const { layout, first } = windowLayout(atSample, from, until);
  const data = new Float32Array(layout.frames * BINS);
  for (let i = 0; i < layout.frames; i++) {
    const row = Math.min(gains.length / BINS - 1, Math.max(0, first + i));
    data.set(gains.subarray(row * BINS, (row + 1) * BINS), i * BINS);
  }
  return { ...layout, data };
}
