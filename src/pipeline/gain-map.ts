import { BANK_BIN_HZ, BANK_BINS } from "./filter-bank.js";

/**
 * Carries one row of gains from a model's frequency grid (bin b on b * binHz) to the bank's 1025 bins. Each bank bin takes the model
 * bins around it under a triangle as wide as the coarser of the two grids: linear interpolation when the model is coarser, a weighted
 * mean when it is finer. Above the model's Nyquist frequency: the mean gain of its top octave. Weights are sparse and made once.
 */
export class GainMap {
  readonly bins: number;
  readonly binHz: number;
  /** Weights of bank bin k lie at rowStart[k] .. rowStart[k + 1]. */
  readonly #rowStart: Int32Array;
  readonly #index: Int32Array;
  readonly #weight: Float64Array;
  /** First bank bin above the model's Nyquist frequency. */
  readonly #topFrom: number;
  /** First model bin of its top octave. */
  readonly #octaveFrom: number;

  constructor(bins: number, binHz: number) {
    if (!Number.isInteger(bins) || bins < 1 || !(binHz > 0) || !Number.isFinite(binHz)) {
      throw new RangeError(`a gain grid needs bins >= 1 and binHz > 0, not ${bins} and ${binHz}`);
    }
    this.bins = bins;
    this.binHz = binHz;
    const nyquist = (bins - 1) * binHz;
    this.#octaveFrom = Math.ceil((bins - 1) / 2);
    this.#topFrom = Math.min(BANK_BINS, Math.floor(nyquist / BANK_BIN_HZ + 1e-9) + 1);
    const halfWidth = Math.max(binHz, BANK_BIN_HZ);
    const rowStart = new Int32Array(BANK_BINS + 1);
    const index: number[] = [];
    const weight: number[] = [];
    for (let k = 0; k < this.#topFrom; k++) {
      const hz = k * BANK_BIN_HZ;
      const first = Math.max(0, Math.ceil((hz - halfWidth) / binHz));
      const last = Math.min(bins - 1, Math.floor((hz + halfWidth) / binHz));
      const from = weight.length;
      let sum = 0;
      for (let b = first; b <= last; b++) {
        const w = 1 - Math.abs(b * binHz - hz) / halfWidth;
        if (w <= 0) continue;
        index.push(b);
        weight.push(w);
        sum += w;
      }
      for (let i = from; i < weight.length; i++) weight[i]! /= sum;
      rowStart[k + 1] = weight.length;
    }
    this.#rowStart = rowStart;
    this.#index = Int32Array.from(index);
    this.#weight = Float64Array.from(weight);
  }

  /** `model`: rows of `bins` gains, the row that begins at `from`; writes BANK_BINS gains to `bank` at `to`. */
  apply(model: Float32Array, from: number, bank: Float32Array, to: number): void {
    if (model.length < from + this.bins || bank.length < to + BANK_BINS)
      throw new RangeError("gain map: array too short");
    const rowStart = this.#rowStart;
    const index = this.#index;
    const weight = this.#weight;
    for (let k = 0; k < this.#topFrom; k++) {
      let gain = 0;
      for (let i = rowStart[k]!; i < rowStart[k + 1]!; i++) gain += weight[i]! * model[from + index[i]!]!;
      bank[to + k] = gain;
    }
    if (this.#topFrom === BANK_BINS) return;
    let mean = 0;
    for (let b = this.#octaveFrom; b < this.bins; b++) mean += model[from + b]!;
    bank.fill(mean / (this.bins - this.#octaveFrom), to + this.#topFrom, to + BANK_BINS);
  }
}
