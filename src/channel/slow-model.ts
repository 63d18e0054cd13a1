/** So many answers are looked at: more than a moment in which the machine had other work. */
const ANSWERS = 8;
const SAID_EVERY_MS = 60_000;

/** Notices a model that needs longer than the profile has for it, and says so now and then. The clock comes with each answer. */
export class SlowModel {
  readonly #budgetMs: number;
  #engineMs: number[] = [];
  #saidMs = Number.NEGATIVE_INFINITY;

  /** @param budgetMs the profile's part for inference */
  constructor(budgetMs: number) {
    this.#budgetMs = budgetMs;
  }

  /** One answer's time in the engine -> what is to be said, with the median of the newest; null: nothing. */
  take(engineMs: number, nowMs: number): { readonly engineMs: number; readonly budgetMs: number } | null {
    this.#engineMs = [...this.#engineMs, engineMs].slice(-ANSWERS);
    const median = this.#engineMs.toSorted((a, b) => a - b)[ANSWERS >> 1];
    if (median === undefined || median <= this.#budgetMs || nowMs - this.#saidMs < SAID_EVERY_MS) return null;
    this.#saidMs = nowMs;
    return { engineMs: Math.round(median), budgetMs: this.#budgetMs };
  }
}
