import { catchError, interval, map, merge, type Observable, Subject, tap } from "rxjs";
import { latencyPlan, type Profile } from "../channel/latency.js";
import { MediaClock } from "../channel/media-clock.js";
import { type JoinCounter, monotonic } from "../channel/operators.js";
import { Separation, stepsOf } from "../channel/separation.js";
import { StageTimes } from "../channel/stats.js";
import { channelConfig } from "../config/schema.js";
import type { Inference } from "../model/inference.js";
import { loadOptional } from "../optional.js";
import type { Controls } from "../pipeline/controls.js";
import type { Levels } from "../pipeline/gain-renderer.js";
import { pace } from "../pipeline/operators/pace.js";
import { seamCounter } from "../pipeline/operators/seam.js";
import { SoundConverter } from "../pipeline/sound-at-48k.js";
import type { Box, Face, Highlight, Mode } from "../pipeline/types.js";
import { LibraryError } from "./errors.js";
import { alignedI420 } from "./i420.js";
import { SinkClock } from "./sink-clock.js";
import { MAX_SOUND_BEHIND_MS, SoundBehind, type StatsPeer } from "./sound-behind.js";
import { planarOf, TrackBlocks } from "./track-sound.js";
import type { AudioData, VideoFrame, Wrtc } from "./wrtc.js";

export type SeparateTracksOptions<Track> = {
  /** An open model (`openModel`); stays open, and may serve several calls. */
  readonly model: Inference;
  /** The WebRTC stack that the tracks are of. Default: the package @roamhq/wrtc. */
  readonly wrtc?: Wrtc<Track>;
  /** Latency against quality, as a channel's. Default `low`. */
  readonly profile?: Profile;
  /** This and the next ones: as the settings of a channel (docs/reference/configuration.md), with the same defaults. */
  readonly keep?: Controls["keep"];
  readonly strengthPercent?: number;
  readonly attenuationLimitDb?: number;
  readonly bypass?: boolean;
  /** Only faces whose centre lies here count. Default: the whole picture. */
  readonly region?: Box;
  readonly whenNobodyVisible?: "keep" | "mute";
  readonly whenVisibleSilent?: "reduce" | "keep";
  /**
   * The connection that the tracks come from: once a second its statistics say how much later the stack hands over sound than the picture of
   * the same moment, and pictures are placed by that. Without it SOUND_BEHIND_MS is taken, which is wrong on a bad line or a busy machine.
   */
  readonly peer?: StatsPeer;
  /** A fixed value in place of that, milliseconds, 0 to 500. */
  readonly soundBehindMs?: number;
  /** Told of faults that were got over (a block or picture that could not be read, a step that failed), at most one a second. */
  readonly onFault?: (error: unknown) => void;
};

/** What may be changed while it runs; ramped, never stepped. */
export type TrackControls = Pick<Controls, "keep" | "strengthPercent" | "attenuationLimitDb"> & {
  readonly bypass: boolean;
};

export type TracksState = {
  readonly mode: Mode;
  /** Why not `separated`: a code of docs/codes.md. */
  readonly reason: string | null;
  readonly levels: Levels | null;
  readonly faces: readonly Face[];
  /** Since the start; names may be added. */
  readonly counters: Readonly<Record<string, number>>;
};

export type SeparatedTracks<Track> = {
  /** The cleaned sound, `latencyMs` after the sound that came in. Add it to a peer. */
  readonly track: Track;
  /** Who is seen and heard, one a step, at the moment at which its sound leaves. Completes at `stop`. Nothing waits for a slow listener. */
  readonly highlights: Observable<Highlight>;
  /** Declared latency: what leaves is so much later than what came, always. */
  readonly latencyMs: number;
  /** A picture that is passed on beside `track` must be so much later than it came to lie where its sound is; follows the line when a `peer` was given. */
  readonly pictureDelayMs: number;
  state(): TracksState;
  /** @throws RangeError for values out of range */
  set(patch: Partial<TrackControls>): void;
  /** Stops the sinks and the cleaned track, frees the model's states. The tracks that were given stay as they are. Idempotent. */
  stop(): void;
};

/**
 * Median of test/library/lip-sync.test.ts (flash and beep of one moment over two real peers of @roamhq/wrtc 0.10.0): pictures reach their sink
 * after about 17 ms, sound after about 75 ms, of which Opus takes 27 (frame and look-ahead) and the stack's jitter buffer most of the rest.
 */
export const SOUND_BEHIND_MS = 55;
const STATS_EVERY_MS = 1000;
const TICK_MS = 5;
/** Highlights that wait for their sound: seconds of them. */
const MAX_NOTES = 512;
const FAULT_EVERY_MS = 1000;

let calls = 0;

/**
 * Separates the sound of one participant of a conference: takes the audio and (where there is one) video track of a node-webrtc API
 * peer, gives back a track with the cleaned sound, and highlights. The channels' separation with their clocks, latency and bypasses; only
 * the ends are others. A model that fails or is late is no error: the sound leaves as it came, with the code in `state().reason`.
 *
 * @throws MissingPackageError when no `wrtc` is given and @roamhq/wrtc is not installed; LibraryError without an audio track,
 * or with an option out of range
 */
export function separateTracks<Track extends object>(
  tracks: { readonly audio: Track; readonly video?: Track | null },
  options: SeparateTracksOptions<Track>,
): SeparatedTracks<Track> {
  const { audio, video = null } = tracks;
  if (audio === undefined || audio === null) throw new LibraryError("separateTracks needs { audio: a track }");
  const { model, profile = "low", onFault } = options;
  const wrtc = options.wrtc ?? loadOptional<Wrtc<Track>>("@roamhq/wrtc", "tracks of a conference");
  const { RTCAudioSink, RTCVideoSink, RTCAudioSource } = wrtc.nonstandard;

  const plan = latencyPlan(profile, model.card, { encoder: "none" });
  const clock = new MediaClock(false, plan.declaredMs);
  const { soundBehindMs = SOUND_BEHIND_MS } = options;
  if (!(soundBehindMs >= 0 && soundBehindMs <= MAX_SOUND_BEHIND_MS))
    throw new LibraryError(
      `options: soundBehindMs is ${soundBehindMs}; allowed: 0 to ${MAX_SOUND_BEHIND_MS} milliseconds`,
    );
  const times = new SinkClock(soundBehindMs);
  const { peer } = options;
  const ids = [audio, video].map((track) => (track as { id?: unknown } | null)?.id);
  const behind =
    peer !== undefined && options.soundBehindMs === undefined && ids.every((id) => typeof id === "string")
      ? new SoundBehind(soundBehindMs, ids[0] as string, ids[1] as string)
      : null;
  const source = new RTCAudioSource();
  const blocks = new TrackBlocks((block) => source.onData(block));
  const counter: JoinCounter = { ...seamCounter(), joined: 0 };
  const notes = seamCounter();
  const counts = { sounds: 0, pictures: 0, faults: 0 };
  const converter = new SoundConverter();
  let lastFaultMs = Number.NEGATIVE_INFINITY;

  const fault = (error: unknown): void => {
    counts.faults += 1;
    const nowMs = performance.now();
    if (nowMs - lastFaultMs < FAULT_EVERY_MS) return;
    lastFaultMs = nowMs;
    onFault?.(error);
  };
  const { keep, strengthPercent, attenuationLimitDb, bypass, region, whenNobodyVisible, whenVisibleSilent } = options;
  const given = { keep, strengthPercent, attenuationLimitDb, bypass, region, whenNobodyVisible, whenVisibleSilent };
  const config = channelConfig.safeParse({
    profile,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  });
  if (!config.success)
    throw new LibraryError(
      `options: ${config.error.issues.map((i) => `${i.path.join(".")}: ${i.message}`).join("; ")}`,
    );
  const separation = new Separation({
    name: `tracks-${++calls}`,
    config: config.data,
    geometry: model.card,
    plan,
    clock,
    inference: model,
    noModel: "SL_MODEL_INVALID",
    stages: new StageTimes(),
    log: () => {},
    needsRemoved: () => false,
    onRendered: ({ kept }) => blocks.push(kept.channels),
  });

  const takeSound = (data: AudioData): void => {
    counts.sounds += 1;
    const nowMs = performance.now();
    const channels = planarOf(data);
    const durationMs = (1000 * channels[0]!.length) / data.sampleRate;
    const sound = converter.take({
      ptsMs: times.sound(durationMs, nowMs),
      channels,
      sampleRate: data.sampleRate,
    });
    if (sound.channels[0]!.length === 0) return; // a first short piece, all of it held back by the filter
    const { ptsMs } = sound;
    separation.takeSound({ ...clock.place({ kind: "sound", ptsMs }, nowMs - durationMs), channels: sound.channels });
  };
  const takePicture = ({ frame }: { readonly frame: VideoFrame }): void => {
    counts.pictures += 1;
    const nowMs = performance.now();
    const ptsMs = times.picture(nowMs);
    if (ptsMs === null || !separation.hasTimeForPictures) return;
    const picture = alignedI420(frame.data, frame.width, frame.height, frame.rotation ?? 0);
    const placed = clock.place({ kind: "video", ptsMs, dtsMs: ptsMs }, nowMs);
    separation.takePicture({ ptsMs: placed.ptsMs, ...picture, fullRange: false });
  };

  const changes = new Subject<void>();
  const after =
    <T>(take: (value: T) => void) =>
    (value: T): void => {
      try {
        take(value);
      } catch (error) {
        fault(error);
      }
      changes.next();
    };
  const highlights = new Subject<Highlight>();
  const outcomes = merge(changes, interval(TICK_MS)).pipe(
    stepsOf(separation, counter),
    map((outcome) => ({ outcome, ptsMs: separation.ptsMs(outcome.facesSample) })),
    pace({
      releaseAtMs: ({ ptsMs }) => clock.releaseAtMs(ptsMs),
      limit: MAX_NOTES,
      policy: "drop-oldest",
      counter: notes,
      scheduler: monotonic,
    }),
    tap(({ outcome }) => {
      const { mode, reason } = state();
      highlights.next({ atSample: outcome.facesSample, mode, reason, faces: outcome.faces });
    }),
    catchError((error: unknown, again) => {
      fault(error);
      return again;
    }),
  );
  const state = (): TracksState => {
    const now = separation.mode;
    const reason = now?.reason ?? (now === null ? "SL_NO_AUDIO" : null);
    const aboutPicture = reason === "SL_PICTURE_FROZEN" || reason === "SL_NO_FACE";
    return {
      mode: now?.mode ?? "bypass",
      reason: aboutPicture && !clock.has("video", performance.now()) ? "SL_NO_VIDEO" : reason,
      levels: separation.levels,
      faces: separation.faces?.faces ?? [],
      counters: {
        ...counts,
        ...separation.counters,
        interruptions: times.interruptions,
        steps_joined: counter.joined,
        steps_dropped: counter.dropped,
        highlights_dropped: notes.dropped,
      },
    };
  };

  const soundSink = new RTCAudioSink(audio);
  soundSink.ondata = after(takeSound);
  const videoSink = video === null ? null : new RTCVideoSink(video);
  if (videoSink !== null) videoSink.onframe = after(takePicture);
  const running = outcomes.subscribe();
  const lookAtStats = async (): Promise<void> => {
    try {
      behind!.push((await peer!.getStats()).values());
      times.soundBehindMs = behind!.ms;
    } catch (error) {
      fault(error);
    }
  };
  const statsTimer = behind === null ? null : setInterval(() => void lookAtStats(), STATS_EVERY_MS);
  statsTimer?.unref();
  let stopped = false;
  const track = source.createTrack();
  return {
    track,
    highlights: highlights.asObservable(),
    latencyMs: plan.declaredMs,
    get pictureDelayMs() {
      return plan.declaredMs + times.soundBehindMs;
    },
    state,
    set: (patch) => separation.set(patch),
    stop: () => {
      if (stopped) return;
      stopped = true;
      if (statsTimer !== null) clearInterval(statsTimer);
      soundSink.ondata = null;
      soundSink.stop();
      if (videoSink !== null) {
        videoSink.onframe = null;
        videoSink.stop();
      }
      running.unsubscribe();
      separation.close();
      // Standard tracks have it; without it the stack would hold the process.
      (track as { stop?: () => void }).stop?.();
      highlights.complete();
    },
  };
}
