import { type GdpPacket, GdpReader } from "../gdp/gdp.js";
import { loadNative, type NativeBusMessage, type NativeElement, type NativePipeline } from "./native.js";

/** Threads of libuv that a channel's pulls and bus polls can hold at once; must be in the environment before Node starts. */
export const UV_THREADS = 32;

const STALE_FAULT_MS = 200;
const PULL_AGAIN_MS = 20;

export type GstFault = { readonly element: string; readonly message: string };

export class GstError extends Error {
  override readonly name = "GstError";
  constructor(
    readonly code: "SL_GST_LAUNCH" | "SL_GST_CLOSED",
    message: string,
  ) {
    super(message);
  }
}

export type GstEvents = {
  /** An element failed; the pipeline delivers nothing more and should be restarted or closed. */
  readonly onFault?: (fault: GstFault) => void;
  /** An element that goes on by itself says that something is not as it should be. */
  readonly onWarning?: (element: string) => void;
  /** End of stream reached every sink. */
  readonly onEnd?: () => void;
};

type Sink = {
  readonly element: NativeElement;
  readonly onPacket: (packet: GdpPacket) => void;
  readonly onEnd: () => void;
  readonly mayPull: (() => boolean) | undefined;
  /** A pull is out; it holds a thread of libuv until it gives something. */
  pulling: boolean;
};

/**
 * One GStreamer pipeline. Keeps the rules of the binding: children are looked up once, pull follows play, only Buffers are pushed,
 * nothing blocks the JavaScript thread, and the bus poll ends with the pipeline.
 *
 * States: new -> playing <-> stopped -> closed. A stopped pipeline may play again (the binding never frees a pipeline, so a failing
 * output restarts the one it has instead of making new ones). Every pipeline must be stopped before the process exits.
 */
export class GstPipeline {
  readonly #native: NativePipeline;
  readonly #sources = new Map<string, GstSource>();
  readonly #sinks = new Map<string, Sink>();
  readonly #events: GstEvents;
  #state: "new" | "playing" | "stopped" | "closed" = "new";
  /** Grows with each play; callbacks of an earlier run are ignored. */
  #run = 0;
  /** False until the bus has handed out what an earlier run left in it (its last errors would look like new ones). */
  #busIsFresh = true;
  #faulted = false;
  /** The end counts when the bus says it and every appsink has handed out its last packet. */
  #busEnded = false;
  #sinksEnded = 0;
  /** Key frames that were asked for: requests are numbered. */
  #keyFrames = 0;
  /** play() was called, but pulls of the run before are still out. They would take the new run's first packets (its caps) with them. */
  #waits = false;
  #endsAtOnce = false;

  /** @throws GstError SL_GST_LAUNCH with GStreamer's own sentence. */
  constructor(launch: string, events: GstEvents = {}) {
    this.#events = events;
    try {
      this.#native = new (loadNative().Pipeline)(launch);
    } catch (error) {
      throw new GstError("SL_GST_LAUNCH", `${error instanceof Error ? error.message : String(error)} in: ${launch}`);
    }
    // With the automatic flush, a poll that waits when stop() is called is never woken and holds its thread for ever
    // (and process.exit with it). Without it, the state-changed messages of stop() wake it up.
    this.#native["auto-flush-bus"] = false;
    live.add(this);
  }

  /** The appsrc called `name`. `maxBytes` bounds what waits inside it. */
  source(name: string, maxBytes: number): GstSource {
    const known = this.#sources.get(name);
    if (known !== undefined) return known;
    const made = new GstSource(this.#child(name), maxBytes, () =>
      this.#state !== "playing" ? "stopped" : this.#waits ? "starting" : "playing",
    );
    this.#sources.set(name, made);
    return made;
  }

  /** Delivers the GDP packets of the appsink called `name` (which must follow a gdppay), and the end of its stream. Call before play.
   * While `mayPull` says no, nothing is taken: what waits stays in the appsink (without max-buffers without bound) or, where that is full,
   * in the queue in front of it, or leaks from there. */
  sink(
    name: string,
    onPacket: (packet: GdpPacket) => void,
    onEnd: () => void = () => {},
    mayPull?: () => boolean,
  ): void {
    this.#sinks.set(name, { element: this.#child(name), onPacket, onEnd, mayPull, pulling: false });
  }

  /** What is pushed from now on is taken. After stop(), the native pipeline follows as soon as the last reader of the run before is back. */
  play(): void {
    if (this.#state === "closed") throw new GstError("SL_GST_CLOSED", "play() on a closed pipeline");
    if (this.#state === "playing") return;
    this.#state = "playing";
    this.#run += 1;
    this.#busIsFresh = this.#run === 1;
    this.#faulted = false;
    this.#busEnded = false;
    this.#sinksEnded = 0;
    this.#waits = true;
    this.#endsAtOnce = false;
    this.#startWhenFree();
  }

  #startWhenFree(): void {
    if (!this.#waits || [...this.#sinks.values()].some((sink) => sink.pulling)) return;
    this.#waits = false;
    this.#native.play();
    this.#native.pollBus((message) => {
      if (this.#state === "playing") this.#onMessage(message);
    });
    for (const source of this.#sources.values()) source.flush();
    for (const sink of this.#sinks.values()) this.#pump(sink, this.#run);
    if (this.#endsAtOnce) this.sendEnd();
  }

  /** Sets a text property of the element called `name`; of most (a file's location) only while the pipeline does not play. */
  set(name: string, property: string, value: string): void {
    this.#child(name)[property] = value;
  }

  /** A property of the element called `name` as text; the binding does not free what it makes of structures and 64-bit numbers. */
  text(name: string, property: string): string {
    return String(this.#child(name)[property] ?? "");
  }

  /** Asks the encoder in front of the appsink called `name` (one that `sink` was called for) for a key frame. */
  forceKeyFrame(name: string): void {
    // A run that has not begun begins with a key frame.
    if (this.#state !== "playing" || this.#waits || !this.#sinks.has(name)) return;
    this.#keyFrames += 1;
    this.#native.forceKeyUnit(name, this.#keyFrames);
  }

  /** Ends the stream from its sources on; `onEnd` follows when muxers have written their last byte. */
  sendEnd(): void {
    if (this.#state !== "playing") return;
    if (this.#waits) this.#endsAtOnce = true;
    else this.#native.sendEOS();
  }

  /** Stops at once. Idempotent. What was on its way is lost. */
  stop(): void {
    if (this.#state !== "playing") return;
    this.#state = "stopped";
    if (!this.#waits) this.#native.stop();
    this.#waits = false;
    for (const source of this.#sources.values()) source.forget();
  }

  close(): void {
    this.stop();
    this.#state = "closed";
    live.delete(this);
  }

  #child(name: string): NativeElement {
    const element = this.#native.findChild(name);
    if (element === undefined) throw new GstError("SL_GST_LAUNCH", `no element is called ${name}`);
    return element;
  }

  #onMessage(message: NativeBusMessage): void {
    if (message.type === "state-changed" && message["old-state"] === "GST_STATE_NULL") this.#busIsFresh = true;
    if (message.type === "eos" && this.#busIsFresh) {
      this.#busEnded = true;
      this.#checkEnd();
    }
    if (message.type === "warning") this.#events.onWarning?.(String(message._src_element_name ?? "?"));
    if (message.type !== "error") return;
    const fault = {
      element: String(message._src_element_name ?? "?"),
      message: String(message.message ?? "unknown error"),
    };
    if (this.#busIsFresh) {
      this.#onFault(fault);
      return;
    }
    // Left over from the run before, unless nothing else follows: then this run failed in its very first state change.
    const run = this.#run;
    setTimeout(() => {
      if (run === this.#run && !this.#busIsFresh) this.#onFault(fault);
    }, STALE_FAULT_MS).unref();
  }

  #checkEnd(): void {
    // The end of the last sink may have made the consumer stop the pipeline.
    if (this.#state !== "playing" || this.#faulted) return;
    if (this.#busEnded && this.#sinksEnded === this.#sinks.size) this.#events.onEnd?.();
  }

  /** One fault a run: the elements around a failed one report "Internal data stream error" after it. */
  #onFault(fault: GstFault): void {
    if (this.#faulted || this.#state !== "playing") return;
    this.#faulted = true;
    this.#events.onFault?.(fault);
  }

  #pump(sink: Sink, run: number): void {
    const { element, onPacket, onEnd, mayPull } = sink;
    // One reader per run: a stopped pipeline may have cut a packet in two.
    const reader = new GdpReader();
    const onData = (data: Buffer | null | undefined): void => {
      sink.pulling = false;
      if (run !== this.#run || this.#state !== "playing") {
        this.#startWhenFree();
        return;
      }
      if (!Buffer.isBuffer(data)) {
        this.#sinksEnded += 1;
        onEnd();
        this.#checkEnd();
        return;
      }
      try {
        for (const packet of reader.push(data)) onPacket(packet);
      } catch (error) {
        this.#onFault({ element: "gdp", message: error instanceof Error ? error.message : String(error) });
        return;
      }
      pullNext();
    };
    const pullNext = (): void => {
      // The consumer may have stopped the pipeline.
      if (run !== this.#run || this.#state !== "playing") return;
      if (mayPull !== undefined && !mayPull()) {
        setTimeout(pullNext, PULL_AGAIN_MS).unref();
        return;
      }
      sink.pulling = true;
      element.pull?.(onData);
    };
    pullNext();
  }
}

/** An appsrc. Counts what it refuses; `push` never blocks (the launch string must not set block=true). */
export class GstSource {
  /** Buffers refused because `maxBytes` were waiting already. */
  dropped = 0;
  readonly #element: NativeElement;
  readonly #maxBytes: number;
  readonly #state: () => "stopped" | "starting" | "playing";
  /** Pushed while the pipeline was starting: an appsrc that does not play yet loses what it gets. */
  #early: Buffer[] = [];
  /** At least what waits: the level when it was last asked for, and all that was pushed since. */
  #atMost = 0;

  constructor(element: NativeElement, maxBytes: number, state: () => "stopped" | "starting" | "playing") {
    this.#element = element;
    this.#maxBytes = maxBytes;
    this.#state = state;
  }

  /**
   * Bytes waiting inside the appsrc, or for it to play. Not to be asked for with every unit: the binding makes a text of this 64-bit
   * number and never frees it, 32 bytes a time.
   */
  get levelBytes(): number {
    if (this.#state() === "starting") return this.#early.reduce((sum, data) => sum + data.length, 0);
    this.#atMost = Number(this.#element["current-level-bytes"]);
    return this.#atMost;
  }

  /** False when the buffer was refused: the source is full or the pipeline does not play. */
  push(data: Buffer): boolean {
    // The binding reads the memory of any object as if it were a Buffer.
    if (!Buffer.isBuffer(data)) throw new TypeError("GstSource.push takes a Buffer");
    const state = this.#state();
    if (data.length === 0 || state === "stopped") return false;
    if (this.#atMost + data.length > this.#maxBytes && this.levelBytes + data.length > this.#maxBytes) {
      this.dropped += 1;
      return false;
    }
    this.#atMost += data.length;
    if (state === "starting") this.#early.push(data);
    else this.#element.push?.(data);
    return true;
  }

  /** The pipeline plays now. */
  flush(): void {
    const early = this.#early;
    this.#early = [];
    for (const data of early) this.#element.push?.(data);
  }

  /** The pipeline was stopped before it played. */
  forget(): void {
    this.#early = [];
  }
}

const live = new Set<GstPipeline>();

/** For the end of a process: stops every pipeline that is still open, so that no blocked pull can hold the exit. */
export function stopAllPipelines(): void {
  for (const pipeline of [...live]) pipeline.close();
}
