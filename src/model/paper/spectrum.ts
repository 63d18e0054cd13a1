import { RealFft } from "../../pipeline/fft.js";

/** Samples at 21 kHz: 64 ms window, 16 ms step; zeros fill the transform up to a power of two (spec sections 1.1 and 3.6). */
export const WINDOW = 1344;
export const STEP = 336;
export const FFT_SIZE = 2048;
export const BINS = FFT_SIZE / 2 + 1;
/** What silence is: no level is lower, and what the network does not predict (the last bin) has it. */
export const FLOOR_DB = -100;

/**
 * Squares of the window overlap to 1.5. Where fewer than four frames cover a sample less is there, at the very ends almost nothing:
 * division by less than this would make noise of rounding, so the outermost 6 ms fade.
 */
const MIN_COVER = 0.01;

/** Levels in dB and phases in (-pi, pi], both (frames, BINS) row by row. */
export type Spectrum = { readonly frames: number; readonly db: Float32Array; readonly phase: Float32Array };

/** Whole windows in so many samples: frame k covers samples 336 k .. 336 k + 1343; no padding, no centring. */
export function spectrumFrames(samples: number): number {
  return samples < WINDOW ? 0 : Math.floor((samples - WINDOW) / STEP) + 1;
}

/** Length of what `waveform` gives. */
export function waveformSamples(frames: number): number {
  return frames === 0 ? 0 : (frames - 1) * STEP + WINDOW;
}

/** Periodic Hann. */
const hann = Float64Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));

/**
 * Spectrum of one channel at 21 kHz: 20 log10 max(1e-5, |X|) and the angle of X. `limit`: at most so many frames. Bin 0 and the last
 * have phase 0 or +pi (never -pi: the sign is an input of the network).
 */
export function spectrum(samples: ArrayLike<number>, limit = Number.POSITIVE_INFINITY): Spectrum {
  const frames = Math.min(limit, spectrumFrames(samples.length));
  const db = new Float32Array(frames * BINS);
  const phase = new Float32Array(frames * BINS);
  const fft = new RealFft(FFT_SIZE);
  const piece = new Float64Array(FFT_SIZE);
  const bins = new Float64Array(2 * BINS);
  for (let k = 0; k < frames; k++) {
    for (let i = 0; i < WINDOW; i++) piece[i] = samples[k * STEP + i]! * hann[i]!;
    fft.forward(piece, bins);
    for (let b = 0; b < BINS; b++) {
      const re = bins[2 * b]!;
      const im = bins[2 * b + 1]!;
      db[k * BINS + b] = 20 * Math.log10(Math.max(1e-5, Math.sqrt(re * re + im * im)));
      phase[k * BINS + b] = Math.atan2(im, re);
    }
  }
  return { frames, db, phase };
}

export type WaveformOptions = {
  /**
   * As the release does it: windowed again and overlapped without division by the window's energy, so 1.5 times too loud and rising
   * from 0 at both ends. Default false: unit gain.
   */
  readonly releaseExact?: boolean;
};

/** Sound of a spectrum, `waveformSamples(frames)` samples; without `releaseExact`, waveform(spectrum(x)) = x but for the fades. */
export function waveform(s: Spectrum, options: WaveformOptions = {}): Float32Array {
  if (s.db.length !== s.frames * BINS || s.phase.length !== s.db.length)
    throw new RangeError(`${s.db.length} levels, ${s.phase.length} phases for ${s.frames} frames of ${BINS} bins`);
  const sum = new Float64Array(waveformSamples(s.frames));
  const cover = new Float64Array(sum.length);
  const fft = new RealFft(FFT_SIZE);
  const bins = new Float64Array(2 * BINS);
  const piece = new Float64Array(FFT_SIZE);
  for (let k = 0; k < s.frames; k++) {
    for (let b = 0; b < BINS; b++) {
      const size = 10 ** (s.db[k * BINS + b]! / 20);
      bins[2 * b] = size * Math.cos(s.phase[k * BINS + b]!);
      bins[2 * b + 1] = size * Math.sin(s.phase[k * BINS + b]!);
    }
    fft.inverse(bins, piece);
    for (let i = 0; i < WINDOW; i++) {
      sum[k * STEP + i]! += piece[i]! * hann[i]!;
      cover[k * STEP + i]! += hann[i]! * hann[i]!;
    }
  }
  if (options.releaseExact) return Float32Array.from(sum);
  return Float32Array.from(sum, (v, i) => v / Math.max(cover[i]!, MIN_COVER));
}
