import { ArrivalClock } from "../channel/arrival-clock.js";

/** Sound that comes so much later than what came before would end was interrupted (muted, reconnected). */
const INTERRUPTED_MS = 500;

/**
 * Times for media that come without any: a node-webrtc sink tells neither timestamp nor capture time. Its sound comes in an unbroken run
 * at the pace of this machine (the stack's jitter buffer sees to that), so sound is counted; the quickest arrivals say where the count
 * lies on the wall, and pictures, which the stack hands over when they are decoded, are placed by their arrival on that line and by how much
 * later sound is handed over than the picture of the same moment.
 * Pure; time is given in milliseconds of a monotonic clock.
 */
export class SinkClock {
  readonly #arrivals = new ArrivalClock();
  #nextMs = 0;
  interruptions = 0;

  /** @param soundBehindMs what the stack's ways for sound and picture differ by */
  constructor(public soundBehindMs = 0) {}

  /** Time of a block's first sample; `durationMs` is its length. */
  sound(durationMs: number, nowMs: number): number {
    const { anchorMs } = this.#arrivals;
    // The block's end is what arrives now.
    const behindMs = anchorMs === null ? 0 : nowMs - anchorMs - (this.#nextMs + durationMs);
    if (behindMs > INTERRUPTED_MS) {
      this.interruptions += 1;
      this.#nextMs += behindMs;
    }
    const ptsMs = this.#nextMs;
    this.#nextMs += durationMs;
    this.#arrivals.arrived(this.#nextMs, nowMs);
    return ptsMs;
  }

  /** Time of a picture that came now; null before the first sound. */
  picture(nowMs: number): number | null {
    const { anchorMs } = this.#arrivals;
    return anchorMs === null ? null : nowMs - anchorMs + this.soundBehindMs;
  }
}
