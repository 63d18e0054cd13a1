import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import type { FlvTag } from "../transport/flv/tag.js";
import { type RtmpEvent, RtmpSession } from "../transport/rtmp/session.js";
import type { Hub } from "./hub.js";
import type { Limits } from "./limits.js";
import type { Counters, Log } from "./report.js";
import { isRefusal, type Publication, type PublisherPeer, type Refusal, type Side } from "./roles.js";
import type { Sink, Subscription } from "./stream.js";

export type PeerContext = {
  readonly hub: Hub;
  readonly limits: Limits;
  readonly counters: Counters;
  readonly log: Log;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
};

type Role =
  | { readonly kind: "none" }
  | { readonly kind: "publisher"; readonly streamId: number; readonly publication: Publication }
  | { readonly kind: "player"; readonly streamId: number; readonly subscription: Subscription };

const NO_ROLE: Role = { kind: "none" };

/** One RTMP connection: joins a socket, a protocol session and the hub. Whatever a peer does wrong ends only this connection. */
export class RtmpPeer implements PublisherPeer, Sink {
  readonly label: string;
  readonly host: string;
  #session = new RtmpSession(randomBytes);
  #role: Role = NO_ROLE;
  #closing = false;
  #lastReceivedMs: number;
  #lastTakenMs: number;
  #backlogSeen = 0;
  #playStreamId = 0;
  readonly #openedMs: number;

  constructor(
    private readonly socket: Socket,
    private readonly context: PeerContext,
  ) {
    this.host = socket.remoteAddress ?? "?";
    this.label = `${this.host}:${socket.remotePort ?? 0}`;
    this.#openedMs = context.now();
    this.#lastReceivedMs = this.#openedMs;
    this.#lastTakenMs = this.#openedMs;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#leave());
    // `end` needs no handler: sockets of this server do not stay half open.
  }

  get idle(): boolean {
    return this.#role.kind === "none";
  }

  get backlogBytes(): number {
    return this.socket.writableLength;
  }

  /** Looks at the time limits; called a few times a second. */
  check(): void {
    const { limits, counters, now } = this.context;
    const time = now();
    if (this.#closing) return;
    if (this.#role.kind === "none" && time - this.#openedMs > limits.handshakeMs) {
      counters.add("rtmp_timeouts_total");
      this.#fail("SL_RTMP_TIMEOUT", "neither publish nor play in time");
    } else if (this.#role.kind === "publisher" && time - this.#lastReceivedMs > limits.publisherSilentMs) {
      counters.add("publishers_silent_total");
      this.#fail("SL_PUBLISHER_SILENT", `no byte for ${limits.publisherSilentMs} ms`);
    } else if (this.#role.kind === "player") this.#checkPlayer(time);
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#leave();
    this.socket.destroy();
  }

  drop(reason: Refusal): void {
    if (this.#role.kind !== "publisher") return;
    const { streamId } = this.#role;
    this.#role = NO_ROLE;
    this.#send(this.#session.failPublish(streamId, describe(reason)));
    this.#finish();
  }

  write(tag: FlvTag): void {
    this.context.counters.add("tags_out_total");
    this.context.counters.add("bytes_out_total", tag.body.length);
    this.#send(this.#session.media(this.#playStreamId, tag));
  }

  end(): void {
    if (this.#role.kind !== "player") return;
    const { streamId, subscription } = this.#role;
    this.#role = NO_ROLE;
    subscription.cancel();
    this.#send(this.#session.endPlay(streamId));
    this.#finish(this.context.limits.drainMs);
  }

  #receive(chunk: Buffer): void {
    this.#lastReceivedMs = this.context.now();
    if (this.#closing) return;
    try {
      for (const event of this.#session.push(chunk)) {
        this.#on(event);
        if (this.#closing) return;
      }
    } catch (error) {
      // Every error here comes from what the peer sent; nothing but this connection depends on it.
      this.context.counters.add("rtmp_malformed_total");
      this.#fail(codeOf(error), error instanceof Error ? error.message : String(error));
    }
  }

  #on(event: RtmpEvent): void {
    switch (event.type) {
      case "send":
        this.#send(event.data);
        return;
      case "publish":
        this.#publish(event.streamId, event.app, event.name);
        return;
      case "play":
        this.#play(event.streamId, event.app, event.name);
        return;
      case "media":
        if (this.#role.kind === "publisher" && this.#role.streamId === event.streamId)
          this.#role.publication.push(event.tag);
        return;
      case "close":
        if (this.#role.kind !== "none" && this.#role.streamId === event.streamId) {
          this.#leave();
          this.#finish();
        }
    }
  }

  #publish(streamId: number, app: string, name: string): void {
    const path = splitPath(app, name);
    const { hub } = this.context;
    const answer: Publication | Refusal =
      this.#role.kind !== "none"
        ? { code: "SL_RTMP_MALFORMED", detail: "one stream for each connection" }
        : path.app !== "live"
          ? hub.refusePath(this, "publish to rtmp://HOST/live/KEY")
          : hub.publish(path.name, this);
    if (isRefusal(answer)) {
      this.#send(this.#session.refusePublish(streamId, describe(answer)));
      this.#leave();
      this.#finish();
      return;
    }
    this.#role = { kind: "publisher", streamId, publication: answer };
    this.#send(this.#session.acceptPublish(streamId));
  }

  #play(streamId: number, app: string, name: string): void {
    const path = splitPath(app, name);
    const side: Side | null = path.app === "in" || path.app === "out" ? path.app : null;
    if (this.#role.kind !== "none" || side === null) {
      this.#send(
        this.#session.refusePlay(
          streamId,
          "NetStream.Play.Failed",
          "SL_STREAM_UNKNOWN: play /out/CHANNEL or /in/CHANNEL",
        ),
      );
      this.#leave();
      this.#finish();
      return;
    }
    const answer = this.context.hub.play(side, path.name, this);
    if (isRefusal(answer)) {
      const code = answer.code === "SL_STREAM_UNKNOWN" ? "NetStream.Play.StreamNotFound" : "NetStream.Play.Failed";
      this.#send(this.#session.refusePlay(streamId, code, describe(answer)));
      this.#finish();
      return;
    }
    this.#role = { kind: "player", streamId, subscription: answer };
    this.#playStreamId = streamId;
    this.#send(this.#session.acceptPlay(streamId));
    answer.resume();
  }

  #checkPlayer(time: number): void {
    const backlog = this.socket.writableLength;
    if (backlog === 0 || backlog < this.#backlogSeen) this.#lastTakenMs = time;
    this.#backlogSeen = backlog;
    if (time - this.#lastTakenMs <= this.context.limits.playerStalledMs) return;
    this.context.counters.add("players_stalled_total");
    this.#fail("SL_PLAYER_STALLED", `took no byte for ${this.context.limits.playerStalledMs} ms`);
  }

  #drained(): void {
    this.#lastTakenMs = this.context.now();
    if (this.#role.kind === "player") this.#role.subscription.resume();
  }

  #send(parts: readonly Buffer[]): void {
    if (this.socket.destroyed || this.socket.writableEnded) return;
    this.socket.cork();
    for (const part of parts) this.socket.write(part);
    this.socket.uncork();
  }

  /** Lets go of the hub. Idempotent. */
  #leave(): void {
    const role = this.#role;
    this.#role = NO_ROLE;
    if (role.kind === "publisher") role.publication.end();
    if (role.kind === "player") role.subscription.cancel();
  }

  /** Ends the connection after what was sent; a peer that does not read is not waited for. */
  #finish(waitMs = this.context.limits.lingerMs): void {
    if (this.#closing) return;
    this.#closing = true;
    this.socket.end();
    setTimeout(() => this.socket.destroy(), waitMs).unref();
  }

  #fail(code: string, detail: string): void {
    this.context.log("warn", "connection closed", { peer: this.label, code, detail });
    this.#closing = true;
    this.destroy();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "SL_RTMP_MALFORMED";
}

function describe(reason: Refusal): string {
  return `${reason.code}: ${reason.detail}`;
}

/** Clients cut `rtmp://host/a/b/c` in different places; the first part of the whole path is ours. */
function splitPath(app: string, name: string): { app: string; name: string } {
  const path = `${app}/${name}`;
  const slash = path.indexOf("/");
  return { app: path.slice(0, slash), name: path.slice(slash + 1) };
}
