import type { Socket } from "node:net";
import { type FlvTag, MAX_TAG_BYTES, PICTURE, SCRIPT, SOUND, type TagType } from "../transport/flv/tag.js";
import { encodeFrame, type Frame, FrameError, FrameReader } from "../transport/ipc/frame.js";
import {
  type ChannelToGateway,
  type GatewayToChannel,
  type LineReport,
  VIEWER_STEMS,
  type ViewerStem,
} from "../transport/ipc/messages.js";
import { MAX_OPUS_BYTES } from "../transport/webrtc/opus.js";
import { type Attachment, type ChannelPeer, isRefusal, type Refusal } from "./roles.js";
import type { PeerContext } from "./rtmp-peer.js";

/** Control messages to a channel that does not read are dropped with the connection at this size. */
const HARD_LIMIT_FACTOR = 16;

/** The connection of one channel process over the Unix socket; messages in ipc/messages.ts. */
export class ChannelLink implements ChannelPeer {
  #reader = new FrameReader<unknown>();
  #attachment: Attachment | null = null;
  #channel = "?";
  #openedMs: number;

  constructor(
    private readonly socket: Socket,
    private readonly context: PeerContext,
  ) {
    this.#openedMs = context.now();
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("drain", () => this.#attachment?.resume());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#leave());
  }

  get backlogBytes(): number {
    return this.socket.writableLength;
  }

  /** Looks at the time limit of a connection that does not say who it is. */
  check(): void {
    if (this.#attachment || this.context.now() - this.#openedMs <= this.context.limits.handshakeMs) return;
    this.destroy();
  }

  destroy(): void {
    this.#leave();
    this.socket.destroy();
  }

  write(tag: FlvTag): void {
    this.#send({ t: "tag", tagType: tag.type, timestampMs: tag.timestampMs }, tag.body);
  }

  /** The publisher's end is told by `publisher`; the connection stays. */
  end(): void {}

  publisher(state: "live" | "gone", peer: string): void {
    this.#send({ t: "publisher", state, peer });
  }

  timeline(leavingMs: number): void {
    this.#send({ t: "timeline", leavingMs });
  }

  refused(reason: Refusal): void {
    this.#send({ t: "refused", code: reason.code, detail: reason.detail });
  }

  line(line: LineReport): void {
    this.#send({ t: "line", line });
  }

  wanted(stems: readonly ViewerStem[]): void {
    this.#send({ t: "wanted", stems });
  }

  replaced(): void {
    this.context.log("warn", "a channel's connection was closed: replaced or removed", { channel: this.#channel });
    this.socket.destroy();
  }

  #send(message: GatewayToChannel, payload?: Buffer): void {
    if (this.socket.destroyed || this.socket.writableEnded) return;
    // Tags stop at the limit of the stream; only small messages can go beyond it, and those only up to here.
    if (this.socket.writableLength > HARD_LIMIT_FACTOR * this.context.limits.maxChannelBacklogBytes) {
      this.destroy();
      return;
    }
    this.socket.write(encodeFrame(message, payload));
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.push(chunk)) {
        if (this.socket.destroyed) return;
        this.#on(frame);
      }
    } catch (error) {
      this.context.counters.add("channel_malformed_total");
      const detail = error instanceof Error ? error.message : String(error);
      this.context.log("error", "a channel's connection was closed", {
        channel: this.#channel,
        code: "SL_IPC_MALFORMED",
        detail,
      });
      this.destroy();
    }
  }

  #on(frame: Frame<unknown>): void {
    const message = parse(frame.header);
    if (message.t === "attach") {
      if (this.#attachment) throw new FrameError("a second attach");
      this.#channel = message.channel;
      const answer = this.context.hub.attach(message.channel, this);
      if (isRefusal(answer)) throw new FrameError(answer.detail);
      this.#attachment = answer;
      return;
    }
    if (!this.#attachment) throw new FrameError(`${message.t} before attach`);
    if (message.t === "keyFrame") {
      this.#attachment.wantKeyFrame();
      return;
    }
    if (message.t === "opus") {
      if (frame.payload.length > MAX_OPUS_BYTES)
        throw new FrameError(`an Opus packet of ${frame.payload.length} bytes`);
      this.#attachment.opus(message.stem, frame.payload, message.timeMs);
      return;
    }
    if (frame.payload.length > MAX_TAG_BYTES) throw new FrameError(`a tag of ${frame.payload.length} bytes`);
    this.#attachment.push({ type: message.tagType, timestampMs: message.timestampMs, body: frame.payload });
  }

  #leave(): void {
    this.#attachment?.detach();
  }
}

function parse(header: unknown): ChannelToGateway {
  const fields = header as Record<string, unknown>;
  if (fields.t === "attach" && typeof fields.channel === "string") return { t: "attach", channel: fields.channel };
  if (fields.t === "keyFrame") return { t: fields.t };
  const { tagType, timestampMs, stem, timeMs } = fields;
  if (
    fields.t === "opus" &&
    VIEWER_STEMS.includes(stem as ViewerStem) &&
    typeof timeMs === "number" &&
    timeMs >= 0 &&
    timeMs < 2 ** 32
  )
    return { t: "opus", stem: stem as ViewerStem, timeMs };
  if (
    fields.t === "out" &&
    isTagType(tagType) &&
    typeof timestampMs === "number" &&
    timestampMs >= 0 &&
    timestampMs < 2 ** 32
  ) {
    return { t: "out", tagType, timestampMs: Math.floor(timestampMs) };
  }
  throw new FrameError("not a message of a channel");
}

function isTagType(value: unknown): value is TagType {
  return value === SOUND || value === PICTURE || value === SCRIPT;
}
