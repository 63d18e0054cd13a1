import type { ChannelStatus } from "../transport/ipc/messages.js";

export type StatusReportOptions = {
  readonly status: () => ChannelStatus;
  readonly send: (status: ChannelStatus) => void;
  /** Between two reports while nothing changes, and the least time between any two. Milliseconds. */
  readonly everyMs?: number;
  readonly leastMs?: number;
};

/**
 * Tells the supervisor how the channel is: at a steady pace, and at once when something happened that nobody should wait for. Changes
 * within the least time after a report are told together at its end, so that flapping costs 20 reports a second at most.
 */
export class StatusReport {
  readonly #o: Required<StatusReportOptions>;
  #timer: NodeJS.Timeout | null = null;
  #sentMs = Number.NEGATIVE_INFINITY;
  #dueMs = 0;

  constructor(options: StatusReportOptions) {
    this.#o = { everyMs: 250, leastMs: 50, ...options };
  }

  start(): void {
    this.#schedule(performance.now() + this.#o.everyMs);
  }

  /** Mode, reason or source changed. Nothing happens before `start` and after `stop`. */
  changed(): void {
    if (this.#timer === null) return;
    const soonest = Math.max(performance.now(), this.#sentMs + this.#o.leastMs);
    if (soonest < this.#dueMs) this.#schedule(soonest);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(atMs: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueMs = atMs;
    // Timers may fire a fraction of a millisecond early.
    this.#timer = setTimeout(() => this.#send(), Math.max(0, Math.ceil(atMs - performance.now())));
  }

  #send(): void {
    this.#sentMs = performance.now();
    this.#schedule(this.#sentMs + this.#o.everyMs);
    this.#o.send(this.#o.status());
  }
}
