import { difference16 } from "./sequence.js";

export type ReorderLimits = {
  /** A packet that is missing is waited for so long: the time for a NACK and its answer. Milliseconds; the field `maxWaitMs` changes it. */
  readonly maxWaitMs: number;
  /** Packets held back at most; with more the wait is over. */
  readonly maxPackets: number;
};

/** What comes out, in order: packets, and how many are missing in front of the next one. */
export type Reordered<T> =
  | { readonly kind: "packet"; readonly value: T }
  | { readonly kind: "lost"; readonly count: number };

/** A step of this many numbers, or more, is another sequence and no loss. */
const JUMP = 3000;
/** Packets from the past, one after another, that say the sender has begun anew. */
const LATE_RUN = 50;

/**
 * Puts RTP packets in the order of their sequence numbers. In order it costs nothing; behind a hole packets wait until the missing one
 * comes or the wait is over. Pure: time is given.
 */
export class ReorderBuffer<T> {
  readonly counters = { reordered: 0, late: 0, lost: 0, restarts: 0 };
  readonly #held = new Map<number, { readonly value: T; readonly atMs: number }>();
  #next: number | null = null;
  #lateRun = 0;

  maxWaitMs: number;

  constructor(private readonly limits: ReorderLimits) {
    this.maxWaitMs = limits.maxWaitMs;
  }

  get held(): number {
    return this.#held.size;
  }

  /** @param sequence 0..65535 @param nowMs milliseconds of a monotonic clock */
  push(sequence: number, value: T, nowMs: number): Reordered<T>[] {
    this.#next ??= sequence;
    const ahead = difference16(sequence, this.#next);
    if (Math.abs(ahead) >= JUMP) return this.#restart(sequence, value, nowMs);
    if (ahead < 0 || this.#held.has(sequence)) {
      // Twice, or after the wait for it was over.
      this.counters.late += 1;
      this.#lateRun += 1;
      return this.#lateRun >= LATE_RUN ? this.#restart(sequence, value, nowMs) : [];
    }
    this.#lateRun = 0;
    if (ahead === 0 && this.#held.size > 0) this.counters.reordered += 1;
    this.#held.set(sequence, { value, atMs: nowMs });
    const out: Reordered<T>[] = [];
    this.#take(out);
    while (this.#held.size > this.limits.maxPackets) this.#skip(out);
    return out;
  }

  /** Ends waits that are over; call some times a second. */
  poll(nowMs: number): Reordered<T>[] {
    const out: Reordered<T>[] = [];
    while (this.#held.size > 0) {
      let oldestMs = Number.POSITIVE_INFINITY;
      for (const { atMs } of this.#held.values()) oldestMs = Math.min(oldestMs, atMs);
      if (nowMs - oldestMs < this.maxWaitMs) break;
      this.#skip(out);
    }
    return out;
  }

  #take(out: Reordered<T>[]): void {
    for (;;) {
      const entry = this.#held.get(this.#next!);
      if (entry === undefined) return;
      this.#held.delete(this.#next!);
      out.push({ kind: "packet", value: entry.value });
      this.#next = (this.#next! + 1) & 0xffff;
    }
  }

  /** Gives up the packets in front of the first held one. */
  #skip(out: Reordered<T>[]): void {
    let nearest = Number.POSITIVE_INFINITY;
    for (const sequence of this.#held.keys()) nearest = Math.min(nearest, difference16(sequence, this.#next!));
    this.counters.lost += nearest;
    out.push({ kind: "lost", count: nearest });
    this.#next = (this.#next! + nearest) & 0xffff;
    this.#take(out);
  }

  #restart(sequence: number, value: T, nowMs: number): Reordered<T>[] {
    this.counters.restarts += 1;
    this.#lateRun = 0;
    const out: Reordered<T>[] = [];
    while (this.#held.size > 0) this.#skip(out);
    out.push({ kind: "lost", count: 1 });
    this.#next = sequence;
    this.#held.set(sequence, { value, atMs: nowMs });
    this.#take(out);
    return out;
  }
}
