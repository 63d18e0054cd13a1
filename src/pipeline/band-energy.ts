import { RealFft } from "./fft.js";
import { type GainGrid, SAMPLE_RATE } from "./types.js";

/** Points of its frames: short enough that grids of 60 Hz a bin see every sine. */
const SIZE = 1024;
const FFT_BINS = SIZE / 2 + 1;
const FFT_BIN_HZ = SAMPLE_RATE / SIZE;

/** The cells of a gain grid without its values. */
export type GridLayout = Omit<GainGrid, "data">;

/**
 * Energy of sound in the cells of a model's grid (Hann window of 1024 samples around each frame's centre, power interpolated
 * linearly between bins). Only ratios between cells mean something: it weighs gains, it does not measure levels.
 */
export class BandEnergy {
  readonly #fft = new RealFft(SIZE);
  readonly #window = new Float64Array(SIZE);
  readonly #time = new Float64Array(SIZE);
  readonly #spectrum = new Float64Array(2 * FFT_BINS);
  readonly #power = new Float64Array(FFT_BINS + 1);

  constructor() {
    for (let n = 0; n < SIZE; n++) this.#window[n] = Math.sin((Math.PI * n) / SIZE) ** 2;
  }

  /**
   * `sample(n)` gives sample n of the timeline (0 where there is none). Returns frames x bins, row-major; a full-scale sine adds up
   * to about 0.5 over the bins of a grid as fine as 47 Hz.
   */
  measure(layout: GridLayout, sample: (n: number) => number): Float32Array {
    const { frames, bins, binHz, hopSamples, atSample } = layout;
    const energies = new Float32Array(frames * bins);
    const power = this.#power;
    // Sum of the squared Hann window = 3/8 of its length; two sides of the spectrum.
    const scale = 2 / (0.375 * SIZE * SIZE);
    for (let f = 0; f < frames; f++) {
      const start = Math.round(atSample + f * hopSamples) - SIZE / 2;
      for (let n = 0; n < SIZE; n++) this.#time[n] = sample(start + n) * this.#window[n]!;
      this.#fft.forward(this.#time, this.#spectrum);
      for (let k = 0; k < FFT_BINS; k++)
        power[k] = scale * (this.#spectrum[2 * k]! ** 2 + this.#spectrum[2 * k + 1]! ** 2);
      for (let b = 0; b < bins; b++) {
        const position = (b * binHz) / FFT_BIN_HZ;
        const k = Math.floor(position);
        if (k >= FFT_BINS) break;
        energies[f * bins + b] = (power[k]! + (position - k) * (power[k + 1]! - power[k]!)) * (binHz / FFT_BIN_HZ);
      }
    }
    return energies;
  }
}
