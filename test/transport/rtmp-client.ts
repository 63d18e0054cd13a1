import { type AmfValue, readAmf0, writeAmf0 } from "../../src/transport/amf/amf0.js";
import type { FlvTag } from "../../src/transport/flv/tag.js";
import { ChunkReader, INITIAL_CHUNK_BYTES, MessageType, writeChunks } from "../../src/transport/rtmp/chunk.js";
import { HANDSHAKE_BYTES } from "../../src/transport/rtmp/handshake.js";

/** A client's side of RTMP for tests: makes bytes and reads answers, does no I/O. */

export const HELLO = Buffer.concat([Buffer.of(3), Buffer.alloc(HANDSHAKE_BYTES, 0x5a)]);
export const ECHO = Buffer.alloc(HANDSHAKE_BYTES, 0xa5);

export function message(
  type: number,
  payload: Buffer,
  streamId = 0,
  timestamp = 0,
  chunkBytes = INITIAL_CHUNK_BYTES,
): Buffer {
  return Buffer.concat(
    writeChunks({ type, streamId, timestamp, payload }, type === MessageType.SetChunkSize ? 2 : 5, chunkBytes),
  );
}

export function command(name: string, transaction: number, values: readonly AmfValue[], streamId = 0): Buffer {
  return message(MessageType.CommandAmf0, writeAmf0(name, transaction, ...values), streamId);
}

export function media(tag: FlvTag, streamId = 1): Buffer {
  return message(tag.type, tag.body, streamId, tag.timestampMs);
}

/** All that a publisher (or player) sends up to the point where the answer decides. */
export function opening(what: "publish" | "play", app: string, name: string): Buffer {
  return Buffer.concat([
    HELLO,
    ECHO,
    command("connect", 1, [{ app, tcUrl: `rtmp://host/${app}` }]),
    command("releaseStream", 2, [null, name]),
    command("FCPublish", 3, [null, name]),
    command("createStream", 4, [null]),
    what === "publish" ? command("publish", 5, [null, name, "live"], 1) : command("play", 5, [null, name, -2000], 1),
  ]);
}

export type Answer = {
  readonly type: number;
  readonly streamId: number;
  readonly timestamp: number;
  readonly payload: Buffer;
};

/** Reads what a server sends. */
export class AnswerReader {
  #handshake = 1 + 2 * HANDSHAKE_BYTES;
  #chunks = new ChunkReader();

  push(data: Buffer): Answer[] {
    const skip = Math.min(this.#handshake, data.length);
    this.#handshake -= skip;
    return skip < data.length ? [...this.#chunks.push(data.subarray(skip))] : [];
  }
}

/** Name and `code` of each command among the answers. */
export function commands(answers: readonly Answer[]): string[] {
  return answers
    .filter((answer) => answer.type === MessageType.CommandAmf0)
    .map((answer) => {
      const values = readAmf0(answer.payload);
      const info = values[3];
      return typeof info === "object" && info !== null && "code" in info
        ? `${values[0]} ${info.code}`
        : String(values[0]);
    });
}

/** `description` of the last onStatus. */
export function lastDescription(answers: readonly Answer[]): string {
  const found = answers.filter((a) => a.type === MessageType.CommandAmf0).map((a) => readAmf0(a.payload));
  const info = found.filter((values) => values[0] === "onStatus").at(-1)?.[3];
  return typeof info === "object" && info !== null && "description" in info ? String(info.description) : "";
}
