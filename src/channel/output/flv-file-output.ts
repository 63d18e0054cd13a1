import { createWriteStream, type WriteStream } from "node:fs";
import { flvHeader, flvTagParts } from "../../transport/flv/tag.js";
import type { SourceState } from "../../transport/ipc/messages.js";
import type { OutputUnit } from "../units.js";
import { FlvMuxer } from "./flv-muxer.js";
import { KeyGate, type Output, type OutputEvents, type OutputStatus } from "./output.js";

/** A slow disk may hold this much back. */
const MAX_BACKLOG_BYTES = 16 * 1024 * 1024;

/** Writes our own FLV tags to a file: byte for byte what players get. */
export class FlvFileOutput implements Output {
  readonly #path: string;
  readonly #events: OutputEvents;
  readonly #stream: WriteStream;
  readonly #muxer = new FlvMuxer();
  readonly #gate = new KeyGate();
  #state: SourceState = "connecting";
  #reason: string | null = null;
  #failures = 0;

  /** @param path must not exist (`freePath`) */
  constructor(path: string, events: OutputEvents) {
    this.#path = path;
    this.#events = events;
    this.#stream = createWriteStream(path, { flags: "wx" });
    this.#stream.on("open", () => this.#set("live", null));
    this.#stream.on("error", (error) => {
      this.#failures += 1;
      this.#set("ended", "SL_OUTPUT_FAILED", error.message);
    });
    this.#stream.write(flvHeader());
  }

  get status(): OutputStatus {
    return { uri: `file://${this.#path}`, state: this.#state, reason: this.#reason };
  }

  get counters(): Readonly<Record<string, number>> {
    return { output_units_dropped: this.#gate.dropped, output_failures: this.#failures };
  }

  write(unit: OutputUnit): void {
    if (this.#state === "ended") return;
    if (this.#stream.writableLength > MAX_BACKLOG_BYTES) this.#gate.shut();
    if (!this.#gate.passes(unit)) return;
    for (const tag of this.#muxer.tags(unit)) for (const part of flvTagParts(tag)) this.#stream.write(part);
  }

  interrupted(): void {
    this.#gate.shut();
  }

  async close(): Promise<void> {
    if (this.#state === "ended") return;
    this.#state = "ended";
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1000);
      this.#stream.end(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #set(state: SourceState, reason: string | null, detail?: string): void {
    this.#state = state;
    this.#reason = reason;
    this.#events.onState(this.status, detail);
  }
}
