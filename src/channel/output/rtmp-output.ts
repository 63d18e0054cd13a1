import { BackOff, RETRY } from "../../backoff.js";
import { flvHeader, flvTag } from "../../transport/flv/tag.js";
import { rtmpSink } from "../../transport/gst/launch.js";
import { GstPipeline, type GstSource } from "../../transport/gst/pipeline.js";
import type { SourceState } from "../../transport/ipc/messages.js";
import type { OutputUnit } from "../units.js";
import { FlvMuxer } from "./flv-muxer.js";
import { KeyGate, type Output, type OutputEvents, type OutputStatus, publicUri } from "./output.js";

/** Two seconds of 16 Mbit/s. */
const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;
/** Each look costs the binding 32 bytes that it never frees. */
const LOOK_EVERY_MS = 1000;
/** A server that takes nothing for so long is connected to anew. */
const STUCK_MS = 8000;

/** Pushes to a remote RTMP server. FLV tags are made here; GStreamer only speaks the protocol. */
export class RtmpOutput implements Output {
  readonly #uri: string;
  readonly #events: OutputEvents;
  readonly #pipeline: GstPipeline;
  readonly #source: GstSource;
  readonly #gate = new KeyGate();
  readonly #backOff = new BackOff(RETRY);
  #muxer = new FlvMuxer();
  #state: SourceState = "connecting";
  #reason: string | null = null;
  #failures = 0;
  #retry: NodeJS.Timeout | null = null;
  #movedMs = 0;
  #headerSent = false;
  /** Bytes given to the source since it was connected, and how many of them the server had taken at the last look. */
  #given = 0;
  #taken = 0;
  /** Looks in a row at which it moved. */
  #moving = 0;
  #lookedMs = Number.NEGATIVE_INFINITY;

  /** @throws GstError when the address cannot be used at all */
  constructor(uri: string, events: OutputEvents) {
    this.#uri = uri;
    this.#events = events;
    this.#pipeline = new GstPipeline(rtmpSink(uri), {
      onFault: (fault) => this.#fail("SL_OUTPUT_FAILED", `${fault.element}: ${fault.message}`),
    });
    this.#source = this.#pipeline.source("in", MAX_BACKLOG_BYTES);
    this.#connect();
  }

  get status(): OutputStatus {
    return { uri: publicUri(this.#uri), state: this.#state, reason: this.#reason };
  }

  get waitsForKey(): boolean {
    // A key frame is the largest picture: no help for a line that is too slow.
    return this.#gate.waits && this.#state !== "stalled";
  }

  get counters(): Readonly<Record<string, number>> {
    return { output_units_dropped: this.#gate.dropped, output_failures: this.#failures };
  }

  write(unit: OutputUnit): void {
    if (this.#state === "back-off" || this.#state === "ended") {
      this.#gate.shut();
      this.#gate.dropped += 1;
      return;
    }
    this.#look();
    if (!this.#gate.passes(unit)) return;
    if (!this.#headerSent) this.#headerSent = this.#push(flvHeader());
    for (const tag of this.#muxer.tags(unit)) {
      if (this.#push(flvTag(tag))) continue;
      // It may have been a header: all of them are sent again with the next key frame.
      this.#muxer = new FlvMuxer();
      this.#gate.shut();
      return;
    }
  }

  #push(bytes: Buffer): boolean {
    if (!this.#source.push(bytes)) return false;
    this.#given += bytes.length;
    return true;
  }

  interrupted(): void {
    this.#gate.shut();
  }

  async close(): Promise<void> {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#state = "ended";
    this.#pipeline.close();
  }

  /** Live when the server takes bytes, stalled when it stops to, failed when it does for too long. */
  #look(): void {
    const now = performance.now();
    if (now - this.#lookedMs < LOOK_EVERY_MS) return;
    this.#lookedMs = now;
    const level = this.#source.levelBytes;
    // What was given and does not wait any more was taken. A level that grows all the same is a line that is too slow: it moves, and is not cut.
    const taken = this.#given - level;
    const moves = taken > this.#taken || (level === 0 && this.#headerSent);
    this.#taken = taken;
    this.#moving = moves ? this.#moving + 1 : 0;
    // Before a programme (or its next key frame) has begun nothing is there to be taken.
    if (moves || this.#given === 0) this.#movedMs = now;
    if (now - this.#movedMs > STUCK_MS) {
      this.#fail("SL_OUTPUT_STUCK", `nothing was taken for ${STUCK_MS / 1000} s`);
    } else if (level > MAX_BACKLOG_BYTES / 2) {
      if (this.#state === "live") this.#set("stalled", "SL_OUTPUT_SLOW");
    } else if (this.#moving > 1 && this.#state !== "live") {
      // Twice: a server that never answers is handed the first buffer, too.
      this.#backOff.reset();
      this.#set("live", null);
    }
  }

  #connect(): void {
    this.#muxer = new FlvMuxer();
    this.#gate.shut();
    this.#headerSent = false;
    this.#given = this.#taken = this.#moving = 0;
    this.#lookedMs = performance.now();
    this.#movedMs = performance.now();
    this.#set("connecting", null);
    this.#pipeline.play();
  }

  #fail(reason: string, detail: string): void {
    if (this.#state === "ended" || this.#state === "back-off") return;
    this.#failures += 1;
    this.#set("back-off", reason, detail);
    this.#pipeline.stop();
    this.#retry = setTimeout(() => this.#connect(), this.#backOff.next());
  }

  #set(state: SourceState, reason: string | null, detail?: string): void {
    this.#state = state;
    this.#reason = reason;
    this.#events.onState(this.status, detail);
  }
}
