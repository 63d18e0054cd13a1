import { connect, type Socket } from "node:net";
import { encodeFrame, FrameReader } from "../../transport/ipc/frame.js";
import type { StreamCard } from "../card.js";
import {
  type Detection,
  type Inference,
  InferenceError,
  type StepRequest,
  type StepResult,
  VOICE_SAMPLES,
} from "../inference.js";
import {
  bytesOf,
  decodeFloats,
  decodeGains,
  encodeStep,
  type FromChild,
  fromChild,
  helloOf,
  ProtocolError,
  type ToChild,
} from "./protocol.js";

export type RemoteOptions = {
  /** Path of the inference child's Unix socket. */
  readonly socket: string;
  /** Card of the model that the child must run. */
  readonly card: StreamCard;
  /** How long the answer to a step (a detection, a voice memory) is of use; the child serves earlier deadlines first. Milliseconds. */
  readonly stepDeadlineMs?: number;
  readonly detectDeadlineMs?: number;
  readonly rememberDeadlineMs?: number;
  /** A request without an answer after this is given up. Milliseconds. */
  readonly timeoutMs?: number;
  /** Waits between attempts to connect: doubled from the first to the last. Milliseconds. */
  readonly firstRetryMs?: number;
  readonly lastRetryMs?: number;
  /** Called when the child becomes reachable or unreachable. Must not throw. */
  readonly onConnection?: (up: boolean) => void;
};

type Pending = {
  /** Track of a step, whose state is unknown when the step fails. */
  readonly track: string | null;
  readonly timer: NodeJS.Timeout;
  readonly settle: (answer: FromChild, payload: Buffer) => void;
  readonly reject: (error: InferenceError) => void;
};

/** Requests and bytes that may wait for the child. */
const MAX_PENDING = 64;
const MAX_UNSENT_BYTES = 32 * 1024 * 1024;

/**
 * The inference child as seen by a channel. Connects by itself and again after the child was restarted. While it is away everything is
 * refused with SL_INFERENCE_DOWN at once; afterwards (and after any step that failed) a step of a track is refused with
 * SL_INFERENCE_STATE_LOST until one with `reset` is asked for.
 */
export class RemoteInference implements Inference {
  readonly card: StreamCard;
  readonly counters = { connects: 0, timeouts: 0, refused: 0 };
  readonly #o: Required<Omit<RemoteOptions, "onConnection" | "card">>;
  readonly #pending = new Map<number, Pending>();
  /** Tracks whose state the child has, of this connection, and the newest step asked of each. */
  readonly #alive = new Map<string, number>();
  readonly #onConnection: (up: boolean) => void;
  #socket: Socket | null = null;
  #up = false;
  /** Set when the child runs another model: no use in asking. */
  #mismatch: string | null = null;
  #retry: NodeJS.Timeout | null = null;
  #retryMs: number;
  #nextId = 1;
  #closed = false;
  #waiters: (() => void)[] = [];

  constructor(options: RemoteOptions) {
    const { onConnection, card, ...rest } = options;
    this.card = card;
    this.#onConnection = onConnection ?? (() => {});
    this.#o = {
      stepDeadlineMs: 1000,
      detectDeadlineMs: 1000,
      rememberDeadlineMs: 2500,
      timeoutMs: 3000,
      firstRetryMs: 50,
      lastRetryMs: 1000,
      ...rest,
    };
    this.#retryMs = this.#o.firstRetryMs;
    this.#connect();
  }

  get connected(): boolean {
    return this.#up;
  }

  /** Resolves with true once the child is reachable, with false after the time-out or when closed. */
  whenConnected(timeoutMs: number): Promise<boolean> {
    if (this.#up || this.#closed) return Promise.resolve(this.#up);
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters = this.#waiters.filter((w) => w !== done);
        resolve(this.#up);
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiters.push(done);
    });
  }

  async step(request: StepRequest): Promise<StepResult> {
    const track = trackKey(request.session, request.track);
    this.#checkUp();
    const of = request.soundOf ?? request.track;
    if (!request.reset && !this.#alive.has(trackKey(request.session, of))) {
      throw new InferenceError("SL_INFERENCE_STATE_LOST", `no state of track ${of}: run it with reset first`);
    }
    const id = this.#nextId++;
    const { header, payload } = encodeStep(request, id, this.#o.stepDeadlineMs);
    this.#alive.set(track, id);
    return this.#ask<StepResult>(header, payload, track, (answer, gains) =>
      answer.t === "gains" ? decodeGains(answer, gains) : null,
    );
  }

  /** As in `Inference`; of one session one may wait: asked again meanwhile, the older one is answered SL_INFERENCE_LATE. */
  async remember(session: string, samples: Float32Array): Promise<Float32Array> {
    this.#checkUp();
    const { min, max } = VOICE_SAMPLES;
    if (samples.length < min || samples.length > max)
      throw new InferenceError("SL_INFERENCE_FAILED", `${samples.length} samples cannot make a voice memory`);
    const header = { t: "remember" as const, id: this.#nextId++, session, deadlineMs: this.#o.rememberDeadlineMs };
    return this.#ask<Float32Array>(header, bytesOf(samples), null, (answer, payload) => {
      if (answer.t !== "memory") return null;
      const memory = decodeFloats(payload);
      return memory.length === this.card.memorySize ? memory : null;
    });
  }

  async detectFaces(rgb: Uint8Array, side: number): Promise<readonly Detection[]> {
    this.#checkUp();
    const header = { t: "detect" as const, id: this.#nextId++, side, deadlineMs: this.#o.detectDeadlineMs };
    return this.#ask<readonly Detection[]>(header, rgb, null, (answer) => (answer.t === "faces" ? answer.faces : null));
  }

  forget(session: string, track?: number): void {
    for (const key of [...this.#alive.keys()]) if (isTrackOf(key, session, track)) this.#alive.delete(key);
    if (this.#up) this.#send({ t: "forget", session, ...(track === undefined ? {} : { track }) });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#retry) clearTimeout(this.#retry);
    const socket = this.#socket;
    const gone = socket && !socket.closed ? new Promise((resolve) => socket.once("close", resolve)) : null;
    socket?.destroy();
    this.#rejectAll("closed");
    for (const wake of [...this.#waiters]) wake();
    await gone;
  }

  // ---- requests ----------------------------------------------------------------------------------------------------------

  #checkUp(): void {
    if (this.#mismatch) throw new InferenceError("SL_MODEL_INVALID", this.#mismatch);
    if (!this.#up) throw new InferenceError("SL_INFERENCE_DOWN", "the inference process is not reachable");
    if (this.#pending.size >= MAX_PENDING || (this.#socket?.writableLength ?? 0) > MAX_UNSENT_BYTES) {
      this.counters.refused++;
      throw new InferenceError("SL_INFERENCE_LATE", `${this.#pending.size} requests wait for the inference process`);
    }
  }

  /** @param read null when the answer is of the wrong kind */
  #ask<T>(
    header: Exclude<ToChild, { t: "forget" }>,
    payload: Uint8Array,
    track: string | null,
    read: (answer: FromChild, payload: Buffer) => T | null,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.counters.timeouts++;
        this.#fail(header.id, new InferenceError("SL_INFERENCE_LATE", `no answer within ${this.#o.timeoutMs} ms`));
      }, this.#o.timeoutMs);
      const settle = (answer: FromChild, bytes: Buffer): void => {
        const value = read(answer, bytes);
        if (value === null) throw new ProtocolError(`a ${answer.t} answers a ${header.t}`);
        clearTimeout(timer);
        this.#pending.delete(header.id);
        resolve(value);
      };
      this.#pending.set(header.id, { track, timer, settle, reject });
      this.#send(header, payload);
    });
  }

  #send(header: ToChild, payload?: Uint8Array): void {
    this.#socket?.write(encodeFrame(header, payload));
  }

  #fail(id: number, error: InferenceError): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    clearTimeout(pending.timer);
    this.#pending.delete(id);
    // Unless a newer step was asked for meanwhile: its own answer will tell whether the state is right.
    if (pending.track !== null && this.#alive.get(pending.track) === id) this.#alive.delete(pending.track);
    pending.reject(error);
  }

  #rejectAll(why: string): void {
    for (const id of [...this.#pending.keys()]) {
      this.#fail(id, new InferenceError("SL_INFERENCE_DOWN", `the connection to the inference process: ${why}`));
    }
    this.#alive.clear();
  }

  // ---- connection --------------------------------------------------------------------------------------------------------

  #connect(): void {
    this.#retry = null;
    const socket = connect(this.#o.socket);
    this.#socket = socket;
    const reader = new FrameReader<unknown>();
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      if (socket.destroyed) return;
      try {
        for (const frame of reader.push(chunk)) {
          const header = fromChild.safeParse(frame.header);
          if (!header.success) throw new ProtocolError("not an answer");
          this.#answer(header.data, frame.payload);
        }
      } catch {
        // Whatever it was (frame or protocol), the position in the stream cannot be trusted any more.
        socket.destroy();
      }
    });
    socket.on("close", () => {
      const wasUp = this.#up;
      this.#up = false;
      this.#rejectAll("lost");
      if (wasUp) this.#onConnection(false);
      if (this.#closed) return;
      this.#retry = setTimeout(() => this.#connect(), this.#retryMs);
      this.#retryMs = Math.min(this.#o.lastRetryMs, 2 * this.#retryMs);
    });
  }

  /** @throws ProtocolError */
  #answer(answer: FromChild, payload: Buffer): void {
    if (answer.t === "hello") {
      const mine = helloOf(this.card);
      this.#retryMs = this.#o.firstRetryMs;
      this.#mismatch =
        answer.sha256 === mine.sha256
          ? null
          : `the inference process runs ${answer.name} ${answer.version} (another file), not ${mine.name} ${mine.version}`;
      if (this.#up) return;
      this.#up = true;
      this.counters.connects++;
      for (const wake of [...this.#waiters]) wake();
      this.#onConnection(true);
      return;
    }
    // An answer nobody waits for any more came after its time-out.
    const pending = this.#pending.get(answer.id);
    if (!pending) return;
    if (answer.t === "error") this.#fail(answer.id, new InferenceError(answer.code, answer.message));
    else pending.settle(answer, payload);
  }
}

const trackKey = (session: string, track: number): string => `${track} ${session}`;
const isTrackOf = (key: string, session: string, track: number | undefined): boolean =>
  track === undefined ? key.slice(key.indexOf(" ") + 1) === session : key === trackKey(session, track);
