import { BackOff, RETRY_LOCAL } from "../backoff.js";
import { type GdpPacket, gdpCaps, gdpSegment, gdpStreamStart } from "../transport/gdp/gdp.js";
import { type GstFault, GstPipeline, type GstSource } from "../transport/gst/pipeline.js";

export type StageEvents = { readonly onFault: (fault: GstFault) => void };

/** A decoding or re-encoding pipeline (source `in`, sink `out`) that is fed by GDP and started again (after a pause) when it fails. */
export class CodecStage {
  faults = 0;
  readonly #pipeline: GstPipeline;
  readonly #source: GstSource;
  readonly #id: string;
  readonly #backOff = new BackOff(RETRY_LOCAL);
  #caps: string | null = null;
  #retry: NodeJS.Timeout | null = null;
  #playing = false;

  constructor(
    launch: string,
    id: string,
    maxBytes: number,
    onPacket: (packet: GdpPacket) => void,
    events: StageEvents,
    mayPull?: () => boolean,
  ) {
    this.#id = id;
    this.#pipeline = new GstPipeline(launch, {
      onFault: (fault) => {
        this.faults += 1;
        events.onFault(fault);
        this.#restartLater();
      },
    });
    this.#source = this.#pipeline.source("in", maxBytes);
    const onOut = (packet: GdpPacket): void => {
      if (packet.kind === "buffer") this.#backOff.reset();
      onPacket(packet);
    };
    this.#pipeline.sink("out", onOut, undefined, mayPull);
    this.#play();
  }

  /** Bytes that wait for the decoder. */
  get levelBytes(): number {
    return this.#source.levelBytes;
  }

  /** False when it was refused (full, or the pipeline is being restarted). */
  push(caps: string, buffer: Buffer): boolean {
    if (!this.#playing) return false;
    if (caps !== this.#caps) {
      const fresh = this.#caps === null;
      if (fresh && !this.#source.push(gdpStreamStart(this.#id))) return false;
      if (!this.#source.push(gdpCaps(caps))) return false;
      if (fresh && !this.#source.push(gdpSegment())) return false;
      this.#caps = caps;
    }
    return this.#source.push(buffer);
  }

  /** Begins anew: what is on its way is lost. Nothing happens while it waits after a fault. */
  restart(): void {
    if (!this.#playing) return;
    this.#pipeline.stop();
    this.#play();
  }

  /** Asks the encoder in the pipeline for a key frame. */
  forceKeyFrame(): void {
    this.#pipeline.forceKeyFrame("out");
  }

  close(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#playing = false;
    this.#pipeline.close();
  }

  #play(): void {
    this.#caps = null;
    this.#pipeline.play();
    this.#playing = true;
  }

  #restartLater(): void {
    this.#playing = false;
    this.#pipeline.stop();
    this.#retry = setTimeout(() => this.#play(), this.#backOff.next());
  }
}
