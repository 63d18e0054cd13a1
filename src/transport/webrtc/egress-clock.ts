import { difference32, Unwrapper32 } from "./sequence.js";

/** A step of the programme's times away from the clock on the wall by more than this is another programme. */
const LEAP_MS = 3000;

/** From 1900 to 1970. */
const UNIX_TO_NTP_MS = 2_208_988_800_000;

/**
 * Times of a programme (32-bit milliseconds, wrapping) as RTP timestamps of one viewer: sound and picture share one offset, and when the
 * programme begins anew (another source, a restarted channel) the numbers go on where the clock on the wall is, so that players do not
 * wait for hours or throw away what comes. Milliseconds times 48 or 90 wrap at 2^32 together with the milliseconds.
 */
export class EgressClock {
  #offsetMs = 0;
  /** Wall clock less the programme's, set by the first time. */
  #wallMs: number | null = null;
  /** Whole milliseconds of that line, which goes on where the programme's wrap. */
  readonly #line = new Unwrapper32();
  #last: { readonly timeMs: number; readonly nowMs: number } | null = null;

  /** @param timeMs 0 to 2^32, may have a fraction @param ticksPerMs 48 for sound, 90 for pictures @returns unsigned 32 bits */
  ticks(timeMs: number, nowMs: number, ticksPerMs: 48 | 90): number {
    if (this.#last !== null) {
      const passed = nowMs - this.#last.nowMs;
      const step = difference32(Math.floor(timeMs), Math.floor(this.#last.timeMs));
      if (Math.abs(step - passed) > LEAP_MS) this.#offsetMs += Math.round(passed) - step;
    }
    this.#last = { timeMs, nowMs };
    const ticks = Math.round((timeMs + this.#offsetMs) * ticksPerMs);
    return ((ticks % 2 ** 32) + 2 ** 32) % 2 ** 32;
  }

  /**
   * NTP time (RFC 3550, 4: 32 bits of seconds since 1900, 32 of fraction) that sender reports give for a time of the programme: the same
   * line for sound and picture, whatever the sending was late, so that players join them exactly.
   * @param wallMs Unix time; counts at the first call only, then the programme's time goes on from there
   */
  ntp(timeMs: number, wallMs: number): bigint {
    const lineMs = timeMs + this.#offsetMs;
    const whole = Math.floor(lineMs);
    const atMs = this.#line.next(whole) + (lineMs - whole);
    this.#wallMs ??= wallMs - atMs;
    const ms = UNIX_TO_NTP_MS + this.#wallMs + atMs;
    return (BigInt(Math.floor(ms / 1000)) << 32n) | BigInt(Math.floor((ms % 1000) * (2 ** 32 / 1000)));
  }
}
