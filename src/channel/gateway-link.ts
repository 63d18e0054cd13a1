import { connect, type Socket } from "node:net";
import { BackOff, RETRY_LOCAL } from "../backoff.js";
import type { FlvTag, TagType } from "../transport/flv/tag.js";
import { encodeFrame, FrameReader } from "../transport/ipc/frame.js";
import type { ChannelToGateway, GatewayToChannel, LineReport, ViewerStem } from "../transport/ipc/messages.js";
import { faultText, type Log } from "./log.js";

/** What the publishing source wants to know. */
export type GatewaySourceEvents = {
  readonly onTag: (tag: FlvTag) => void;
  readonly onPublisher: (live: boolean) => void;
  readonly onLine: (line: LineReport) => void;
  readonly onRefused: (code: string, detail: string) => void;
  readonly onLost: () => void;
  readonly onBack: () => void;
};

/** What waits for a gateway that does not read; 2 s of 16 Mbit/s. */
const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;
/** The gateway is on this machine: it is back within a second or two of its death. */
const FASTEST_RETRY_MS = 200;

/** The one connection of a channel to the gateway: the published tags come in, the cleaned programme goes out. */
export class GatewayLink {
  /** Times the connection was lost. */
  lost = 0;
  readonly #path: string;
  readonly #channel: string;
  readonly #log: Log;
  /** The fault that was logged last: what a tag does once, the publisher's next ones may do for hours. */
  #told = "";
  readonly #backOff = new BackOff(RETRY_LOCAL);
  #socket: Socket | null = null;
  #connected = false;
  #retry: NodeJS.Timeout | null = null;
  #source: GatewaySourceEvents | null = null;
  #onUp: () => void = () => {};
  #onWanted: (stems: readonly ViewerStem[]) => void = () => {};
  #onTimeline: (leavingMs: number) => void = () => {};
  #closed = false;

  /** @param path of the gateway's Unix socket; @param log is told why a connection was given up */
  constructor(path: string, channel: string, log: Log = () => {}) {
    this.#path = path;
    this.#channel = channel;
    this.#log = log;
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** True while nothing more should be sent. */
  get full(): boolean {
    return this.#socket === null || this.#socket.writableLength > MAX_BACKLOG_BYTES;
  }

  onSource(events: GatewaySourceEvents | null): void {
    this.#source = events;
  }

  /** Called at every new connection, before anything is sent over it: headers must be sent again. */
  onUp(callback: () => void): void {
    this.#onUp = callback;
  }

  /** Called with the stems that WHEP viewers want to hear, whenever they change. */
  onWanted(callback: (stems: readonly ViewerStem[]) => void): void {
    this.#onWanted = callback;
  }

  /** Called before the first tag when another process of this channel was on air; see the message. */
  onTimeline(callback: (leavingMs: number) => void): void {
    this.#onTimeline = callback;
  }

  open(): void {
    if (this.#closed) return;
    const socket = connect(this.#path);
    this.#socket = socket;
    const reader = new FrameReader<unknown>();
    socket.on("connect", () => {
      this.#connected = true;
      this.#backOff.reset();
      this.#send({ t: "attach", channel: this.#channel });
      this.#onUp();
      this.#source?.onBack();
    });
    socket.on("data", (chunk) => {
      try {
        for (const frame of reader.push(chunk)) this.#receive(frame.header, frame.payload);
      } catch (error) {
        // The position in the stream is lost (FrameError), the peer speaks another language, or a fault of ours: begin anew.
        const fault = faultText(error);
        if (fault !== this.#told) this.#log("error", "the connection to the gateway is given up", { fault });
        this.#told = fault;
        socket.destroy();
      }
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#down());
  }

  /** False when it was not sent: not connected, or too much waits already. */
  sendTag(tag: FlvTag): boolean {
    if (!this.#connected || this.full) return false;
    this.#send({ t: "out", tagType: tag.type, timestampMs: tag.timestampMs }, tag.body);
    return true;
  }

  /** A packet for WHEP viewers; lost when the connection is not there or full. @param timeMs on the timeline of the tags, not wrapped */
  sendOpus(stem: ViewerStem, timeMs: number, packet: Buffer): void {
    if (!this.#connected || this.full) return;
    this.#send({ t: "opus", stem, timeMs: Math.max(0, timeMs) % 2 ** 32 }, packet);
  }

  /** Asks the publisher for a key frame, where its protocol can. */
  wantKeyFrame(): void {
    if (this.#connected && !this.full) this.#send({ t: "keyFrame" });
  }

  /** Players stay: another process of this channel may follow, with other settings. Who removes the channel ends them. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#socket?.end();
    // A gateway that does not answer must not hold this process.
    const socket = this.#socket;
    setTimeout(() => socket?.destroy(), 200).unref();
  }

  #down(): void {
    const was = this.#connected;
    this.#connected = false;
    this.#socket = null;
    if (this.#closed) return;
    this.#onWanted([]);
    if (was) {
      this.lost += 1;
      this.#source?.onLost();
    }
    this.#retry = setTimeout(() => this.open(), was ? FASTEST_RETRY_MS : Math.min(this.#backOff.next(), 2000));
  }

  #send(message: ChannelToGateway, payload?: Buffer): void {
    this.#socket?.write(encodeFrame(message, payload));
  }

  #receive(header: unknown, payload: Buffer): void {
    const message = header as GatewayToChannel;
    switch (message.t) {
      case "tag":
        this.#source?.onTag({ type: message.tagType as TagType, timestampMs: message.timestampMs, body: payload });
        break;
      case "publisher":
        this.#source?.onPublisher(message.state === "live");
        break;
      case "timeline":
        this.#onTimeline(message.leavingMs);
        break;
      case "line":
        this.#source?.onLine(message.line);
        break;
      case "refused":
        this.#source?.onRefused(message.code, message.detail);
        break;
      case "wanted":
        this.#onWanted(message.stems);
        break;
      default:
        break;
    }
  }
}
