import { gdpBuffer, gdpCaps, gdpGap, gdpSegment, gdpStreamStart } from "../../transport/gdp/gdp.js";
import type { MuxTracks } from "../../transport/gst/launch.js";
import { GstPipeline, type GstSource } from "../../transport/gst/pipeline.js";
import type { SourceState } from "../../transport/ipc/messages.js";
import { rawAacCaps } from "../source/flv-units.js";
import { BackOff } from "../source/source.js";
import type { AacUnit, OutputUnit, VideoUnit } from "../units.js";
import { sameConfig } from "./flv-muxer.js";
import { KeyGate, type Output, type OutputEvents, type OutputStatus } from "./output.js";
import { SrtReceivers } from "./srt-receivers.js";

/** Two seconds of 16 Mbit/s, for each track. */
const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;
/** Muxers must know their tracks at the start: how long the first units are watched for what there is. */
const LOOK_MS = 1500;
const EARLY_UNITS = 512;
/** For the muxer to write its last bytes. */
const END_MS = 1000;

/**
 * A muxer waits for the other track. Of a transport stream it is told that a track which was not written for so long, while the other one
 * was, has a gap. By the clock on the wall: after a pause of the whole feed, or in a burst, nothing is missing that will not come.
 */
const PAUSED_MS = 1000;
const GAP_MS = 500;
/** The other muxers do not understand that: the recording goes on in a new file without the track that is gone. Longer than KeyGate holds sound back for pictures. */
const GONE_MS = 6000;

type Kind = "video" | "audio";
const other = (kind: Kind): Kind => (kind === "video" ? "audio" : "video");

type Track = {
  readonly source: GstSource;
  config: Buffer | null;
  /** What the muxer knows of this track reaches to here. */
  untilMs: number;
};

export type MuxedOptions = {
  /** Path of the next attempt, for the element `file`: what was recorded until a failure must not be written over. */
  readonly nextFile?: () => string;
  /** The muxer goes on with one track when the other one is said to have a gap. */
  readonly knowsGaps?: boolean;
  /** Where to (the element `net`), asked for before each attempt. */
  readonly address?: () => Promise<string>;
};

/** Through a GStreamer muxer: SRT (transport stream) or a file (.mkv, .mp4, .ts). */
export class MuxedOutput implements Output {
  readonly #uri: string;
  readonly #launch: (tracks: MuxTracks, address: string | null) => string;
  readonly #events: OutputEvents;
  readonly #o: MuxedOptions;
  /** Where to, once it is known. */
  #address: string | null = null;
  #isAsking = false;
  /** Null: a file. */
  #receivers: SrtReceivers | null = null;
  readonly #gate = new KeyGate();
  readonly #backOff = new BackOff();
  readonly #seen: Record<Kind, boolean> = { video: false, audio: false };
  /** When each was last written, and since when it has been written without the other, on the wall. */
  readonly #writtenMs: Record<Kind, number> = { video: Number.NEGATIVE_INFINITY, audio: Number.NEGATIVE_INFINITY };
  readonly #aloneSinceMs: Record<Kind, number> = { video: 0, audio: 0 };
  #firstMs: number | null = null;
  /** What came before it was known which tracks there are: the first key frame must not be lost. */
  #early: (VideoUnit | AacUnit)[] = [];
  #pipeline: GstPipeline | null = null;
  #video: Track | null = null;
  #audio: Track | null = null;
  #state: SourceState = "connecting";
  #reason: string | null = null;
  #failures = 0;
  #retry: NodeJS.Timeout | null = null;
  #onEnd: () => void = () => {};
  /** The pipeline of before writes its end. */
  #isEnding = false;

  /** @param uri what is shown; @param launch the pipeline for the tracks there are, to the address where there is one */
  constructor(
    uri: string,
    launch: (tracks: MuxTracks, address: string | null) => string,
    events: OutputEvents,
    options: MuxedOptions = {},
  ) {
    this.#uri = uri;
    this.#launch = launch;
    this.#events = events;
    this.#o = options;
  }

  get status(): OutputStatus {
    return { uri: this.#uri, state: this.#state, reason: this.#reason };
  }

  get counters(): Readonly<Record<string, number>> {
    return { output_units_dropped: this.#gate.dropped, output_failures: this.#failures };
  }

  write(unit: OutputUnit): void {
    if (this.#state === "back-off" || this.#state === "ended" || unit.kind === "note") return;
    this.#note(unit.kind === "video" ? "video" : "audio", performance.now());
    this.#take(unit);
  }

  #note(kind: Kind, nowMs: number): void {
    if (nowMs - this.#writtenMs[kind] > PAUSED_MS) this.#aloneSinceMs[kind] = nowMs;
    this.#writtenMs[kind] = nowMs;
    this.#aloneSinceMs[other(kind)] = nowMs;
    this.#seen[kind] = true;
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
    const untilMs = unit.kind === "video" ? unit.dtsMs : unit.ptsMs;
    const aloneMs = this.#writtenMs[kind] - this.#aloneSinceMs[kind];
    // Of a track that has sent nothing in this run not even a gap can be told.
    const cannotWait = second !== null && (!this.#o.knowsGaps || second.config === null);
    if (cannotWait && aloneMs > GONE_MS && (unit.kind !== "video" || unit.key)) {
      this.#seen[other(kind)] = false;
      this.#beginAnew(unit);
      return;
    }
    if (!this.#gate.passes(unit)) return;
    if (!push(track, unit)) {
      this.#gate.shut();
      return;
    }
    track.untilMs = untilMs;
    if (this.#o.knowsGaps && aloneMs > PAUSED_MS) fillGap(second, untilMs);
    this.#look(track);
  }

  #look({ source }: Track): void {
    if (this.#receivers !== null && !this.#receivers.look(performance.now())) {
      if (this.#reason !== "SL_OUTPUT_NO_RECEIVER") this.#set("connecting", "SL_OUTPUT_NO_RECEIVER");
    } else if (this.#state !== "live" && source.levelBytes === 0) {
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
    if (this.#o.address !== undefined && this.#address === null) {
      this.#ask(this.#o.address, () => {});
      return false;
    }
    try {
      const made: GstPipeline = new GstPipeline(this.#launch(this.#seen, this.#address), {
        onFault: (fault) => {
          if (made === this.#pipeline) this.#fail("SL_OUTPUT_FAILED", `${fault.element}: ${fault.message}`);
        },
        onWarning: () => {
          if (made === this.#pipeline) this.#receivers?.changed();
        },
        onEnd: () => this.#onEnd(),
      });
      this.#pipeline = made;
      if (this.#o.address !== undefined) this.#receivers = new SrtReceivers(() => made.text("net", "stats"));
    } catch (error) {
      this.#fail("SL_OUTPUT_FAILED", error instanceof Error ? error.message : String(error));
      return false;
    }
    if (this.#seen.video)
      this.#video = { source: this.#pipeline.source("video", MAX_BACKLOG_BYTES), config: null, untilMs: 0 };
    if (this.#seen.audio)
      this.#audio = { source: this.#pipeline.source("audio", MAX_BACKLOG_BYTES), config: null, untilMs: 0 };
    this.#gate.shut();
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
    if (this.#o.nextFile === undefined) before.close();
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

  #ask(address: () => Promise<string>, then: () => void): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    address().then(
      (found) => {
        this.#isAsking = false;
        this.#address = found;
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
    this.#retry = setTimeout(() => {
      this.#set("connecting", null);
      if (this.#video !== null) this.#video.config = null;
      if (this.#audio !== null) this.#audio.config = null;
      this.#gate.shut();
      if (this.#o.nextFile !== undefined) this.#pipeline?.set("file", "location", this.#o.nextFile());
      if (this.#o.address === undefined || this.#pipeline === null) this.#pipeline?.play();
      else
        this.#ask(this.#o.address, () => {
          this.#pipeline?.set("net", "uri", this.#address!);
          this.#pipeline?.play();
        });
    }, this.#backOff.nextMs());
  }

  #set(state: SourceState, reason: string | null, detail?: string): void {
    this.#state = state;
    this.#reason = reason;
    this.#events.onState(this.status, detail);
  }
}

/** So a microphone or a camera that stops does not stop the other. */
function fillGap(track: Track | null, untilMs: number): void {
  if (track === null || track.config === null || untilMs - track.untilMs < GAP_MS) return;
  if (track.source.push(gdpGap(Math.max(0, track.untilMs), untilMs - track.untilMs))) track.untilMs = untilMs;
}

function push(track: Track, unit: VideoUnit | AacUnit): boolean {
  const { source } = track;
  if (!sameConfig(track.config, unit.config)) {
    if (track.config === null && !source.push(gdpStreamStart(unit.kind))) return false;
    if (!source.push(gdpCaps(capsOf(unit)))) return false;
    if (track.config === null && !source.push(gdpSegment())) return false;
    track.config = unit.config;
  }
  const times =
    unit.kind === "video"
      ? { ptsMs: Math.max(0, unit.ptsMs), dtsMs: Math.max(0, unit.dtsMs), delta: !unit.key }
      : { ptsMs: Math.max(0, unit.ptsMs) };
  return source.push(gdpBuffer(unit.data, times));
}

function capsOf(unit: VideoUnit | AacUnit): string {
  if (unit.kind === "aac") return rawAacCaps(unit.config);
  return `video/x-h264, stream-format=(string)avc, alignment=(string)au, codec_data=(buffer)${unit.config.toString("hex")}`;
}
