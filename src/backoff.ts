export type BackOffOptions = {
  /** Longest wait before the first of them. Milliseconds. */
  readonly firstMs: number;
  /** Longest wait of all. Milliseconds. */
  readonly maxMs: number;
  /** A run that was healthy for this long begins again at `firstMs`. Milliseconds. */
  readonly resetAfterMs: number;
};

/** Of processes. */
export const BACK_OFF: BackOffOptions = { firstMs: 200, maxMs: 5000, resetAfterMs: 30_000 };
/** Of connections and files; their owners say with `reset` that it works again. */
export const RETRY: BackOffOptions = { firstMs: 1000, maxMs: 10_000, resetAfterMs: Number.POSITIVE_INFINITY };
/** Of what a live programme waits for on this machine: a second without sound would be a jump of its timeline. */
export const RETRY_LOCAL: BackOffOptions = { ...RETRY, firstMs: 500 };

/**
 * Waits before another try: doubled from `firstMs` up to `maxMs`, each shortened by a random part of up to one half, so that what
 * fell together does not come back together.
 */
export class BackOff {
  #failures = 0;

  constructor(
    readonly options: BackOffOptions = BACK_OFF,
    readonly random: () => number = Math.random,
  ) {}

  /** Call after a failure. @param healthyMs how long it had worked, 0 when it never did. @returns milliseconds to wait */
  next(healthyMs = 0): number {
    if (healthyMs >= this.options.resetAfterMs) this.#failures = 0;
    const ceiling = Math.min(this.options.maxMs, this.options.firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures++;
    return ceiling * (0.5 + 0.5 * this.random());
  }

  /** It works again. */
  reset(): void {
    this.#failures = 0;
  }
}
