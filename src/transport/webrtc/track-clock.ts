import { Unwrapper32 } from "./sequence.js";

/**
 * RTP timestamps of a publisher's tracks on one timeline in milliseconds.
 *
 * Each track counts from a random number; sender reports say which wall-clock time (the publisher's) a number stands for (RFC 3550,
 * 6.4.1). Until both tracks have reported, a track is placed by its first packet's arrival. Then the picture is moved so that both agree:
 * never the sound, which is the clock of everything behind this; at once when it is far off, else in small steps.
 */
export type TrackKind = "sound" | "picture";

/** The wall clock of reports is read to a few milliseconds by some senders; nearer than this the picture is moved in steps. */
const JUMP_MS = 40;
/**
 * Some senders write into a report when they sent a packet, not when its sound or picture was captured: later by what their machine was
 * late then, never earlier. So the earliest of so many reports is believed.
 */
const REPORTS = 9;
/** Per picture. Not visible, and faster than any clock drifts. */
const STEP_MS = 0.5;
/** Reports that put the tracks further apart than this are wrong (clocks of two machines, a wild NTP). */
const MAX_SKEW_MS = 10_000;
/** Timestamps further from the arrival than this have begun anew. */
const MAX_LEAP_MS = 10_000;

const RATE: Record<TrackKind, number> = { sound: 48, picture: 90 };
const NTP_FRACTION = 2 ** 32;

type Track = {
  unwrap: Unwrapper32;
  /** Timeline = ticks / rate + offset. */
  offsetMs: number | null;
  /** Sender's wall clock - ticks / rate, of the newest reports. */
  wallMs: number[];
  /** Where the newest packet was put, and when it came. */
  last: { readonly atMs: number; readonly arrivalMs: number } | null;
};

const fresh = (): Track => ({ unwrap: new Unwrapper32(), offsetMs: null, wallMs: [], last: null });

export class TrackClock {
  readonly counters = { clock_jumps: 0, clock_leaps: 0, reports: 0, reports_ignored: 0 };
  readonly #tracks: Record<TrackKind, Track> = { sound: fresh(), picture: fresh() };
  #originMs: number | null = null;

  /**
   * Time of a packet, milliseconds from the first packet of all; may be a little negative for what was captured before it.
   * @param ticks 32-bit RTP timestamp @param arrivalMs monotonic clock
   */
  place(kind: TrackKind, ticks: number, arrivalMs: number): number {
    const track = this.#tracks[kind];
    this.#originMs ??= arrivalMs;
    const ms = track.unwrap.next(ticks) / RATE[kind];
    track.offsetMs ??= arrivalMs - this.#originMs - ms;
    if (track.last !== null) {
      const expectedMs = track.last.atMs + (arrivalMs - track.last.arrivalMs);
      if (Math.abs(ms + track.offsetMs - expectedMs) > MAX_LEAP_MS) {
        // The sender began anew (another encoder, another random start): go on where the clock on the wall is.
        this.counters.clock_leaps += 1;
        track.offsetMs = expectedMs - ms;
        track.wallMs = [];
      }
    }
    if (kind === "picture") this.#follow(track);
    const atMs = ms + track.offsetMs;
    track.last = { atMs, arrivalMs };
    return atMs;
  }

  /** A sender report: its NTP time (64 bits, seconds since 1900 and fraction) stands for `ticks`. */
  report(kind: TrackKind, ntp: bigint, ticks: number): void {
    const track = this.#tracks[kind];
    this.counters.reports += 1;
    // Before the first packet there is nothing to unwrap against.
    if (track.last === null) return;
    const seconds = Number(ntp >> 32n) + Number(ntp & 0xffff_ffffn) / NTP_FRACTION;
    track.wallMs.push(seconds * 1000 - this.#unwrapped(track, kind, ticks));
    if (track.wallMs.length > REPORTS) track.wallMs.shift();
  }

  #unwrapped(track: Track, kind: TrackKind, ticks: number): number {
    const near = (track.last!.atMs - track.offsetMs!) * RATE[kind];
    return (near + ((ticks - Math.round(near)) | 0)) / RATE[kind];
  }

  #follow(picture: Track): void {
    const sound = this.#tracks.sound;
    if (picture.wallMs.length === 0 || sound.wallMs.length === 0 || sound.offsetMs === null) return;
    const error = sound.offsetMs + (Math.min(...picture.wallMs) - Math.min(...sound.wallMs)) - picture.offsetMs!;
    if (Math.abs(error) > MAX_SKEW_MS) {
      this.counters.reports_ignored += 1;
      picture.wallMs = [];
    } else if (Math.abs(error) > JUMP_MS) {
      this.counters.clock_jumps += 1;
      picture.offsetMs! += error;
    } else picture.offsetMs! += Math.max(-STEP_MS, Math.min(STEP_MS, error));
  }
}
