import { PipelineError } from "../errors.js";

/** What goes when a full queue gets one more: its oldest, the new one, or the stream (PipelineError SL_QUEUE_FULL). */
export type DropPolicy = "drop-oldest" | "drop-newest" | "fail";

/** Shared with whoever reports it; the operator writes, the owner reads. */
export type SeamCounter = {
  /** Values that came in, and values that were dropped, since the start. */
  received: number;
  dropped: number;
  /** Values that wait now. */
  waiting: number;
};

export function seamCounter(): SeamCounter {
  return { received: 0, dropped: 0, waiting: 0 };
}

/** The queue of every seam: first in, first out, never longer than `limit`. */
export class BoundedBuffer<T> {
  readonly #values: T[] = [];

  constructor(
    readonly limit: number,
    readonly policy: DropPolicy,
    readonly counter: SeamCounter,
  ) {
    if (!Number.isInteger(limit) || limit < 1)
      throw new RangeError(`a queue's limit must be a whole number above 0, not ${limit}`);
  }

  get length(): number {
    return this.#values.length;
  }

  get first(): T | undefined {
    return this.#values[0];
  }

  /** Throws PipelineError SL_QUEUE_FULL when full with the policy `fail`. */
  push(value: T): void {
    this.counter.received++;
    if (this.#values.length === this.limit) {
      if (this.policy === "fail") throw new PipelineError("SL_QUEUE_FULL", `${this.limit} values wait already`);
      this.counter.dropped++;
      if (this.policy === "drop-newest") return;
      this.#values.shift();
    }
    this.#values.push(value);
    this.counter.waiting = this.#values.length;
  }

  shift(): T | undefined {
    const value = this.#values.shift();
    this.counter.waiting = this.#values.length;
    return value;
  }

  clear(): void {
    this.#values.length = 0;
    this.counter.waiting = 0;
  }
}
