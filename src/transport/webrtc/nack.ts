import { difference16 } from "./sequence.js";

export type NackLimits = {
  /** So long a packet that is missing may only be late: then it is asked for. Milliseconds. */
  readonly graceMs: number;
  /** A packet that is missing for so long is not asked for any more: nobody waits for it. Milliseconds; `maxWaitMs` changes it. */
  readonly maxWaitMs: number;
  /** Packets on the list at most; the oldest leave it. */
  readonly maxMissing: number;
};

/** A step of this many numbers, or more, is another sequence and no loss. */
const JUMP = 3000;
/** Between two requests for one packet: the time that answers take, with a margin, within these. Milliseconds. */
const RETRY_MS = { first: 50, least: 20, most: 100, margin: 1.25 };

/**
 * Which RTP packets to ask for again, and when (generic NACK, RFC 4585 section 6.2.1). A request is repeated when the time has passed that
 * earlier answers took. Pure: time is given.
 */
export class NackSchedule {
  /** Requests, and packets that came after one. */
  readonly counters = { asked: 0, answered: 0 };
  readonly #missing = new Map<number, { readonly sinceMs: number; askedMs: number; tries: number }>();
  #highest: number | null = null;
  #answerMs = RETRY_MS.first;
  maxWaitMs: number;

  constructor(private readonly limits: NackLimits) {
    this.maxWaitMs = limits.maxWaitMs;
  }

  /** Time between two requests for one packet. Milliseconds. */
  get retryMs(): number {
    return Math.min(RETRY_MS.most, Math.max(RETRY_MS.least, RETRY_MS.margin * this.#answerMs));
  }

  get missing(): number {
    return this.#missing.size;
  }

  /** A packet came. @param sequence 0..65535 @param nowMs milliseconds of a monotonic clock */
  push(sequence: number, nowMs: number): void {
    const ahead = this.#highest === null ? 1 : difference16(sequence, this.#highest);
    if (ahead > -JUMP && ahead <= 0) {
      this.#came(sequence, nowMs);
      return;
    }
    if (this.#highest === null || Math.abs(ahead) >= JUMP) this.#missing.clear();
    else
      for (let i = 1; i < ahead; i++)
        this.#missing.set((this.#highest + i) & 0xffff, {
          sinceMs: nowMs,
          askedMs: Number.NEGATIVE_INFINITY,
          tries: 0,
        });
    for (const oldest of this.#missing.keys()) {
      if (this.#missing.size <= this.limits.maxMissing) break;
      this.#missing.delete(oldest);
    }
    this.#highest = sequence;
  }

  /** The packets to ask for now, in rising order; counts as asked. Call often: with every packet, say. */
  due(nowMs: number): number[] {
    const { retryMs } = this;
    const due: number[] = [];
    for (const [sequence, packet] of this.#missing) {
      const waited = nowMs - packet.sinceMs;
      if (waited >= this.maxWaitMs) this.#missing.delete(sequence);
      else if (packet.tries === 0 ? waited >= this.limits.graceMs : nowMs - packet.askedMs >= retryMs) {
        packet.tries += 1;
        packet.askedMs = nowMs;
        due.push(sequence);
      }
    }
    this.counters.asked += due.length;
    return due.sort((a, b) => a - b);
  }

  #came(sequence: number, nowMs: number): void {
    const packet = this.#missing.get(sequence);
    if (packet === undefined) return;
    this.#missing.delete(sequence);
    if (packet.tries === 0) return;
    this.counters.answered += 1;
    // Which of several requests was answered nobody knows.
    if (packet.tries === 1) this.#answerMs += (nowMs - packet.askedMs - this.#answerMs) / 8;
  }
}
