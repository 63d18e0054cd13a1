/**
 * The one shape of every change in this pipeline: sin^2 from 0 to 1 over `length` samples from `start` on. Its slope is 0 at both
 * ends, so a gain that rises to 1 with it never makes the steps of the sound larger than they were; with cos^2 it sums to 1.
 */
export function ramp(sample: number, start: number, length: number): number {
  if (sample >= start + length) return 1;
  if (sample <= start) return 0;
  return Math.sin((Math.PI / 2) * ((sample - start) / length)) ** 2;
}

/** Length of every ramp: 50 ms. */
export const RAMP_SAMPLES = 2400;
