/** Zero crossings of the filter on each side, at the lower of the two rates. */
const CROSSINGS = 32;
/** Cut-off as a share of the lower Nyquist frequency; with this Kaiser window -90 dB is reached just above it. */
const CUTOFF = 0.94;
const KAISER = 9;

/** Modified Bessel function of the first kind, order 0. */
function bessel(x: number): number {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-17 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * Changes the rate of sound by up / down (48 kHz -> 21 kHz: 7 / 16) with a windowed sinc of linear phase: output m lies exactly on
 * input m * down / up, so nothing moves, and there is no state: any piece can be computed by itself. Each phase of the filter
 * has a gain of 1 at 0 Hz.
 */
export class Resampler {
  readonly up: number;
  readonly down: number;
  /** How many input samples beside an output's position, before and after, it depends on. */
  readonly reach: number;
  readonly #phases: readonly Float64Array[];

  /** @throws RangeError unless both are whole numbers from 1 to 1000 */
  constructor(up: number, down: number) {
    for (const n of [up, down])
      if (!Number.isInteger(n) || n < 1 || n > 1000)
        throw new RangeError(`a ratio of rates needs whole numbers from 1 to 1000, not ${up} / ${down}`);
    this.up = up;
    this.down = down;
    const bandwidth = CUTOFF * Math.min(1, up / down);
    const half = CROSSINGS / Math.min(1, up / down);
    this.reach = Math.ceil(half);
    const taps = 2 * this.reach + 1;
    this.#phases = Array.from({ length: up }, (_, phase) => {
      const row = new Float64Array(taps);
      let sum = 0;
      for (let i = 0; i < taps; i++) {
        const t = i - this.reach - phase / up;
        const x = Math.PI * bandwidth * t;
        const inside = 1 - (t / half) ** 2;
        if (inside <= 0) continue;
        row[i] = (x === 0 ? 1 : Math.sin(x) / x) * bessel(KAISER * Math.sqrt(inside));
        sum += row[i]!;
      }
      for (let i = 0; i < taps; i++) row[i]! /= sum;
      return row;
    });
  }

  /** Input samples that `count` outputs need, from `reach` before output 0 on. */
  inputLength(count: number): number {
    return count === 0 ? 0 : Math.floor(((count - 1) * this.down) / this.up) + 1 + 2 * this.reach;
  }

  /** `count` outputs; output 0 lies on `input[at]`. What lies outside of the input is 0. */
  run(input: Float32Array, at: number, count: number): Float32Array {
    const out = new Float32Array(count);
    for (let m = 0; m < count; m++) {
      const position = m * this.down;
      const row = this.#phases[position % this.up]!;
      const from = at + Math.floor(position / this.up) - this.reach;
      const first = Math.max(0, -from);
      const last = Math.min(row.length, input.length - from);
      let sum = 0;
      for (let i = first; i < last; i++) sum += row[i]! * input[from + i]!;
      out[m] = sum;
    }
    return out;
  }
}
