import { Resampler } from "./resample.js";
import { SAMPLE_RATE } from "./types.js";

const RATES = { min: 8000, max: 192_000 } as const;

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** Why sound of this rate (Hz) cannot be brought to 48 kHz, in words; null: it can. */
export function rateFault(rate: number): string | null {
  const common = Number.isInteger(rate) && rate > 0 ? gcd(rate, SAMPLE_RATE) : 1;
  const isSimple = SAMPLE_RATE / common <= 1000 && rate / common <= 1000;
  if (Number.isInteger(rate) && rate >= RATES.min && rate <= RATES.max && isSimple) return null;
  return `sound of ${rate} Hz; allowed are ${RATES.min} to ${RATES.max} Hz in a simple ratio to 48000, such as 16000 or 44100`;
}

/**
 * Sound of any rate to 48 kHz, block by block: what comes out is the same to the bit however the input is cut. The filter looks
 * `reach` input samples ahead, so that much is held back until the next block; times do not move (output 0 lies on input 0).
 */
export class StreamResampler {
  readonly #filter: Resampler;
  /** Newest input by channel, from `#from` (input samples) on. */
  #held: Float32Array[];
  #from = 0;
  #given = 0;

  /** @throws RangeError for a rate that `rateFault` names */
  constructor(
    readonly rate: number,
    readonly channels: number,
  ) {
    const fault = rateFault(rate);
    if (fault !== null) throw new RangeError(fault);
    const common = gcd(rate, SAMPLE_RATE);
    this.#filter = new Resampler(SAMPLE_RATE / common, rate / common);
    this.#held = Array.from({ length: channels }, () => new Float32Array(0));
  }

  /** Output samples so far. */
  get given(): number {
    return this.#given;
  }

  /** Planar sound in, planar sound out: up to the last output whose future is there. As many channels as were declared. */
  push(channels: readonly Float32Array[]): Float32Array[] {
    const { up, down, reach } = this.#filter;
    this.#held = this.#held.map((held, c) => joined(held, channels[c]!));
    const end = this.#from + this.#held[0]!.length;
    // Output m needs input up to floor(m * down / up) + reach.
    const count = Math.max(0, Math.floor(((end - reach) * up - 1) / down) + 1 - this.#given);
    // A run begins where the filter's phase is 0, at a multiple of `up`; what was given before is made again and left out.
    const lead = this.#given % up;
    const begin = ((this.#given - lead) / up) * down;
    const out = this.#held.map((held) => this.#filter.run(held, begin - this.#from, lead + count).subarray(lead));
    this.#given += count;
    const keepFrom = Math.max(this.#from, ((this.#given - (this.#given % up)) / up) * down - reach);
    this.#held = this.#held.map((held) => held.slice(keepFrom - this.#from));
    this.#from = keepFrom;
    return out;
  }

  /** What is still held back, as if silence followed: up to the last output that lies within the input. The stretch ends with it. */
  finish(): Float32Array[] {
    const { up, down, reach } = this.#filter;
    const end = this.#from + this.#held[0]!.length;
    const missing = Math.max(0, Math.ceil((end * up) / down) - this.#given);
    const silence = Array.from({ length: this.channels }, () => new Float32Array(reach + Math.ceil(down / up)));
    return this.push(silence).map((channel) => channel.subarray(0, missing));
  }
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const out = new Float32Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
