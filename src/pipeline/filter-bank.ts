import { RealFft } from "./fft.js";

/**
 * Points of a frame at 48 kHz. About as long as the frames that `live` makes its gains for (40 ms): half as long blurs the gains between the
 * harmonics of a voice (docs/decisions/01).
 */
export const BANK_SIZE = 2048;
/** Distance of two frames, and bins of one. */
export const BANK_HOP = BANK_SIZE / 4;
export const BANK_BINS = BANK_SIZE / 2 + 1;
/** Width of a bin in Hz. */
export const BANK_BIN_HZ = 48_000 / BANK_SIZE;
/** Output sample n is final once the input has reached this many samples beyond it, and gains are known for half as many (at most). */
export const BANK_LATENCY = BANK_SIZE;

/**
 * Asked once a frame, in order, `BANK_HOP` apart: write all `BANK_BINS` gains for the frame centred on `centreSample`. `power` is
 * the frame's energy by bin, mean over the channels; its sum is the frame's (windowed) mean square.
 */
export type GainsAt = (centreSample: number, gains: Float32Array, power: Float32Array) => void;

/**
 * Streaming weighted overlap-add with a square-root Hann window on both sides: time-varying gains on 1025 bands, the same for every
 * channel (the stereo image stays). Frame k covers input samples [512 k - 1536, 512 k + 512), so the first ones see zeros before
 * sample 0, and the output is aligned with the input: output sample n is input sample n times the gains around it. With gains of 1
 * the output is the input (far better than -90 dB). Frames lie on a fixed grid, so results do not depend on block sizes.
 */
export class FilterBank {
  readonly channels: number;
  readonly #fft = new RealFft(BANK_SIZE);
  readonly #window = new Float64Array(BANK_SIZE);
  /** The newest BANK_SIZE input samples by channel; the last hop is filled bit by bit. */
  readonly #input: readonly Float64Array[];
  /** Sums of overlapping frames by channel. */
  readonly #overlap: readonly Float64Array[];
  readonly #spectra: readonly Float64Array[];
  readonly #time = new Float64Array(BANK_SIZE);
  readonly #gains = new Float32Array(BANK_BINS);
  readonly #power = new Float32Array(BANK_BINS);
  #filled = 0;
  #frames = 0;

  constructor(channels: number) {
    if (!Number.isInteger(channels) || channels < 1)
      throw new RangeError(`channels must be a whole number above 0, not ${channels}`);
    this.channels = channels;
    for (let n = 0; n < BANK_SIZE; n++) this.#window[n] = Math.sin((Math.PI * n) / BANK_SIZE);
    this.#input = Array.from({ length: channels }, () => new Float64Array(BANK_SIZE));
    this.#overlap = Array.from({ length: channels }, () => new Float64Array(BANK_SIZE));
    this.#spectra = Array.from({ length: channels }, () => new Float64Array(2 * BANK_BINS));
  }

  /** Input samples taken so far. */
  get inputSamples(): number {
    return this.#frames * BANK_HOP + this.#filled;
  }

  /** Output samples given so far. */
  get outputSamples(): number {
    return Math.max(0, this.#frames * BANK_HOP - (BANK_SIZE - BANK_HOP));
  }

  /** How many output samples `process` will write for `inputCount` samples more. */
  outputCount(inputCount: number): number {
    const frames = this.#frames + Math.floor((this.#filled + inputCount) / BANK_HOP);
    return Math.max(0, frames * BANK_HOP - (BANK_SIZE - BANK_HOP)) - this.outputSamples;
  }

  /**
   * Takes `count` samples of each channel from index `from` of `input` and writes the finished ones to `output` from index 0 on.
   * Returns how many were written (a multiple of BANK_HOP).
   */
  process(
    input: readonly Float32Array[],
    from: number,
    count: number,
    gainsAt: GainsAt,
    output: readonly Float32Array[],
  ): number {
    if (input.length !== this.channels || output.length !== this.channels)
      throw new RangeError(`expected ${this.channels} channels`);
    const expected = this.outputCount(count);
    for (let c = 0; c < this.channels; c++) {
      if (input[c]!.length < from + count) throw new RangeError("filter bank: input too short");
      if (output[c]!.length < expected) throw new RangeError("filter bank: output too short");
    }
    let taken = 0;
    let written = 0;
    while (taken < count) {
      const piece = Math.min(count - taken, BANK_HOP - this.#filled);
      const to = BANK_SIZE - BANK_HOP + this.#filled;
      for (let c = 0; c < this.channels; c++) {
        const source = input[c]!;
        const target = this.#input[c]!;
        for (let i = 0; i < piece; i++) target[to + i] = source[from + taken + i]!;
      }
      taken += piece;
      this.#filled += piece;
      if (this.#filled === BANK_HOP) written += this.#frame(gainsAt, output, written);
    }
    return written;
  }

  /** One frame: transform, ask for gains, multiply, transform back, add; gives the hop that no later frame touches. */
  #frame(gainsAt: GainsAt, output: readonly Float32Array[], at: number): number {
    const start = this.#frames * BANK_HOP - (BANK_SIZE - BANK_HOP);
    const window = this.#window;
    const time = this.#time;
    const gains = this.#gains;
    const power = this.#power;
    power.fill(0);
    // Interior bins stand for two of the two-sided spectrum; sum of the squared window = BANK_SIZE / 2.
    const scale = 4 / (BANK_SIZE * BANK_SIZE) / this.channels;
    for (let c = 0; c < this.channels; c++) {
      const input = this.#input[c]!;
      const spectrum = this.#spectra[c]!;
      for (let n = 0; n < BANK_SIZE; n++) time[n] = input[n]! * window[n]!;
      input.copyWithin(0, BANK_HOP);
      this.#fft.forward(time, spectrum);
      for (let k = 0; k < BANK_BINS; k++) power[k]! += scale * (spectrum[2 * k]! ** 2 + spectrum[2 * k + 1]! ** 2);
    }
    power[0]! *= 0.5;
    power[BANK_BINS - 1]! *= 0.5;

    gainsAt(start + BANK_SIZE / 2, gains, power);

    // Four frames overlap; the sum of the squared windows is 2 everywhere.
    for (let c = 0; c < this.channels; c++) {
      const spectrum = this.#spectra[c]!;
      const overlap = this.#overlap[c]!;
      for (let k = 0; k < BANK_BINS; k++) {
        spectrum[2 * k]! *= gains[k]!;
        spectrum[2 * k + 1]! *= gains[k]!;
      }
      this.#fft.inverse(spectrum, time);
      for (let n = 0; n < BANK_SIZE; n++) overlap[n]! += 0.5 * time[n]! * window[n]!;
      if (start >= 0) {
        const target = output[c]!;
        for (let n = 0; n < BANK_HOP; n++) target[at + n] = overlap[n]!;
      }
      overlap.copyWithin(0, BANK_HOP);
      overlap.fill(0, BANK_SIZE - BANK_HOP);
    }
    this.#filled = 0;
    this.#frames++;
    return start >= 0 ? BANK_HOP : 0;
  }
}
