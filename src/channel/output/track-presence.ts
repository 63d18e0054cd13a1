export type TrackKind = "video" | "audio";
export const otherKind = (kind: TrackKind): TrackKind => (kind === "video" ? "audio" : "video");

/** A track that was not written for so long has paused. */
export const PAUSED_MS = 1000;

/**
 * How long each of two tracks has been written without the other. By the clock on the wall, not by media times: after a pause of the whole
 * feed, or in a burst that makes up for one, nothing is missing that will not come.
 */
export class TrackPresence {
  readonly #writtenMs: Record<TrackKind, number> = {
    video: Number.NEGATIVE_INFINITY,
    audio: Number.NEGATIVE_INFINITY,
  };
  readonly #aloneSinceMs: Record<TrackKind, number> = { video: 0, audio: 0 };

  written(kind: TrackKind, nowMs: number): void {
    if (nowMs - this.#writtenMs[kind] > PAUSED_MS) this.#aloneSinceMs[kind] = nowMs;
    this.#writtenMs[kind] = nowMs;
    this.#aloneSinceMs[otherKind(kind)] = nowMs;
  }

  /** Milliseconds, at the time when this track was last written. */
  aloneMs(kind: TrackKind): number {
    return this.#writtenMs[kind] - this.#aloneSinceMs[kind];
  }
}
