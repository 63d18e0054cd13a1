import { connect, type Socket } from "node:net";
import { encodeFrame, FrameReader } from "../../transport/ipc/frame.js";
import type { AnyCard } from "../card.js";
import { InferenceError } from "../inference.js";
import { type FromChild, fromChild, helloOf, ProtocolError, type ToChild } from "./protocol.js";

export type ConnectionOptions<C extends AnyCard> = {
  /** Path of the inference child's Unix socket. */
  readonly socket: string;
  /** Card of the model that the child must run. */
  readonly card: C;
  /** A request without an answer after this is given up. Milliseconds, default 3000. */
  readonly timeoutMs?: number;
  /** Waits between attempts to connect: doubled from the first to the last. Milliseconds, default 50 and 1000. */
  readonly firstRetryMs?: number;
  readonly lastRetryMs?: number;
  /** Called when the child becomes reachable or unreachable; `mismatch`: it runs another model, and everything will be refused. Must not throw. */
  readonly onConnection?: (up: boolean, mismatch: string | null) => void;
};

type Pending = {
  readonly timer: NodeJS.Timeout;
  readonly settle: (answer: FromChild, payload: Buffer) => void;
  readonly fail: (error: InferenceError) => void;
};

/** Requests and bytes that may wait for the child. */
const MAX_PENDING = 64;
const MAX_UNSENT_BYTES = 32 * 1024 * 1024;

/**
 * A channel's connection to the inference child. Connects by itself and again after the child was restarted. While it is away everything is
 * refused with SL_INFERENCE_DOWN at once; when the child runs another model than `card`, with SL_MODEL_INVALID.
 */
export class InferenceConnection<C extends AnyCard> {
  readonly card: C;
  readonly counters = { connects: 0, timeouts: 0, refused: 0 };
  readonly #o: Required<Pick<ConnectionOptions<C>, "socket" | "timeoutMs" | "firstRetryMs" | "lastRetryMs">>;
  readonly #pending = new Map<number, Pending>();
  readonly #onConnection: (up: boolean, mismatch: string | null) => void;
  #socket: Socket | null = null;
  #up = false;
  /** Set when the child runs another model: no use in asking. */
  #mismatch: string | null = null;
  #retry: NodeJS.Timeout | null = null;
  #retryMs: number;
  #nextId = 1;
  #closed = false;
  #waiters: (() => void)[] = [];

  constructor({ card, onConnection, ...rest }: ConnectionOptions<C>) {
    this.card = card;
    this.#onConnection = onConnection ?? (() => {});
    this.#o = { timeoutMs: 3000, firstRetryMs: 50, lastRetryMs: 1000, ...rest };
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

  // ---- for the kinds of models -------------------------------------------------------------------------------------------

  /** What the child knew of us is gone. */
  protected lost(): void {}

  /** Throws InferenceError when nothing can be asked now. */
  protected checkUp(): void {
    if (this.#mismatch) throw new InferenceError("SL_MODEL_INVALID", this.#mismatch);
    if (!this.#up) throw new InferenceError("SL_INFERENCE_DOWN", "the inference process is not reachable");
    if (this.#pending.size >= MAX_PENDING || (this.#socket?.writableLength ?? 0) > MAX_UNSENT_BYTES) {
      this.counters.refused++;
      throw new InferenceError("SL_INFERENCE_LATE", `${this.#pending.size} requests wait for the inference process`);
    }
  }

  protected nextId(): number {
    return this.#nextId++;
  }

  /** @param read null when the answer is of the wrong kind; @param onFailed called before the promise is rejected */
  protected ask<T>(
    header: Exclude<ToChild, { t: "forget" }>,
    payload: Uint8Array,
    read: (answer: FromChild, payload: Buffer) => T | null,
    onFailed: () => void = () => {},
  ): Promise<T> {
    // What is too large for a frame is the caller's fault, and nothing waits for it.
    const frame = encodeFrame(header, payload);
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
      const fail = (error: InferenceError): void => {
        clearTimeout(timer);
        this.#pending.delete(header.id);
        onFailed();
        reject(error);
      };
      this.#pending.set(header.id, { timer, settle, fail });
      this.#socket?.write(frame);
    });
  }

  /** What has no answer; nothing while the child is away. */
  protected tell(header: Extract<ToChild, { t: "forget" }>): void {
    if (this.#up) this.#socket?.write(encodeFrame(header));
  }

  #fail(id: number, error: InferenceError): void {
    this.#pending.get(id)?.fail(error);
  }

  #rejectAll(why: string): void {
    for (const id of [...this.#pending.keys()]) {
      this.#fail(id, new InferenceError("SL_INFERENCE_DOWN", `the connection to the inference process: ${why}`));
    }
    this.lost();
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
      if (wasUp) this.#onConnection(false, null);
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
      this.#onConnection(true, this.#mismatch);
      return;
    }
    // An answer nobody waits for any more came after its time-out.
    const pending = this.#pending.get(answer.id);
    if (!pending) return;
    if (answer.t === "error") this.#fail(answer.id, new InferenceError(answer.code, answer.message));
    else pending.settle(answer, payload);
  }
}
