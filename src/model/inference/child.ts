import { createServer, type Server, type Socket } from "node:net";
import { encodeFrame, FrameReader } from "../../transport/ipc/frame.js";
import { type AnyInference, type Inference, InferenceError, isWindowed, type WindowInference } from "../inference.js";
import {
  bytesOf,
  decodeFloats,
  decodeStep,
  encodeGains,
  errorHeader,
  type FromChild,
  finiteFaces,
  helloOf,
  ProtocolError,
  type ToChild,
  toChild,
} from "./protocol.js";
import { JobQueue, type Waiting } from "./queue.js";
import { decodeWindow, encodeAnswer } from "./window-frames.js";

type Job = Waiting & { readonly id: number; readonly connection: Connection; readonly run: () => Promise<void> };

/** Channels at once, sessions of one of them, and bytes that one may leave unread. */
const MAX_CONNECTIONS = 64;
const MAX_SESSIONS = 256;
const MAX_UNREAD_BYTES = 16 * 1024 * 1024;
/** Steps or windows that the percentiles look back at. */
const TIMES = 512;

export type ServerEvents = { readonly onFault?: (message: string) => void };

/**
 * Serves one `Inference` to many channels over a Unix socket: one job at a time, earliest deadline first, at most one waiting per
 * connection and track. What is pushed out or too late is answered SL_INFERENCE_LATE. States of a connection end with it.
 */
export class InferenceServer {
  readonly counters = {
    steps: 0,
    windows: 0,
    detections: 0,
    memories: 0,
    jobs_late: 0,
    jobs_replaced: 0,
    jobs_failed: 0,
    connections: 0,
    connections_malformed: 0,
  };
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  readonly #queue = new JobQueue<Job>();
  readonly #times: number[] = [];
  #working: Promise<void> | null = null;
  #nextClient = 1;

  constructor(
    private readonly inference: AnyInference,
    private readonly events: ServerEvents = {},
  ) {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** @param path of the Unix socket; nothing may be there yet */
  listen(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, () => {
        this.#server.off("error", reject);
        this.#server.on("error", (e) => this.events.onFault?.(e.message));
        resolve();
      });
    });
  }

  /** Closes all connections; a job under way is finished first. The inference is left to its owner. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.socket.destroy();
    await this.#working;
    await closed;
  }

  /** Jobs that wait for the engine, without the one that runs. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** Milliseconds in the engine, of the last steps or windows; null before the first. */
  get stepMs(): { p50: number; p95: number } | null {
    if (this.#times.length === 0) return null;
    const sorted = [...this.#times].sort((a, b) => a - b);
    const at = (p: number): number => sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))]!;
    return { p50: at(0.5), p95: at(0.95) };
  }

  #accept(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    if (this.#connections.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return;
    }
    const connection: Connection = { client: this.#nextClient++, socket, sessions: new Set() };
    this.#connections.add(connection);
    this.counters.connections++;
    const reader = new FrameReader<unknown>();
    socket.on("data", (chunk) => {
      if (socket.destroyed) return;
      try {
        for (const frame of reader.push(chunk)) {
          const header = toChild.safeParse(frame.header);
          if (!header.success) throw new ProtocolError(`not a request: ${header.error.issues[0]?.message ?? ""}`);
          this.#request(connection, header.data, frame.payload);
        }
      } catch (e) {
        this.counters.connections_malformed++;
        this.events.onFault?.(`a connection was closed: ${e instanceof Error ? e.message : String(e)}`);
        socket.destroy();
      }
    });
    socket.on("close", () => {
      this.#connections.delete(connection);
      this.#queue.remove((job) => job.connection === connection);
      this.#forgetAll(connection);
    });
    send(connection, helloOf(this.inference.card));
  }

  #forgetAll(connection: Connection): void {
    for (const session of connection.sessions) this.#forget(session);
  }

  #forget(session: string, track?: number): void {
    if (!isWindowed(this.inference)) this.inference.forget(session, track);
  }

  /** The model as what a request needs. @throws InferenceError when it is of the other kind */
  get #stepped(): Inference {
    if (!isWindowed(this.inference)) return this.inference;
    throw new InferenceError("SL_INFERENCE_FAILED", `model ${this.inference.card.name} takes whole windows, no steps`);
  }

  get #windowed(): WindowInference {
    if (isWindowed(this.inference)) return this.inference;
    throw new InferenceError("SL_INFERENCE_FAILED", `model ${this.inference.card.name} takes steps, no whole windows`);
  }

  /** @throws ProtocolError */
  #request(connection: Connection, header: ToChild, payload: Buffer): void {
    if (header.t === "forget") {
      const session = scoped(connection, header.session);
      this.#queue
        .remove((job) => job.connection === connection && isOf(job.subject, session, header.track))
        .forEach((job) => {
          send(connection, errorHeader(new InferenceError("SL_INFERENCE_LATE", "the track was forgotten"), job.id));
        });
      this.#forget(session, header.track);
      if (header.track === undefined) connection.sessions.delete(session);
      return;
    }
    const deadline = performance.now() + header.deadlineMs;
    const base = { client: connection.client, connection, id: header.id, deadline };
    if (header.t === "detect") {
      const { side, id } = header;
      if (payload.length !== 3 * side * side)
        throw new ProtocolError(`${payload.length} bytes for a picture of side ${side}`);
      const rgb = new Uint8Array(payload);
      this.#enqueue({ ...base, subject: "faces", run: () => this.#detect(connection, id, rgb, side) });
      return;
    }
    const session = scoped(connection, header.session);
    if (header.t === "window") {
      const { id } = header;
      const request = { ...decodeWindow(header, payload), session };
      this.#enqueue({
        ...base,
        subject: `window ${session}`,
        run: async () => {
          const answer = await this.#windowed.window(request);
          this.counters.windows++;
          this.#took(answer.engineMs);
          const { header: first, payload: rest } = encodeAnswer(answer, id);
          send(connection, first, rest);
        },
      });
      return;
    }
    if (header.t === "remember") {
      const { id } = header;
      const samples = decodeFloats(payload);
      // One waiting per session: a voice's sound is large, and the newest is the one that counts.
      this.#enqueue({
        ...base,
        subject: `voice ${session}`,
        run: () => this.#remember(connection, id, session, samples),
      });
      return;
    }
    if (!connection.sessions.has(session) && connection.sessions.size >= MAX_SESSIONS) {
      const full = new InferenceError("SL_INFERENCE_FAILED", `more than ${MAX_SESSIONS} sessions`);
      send(connection, errorHeader(full, header.id));
      return;
    }
    connection.sessions.add(session);
    const request = { ...decodeStep(header, payload), session };
    this.#enqueue({
      ...base,
      subject: subjectOf(session, header.track),
      run: async () => {
        const result = await this.#stepped.step(request);
        this.counters.steps++;
        this.#took(result.engineMs);
        const { header: answer, payload: gains } = encodeGains(result, header.id);
        send(connection, answer, gains);
      },
    });
  }

  #took(engineMs: number): void {
    this.#times.push(engineMs);
    if (this.#times.length > TIMES) this.#times.shift();
  }

  async #detect(connection: Connection, id: number, rgb: Uint8Array, side: number): Promise<void> {
    const faces = finiteFaces(await this.#stepped.detectFaces(rgb, side)).slice(0, 64);
    this.counters.detections++;
    send(connection, { t: "faces", id, faces: faces.map((f) => ({ ...f, keypoints: [...f.keypoints] })) });
  }

  async #remember(connection: Connection, id: number, session: string, samples: Float32Array): Promise<void> {
    const memory = await this.#stepped.remember(session, samples);
    this.counters.memories++;
    send(connection, { t: "memory", id }, bytesOf(memory));
  }

  #enqueue(job: Job): void {
    const out = this.#queue.put(job);
    if (out !== null) {
      this.counters.jobs_replaced++;
      send(
        out.connection,
        errorHeader(new InferenceError("SL_INFERENCE_LATE", "a newer request took its place"), out.id),
      );
    }
    this.#working ??= this.#work().finally(() => {
      this.#working = null;
    });
  }

  async #work(): Promise<void> {
    for (;;) {
      // The engine holds the event loop while it runs: read what came meanwhile before choosing, so that the latest wins.
      await new Promise(setImmediate);
      const job = this.#queue.take();
      if (job === null) return;
      await this.#perform(job);
    }
  }

  async #perform(job: Job): Promise<void> {
    const { connection } = job;
    try {
      if (performance.now() > job.deadline) {
        this.counters.jobs_late++;
        throw new InferenceError("SL_INFERENCE_LATE", "its deadline passed while it waited");
      }
      await job.run();
    } catch (e) {
      if (!(e instanceof InferenceError) || e.code === "SL_INFERENCE_FAILED") this.counters.jobs_failed++;
      send(connection, errorHeader(e, job.id));
    }
    // A connection that closed during the run left a state behind just now.
    if (connection.socket.destroyed) this.#forgetAll(connection);
  }
}

type Connection = { readonly client: number; readonly socket: Socket; readonly sessions: Set<string> };

/** Sessions of two channels may have the same name. */
const scoped = (connection: Connection, session: string): string => `${connection.client}/${session}`;
const subjectOf = (session: string, track: number): string => `${track} ${session}`;
const isOf = (subject: string, session: string, track: number | undefined): boolean =>
  track === undefined ? subject.slice(subject.indexOf(" ") + 1) === session : subject === subjectOf(session, track);

function send(connection: Connection, header: FromChild, payload?: Uint8Array): void {
  const { socket } = connection;
  if (socket.destroyed || !socket.writable) return;
  // Somebody who asks and never reads the answers.
  if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
  else socket.write(encodeFrame(header, payload));
}
