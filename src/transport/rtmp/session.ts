import { AmfError, type AmfObject, type AmfValue, EcmaArray, readAmf0, writeAmf0 } from "../amf/amf0.js";
import { type FlvTag, PICTURE, SCRIPT, SOUND, type TagType } from "../flv/tag.js";
import { ChunkReader, MAX_MESSAGE_BYTES, MessageType, RtmpError, type RtmpMessage, writeChunks } from "./chunk.js";
import { ServerHandshake } from "./handshake.js";

/**
 * Server's side of one RTMP connection as a state machine without I/O: bytes in, events out (section 7.2 of Adobe RTMP 1.0;
 * releaseStream, FCPublish, FCUnpublish and getStreamLength are customs of the field). What may be published or played is the caller's choice.
 */
export type RtmpEvent =
  /** Bytes for the peer. */
  | { readonly type: "send"; readonly data: readonly Buffer[] }
  /** The peer wants to publish or play `app`/`name`; answer with accept... or refuse... before reading the next event. */
  | { readonly type: "publish" | "play"; readonly streamId: number; readonly app: string; readonly name: string }
  /** A message of a published stream; script bodies are given as they came (see `scriptName`). */
  | { readonly type: "media"; readonly streamId: number; readonly tag: FlvTag }
  /** The peer ended what it did on this stream. */
  | { readonly type: "close"; readonly streamId: number };

/** Longest message before a publication was accepted: a stranger has no claim to more memory. */
export const STRANGER_MESSAGE_BYTES = 64 * 1024;
/** Message streams that a connection may have open. */
export const MAX_MESSAGE_STREAMS = 8;
const OUT_CHUNK_BYTES = 65_536;
const WINDOW_BYTES = 5_000_000;
/** Peers that never announce a window are acknowledged by this one. */
const DEFAULT_PEER_WINDOW_BYTES = 2_500_000;
/** Longest app or stream name. */
const MAX_NAME_LENGTH = 1024;

/** Our chunk streams: 2 is the protocol's own, the others are free choice. */
const CONTROL_STREAM = 2;
const COMMAND_STREAM = 3;
const MEDIA_STREAM: Record<TagType, number> = { [SOUND]: 4, [SCRIPT]: 5, [PICTURE]: 6 };

/** User control events, section 7.1.7. */
const STREAM_BEGIN = 0;
const STREAM_EOF = 1;
const PING_REQUEST = 6;
const PING_RESPONSE = 7;

type StreamUse = "idle" | "asked" | "publishing" | "playing";

export class RtmpSession {
  #handshake: ServerHandshake;
  #chunks = new ChunkReader(STRANGER_MESSAGE_BYTES);
  #app: string | null = null;
  #streams = new Map<number, StreamUse>();
  #lastStreamId = 0;
  #received = 0;
  #acknowledged = 0;
  #peerWindow = DEFAULT_PEER_WINDOW_BYTES;

  /** @param random gives `n` random bytes, for the handshake */
  constructor(random: (n: number) => Buffer) {
    this.#handshake = new ServerHandshake(random);
  }

  /** Whether `connect` was done. */
  get connected(): boolean {
    return this.#app !== null;
  }

  /**
   * Reads on; events are made one by one, so the answer to a publish event holds for the media behind it in the same bytes.
   * Walk the result to its end before the next push.
   * @throws RtmpError or AmfError; the connection must be closed then
   */
  *push(input: Buffer): Generator<RtmpEvent, void, undefined> {
    this.#received += input.length;
    let data = input;
    if (!this.#handshake.done) {
      const { used, send } = this.#handshake.push(data);
      if (send) yield { type: "send", data: [send] };
      data = data.subarray(used);
    }
    if (this.#received - this.#acknowledged >= this.#peerWindow) {
      this.#acknowledged = this.#received;
      yield { type: "send", data: control(MessageType.Acknowledgement, u32(this.#received % 2 ** 32)) };
    }
    if (data.length > 0) for (const message of this.#chunks.push(data)) yield* this.#message(message);
  }

  /** Lets the peer publish; from here on messages up to 16 MiB are read. */
  acceptPublish(streamId: number): Buffer[] {
    this.#streams.set(streamId, "publishing");
    this.#chunks.maxMessageBytes = MAX_MESSAGE_BYTES;
    return [
      ...userControl(STREAM_BEGIN, streamId),
      ...status(streamId, "status", "NetStream.Publish.Start", "publishing"),
    ];
  }

  /** @param description may name the reason code; clients show it */
  refusePublish(streamId: number, description: string): Buffer[] {
    this.#streams.set(streamId, "idle");
    return status(streamId, "error", "NetStream.Publish.BadName", description);
  }

  acceptPlay(streamId: number): Buffer[] {
    this.#streams.set(streamId, "playing");
    return [
      ...userControl(STREAM_BEGIN, streamId),
      ...status(streamId, "status", "NetStream.Play.Reset", "reset"),
      ...status(streamId, "status", "NetStream.Play.Start", "playing"),
    ];
  }

  refusePlay(
    streamId: number,
    code: "NetStream.Play.StreamNotFound" | "NetStream.Play.Failed",
    description: string,
  ): Buffer[] {
    this.#streams.set(streamId, "idle");
    return status(streamId, "error", code, description);
  }

  /** Ends a publication that was accepted before, with an error the client can show. */
  failPublish(streamId: number, description: string): Buffer[] {
    this.#streams.set(streamId, "idle");
    return status(streamId, "error", "NetStream.Publish.Failed", description);
  }

  /** Tells a player that the programme has ended. */
  endPlay(streamId: number): Buffer[] {
    this.#streams.set(streamId, "idle");
    return [
      ...userControl(STREAM_EOF, streamId),
      ...status(streamId, "status", "NetStream.Play.UnpublishNotify", "the programme has ended"),
    ];
  }

  /** A tag for a player, on the player's own message stream (GStreamer's rtmp2src ignores all others). */
  media(streamId: number, tag: FlvTag): Buffer[] {
    const message = { type: tag.type, streamId, timestamp: tag.timestampMs, payload: tag.body };
    return writeChunks(message, MEDIA_STREAM[tag.type], OUT_CHUNK_BYTES);
  }

  *#message(message: RtmpMessage): Generator<RtmpEvent, void, undefined> {
    const { payload } = message;
    switch (message.type) {
      case MessageType.WindowAckSize:
        if (payload.length >= 4) this.#peerWindow = Math.max(4096, payload.readUInt32BE(0));
        return;
      case MessageType.UserControl:
        if (payload.length >= 6 && payload.readUInt16BE(0) === PING_REQUEST) {
          yield { type: "send", data: userControl(PING_RESPONSE, payload.readUInt32BE(2)) };
        }
        return;
      case MessageType.Audio:
      case MessageType.Video:
      case MessageType.DataAmf0:
        yield* this.#media(message.streamId, message.type, message.timestamp, payload);
        return;
      case MessageType.DataAmf3:
        // An AMF3 message from the field: one byte in front, then AMF0.
        yield* this.#media(message.streamId, SCRIPT, message.timestamp, payload.subarray(1));
        return;
      case MessageType.Aggregate:
        yield* this.#aggregate(message);
        return;
      case MessageType.CommandAmf0:
        yield* this.#command(message.streamId, payload);
        return;
      case MessageType.CommandAmf3:
        yield* this.#command(message.streamId, payload.subarray(1));
        return;
      default:
        // Acknowledgements, bandwidth, shared objects: nothing here depends on them.
        return;
    }
  }

  *#media(streamId: number, type: TagType, timestampMs: number, body: Buffer): Generator<RtmpEvent, void, undefined> {
    // Late messages after a refusal or an unpublish are normal, a peer sends until it has read the answer.
    if (this.#streams.get(streamId) !== "publishing" || body.length === 0) return;
    yield { type: "media", streamId, tag: { type, timestampMs, body } };
  }

  /** Section 7.1.6: FLV tags in a row; their times are moved so that the first one has the message's time. */
  *#aggregate(message: RtmpMessage): Generator<RtmpEvent, void, undefined> {
    const { payload } = message;
    let first: number | null = null;
    for (let at = 0; at + 11 <= payload.length; ) {
      const type = payload[at]!;
      const size = payload.readUIntBE(at + 1, 3);
      const time = payload.readUIntBE(at + 4, 3) + payload[at + 7]! * 0x100_0000;
      const end = at + 11 + size;
      if (end > payload.length) throw new RtmpError("an aggregate ends within a tag");
      first ??= time;
      if (type === SOUND || type === PICTURE || type === SCRIPT) {
        const timestampMs = (message.timestamp + time - first) >>> 0;
        // A copy: a view would keep the whole aggregate for as long as one tag is cached.
        yield* this.#media(message.streamId, type, timestampMs, Buffer.from(payload.subarray(at + 11, end)));
      }
      at = end + 4;
    }
  }

  *#command(streamId: number, payload: Buffer): Generator<RtmpEvent, void, undefined> {
    const [name, transaction, object, ...args] = readAmf0(payload);
    if (typeof name !== "string" || typeof transaction !== "number")
      throw new AmfError("a command without name or number");
    switch (name) {
      case "connect":
        yield { type: "send", data: this.#connect(transaction, object) };
        return;
      case "releaseStream":
      case "FCPublish":
        yield { type: "send", data: result(transaction, null, undefined) };
        return;
      case "FCSubscribe":
        yield { type: "send", data: command(0, "onFCSubscribe", 0, null, info("status", "NetStream.Play.Start", "")) };
        return;
      case "createStream":
        yield { type: "send", data: this.#createStream(transaction) };
        return;
      case "getStreamLength":
        yield { type: "send", data: result(transaction, null, 0) };
        return;
      case "publish":
      case "play":
        yield this.#ask(name, streamId, args[0]);
        return;
      case "closeStream":
        yield* this.#close(streamId, false);
        return;
      case "deleteStream":
        if (typeof args[0] === "number") yield* this.#close(args[0], true);
        return;
      case "FCUnpublish":
        for (const [id, use] of this.#streams) if (use === "publishing") yield* this.#close(id, false);
        return;
      case "pause":
      case "seek":
      case "receiveAudio":
      case "receiveVideo":
      case "_result":
      case "_error":
      case "onStatus":
        return;
      default:
        if (transaction !== 0) {
          yield {
            type: "send",
            data: command(0, "_error", transaction, null, info("error", "NetConnection.Call.Failed", "unknown")),
          };
        }
    }
  }

  #connect(transaction: number, object: AmfValue): Buffer[] {
    if (this.connected) throw new RtmpError("a second connect");
    const app = isObject(object) ? object.app : undefined;
    if (typeof app !== "string" || app.length > MAX_NAME_LENGTH) throw new RtmpError("connect without a usable app");
    this.#app = trimmed(app);
    return [
      ...control(MessageType.WindowAckSize, u32(WINDOW_BYTES)),
      ...control(MessageType.SetPeerBandwidth, Buffer.concat([u32(WINDOW_BYTES), Buffer.of(2)])),
      ...control(MessageType.SetChunkSize, u32(OUT_CHUNK_BYTES)),
      ...result(
        transaction,
        { fmsVer: "FMS/3,0,1,123", capabilities: 31 },
        { ...info("status", "NetConnection.Connect.Success", "connected"), objectEncoding: 0 },
      ),
    ];
  }

  #createStream(transaction: number): Buffer[] {
    if (!this.connected) throw new RtmpError("createStream before connect");
    if (this.#streams.size >= MAX_MESSAGE_STREAMS) {
      return command(0, "_error", transaction, null, info("error", "NetConnection.Call.Failed", "too many streams"));
    }
    this.#lastStreamId++;
    this.#streams.set(this.#lastStreamId, "idle");
    return result(transaction, null, this.#lastStreamId);
  }

  #ask(type: "publish" | "play", streamId: number, name: AmfValue): RtmpEvent {
    if (this.#app === null) throw new RtmpError(`${type} before connect`);
    const use = this.#streams.get(streamId);
    if (use !== "idle") throw new RtmpError(`${type} on stream ${streamId}, which is ${use ?? "not there"}`);
    if (typeof name !== "string" || name.length > MAX_NAME_LENGTH) throw new RtmpError(`${type} without a usable name`);
    this.#streams.set(streamId, "asked");
    return { type, streamId, app: this.#app, name: trimmed(name) };
  }

  *#close(streamId: number, remove: boolean): Generator<RtmpEvent, void, undefined> {
    const use = this.#streams.get(streamId);
    if (use === undefined) return;
    if (remove) this.#streams.delete(streamId);
    else this.#streams.set(streamId, "idle");
    if (use === "publishing" || use === "playing") yield { type: "close", streamId };
  }
}

/** Without surrounding slashes and without a query, which some clients append. */
function trimmed(path: string): string {
  const query = path.indexOf("?");
  const text = query < 0 ? path : path.slice(0, query);
  let from = 0;
  let to = text.length;
  while (from < to && text[from] === "/") from++;
  while (to > from && text[to - 1] === "/") to--;
  return text.slice(from, to);
}

function isObject(value: AmfValue): value is AmfObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Date) &&
    !(value instanceof EcmaArray)
  );
}

function info(level: "status" | "error", code: string, description: string): AmfObject {
  return { level, code, description };
}

function status(streamId: number, level: "status" | "error", code: string, description: string): Buffer[] {
  return command(streamId, "onStatus", 0, null, info(level, code, description));
}

function result(transaction: number, ...values: readonly AmfValue[]): Buffer[] {
  return command(0, "_result", transaction, ...values);
}

function command(streamId: number, name: string, transaction: number, ...values: readonly AmfValue[]): Buffer[] {
  const payload = writeAmf0(name, transaction, ...values);
  return writeChunks(
    { type: MessageType.CommandAmf0, streamId, timestamp: 0, payload },
    COMMAND_STREAM,
    OUT_CHUNK_BYTES,
  );
}

function control(type: number, payload: Buffer): Buffer[] {
  return writeChunks({ type, streamId: 0, timestamp: 0, payload }, CONTROL_STREAM, OUT_CHUNK_BYTES);
}

function userControl(event: number, value: number): Buffer[] {
  const payload = Buffer.alloc(6);
  payload.writeUInt16BE(event, 0);
  payload.writeUInt32BE(value, 2);
  return control(MessageType.UserControl, payload);
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}
