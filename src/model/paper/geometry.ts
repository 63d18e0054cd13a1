import { SAMPLE_RATE } from "../../pipeline/types.js";
import { RATIO } from "./gains.js";
import { FRAME_RATE, SPECTRUM_UNIT, type WindowSizes } from "./sizes.js";
import { spectrumFrames, waveformSamples } from "./spectrum.js";

/** A picture frame of the model in samples at 48 kHz. */
export const FRAME_SAMPLES = SAMPLE_RATE / FRAME_RATE;

/** A picture is squeezed to 8/7 of the network's side, of which it sees the middle (256 and 224 as published). */
export const squeezedSide = (side: number): number => side + 2 * Math.round(side / 14);

/**
 * What the spectrum of a window covers, in samples at 48 kHz. A network without u-net has no spectrum: what that of a separator with as many
 * pictures would.
 */
export function coveredSamples(sizes: Pick<WindowSizes, "samples" | "spectrum">): number {
  const whole = Math.floor(spectrumFrames(sizes.samples) / SPECTRUM_UNIT) * SPECTRUM_UNIT;
  const spectrum = sizes.spectrum > 0 ? sizes.spectrum : whole;
  const samples = spectrum > 0 ? waveformSamples(spectrum) : sizes.samples;
  return Math.ceil((samples * RATIO.down) / RATIO.up);
}
