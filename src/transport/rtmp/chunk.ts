import { Assembler } from "../flv/assembler.js";

/**
 * RTMP chunk stream (Adobe RTMP 1.0, section 5.3): messages cut into chunks that interleave on one connection.
 * The reader also obeys the two control messages that change the cutting itself, set chunk size and abort (5.4.1, 5.4.2).
 */

/** Message types, sections 5.4 and 7.1. */
export const MessageType = {
  SetChunkSize: 1,
  Abort: 2,
  Acknowledgement: 3,
  UserControl: 4,
  WindowAckSize: 5,
  SetPeerBandwidth: 6,
  Audio: 8,
  Video: 9,
  DataAmf3: 15,
  CommandAmf3: 17,
  DataAmf0: 18,
  CommandAmf0: 20,
  Aggregate: 22,
} as const;

export type RtmpMessage = {
  readonly type: number;
  /** Message stream id: 0 = the connection itself, else what createStream gave. */
  readonly streamId: number;
  /** Unsigned 32 bits, milliseconds. */
  readonly timestamp: number;
  readonly payload: Buffer;
};

/** The peer breaks the protocol or goes over a limit; the position in the stream is lost. */
export class RtmpError extends Error {
  readonly code = "SL_RTMP_MALFORMED";
  override readonly name = "RtmpError";
}

/** Chunk size at the start of a connection, section 5.4.1. */
export const INITIAL_CHUNK_BYTES = 128;
export const MAX_CHUNK_STREAMS = 64;
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** Unfinished messages of one connection may hold this much beyond one message of the largest allowed size. */
const PENDING_SLACK_BYTES = 256 * 1024;
/** A timestamp field with this value says that the real one follows in 32 bits (5.3.1.3). */
const EXTENDED = 0xff_ffff;
/** Message header length by chunk type (5.3.1.2). */
const HEADER_BYTES = [11, 7, 3, 0] as const;
const NOTHING = Buffer.alloc(0);

type ChunkStream = {
  timestamp: number;
  /** Timestamp or delta as last written; a type 3 chunk that begins a message repeats it (5.3.1.2.4). */
  field: number;
  extended: boolean;
  length: number;
  type: number;
  messageStreamId: number;
  body: Assembler | null;
};

/** Cuts a byte stream into messages. Memory: what came of unfinished messages (twofold at most), bounded by `maxMessageBytes`. */
export class ChunkReader {
  /** Longest message that is let in; may be changed between messages. */
  maxMessageBytes: number;
  #streams = new Map<number, ChunkStream>();
  #chunkBytes = INITIAL_CHUNK_BYTES;
  /** Bytes of an unfinished chunk header, at most 18. */
  #rest: Buffer = NOTHING;
  #open: ChunkStream | null = null;
  #openLeft = 0;
  #pending = 0;

  constructor(maxMessageBytes = MAX_MESSAGE_BYTES) {
    this.maxMessageBytes = maxMessageBytes;
  }

  /**
   * Reads on; messages come out one by one so that what one of them changes holds for the next.
   * Walk the result to its end before the next push.
   * @throws RtmpError; the reader must not be used afterwards
   */
  *push(input: Buffer): Generator<RtmpMessage, void, undefined> {
    const data = this.#rest.length > 0 ? Buffer.concat([this.#rest, input]) : input;
    this.#rest = NOTHING;
    let at = 0;
    for (;;) {
      if (this.#open === null) {
        const next = this.#header(data, at);
        if (next < 0) {
          this.#rest = Buffer.from(data.subarray(at));
          return;
        }
        at = next;
      }
      const stream = this.#open!;
      const body = stream.body!;
      const taken = body.append(data, at, Math.min(data.length, at + this.#openLeft));
      at += taken;
      this.#openLeft -= taken;
      this.#pending += taken;
      if (this.#pending > this.maxMessageBytes + PENDING_SLACK_BYTES) {
        throw new RtmpError(`unfinished messages of ${this.#pending} bytes`);
      }
      if (this.#openLeft > 0) return;
      this.#open = null;
      if (!body.complete) continue;
      stream.body = null;
      this.#pending -= body.length;
      const message = {
        type: stream.type,
        streamId: stream.messageStreamId,
        timestamp: stream.timestamp,
        payload: body.data,
      };
      if (!this.#control(message)) yield message;
    }
  }

  /** Reads a chunk header at `at` and opens its chunk; returns the position behind it, or -1 when bytes are missing. */
  #header(data: Buffer, at: number): number {
    const basic = basicHeader(data, at);
    if (basic === null) return -1;
    const { format, chunkStreamId } = basic;
    let pos = basic.end;
    const known = this.#streams.get(chunkStreamId);
    if (known === undefined && format !== 0)
      throw new RtmpError(`chunk type ${format} begins chunk stream ${chunkStreamId}`);
    if (format < 3 && known?.body)
      throw new RtmpError(`a new message within an unfinished one on chunk stream ${chunkStreamId}`);
    if (data.length - pos < HEADER_BYTES[format]!) return -1;

    const stream = known ?? {
      timestamp: 0,
      field: 0,
      extended: false,
      length: 0,
      type: 0,
      messageStreamId: 0,
      body: null,
    };
    let field = stream.field;
    let extended = stream.extended;
    const fieldAt = pos;
    pos += HEADER_BYTES[format]!;
    if (format < 3) {
      field = data.readUIntBE(fieldAt, 3);
      extended = field === EXTENDED;
    }
    if (extended) {
      if (data.length - pos < 4) return -1;
      const long = data.readUInt32BE(pos);
      if (format < 3) field = long;
      // Some senders leave the extended field out of type 3 chunks. Where it is, it repeats the known value.
      if (format < 3 || long === field) pos += 4;
    }

    // From here on the header is complete: state may change.
    if (known === undefined) {
      if (this.#streams.size >= MAX_CHUNK_STREAMS) throw new RtmpError(`more than ${MAX_CHUNK_STREAMS} chunk streams`);
      this.#streams.set(chunkStreamId, stream);
    }
    stream.field = field;
    stream.extended = extended;
    if (format <= 1) {
      stream.length = data.readUIntBE(fieldAt + 3, 3);
      stream.type = data[fieldAt + 6]!;
    }
    if (format === 0) stream.messageStreamId = data.readUInt32LE(fieldAt + 7);
    if (stream.body === null) {
      if (stream.length > this.maxMessageBytes) throw new RtmpError(`a message of ${stream.length} bytes`);
      stream.timestamp = format === 0 ? field : (stream.timestamp + field) >>> 0;
      stream.body = new Assembler(stream.length);
    }
    this.#open = stream;
    this.#openLeft = Math.min(this.#chunkBytes, stream.length - stream.body.filled);
    return pos;
  }

  #control(message: RtmpMessage): boolean {
    if (message.type !== MessageType.SetChunkSize && message.type !== MessageType.Abort) return false;
    if (message.payload.length < 4) throw new RtmpError(`a control message of ${message.payload.length} bytes`);
    const value = message.payload.readUInt32BE(0);
    if (message.type === MessageType.SetChunkSize) {
      if (value < 1 || value > 0x7fff_ffff) throw new RtmpError(`chunk size ${value}`);
      this.#chunkBytes = value;
      return true;
    }
    const stream = this.#streams.get(value);
    if (stream?.body) {
      this.#pending -= stream.body.filled;
      stream.body = null;
    }
    return true;
  }
}

/** Basic header, 5.3.1.1: 2 bits of chunk type and a chunk stream id in 1 to 3 bytes. */
function basicHeader(data: Buffer, at: number): { format: number; chunkStreamId: number; end: number } | null {
  if (at >= data.length) return null;
  const first = data[at]!;
  const format = first >> 6;
  const low = first & 63;
  if (low > 1) return { format, chunkStreamId: low, end: at + 1 };
  if (low === 0) return data.length - at < 2 ? null : { format, chunkStreamId: 64 + data[at + 1]!, end: at + 2 };
  return data.length - at < 3 ? null : { format, chunkStreamId: 64 + data.readUInt16LE(at + 1), end: at + 3 };
}

/**
 * Cuts a message into chunks: type 0 first, then type 3. Pieces of the payload are views, made for a gathering write.
 * @param chunkStreamId 2..63 (one-byte basic header)
 */
export function writeChunks(message: RtmpMessage, chunkStreamId: number, chunkBytes: number): Buffer[] {
  const { payload } = message;
  const time = message.timestamp >>> 0;
  const extended = time >= EXTENDED;
  const head = Buffer.allocUnsafe(extended ? 16 : 12);
  head[0] = chunkStreamId;
  head.writeUIntBE(extended ? EXTENDED : time, 1, 3);
  head.writeUIntBE(payload.length, 4, 3);
  head[7] = message.type;
  head.writeUInt32LE(message.streamId, 8);
  if (extended) head.writeUInt32BE(time, 12);
  const out: Buffer[] = [head];
  let next: Buffer | null = null;
  for (let at = 0; at < payload.length; at += chunkBytes) {
    if (at > 0) {
      next ??= continuation(chunkStreamId, extended ? time : null);
      out.push(next);
    }
    out.push(payload.subarray(at, at + chunkBytes));
  }
  return out;
}

function continuation(chunkStreamId: number, extendedTime: number | null): Buffer {
  const out = Buffer.allocUnsafe(extendedTime === null ? 1 : 5);
  out[0] = 0xc0 | chunkStreamId;
  if (extendedTime !== null) out.writeUInt32BE(extendedTime, 1);
  return out;
}
