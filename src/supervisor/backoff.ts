export type BackOffOptions = {
  /** Longest wait before the first restart. Milliseconds. */
  readonly firstMs: number;
  /** Longest wait of all. Milliseconds. */
  readonly maxMs: number;
  /** A run that was healthy for this long begins again at `firstMs`. Milliseconds. */
  readonly resetAfterMs: number;
};

export const BACK_OFF: BackOffOptions = { firstMs: 200, maxMs: 5000, resetAfterMs: 30_000 };

/**
 * Waits before restarts: doubled from `firstMs` up to `maxMs`, each shortened by a random part of up to one half, so that channels which
 * fell together do not come back together.
 */
export class BackOff {
  #failures = 0;

  constructor(
    readonly options: BackOffOptions = BACK_OFF,
    readonly random: () => number = Math.random,
  ) {}

  /** Call after a run ended. @param healthyMs how long it had been ready, 0 when it never was. @returns milliseconds to wait */
  next(healthyMs: number): number {
    if (healthyMs >= this.options.resetAfterMs) this.#failures = 0;
    const ceiling = Math.min(this.options.maxMs, this.options.firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures++;
    return ceiling * (0.5 + 0.5 * this.random());
  }

  reset(): void {
    this.#failures = 0;
  }
}
