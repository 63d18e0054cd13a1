import { Unwrapper32 } from "./sequence.js";

/** Two stretches of this length are looked at: the quickest of so many packets waited for nothing, whatever the line's jitter. */
const STRETCH_MS = 500;

/**
 * When one track's quickest packets come against what their timestamps say, of the last half to whole second. It rises for good when the
 * line has become longer, or when the sender has lost time that its timestamps do not count.
 */
export class ArrivalFloor {
  readonly #unwrap = new Unwrapper32();
  #quickest: { readonly sinceMs: number; readonly now: number; readonly before: number } | null = null;

  constructor(private readonly ticksPerMs: 48 | 90) {}

  /** Arrival less timestamp, from an arbitrary but fixed beginning, milliseconds; null: nothing came yet. */
  get ms(): number | null {
    return this.#quickest === null ? null : Math.min(this.#quickest.now, this.#quickest.before);
  }

  /** A packet came, in any order. @param ticks its RTP timestamp @param arrivalMs monotonic clock */
  arrived(ticks: number, arrivalMs: number): void {
    const late = arrivalMs - this.#unwrap.next(ticks) / this.ticksPerMs;
    const quickest = this.#quickest ?? { sinceMs: arrivalMs, now: late, before: late };
    this.#quickest =
      arrivalMs - quickest.sinceMs < STRETCH_MS
        ? { ...quickest, now: Math.min(quickest.now, late) }
        : { sinceMs: arrivalMs, now: late, before: quickest.now };
  }
}
