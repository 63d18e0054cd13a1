/**
 * When would a unit have arrived without network jitter? anchor = the smallest (arrival - timestamp) of the last seconds: the
 * quickest unit sets it, slower ones wait less in the delay line, and so every unit leaves D after its jitter-free arrival.
 * The minimum is taken over a window, because the publisher's clock drifts against ours; up-moves are slow (no audible or visible
 * pause), down-moves immediate.
 */
const BUCKET_MS = 1000;
const BUCKETS = 15;
/** A fast publisher would otherwise push the anchor for ever; 1 ms a second follows 1000 ppm. */
const RISE_MS_PER_S = 1;
/** No drift comes to so much within the window: the path, or the encoder, is later now, and stays so. Until the anchor is there, all sound is late. */
const LATER_MS = 60;
const LATER_RISE_MS_PER_S = 20;
/** The source stood still and went on with the same timestamps: nothing is gained by waiting for it to catch up. */
const JUMP_MS = 1000;

export class ArrivalClock {
  #buckets: { startMs: number; least: number }[] = [];
  #anchorMs: number | null = null;
  #movedAtMs = 0;

  /** Wall time of timestamp 0; null before the first arrival. */
  get anchorMs(): number | null {
    return this.#anchorMs;
  }

  arrived(timestampMs: number, nowMs: number): void {
    const delay = nowMs - timestampMs;
    const newest = this.#buckets.at(-1);
    if (newest === undefined || nowMs - newest.startMs >= BUCKET_MS) {
      this.#buckets.push({ startMs: nowMs, least: delay });
      if (this.#buckets.length > BUCKETS) this.#buckets.shift();
    } else if (delay < newest.least) newest.least = delay;

    if (this.#anchorMs === null || delay < this.#anchorMs) {
      this.#anchorMs = delay;
    } else {
      const least = this.#buckets.reduce((m, b) => Math.min(m, b.least), Number.POSITIVE_INFINITY);
      const rise = least - this.#anchorMs;
      if (rise > JUMP_MS) this.#anchorMs = least;
      else if (rise > 0) {
        const pace = rise > LATER_MS ? LATER_RISE_MS_PER_S : RISE_MS_PER_S;
        this.#anchorMs += Math.min(rise, ((nowMs - this.#movedAtMs) / 1000) * pace);
      }
    }
    this.#movedAtMs = nowMs;
  }

  /** The source began anew: what was learnt of its path no longer holds. */
  restart(): void {
    this.#buckets = [];
    this.#anchorMs = null;
  }
}
