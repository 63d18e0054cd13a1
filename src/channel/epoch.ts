/**
 * Lays the timestamps of a source onto the channel's media timeline. Within one run of the source the offset is one constant for
 * sound and picture, so lip-sync is the source's own to the last digit; when the source comes back, or jumps, a new offset
 * continues the timeline by the wall time that passed, so outputs stay up and see neither a jump back nor a hole that was not there.
 */
export type Track = "video" | "sound";

/** A difference between what is expected and what comes that is no jitter and no lost packets any more. */
const JUMP_MS = 1000;
/** The timeline begins here, so that encoder delays and negative composition offsets stay above zero. */
export const TIMELINE_START_MS = 1000;
const FLV_WRAP_MS = 2 ** 32;

type Left = { readonly outMs: number; readonly wallMs: number };
type Seen = Left & { readonly rawMs: number };

export class Epoch {
  /** Jumps inside a run of the source. */
  discontinuities = 0;
  /** Runs of the source after the first. */
  restarts = 0;
  readonly #wraps: boolean;
  #offsetMs: number | null = null;
  #previousOffsetMs: number | null = null;
  #restarted = false;
  /** Where the process before this one was. */
  #past: Left | null = null;
  #last: Partial<Record<Track, Seen>> = {};

  /** @param wraps32 the source counts milliseconds in 32 bits (FLV) */
  constructor(wraps32: boolean) {
    this.#wraps = wraps32;
  }

  /** The programme of a process before this one: `outMs` of it was due at `wallMs`. Counts only before the first unit. */
  continueFrom(outMs: number, wallMs: number): void {
    this.#past = { outMs, wallMs };
  }

  /** The source begins anew: its next timestamp has nothing to do with the ones before. */
  restart(): void {
    if (this.#offsetMs !== null) this.#restarted = true;
  }

  /**
   * @param rawMs the source's decoding time (sound: presentation time)
   * @returns what is to be added to the raw times of this unit
   */
  offsetFor(track: Track, rawMs: number, wallMs: number): number {
    const unwrapped = rawMs + this.#unwrap(track, rawMs);
    const offset = this.#choose(track, unwrapped, wallMs);
    this.#last[track] = { rawMs: unwrapped, outMs: unwrapped + offset, wallMs };
    return offset + (unwrapped - rawMs);
  }

  #choose(track: Track, rawMs: number, wallMs: number): number {
    if (this.#offsetMs === null && this.#past !== null) {
      this.#begin(rawMs, wallMs, this.#past);
      return this.#offsetMs!;
    }
    if (this.#offsetMs === null) {
      // A source that starts near zero keeps its own times but for the head room; others (transport streams) are brought there.
      this.#offsetMs = TIMELINE_START_MS - (this.#wraps ? 0 : Math.floor(rawMs));
      return this.#offsetMs;
    }
    if (this.#restarted) {
      this.#restarted = false;
      this.restarts += 1;
      this.#begin(rawMs, wallMs);
      this.#previousOffsetMs = null;
      this.#last = {};
      return this.#offsetMs;
    }
    const last = this.#last[track] ?? this.#newest();
    if (last === undefined || this.#fits(last, rawMs + this.#offsetMs, wallMs)) return this.#offsetMs;
    // While the one track has jumped, units of the other from before the jump may still be on their way.
    if (this.#previousOffsetMs !== null && this.#fits(last, rawMs + this.#previousOffsetMs, wallMs))
      return this.#previousOffsetMs;
    this.discontinuities += 1;
    this.#previousOffsetMs = this.#offsetMs;
    this.#begin(rawMs, wallMs);
    return this.#offsetMs;
  }

  /** Near the unit before it (a burst after a stall), or later by the wall time that passed (lost packets). */
  #fits(last: Seen, outMs: number, wallMs: number): boolean {
    const step = outMs - last.outMs;
    return Math.abs(step) <= JUMP_MS || Math.abs(step - (wallMs - last.wallMs)) <= JUMP_MS;
  }

  #begin(rawMs: number, wallMs: number, newest: Left | undefined = this.#newest()): void {
    const continueMs = newest === undefined ? TIMELINE_START_MS : newest.outMs + Math.max(1, wallMs - newest.wallMs);
    this.#offsetMs = Math.ceil(continueMs - rawMs);
  }

  #newest(): Seen | undefined {
    const { video, sound } = this.#last;
    if (video === undefined || sound === undefined) return video ?? sound;
    return video.outMs >= sound.outMs ? video : sound;
  }

  #unwrap(track: Track, rawMs: number): number {
    // The first unit of a track is counted like the other track; that of a new run is not counted like the run before.
    const last = this.#restarted ? undefined : (this.#last[track] ?? this.#newest());
    if (!this.#wraps || last === undefined) return 0;
    return Math.round((last.rawMs - rawMs) / FLV_WRAP_MS) * FLV_WRAP_MS;
  }
}
