import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { type AmfValue, readAmf0, writeAmf0 } from "../transport/amf/amf0.js";
import { type FlvTag, PICTURE, SCRIPT, SOUND } from "../transport/flv/tag.js";
import { ChunkReader, MessageType, type RtmpMessage, writeChunks } from "../transport/rtmp/chunk.js";
import { HANDSHAKE_BYTES } from "../transport/rtmp/handshake.js";

/** The server refused the publication, does not answer, or went away. `message` names what it said. */
export class PublishError extends Error {
  readonly code = "SL_DEMO_PUBLISH";
  override readonly name = "PublishError";
}

/** From the connection's start to "publishing". Milliseconds. */
const START_TIMEOUT_MS = 5000;
/** More unsent bytes than this and the connection is given up: the server does not read. */
const MAX_UNSENT_BYTES = 4 * 1024 * 1024;
/** Longest answer that is read; the server has nothing longer to say to a publisher. */
const MAX_ANSWER_BYTES = 64 * 1024;
const OUT_CHUNK_BYTES = 65_536;
const INITIAL_CHUNK_BYTES = 128;
const COMMAND_STREAM = 3;
const CONTROL_STREAM = 2;
const MEDIA_STREAM = { [SOUND]: 4, [SCRIPT]: 5, [PICTURE]: 6 } as const;

/**
 * One RTMP publication as a client (Adobe RTMP 1.0, sections 5.2 and 7.2): handshake, connect, createStream, publish, then tags.
 * `RtmpPublication.start` resolves once the server says that the stream is published.
 */
export class RtmpPublication {
  /** Resolves when the connection has ended; with the reason unless we closed it. Never rejects. */
  readonly ended: Promise<Error | null>;
  #socket: Socket;
  #streamId: number;

  private constructor(socket: Socket, streamId: number, ended: Promise<Error | null>) {
    this.#socket = socket;
    this.#streamId = streamId;
    this.ended = ended;
  }

  /** @throws PublishError */
  static start(rtmpUrl: string, signal?: AbortSignal): Promise<RtmpPublication> {
    const { host, port, app, name, tcUrl } = parseRtmpUrl(rtmpUrl);
    const socket = connect({ host, port, noDelay: true });
    let endedWith!: (reason: Error | null) => void;
    const ended = new Promise<Error | null>((resolve) => {
      endedWith = resolve;
    });

    return new Promise((resolve, reject) => {
      const fail = (error: Error) => socket.destroy(error);
      const timer = setTimeout(
        () => fail(new PublishError(`no publication within ${START_TIMEOUT_MS} ms`)),
        START_TIMEOUT_MS,
      );
      const abort = () => fail(new PublishError("stopped"));
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted) abort();
      let reason: Error | null = null;
      socket.on("error", (error) => {
        reason = error instanceof PublishError ? error : new PublishError(error.message);
      });
      socket.on("close", () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        endedWith(reason);
        reject(reason ?? new PublishError("the server closed the connection"));
      });

      const send = (type: number, streamId: number, payload: Buffer, chunkBytes: number) => {
        const stream = type === MessageType.CommandAmf0 ? COMMAND_STREAM : CONTROL_STREAM;
        for (const piece of writeChunks({ type, streamId, timestamp: 0, payload }, stream, chunkBytes))
          socket.write(piece);
      };
      const command = (streamId: number, ...values: AmfValue[]) =>
        send(MessageType.CommandAmf0, streamId, writeAmf0(...values), OUT_CHUNK_BYTES);
      const greet = () => {
        send(MessageType.SetChunkSize, 0, u32(OUT_CHUNK_BYTES), INITIAL_CHUNK_BYTES);
        command(0, "connect", 1, { app, type: "nonprivate", flashVer: "FMLE/3.0 (compatible; Sightline)", tcUrl });
      };
      const answers: Answers = {
        greeted: greet,
        connected: () => command(0, "createStream", 2, null),
        created: (streamId) => command(streamId, "publish", 3, null, name, "live"),
        published: (streamId) => {
          clearTimeout(timer);
          resolve(new RtmpPublication(socket, streamId, ended));
        },
        ping: (value) =>
          send(MessageType.UserControl, 0, Buffer.concat([Buffer.of(0, 7), u32(value)]), OUT_CHUNK_BYTES),
        refused: (text) => fail(new PublishError(text)),
      };
      const reader = new AnswerReader(socket, answers);
      socket.once("connect", () => reader.greet());
      socket.on("data", (data) => {
        try {
          reader.push(data);
        } catch (error) {
          fail(new PublishError(error instanceof Error ? error.message : String(error)));
        }
      });
    });
  }

  /** Sends one tag; script data named onMetaData is announced as the stream's metadata. False when the server does not keep up. */
  send(tag: FlvTag): boolean {
    if (this.#socket.destroyed) return false;
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) {
      this.#socket.destroy(new PublishError("the server does not read"));
      return false;
    }
    const payload = tag.type === SCRIPT ? Buffer.concat([writeAmf0("@setDataFrame"), tag.body]) : tag.body;
    const message: RtmpMessage = {
      type: tag.type,
      streamId: this.#streamId,
      timestamp: tag.timestampMs >>> 0,
      payload,
    };
    this.#socket.cork();
    for (const piece of writeChunks(message, MEDIA_STREAM[tag.type], OUT_CHUNK_BYTES)) this.#socket.write(piece);
    this.#socket.uncork();
    return true;
  }

  /** Unpublishes and closes; resolves when the socket is gone (at the latest after a second). */
  async close(): Promise<void> {
    if (!this.#socket.destroyed) {
      const payload = writeAmf0("deleteStream", 4, null, this.#streamId);
      const message = { type: MessageType.CommandAmf0, streamId: 0, timestamp: 0, payload };
      for (const piece of writeChunks(message, COMMAND_STREAM, OUT_CHUNK_BYTES)) this.#socket.write(piece);
      this.#socket.end();
      const late = setTimeout(() => this.#socket.destroy(), 1000);
      await this.ended;
      clearTimeout(late);
    }
  }
}

type Answers = {
  greeted(): void;
  connected(): void;
  created(streamId: number): void;
  published(streamId: number): void;
  ping(value: number): void;
  refused(text: string): void;
};

/** The server's side of the conversation, in the order in which it has to come. */
class AnswerReader {
  #chunks = new ChunkReader(MAX_ANSWER_BYTES);
  #shake: Buffer | null = Buffer.alloc(0);
  #streamId = 0;

  constructor(
    private readonly socket: Socket,
    private readonly answers: Answers,
  ) {}

  greet(): void {
    this.socket.write(Buffer.concat([Buffer.of(3), Buffer.alloc(8), randomBytes(HANDSHAKE_BYTES - 8)]));
  }

  push(data: Buffer): void {
    let rest = data;
    if (this.#shake !== null) {
      const got = Buffer.concat([this.#shake, data]);
      const whole = 1 + 2 * HANDSHAKE_BYTES; // S0 S1 S2
      if (got.length < whole) {
        this.#shake = got;
        return;
      }
      this.#shake = null;
      this.socket.write(got.subarray(1, 1 + HANDSHAKE_BYTES)); // C2 echoes S1
      rest = got.subarray(whole);
      this.answers.greeted();
    }
    for (const message of this.#chunks.push(rest)) this.#message(message);
  }

  #message({ type, payload }: RtmpMessage): void {
    if (type === MessageType.UserControl && payload.length >= 6 && payload.readUInt16BE(0) === 6) {
      this.answers.ping(payload.readUInt32BE(2));
    }
    if (type !== MessageType.CommandAmf0) return;
    const [name, transaction, , value] = readAmf0(payload);
    if (name === "_error") this.answers.refused(describe(value));
    else if (name === "_result" && transaction === 1) this.answers.connected();
    else if (name === "_result" && transaction === 2 && typeof value === "number") {
      this.#streamId = value;
      this.answers.created(value);
    } else if (name === "onStatus") {
      const { level, code } = fields(value);
      if (level === "error") this.answers.refused(describe(value));
      else if (code === "NetStream.Publish.Start") this.answers.published(this.#streamId);
    }
  }
}

function fields(value: AmfValue): { level: AmfValue; code: AmfValue; description: AmfValue } {
  const { level, code, description } =
    typeof value === "object" && value !== null
      ? (value as { [name: string]: AmfValue })
      : ({} as { [name: string]: AmfValue });
  return { level, code, description };
}

function describe(value: AmfValue): string {
  const { code, description } = fields(value);
  return [code, description].filter((part) => typeof part === "string" && part !== "").join(": ") || "refused";
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

/** `rtmp://HOST[:PORT]/APP/NAME`. @throws PublishError without repeating the URL, whose last part is a secret */
export function parseRtmpUrl(text: string): { host: string; port: number; app: string; name: string; tcUrl: string } {
  const match = /^rtmp:\/\/(\[[0-9a-fA-F:.]+\]|[^/:@[\]]+)(?::(\d{1,5}))?\/([^/]+)\/(.+)$/.exec(text);
  if (!match) throw new PublishError("not an address of the form rtmp://HOST:PORT/APP/KEY");
  const [, host = "", port = "1935", app = "", name = ""] = match;
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port), app, name, tcUrl: `rtmp://${host}:${port}/${app}` };
}
