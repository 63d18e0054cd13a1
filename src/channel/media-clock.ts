import { ArrivalClock } from "./arrival-clock.js";
import { Epoch, type Track } from "./epoch.js";
import type { SoundUnit, VideoUnit } from "./units.js";

/** What the clock must know of a unit. */
type Timed = Pick<VideoUnit, "kind" | "ptsMs" | "dtsMs"> | Pick<SoundUnit, "kind" | "ptsMs">;

/** A track that sent nothing for so long no longer says when things leave. */
const ABSENT_MS = 3000;

/**
 * Where source time, the channel's media time and the wall meet. Media time t leaves at anchor + t + D. The anchor is that of the slower
 * track (its quickest arrivals): so both have at least D, and neither is late by the other's lead.
 */
export class MediaClock {
  readonly epoch: Epoch;
  readonly #declaredMs: number;
  readonly #tracks: Record<Track, { readonly clock: ArrivalClock; lastMs: number }> = {
    video: { clock: new ArrivalClock(), lastMs: Number.NEGATIVE_INFINITY },
    sound: { clock: new ArrivalClock(), lastMs: Number.NEGATIVE_INFINITY },
  };
  #anchorMs = 0;

  constructor(wraps32: boolean, declaredMs: number) {
    this.epoch = new Epoch(wraps32);
    this.#declaredMs = declaredMs;
  }

  /** The source's times to media time; notes the arrival. */
  place<T extends Timed>(unit: T, nowMs: number): T {
    const rawMs = unit.kind === "video" ? unit.dtsMs : unit.ptsMs;
    const offset = this.epoch.offsetFor(unit.kind, rawMs, nowMs);
    const track = this.#tracks[unit.kind];
    track.clock.arrived(rawMs + offset, nowMs);
    track.lastMs = nowMs;
    this.#anchorMs = this.#slowest(nowMs);
    if (unit.kind === "video") return { ...unit, ptsMs: unit.ptsMs + offset, dtsMs: unit.dtsMs + offset };
    return { ...unit, ptsMs: unit.ptsMs + offset };
  }

  /** A process before this one died: what leaves now lies at `leavingMs` on the timeline that players know. */
  continueFrom(leavingMs: number, nowMs: number): void {
    this.epoch.continueFrom(leavingMs + this.#declaredMs, nowMs);
  }

  restart(): void {
    this.epoch.restart();
    for (const { clock } of Object.values(this.#tracks)) clock.restart();
  }

  /** Wall time (the clock that `place` was given) at which this media time leaves. */
  releaseAtMs(mediaMs: number): number {
    return this.#anchorMs + mediaMs + this.#declaredMs;
  }

  /** Age of a media time: how long ago it came, or would have come without jitter. */
  ageMs(mediaMs: number, nowMs: number): number {
    return nowMs - this.#anchorMs - mediaMs;
  }

  /** True when units of this track came lately. */
  has(track: Track, nowMs: number): boolean {
    return nowMs - this.#tracks[track].lastMs < ABSENT_MS;
  }

  /** For how long nothing came. */
  quietMs(nowMs: number): number {
    return nowMs - Math.max(this.#tracks.video.lastMs, this.#tracks.sound.lastMs);
  }

  #slowest(nowMs: number): number {
    const anchors = (["video", "sound"] as const)
      .filter((track) => this.has(track, nowMs))
      .map((track) => this.#tracks[track].clock.anchorMs ?? Number.NEGATIVE_INFINITY);
    return Math.max(...anchors);
  }
}
