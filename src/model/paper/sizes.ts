import type { Preset } from "./presets.js";
import { spectrumFrames } from "./spectrum.js";

/** Frames of picture a second (constant) and samples of sound a second (section 1.1). */
export const FRAME_RATE = 29.97;
export const PAPER_RATE = 21_000;

/** Seven halvings in time: the u-net takes multiples of this many spectrum frames. */
export const SPECTRUM_UNIT = 128;

/** From 8 to 1199 frames the fractional pool gives as many steps as the picture has (section 3.4). */
const MIN_FRAMES = 8;
const MAX_FRAMES = 1199;
const MIN_IMAGE = 32;
const MAX_IMAGE = 512;

/** F = floor(seconds * 29.97). */
export function framesOf(seconds: number): number {
  return Math.floor(seconds * FRAME_RATE);
}

/** Frames of a window as long as 128 m frames of spectrum: the release's `--duration_mult` (spec section 1.3). */
export function framesOfMultiple(m: number): number {
  return framesOf(0.064 + 0.016 * (0.5 + 128) * m);
}

/** N = round(21000 / 29.97 * F), half away from zero, as the release's inference does. */
export function samplesOf(frames: number): number {
  return Math.round((PAPER_RATE / FRAME_RATE) * frames);
}

/** Sizes of one window; `spectrum`: frames of the spectrum that the u-net sees, 0 for a preset without it. */
export type WindowSizes = {
  readonly frames: number;
  readonly samples: number;
  readonly image: number;
  readonly spectrum: number;
};

function whole(value: number, from: number, to: number, what: string): number {
  if (!Number.isInteger(value) || value < from || value > to)
    throw new RangeError(`${what} ${value}: allowed are whole numbers from ${from} to ${to}`);
  return value;
}

/**
 * Sizes of a window of a preset; by default its own length and 224 x 224 pixels. Throws RangeError for sizes that the network does
 * not take; a window with a u-net must be long enough for 128 spectrum frames (63 picture frames).
 */
export function windowSizes(preset: Preset, options: { image?: number; frames?: number } = {}): WindowSizes {
  const frames = whole(options.frames ?? framesOf(preset.seconds), MIN_FRAMES, MAX_FRAMES, "frames");
  const image = whole(options.image ?? 224, MIN_IMAGE, MAX_IMAGE, "image side");
  const samples = samplesOf(frames);
  if (!preset.parts.unet) return { frames, samples, image, spectrum: 0 };
  const spectrum = Math.floor(spectrumFrames(samples) / SPECTRUM_UNIT) * SPECTRUM_UNIT;
  if (spectrum === 0)
    throw new RangeError(`frames ${frames}: the u-net needs at least 63, which give ${SPECTRUM_UNIT} spectrum frames`);
  return { frames, samples, image, spectrum };
}
