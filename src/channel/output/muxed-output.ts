import { BackOff, RETRY } from "../../backoff.js";
import type { MuxTracks } from "../../transport/gst/launch.js";
import { GstPipeline } from "../../transport/gst/pipeline.js";
import type { SourceState } from "../../transport/ipc/messages.js";
import type { AacUnit, OutputUnit, VideoUnit } from "../units.js";
import { decodedAtMs, MuxerTrack } from "./muxer-track.js";
import { KeyGate, type Output, type OutputEvents, type OutputStatus } from "./output.js";
import { SrtReceivers } from "./srt-receivers.js";
import { otherKind, PAUSED_MS, type TrackKind, TrackPresence } from "./track-presence.js";

/** Two seconds of 16 Mbit/s, for each track. */
const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;
/** Muxers must know their tracks at the start: how long the first units are watched for what there is. */
const LOOK_MS = 1500;
const EARLY_UNITS = 512;
/** For the muxer to write its last bytes. */
const END_MS = 1000;

/** Muxers wait for the other track. One that is not told of gaps goes on in a new file; longer than KeyGate holds sound back for pictures. */
const GONE_MS = 6000;

export type MuxedOptions = {
  /** Asked for before each attempt: a path (what was recorded until a failure must not be written over) or an address. */
  readonly target: () => Promise<string>;
  /** The target is a path, for the element `file`; else an address, for `net`. */
  readonly isFile: boolean;
  /** The muxer goes on with one track when the other one is said to have a gap. */
  readonly knowsGaps?: boolean;
};

/** Through a GStreamer muxer: SRT (transport stream) or a file (.mkv, .mp4, .ts). */
export class MuxedOutput implements Output {
  readonly #uri: string;
  readonly #launch: (tracks: MuxTracks, target: string) => string;
  readonly #events: OutputEvents;
  readonly #o: MuxedOptions;
  /** Where the next attempt goes, once it is known. */
  #target: string | null = null;
  #isAsking = false;
  /** Null: a file. */
  #receivers: SrtReceivers | null = null;
  readonly #gate = new KeyGate();
  readonly #backOff = new BackOff(RETRY);
  /** Tracks that the next pipeline is to have. */
  readonly #seen: Record<TrackKind, boolean> = { video: false, audio: false };
  readonly #presence = new TrackPresence();
  #firstMs: number | null = null;
  /** What came before it was known which tracks there are: the first key frame must not be lost. */
  #early: (VideoUnit | AacUnit)[] = [];
  #pipeline: GstPipeline | null = null;
  #video: MuxerTrack | null = null;
  #audio: MuxerTrack | null = null;
  #state: SourceState = "connecting";
  #reason: string | null = null;
  #failures = 0;
  #retry: NodeJS.Timeout | null = null;
  /** Stopped by a failure, and not yet played again: what is pushed meanwhile is refused for no fault of the disk. */
  #isStopped = false;
  #onEnd: () => void = () => {};
  /** The pipeline of before writes its end. */
  #isEnding = false;

  /** @param uri what is shown; @param launch the pipeline for the tracks there are, to the target */
  constructor(
    uri: string,
    launch: (tracks: MuxTracks, target: string) => string,
    events: OutputEvents,
    options: MuxedOptions,
  ) {
    this.#uri = uri;
    this.#launch = launch;
    this.#events = events;
    this.#o = options;
  }

  get status(): OutputStatus {
    return { uri: this.#uri, state: this.#state, reason: this.#reason };
  }

  get waitsForKey(): boolean {
    return this.#gate.waits && (this.#state === "live" || this.#state === "connecting");
  }

  get counters(): Readonly<Record<string, number>> {
    return { output_units_dropped: this.#gate.dropped, output_failures: this.#failures };
  }

  write(unit: OutputUnit): void {
    if (this.#state === "back-off" || this.#state === "ended" || unit.kind === "note") return;
    const kind = unit.kind === "video" ? "video" : "audio";
    this.#presence.written(kind, performance.now());
    this.#seen[kind] = true;
    this.#take(unit);
  }

  #take(unit: VideoUnit | AacUnit): void {
    if (this.#pipeline === null) {
      if (this.#early.push(unit) > EARLY_UNITS) this.#early.shift();
      if (this.#isEnding || !this.#begin()) return;
      // Each may begin anew, and the rest then waits again.
      for (const early of this.#early.splice(0)) this.#take(early);
    } else this.#send(unit);
  }

  #send(unit: VideoUnit | AacUnit): void {
    const kind = unit.kind === "video" ? "video" : "audio";
    const track = unit.kind === "video" ? this.#video : this.#audio;
    // Beside a picture all begins anew at a key frame, so that no picture is lost.
    if (unit.kind === "video" && unit.key && (track === null || (this.#audio === null && this.#seen.audio))) {
      this.#beginAnew(unit);
      return;
    }
    if (track === null) return;
    const second = unit.kind === "video" ? this.#audio : this.#video;
    const aloneMs = this.#presence.aloneMs(kind);
    const cannotWait = second !== null && (!this.#o.knowsGaps || second.isFresh);
    if (cannotWait && aloneMs > GONE_MS && (unit.kind !== "video" || unit.key)) {
      this.#seen[otherKind(kind)] = false;
      this.#beginAnew(unit);
      return;
    }
    if (!this.#gate.passes(unit)) return;
    if (!track.push(unit)) {
      this.#gate.shut();
      // Until nothing waits any more (`#look`). Also from the first moment on: who only connects, it would seem, loses units.
      const isNew = this.#state === "connecting" && this.#reason === null && !this.#isStopped;
      if (this.#state === "live" || isNew) this.#set("stalled", "SL_OUTPUT_SLOW");
      return;
    }
    if (this.#o.knowsGaps && aloneMs > PAUSED_MS) second?.gapUntil(decodedAtMs(unit));
    this.#look(track);
  }

  #look(track: MuxerTrack): void {
    if (this.#receivers !== null && !this.#receivers.look(performance.now())) {
      if (this.#reason !== "SL_OUTPUT_NO_RECEIVER") this.#set("connecting", "SL_OUTPUT_NO_RECEIVER");
    } else if (this.#state !== "live" && track.levelBytes === 0) {
      this.#backOff.reset();
      this.#set("live", null);
    }
  }

  interrupted(): void {
    this.#gate.shut();
  }

  async close(): Promise<void> {
    if (this.#retry !== null) clearTimeout(this.#retry);
    const wasLive = this.#pipeline !== null && this.#state !== "back-off";
    this.#state = "ended";
    if (this.#isEnding) {
      const finish = this.#onEnd;
      await new Promise<void>((resolve) => {
        this.#onEnd = () => {
          finish();
          resolve();
        };
      });
    }
    if (wasLive) {
      const ended = new Promise<void>((resolve) => {
        this.#onEnd = resolve;
        setTimeout(resolve, END_MS).unref();
      });
      this.#pipeline?.sendEnd();
      await ended;
    }
    this.#pipeline?.close();
  }

  /** Makes the pipeline once it is known what tracks there are. */
  #begin(): boolean {
    const now = performance.now();
    this.#firstMs ??= now;
    if (!(this.#seen.video && this.#seen.audio) && now - this.#firstMs < LOOK_MS) return false;
    const target = this.#target;
    if (target === null) {
      this.#ask(() => {});
      return false;
    }
    this.#targetIsUsed();
    try {
      const made: GstPipeline = new GstPipeline(this.#launch(this.#seen, target), {
        onFault: (fault) => {
          if (made === this.#pipeline) this.#fail("SL_OUTPUT_FAILED", `${fault.element}: ${fault.message}`);
        },
        onWarning: () => {
          if (made === this.#pipeline) this.#receivers?.changed();
        },
        onEnd: () => this.#onEnd(),
      });
      this.#pipeline = made;
      if (!this.#o.isFile) this.#receivers = new SrtReceivers(() => made.text("net", "stats"));
    } catch (error) {
      this.#fail("SL_OUTPUT_FAILED", error instanceof Error ? error.message : String(error));
      return false;
    }
    if (this.#seen.video) this.#video = new MuxerTrack(this.#pipeline.source("video", MAX_BACKLOG_BYTES));
    if (this.#seen.audio) this.#audio = new MuxerTrack(this.#pipeline.source("audio", MAX_BACKLOG_BYTES));
    this.#gate.shut();
    this.#isStopped = false;
    this.#pipeline.play();
    return true;
  }

  /** Other tracks than at the beginning (a camera that comes late): muxers cannot take one in, so the stream, or a new file, begins with those that there are. */
  #beginAnew(unit: VideoUnit | AacUnit): void {
    const before = this.#pipeline!;
    this.#pipeline = null;
    this.#video = null;
    this.#audio = null;
    this.#firstMs = null;
    this.#set("connecting", null);
    if (!this.#o.isFile) before.close();
    else {
      // A file must be whole, and seen to be there, before the next one gets its name.
      this.#isEnding = true;
      this.#onEnd = () => {
        this.#isEnding = false;
        before.close();
        this.#onEnd = () => {};
      };
      before.sendEnd();
      setTimeout(() => this.#isEnding && this.#onEnd(), END_MS).unref();
    }
    this.#take(unit);
  }

  /** Finds the next target without holding anything up: a name server or a disk may take its time, or never answer. */
  #ask(then: () => void): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#o.target().then(
      (found) => {
        this.#isAsking = false;
        this.#target = found;
        if (this.#state === "connecting") then();
      },
      (error: Error) => {
        this.#isAsking = false;
        this.#fail("SL_OUTPUT_FAILED", error.message);
      },
    );
  }

  #fail(reason: string, detail: string): void {
    if (this.#state === "ended" || this.#state === "back-off") return;
    this.#failures += 1;
    this.#set("back-off", reason, detail);
    // What comes meanwhile is not kept: the old and the new do not join.
    this.#early = [];
    this.#receivers?.lost();
    this.#pipeline?.stop();
    this.#isStopped = true;
    this.#retry = setTimeout(() => {
      this.#set("connecting", null);
      this.#video?.restart();
      this.#audio?.restart();
      this.#gate.shut();
      if (this.#pipeline !== null) this.#ask(() => this.#playAgain());
    }, this.#backOff.next());
  }

  #playAgain(): void {
    // Other tracks may have come meanwhile: then the target is for the pipeline that is to be made for them.
    if (this.#pipeline === null || this.#target === null) return;
    if (this.#o.isFile) this.#pipeline.set("file", "location", this.#target);
    else this.#pipeline.set("net", "uri", this.#target);
    this.#targetIsUsed();
    this.#isStopped = false;
    this.#pipeline.play();
  }

  /** A path is good for one file, an address for as long as it works. */
  #targetIsUsed(): void {
    if (this.#o.isFile) this.#target = null;
  }

  #set(state: SourceState, reason: string | null, detail?: string): void {
    this.#state = state;
    this.#reason = reason;
    this.#events.onState(this.status, detail);
  }
}
