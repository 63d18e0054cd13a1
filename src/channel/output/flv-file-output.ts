import { createWriteStream, type WriteStream } from "node:fs";
import { BackOff, RETRY } from "../../backoff.js";
import { flvHeader, flvTagParts } from "../../transport/flv/tag.js";
import type { SourceState } from "../../transport/ipc/messages.js";
import type { OutputUnit } from "../units.js";
import { FlvMuxer } from "./flv-muxer.js";
import { KeyGate, type Output, type OutputEvents, type OutputStatus } from "./output.js";

/** A slow disk may hold this much back. */
const MAX_BACKLOG_BYTES = 16 * 1024 * 1024;
/** A disk that took so much of a file is no longer full. */
const WORKS_BYTES = 1024 * 1024;

/** Writes our own FLV tags to a file: byte for byte what players get. */
export class FlvFileOutput implements Output {
  readonly #uri: string;
  readonly #nextFile: () => Promise<string>;
  readonly #events: OutputEvents;
  readonly #backOff = new BackOff(RETRY);
  #stream: WriteStream | null = null;
  #muxer = new FlvMuxer();
  readonly #gate = new KeyGate();
  #state: SourceState = "connecting";
  #reason: string | null = null;
  #failures = 0;
  #retry: NodeJS.Timeout | null = null;

  /** @param uri what is shown; @param nextFile path of the next attempt: what was recorded until a failure is not written over (`freePaths`) */
  constructor(uri: string, nextFile: () => Promise<string>, events: OutputEvents) {
    this.#uri = uri;
    this.#nextFile = nextFile;
    this.#events = events;
    this.#open();
  }

  get status(): OutputStatus {
    return { uri: this.#uri, state: this.#state, reason: this.#reason };
  }

  get waitsForKey(): boolean {
    return this.#gate.waits;
  }

  get counters(): Readonly<Record<string, number>> {
    return { output_units_dropped: this.#gate.dropped, output_failures: this.#failures };
  }

  write(unit: OutputUnit): void {
    const stream = this.#stream;
    if (this.#state === "ended") return;
    const isSlow = stream !== null && stream.writableLength > MAX_BACKLOG_BYTES;
    if (isSlow && this.#state === "live") this.#set("stalled", "SL_OUTPUT_SLOW");
    else if (this.#state === "stalled" && stream !== null && stream.writableLength < MAX_BACKLOG_BYTES / 2)
      this.#set("live", null);
    if (stream === null || isSlow) {
      // Not even a key frame, or sound without pictures: a disk that is stuck takes nothing at all.
      this.#gate.refuse(unit);
      return;
    }
    if (!this.#gate.passes(unit)) return;
    if (stream.bytesWritten > WORKS_BYTES) this.#backOff.reset();
    for (const tag of this.#muxer.tags(unit)) for (const part of flvTagParts(tag)) stream.write(part);
  }

  interrupted(): void {
    this.#gate.shut();
  }

  async close(): Promise<void> {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#state = "ended";
    const stream = this.#stream;
    if (stream === null) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1000);
      stream.end(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #open(): void {
    this.#nextFile().then(
      (path) => {
        if (this.#state !== "ended") this.#begin(path);
      },
      (error: Error) => this.#fail(null, error.message),
    );
  }

  #begin(path: string): void {
    // An empty file of an attempt that came to nothing is gone on with.
    const stream = createWriteStream(path, { flags: "a" });
    this.#stream = stream;
    this.#muxer = new FlvMuxer();
    this.#gate.shut();
    stream.on("open", () => {
      if (this.#stream === stream && this.#state !== "ended") this.#set("live", null);
    });
    stream.on("error", (error) => this.#fail(stream, error.message));
    stream.write(flvHeader());
  }

  /** @param stream the one that failed; null: there was no path for one */
  #fail(stream: WriteStream | null, detail: string): void {
    if (this.#stream !== stream || this.#state === "ended") return;
    this.#stream = null;
    this.#failures += 1;
    this.#set("back-off", "SL_OUTPUT_FAILED", detail);
    this.#retry = setTimeout(() => this.#open(), this.#backOff.next());
  }

  #set(state: SourceState, reason: string | null, detail?: string): void {
    this.#state = state;
    this.#reason = reason;
    this.#events.onState(this.status, detail);
  }
}
