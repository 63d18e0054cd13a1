import { difference32 } from "./sequence.js";

export type LineLimits = {
  /** 48 for sound, 90 for pictures. */
  readonly ticksPerMs: 48 | 90;
  /** Bounds of the wait, and what it is until something is known. Milliseconds. */
  readonly leastMs: number;
  readonly mostMs: number;
  readonly firstMs: number;
};

/** How packets that are missing are asked for; null: they are not. */
export type Asking = { readonly graceMs: number; readonly retryMs: number } | null;

/** A pause or a new start of the sender's clock is no jitter. */
const MAX_STEP_MS = 3000;
/** RFC 3550's estimate is a mean; of evenly spread delays the largest is 3 times, of packets that come in bursts about 4 times as large. */
const SPREAD = 4;
/** For timers, and for what the estimate has not seen yet. */
const MARGIN_MS = 10;
/** Requests whose answers are worth waiting for: with 2 % loss each way, one packet in 1600 is lost three times. */
const TRIES = 2;
/** After a bad stretch of a line the next one is not far; the wait falls slowly and rises at once. */
const FALL_MS_PER_S = 10;

/**
 * How much the delay of one track's packets varies (interarrival jitter, RFC 3550, 6.4.1), and how long a missing packet should be waited
 * for: as long as a packet may be late by that, and where it is asked for again, as long as the answers take. Pure: time is given.
 */
export class LineMeter {
  #jitterMs = 0;
  #last: { readonly ticks: number; readonly nowMs: number } | null = null;
  #wait: { readonly ms: number; readonly nowMs: number } | null = null;

  constructor(private readonly limits: LineLimits) {}

  get jitterMs(): number {
    return this.#jitterMs;
  }

  /** A packet came, in any order. @param ticks its RTP timestamp @param nowMs milliseconds of a monotonic clock */
  arrived(ticks: number, nowMs: number): void {
    const last = this.#last;
    // The packets of one picture are sent one after another: that takes time and is no jitter.
    if (last?.ticks === ticks) return;
    this.#last = { ticks, nowMs };
    if (last === null) return;
    const step = nowMs - last.nowMs - difference32(ticks, last.ticks) / this.limits.ticksPerMs;
    if (Math.abs(step) < MAX_STEP_MS) this.#jitterMs += (Math.abs(step) - this.#jitterMs) / 16;
  }

  /** How long a missing packet is waited for from now on. Milliseconds. */
  waitMs(nowMs: number, asking: Asking): number {
    const { leastMs, mostMs, firstMs } = this.limits;
    const answersMs = asking === null ? 0 : asking.graceMs + TRIES * asking.retryMs;
    const wantedMs = this.#last === null ? firstMs : answersMs + SPREAD * this.#jitterMs + MARGIN_MS;
    const before = this.#wait;
    const floorMs = before === null ? 0 : before.ms - ((nowMs - before.nowMs) / 1000) * FALL_MS_PER_S;
    const ms = Math.min(mostMs, Math.max(leastMs, wantedMs, floorMs));
    this.#wait = { ms, nowMs };
    return ms;
  }
}
