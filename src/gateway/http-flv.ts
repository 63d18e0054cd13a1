import type { IncomingMessage, ServerResponse } from "node:http";
import { type FlvTag, flvHeader, flvTagParts } from "../transport/flv/tag.js";
import { isRefusal, type Side } from "./roles.js";
import type { PeerContext } from "./rtmp-peer.js";
import type { Sink, Subscription } from "./stream.js";

/** Paths of players: /out/CHANNEL.flv and /in/CHANNEL.flv. */
const PATH = /^\/(in|out)\/([a-z0-9][a-z0-9_-]{0,63})\.flv$/;
/** Pages from anywhere may play: mpegts.js fetches from another origin than the dashboard's. */
const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
  "Access-Control-Allow-Headers": "*",
} as const;

/** Answers one HTTP request; returns the player if it became one. */
export function serveFlv(request: IncomingMessage, response: ServerResponse, context: PeerContext): FlvPlayer | null {
  context.counters.add("http_requests_total");
  request.resume();
  // Never a second request on a connection. Chunked coding stays on: players then know a clean end from a broken connection.
  response.shouldKeepAlive = false;
  const path = PATH.exec((request.url ?? "").split("?", 1)[0]!);
  if (request.method === "OPTIONS") return reply(response, 204, "");
  if (request.method !== "GET" && request.method !== "HEAD")
    return reply(response, 405, "only GET, HEAD and OPTIONS\n");
  if (!path) return reply(response, 404, "SL_STREAM_UNKNOWN: ask for /out/CHANNEL.flv or /in/CHANNEL.flv\n");
  if (request.method === "HEAD") return reply(response, 200, "");
  const player = new FlvPlayer(response, context);
  const answer = context.hub.play(path[1] as Side, path[2]!, player);
  if (isRefusal(answer)) {
    return reply(response, answer.code === "SL_STREAM_UNKNOWN" ? 404 : 503, `${answer.code}: ${answer.detail}\n`);
  }
  player.start(answer);
  return player;
}

function reply(response: ServerResponse, status: number, text: string): null {
  response.writeHead(status, { ...CORS, "Content-Type": status === 200 ? "video/x-flv" : "text/plain; charset=utf-8" });
  response.end(text);
  return null;
}

/** A player over HTTP. */
export class FlvPlayer implements Sink {
  #subscription: Subscription | null = null;
  #headerSent = false;
  #lastTakenMs: number;
  #backlogSeen = 0;

  constructor(
    private readonly response: ServerResponse,
    private readonly context: PeerContext,
  ) {
    this.#lastTakenMs = context.now();
  }

  get backlogBytes(): number {
    return this.response.writableLength;
  }

  start(subscription: Subscription): void {
    const { response } = this;
    this.#subscription = subscription;
    response.writeHead(200, { ...CORS, "Content-Type": "video/x-flv", "Cache-Control": "no-store" });
    response.flushHeaders();
    response.socket?.setNoDelay(true);
    response.socket?.setKeepAlive(true, 10_000);
    response.on("drain", () => {
      this.#lastTakenMs = this.context.now();
      subscription.resume();
    });
    response.on("error", () => this.destroy());
    response.on("close", () => subscription.cancel());
    subscription.resume();
  }

  write(tag: FlvTag): void {
    if (this.response.destroyed || this.response.writableEnded) return;
    this.context.counters.add("tags_out_total");
    this.context.counters.add("bytes_out_total", tag.body.length);
    this.response.cork();
    // Not earlier: a player that waits for a publisher should see the start of the file when there is one.
    if (!this.#headerSent) this.response.write(flvHeader());
    this.#headerSent = true;
    for (const part of flvTagParts(tag)) this.response.write(part);
    this.response.uncork();
  }

  end(): void {
    this.#subscription?.cancel();
    this.response.end();
    setTimeout(() => this.response.destroy(), this.context.limits.drainMs).unref();
  }

  /** Looks at the time limit of a player that takes nothing. */
  check(): void {
    const time = this.context.now();
    const backlog = this.response.writableLength;
    if (backlog === 0 || backlog < this.#backlogSeen) this.#lastTakenMs = time;
    this.#backlogSeen = backlog;
    if (time - this.#lastTakenMs <= this.context.limits.playerStalledMs) return;
    this.context.counters.add("players_stalled_total");
    this.destroy();
  }

  destroy(): void {
    this.#subscription?.cancel();
    this.response.destroy();
  }
}
