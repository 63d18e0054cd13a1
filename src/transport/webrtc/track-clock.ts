import { ArrivalFloor } from "./arrival-floor.js";
import { difference32, Unwrapper32 } from "./sequence.js";

/**
 * RTP timestamps of a publisher's tracks on one timeline in milliseconds.
 *
 * Each track counts from a random number; sender reports say which wall-clock time (the publisher's) a number stands for (RFC 3550,
 * 6.4.1). Until both tracks have reported, the quickest packets of both are taken to have come the same way: a first picture may have waited long
 * for a packet that was lost. The picture is moved so that both agree: never the sound, which is the clock of everything behind this; at once
 * when it is far off, else in small steps.
 *
 * The publisher's wall clock may be set while it runs (NTP). Each track tells of it with its own next report, seconds apart; until both
 * have, one against the other means nothing, and the picture stays where it is.
 */
export type TrackKind = "sound" | "picture";

/** The wall clock of reports is read to a few milliseconds by some senders; nearer than this the picture is moved in steps. */
const JUMP_MS = 40;
/**
 * Some senders write into a report when they sent a packet, not when its sound or picture was captured: later by what their machine was
 * late then, never earlier. So the earliest of so many reports is believed.
 */
const REPORTS = 9;
/**
 * What makes a report late differs from one to the next. So many in a row that are this near to each other are not late: the track has
 * lost time. A microphone of which a busy browser drops a block counts on without a gap, 10 ms later from there on; only the reports tell.
 */
const AGREEING_REPORTS = 4;
const AGREEING_MS = 2;
/**
 * One is enough when the sound's packets come later than the picture's by just as much, to so many milliseconds or a quarter of it (what was
 * lost last does not show in the quickest packets yet). Of sound only: pictures are late for the time that their encoder takes.
 */
const CONFIRMED_WITHIN_MS = 5;
const CONFIRMED_WITHIN = 1 / 4;
/** Per picture. Not visible, and faster than any clock drifts. */
const STEP_MS = 0.5;
/** Reports that put the tracks further apart than this are wrong (clocks of two machines, a wild NTP). */
const MAX_SKEW_MS = 10_000;
/** A range of so many reports is known well enough to say that another one lies outside of it. */
const RANGE_REPORTS = 3;
/** Of both tracks together, until they are no longer taken for late ones. */
const SURE_REPORTS = 3;
/** How long the other track is waited for when one tells of another wall clock. Reports come every 5 s at least, but for lost ones. */
const ALIKE_WITHIN_MS = 10_000;
/** So far from its first packet a track is watched for its quickest ones. Reports come within 5 s, if they come at all. */
const EARLY_MS = 10_000;
/** Timestamps further from the arrival than this have begun anew. */
const MAX_LEAP_MS = 10_000;

const RATE: Record<TrackKind, 48 | 90> = { sound: 48, picture: 90 };
const NTP_FRACTION = 2 ** 32;

type Track = {
  unwrap: Unwrapper32;
  /** Timeline = ticks / rate + offset. */
  offsetMs: number | null;
  /** Sender's wall clock - ticks / rate, of the newest reports. */
  wallMs: number[];
  /** The same since a report of either track lay outside of what its track had told until then; empty else. */
  sinceMs: number[];
  /** Timestamp of the first packet that arrived, when the quickest one since would have come for it, and its place in ticks / rate (null: not yet known). */
  early: { readonly ticks: number; readonly quickestMs: number; readonly baseMs: number | null } | null;
  readonly floor: ArrivalFloor;
  /** The last report that was believed, and how much later this track's quickest packets came then than the other's (null: not known). */
  believed: { readonly wallMs: number; readonly laterMs: number | null } | null;
  /** The earliest report until the last one was believed to tell of lost time. If the next one tells the same again, the sender was only late. */
  beforeLossMs: number | null;
  /** It was: one report of this track is not enough any more. */
  wasLate: boolean;
  /** Where the newest packet was put, and when it came. */
  last: { readonly atMs: number; readonly arrivalMs: number } | null;
};

const fresh = (kind: TrackKind): Track => ({
  unwrap: new Unwrapper32(),
  offsetMs: null,
  wallMs: [],
  sinceMs: [],
  early: null,
  floor: new ArrivalFloor(RATE[kind]),
  believed: null,
  beforeLossMs: null,
  wasLate: false,
  last: null,
});

export class TrackClock {
  readonly counters = { clock_jumps: 0, clock_leaps: 0, reports: 0, reports_ignored: 0 };
  readonly #tracks: Record<TrackKind, Track> = { sound: fresh("sound"), picture: fresh("picture") };
  #originMs: number | null = null;
  #nowMs = 0;
  /** When a report first lay outside; null: the wall clock is that of all reports. */
  #suspectedMs: number | null = null;

  /** A packet came in, whatever it will have to wait for until it is placed. */
  arrived(kind: TrackKind, ticks: number, arrivalMs: number): void {
    const track = this.#tracks[kind];
    track.floor.arrived(ticks, arrivalMs);
    track.early ??= { ticks, quickestMs: arrivalMs, baseMs: null };
    const sinceMs = difference32(ticks, track.early.ticks) / RATE[kind];
    if (Math.abs(sinceMs) < EARLY_MS && arrivalMs - sinceMs < track.early.quickestMs)
      track.early = { ...track.early, quickestMs: arrivalMs - sinceMs };
  }

  /**
   * Time of a packet, milliseconds from the first packet of all; may be a little negative for what was captured before it.
   * @param ticks 32-bit RTP timestamp @param arrivalMs monotonic clock
   */
  place(kind: TrackKind, ticks: number, arrivalMs: number): number {
    const track = this.#tracks[kind];
    this.#originMs ??= arrivalMs;
    this.#nowMs = arrivalMs;
    const ms = track.unwrap.next(ticks) / RATE[kind];
    track.offsetMs ??= arrivalMs - this.#originMs - ms;
    if (track.last !== null) {
      const expectedMs = track.last.atMs + (arrivalMs - track.last.arrivalMs);
      if (Math.abs(ms + track.offsetMs - expectedMs) > MAX_LEAP_MS) {
        // The sender began anew (another encoder, another random start): go on where the clock on the wall is.
        this.counters.clock_leaps += 1;
        track.offsetMs = expectedMs - ms;
        track.wallMs = [];
        track.sinceMs = [];
        track.believed = null;
        track.beforeLossMs = null;
        track.early = null;
      }
    }
    if (track.early?.baseMs === null)
      track.early = { ...track.early, baseMs: ms - difference32(ticks, track.early.ticks) / RATE[kind] };
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
    const wallMs = seconds * 1000 - this.#unwrapped(track, kind, ticks);
    const other = this.#tracks[kind === "sound" ? "picture" : "sound"];
    const laterMs = difference(track.floor.ms, other.floor.ms);
    const earliestMs = Math.min(...track.wallMs);
    const confirmed = kind === "sound" && !track.wasLate && movedMs(other) === null && hasLost(track, wallMs, laterMs);
    const undone = track.beforeLossMs !== null && Math.abs(wallMs - track.beforeLossMs) < CONFIRMED_WITHIN_MS;
    // Only the next report can say so: later ones may come there by a clock that drifts.
    track.beforeLossMs = confirmed ? earliestMs : null;
    if (confirmed || undone) {
      track.wasLate ||= undone;
      // How far its reports lie apart stays what it was.
      this.#goOnWith(track, [...track.wallMs.map((ms) => ms + wallMs - earliestMs), wallMs]);
      this.#goOnWith(other, [...other.wallMs, ...other.sinceMs]);
    } else if (this.#suspectedMs === null && !isOutside(wallMs, track))
      this.#goOnWith(track, [...track.wallMs, wallMs]);
    else {
      this.#suspectedMs ??= this.#nowMs;
      track.sinceMs = newest([...track.sinceMs, wallMs]);
      this.#compare(this.#tracks.sound, this.#tracks.picture);
    }
    // As long as it is not believed the time from before is what counts.
    if (
      confirmed ||
      undone ||
      (this.#suspectedMs === null && !(wallMs > Math.min(...track.wallMs) + CONFIRMED_WITHIN_MS))
    )
      track.believed = { wallMs, laterMs };
  }

  /** After a report outside its track's range. Both tracks have moved alike: go on with that. Neither is outside now: it was late. Else wait for more. */
  #compare(sound: Track, picture: Track): void {
    const [soundMs, pictureMs] = [movedMs(sound), movedMs(picture)];
    if (soundMs === null && pictureMs === null) {
      for (const track of [sound, picture]) this.#goOnWith(track, [...track.wallMs, ...track.sinceMs]);
    } else if (soundMs !== null && pictureMs !== null && Math.abs(soundMs - pictureMs) < JUMP_MS) {
      const moved = [sound, picture].map((track) => track.sinceMs.filter((ms) => isOutside(ms, track)));
      // A machine that stands still for a moment makes both late, once; none makes them early.
      if (soundMs > 0 && moved[0]!.length + moved[1]!.length < SURE_REPORTS) return;
      this.#goOnWith(sound, moved[0]!);
      this.#goOnWith(picture, moved[1]!);
    }
  }

  #goOnWith(track: Track, wallMs: readonly number[]): void {
    // A picture's encoder may be late by the same whole picture for many reports.
    track.wallMs = track === this.#tracks.sound && agree(wallMs) ? wallMs.slice(-AGREEING_REPORTS) : newest(wallMs);
    track.sinceMs = [];
    this.#suspectedMs = null;
  }

  #unwrapped(track: Track, kind: TrackKind, ticks: number): number {
    const near = (track.last!.atMs - track.offsetMs!) * RATE[kind];
    return (near + ((ticks - Math.round(near)) | 0)) / RATE[kind];
  }

  #follow(picture: Track): void {
    const sound = this.#tracks.sound;
    if (this.#suspectedMs !== null && !(agree(sound.sinceMs) && agree(picture.sinceMs))) {
      if (this.#nowMs - this.#suspectedMs < ALIKE_WITHIN_MS) return;
      // A track that only ever tells a later time may be late (a full line): that is believed when the earliest of many says so.
      for (const [track, other] of [
        [sound, picture],
        [picture, sound],
      ] as const)
        if ((movedMs(track) ?? 0) > 0 && movedMs(other) === null && track.sinceMs.length < REPORTS) return;
    }
    // Only one has moved: what counts is what both tell now.
    if (this.#suspectedMs !== null) for (const track of [sound, picture]) this.#goOnWith(track, track.sinceMs);
    if (sound.offsetMs === null) return;
    const laterMs =
      picture.wallMs.length === 0 || sound.wallMs.length === 0
        ? difference(quickestMs(picture), quickestMs(sound))
        : Math.min(...picture.wallMs) - Math.min(...sound.wallMs);
    if (laterMs === null) return;
    const error = sound.offsetMs + laterMs - picture.offsetMs!;
    if (Math.abs(error) > MAX_SKEW_MS) {
      this.counters.reports_ignored += 1;
      picture.wallMs = [];
    } else if (Math.abs(error) > JUMP_MS) {
      this.counters.clock_jumps += 1;
      picture.offsetMs! += error;
    } else picture.offsetMs! += Math.max(-STEP_MS, Math.min(STEP_MS, error));
  }
}

/** When the quickest packet would have come if it stood for 0; null: not known. */
const quickestMs = ({ early }: Track): number | null =>
  early === null || early.baseMs === null ? null : early.quickestMs - early.baseMs;

const difference = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a - b);

const newest = (reports: readonly number[]): number[] => reports.slice(-REPORTS);

/** The report is later than the last believed one, by more than reports of this sender vary, and so are the track's packets, against the other's. */
function hasLost({ believed, wallMs: known }: Track, wallMs: number, laterMs: number | null): boolean {
  if (believed === null || believed.laterMs === null || laterMs === null) return false;
  const lostMs = wallMs - believed.wallMs;
  const away = Math.abs(lostMs - (laterMs - believed.laterMs));
  return (
    lostMs > CONFIRMED_WITHIN_MS + Math.max(...known) - Math.min(...known) &&
    away < Math.max(CONFIRMED_WITHIN_MS, CONFIRMED_WITHIN * lostMs)
  );
}

/** The newest ones are as near to each other as late ones never are. */
function agree(reports: readonly number[]): boolean {
  const last = reports.slice(-AGREEING_REPORTS);
  return last.length === AGREEING_REPORTS && Math.max(...last) - Math.min(...last) < AGREEING_MS;
}

/** Further away from all reports of the track than they are from each other: no late report, but another wall clock. */
function isOutside(wallMs: number, { wallMs: known }: Track): boolean {
  if (known.length < RANGE_REPORTS) return false;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const marginMs = Math.max(JUMP_MS, most - least);
  return wallMs < least - marginMs || wallMs > most + marginMs;
}

/** How far the newest report lies outside of those before, from the earliest of them; null: it does not. */
function movedMs(track: Track): number | null {
  const wallMs = track.sinceMs.at(-1);
  return wallMs === undefined || !isOutside(wallMs, track) ? null : wallMs - Math.min(...track.wallMs);
}
