import { chmod, lstat, unlink } from "node:fs/promises";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import type { FromGateway, ToGateway } from "../transport/ipc/messages.js";
import { ChannelLink } from "./channel-link.js";
import { type FlvPlayer, serveFlv } from "./http-flv.js";
import { Hub } from "./hub.js";
import { LIMITS, type Limits } from "./limits.js";
import { boundedLog, Counters, type Log } from "./report.js";
import { type PeerContext, RtmpPeer } from "./rtmp-peer.js";
import { DEFAULT_WEBRTC, WebRtcEndpoints } from "./webrtc.js";

export type GatewayConfig = Omit<Extract<ToGateway, { type: "configure" }>, "type">;
export type GatewayStatus = Omit<Extract<FromGateway, { type: "status" }>, "type">;

/** Time limits are looked at this often. */
const CHECK_MS = 250;
/** An HTTP request has no need for more head than this. */
const HTTP_OPTIONS = { maxHeaderSize: 8 * 1024, noDelay: true, connectionsCheckingInterval: 1000 };

/** The three listeners (RTMP; HTTP-FLV, WHIP and WHEP; channels) around one hub. */
export class Gateway {
  readonly counters = new Counters();
  readonly #limits: Limits;
  readonly #context: PeerContext;
  readonly #peers = new Set<RtmpPeer>();
  readonly #players = new Set<FlvPlayer>();
  readonly #links = new Set<ChannelLink>();
  #rtmp: Server | null = null;
  #http: HttpServer | null = null;
  #channels: Server | null = null;
  #webrtc: WebRtcEndpoints | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(log: Log, limits: Partial<Limits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
    const now = () => performance.now();
    const bounded = boundedLog(log, this.counters, this.#limits.maxLogLines, now);
    const hub = new Hub(this.#limits, this.counters, bounded, now);
    this.#context = { hub, limits: this.#limits, counters: this.counters, log: bounded, now };
  }

  /**
   * Opens all listeners; port 0 takes a free one.
   * @throws the system's error (EADDRINUSE, EACCES ...); everything is closed again then
   */
  async listen(config: GatewayConfig): Promise<{ rtmpPort: number; mediaPort: number }> {
    if (this.#closed || this.#rtmp) throw new Error("a gateway listens once");
    this.configure(config.streamKeys, config.channels);
    this.#rtmp = this.#createRtmp();
    this.#webrtc = new WebRtcEndpoints(this.#context, config.webrtc ?? DEFAULT_WEBRTC, config.media.host);
    this.#http = this.#createHttp();
    this.#channels = this.#createChannels();
    try {
      await removeStaleSocket(config.socket);
      await listening(this.#channels, { path: config.socket });
      await chmod(config.socket, 0o600);
      await listening(this.#rtmp, config.rtmp);
      await listening(this.#http, config.media);
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#timer = setInterval(() => this.#check(), CHECK_MS);
    return { rtmpPort: portOf(this.#rtmp), mediaPort: portOf(this.#http) };
  }

  /** Changes keys and channels while running; those that stay are not touched. */
  configure(streamKeys: Readonly<Record<string, string>>, channels: readonly string[]): void {
    this.#context.hub.configure(streamKeys, channels);
  }

  status(): GatewayStatus {
    const { hub } = this.#context;
    return {
      counters: this.counters.snapshot(),
      publishers: hub.publishers,
      players: hub.players,
      viewers: hub.viewers,
      refused: hub.refused,
    };
  }

  /** WHIP and WHEP sessions, those that are still connecting included. */
  get sessions(): number {
    return this.#webrtc?.sessions ?? 0;
  }

  /** The largest amount that one player's connection holds now, in bytes. */
  get largestPlayerBacklogBytes(): number {
    return Math.max(0, ...[...this.#peers, ...this.#players].map((peer) => peer.backlogBytes));
  }

  /** Ends all connections and listeners. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer) clearInterval(this.#timer);
    const servers = [this.#rtmp, this.#http, this.#channels].filter((server) => server !== null);
    const ends = servers.map((server) => new Promise<void>((done) => server.close(() => done())));
    this.#webrtc?.close();
    this.#context.hub.close();
    for (const peer of [...this.#peers, ...this.#players, ...this.#links]) peer.destroy();
    this.#http?.closeAllConnections();
    await Promise.all(ends);
  }

  #createRtmp(): Server {
    const server = createServer((socket) => {
      this.counters.add("rtmp_connections_total");
      if (this.#peers.size >= this.#maxRtmpConnections()) {
        this.counters.add("rtmp_connections_refused_total");
        socket.destroy();
        return;
      }
      this.#makeRoom();
      const peer = new RtmpPeer(socket, this.#context);
      this.#peers.add(peer);
      socket.on("close", () => this.#peers.delete(peer));
    });
    return server;
  }

  /** Connections that say nothing give way to new ones, or whoever opens enough of them would keep publishers out: the oldest of the address that has most. */
  #makeRoom(): void {
    const idle = [...this.#peers].filter((peer) => peer.idle);
    if (idle.length < this.#limits.maxPending) return;
    const of = (host: string): number => idle.filter((peer) => peer.host === host).length;
    const most = Math.max(...[...new Set(idle.map((peer) => peer.host))].map(of));
    this.counters.add("rtmp_connections_refused_total");
    idle.find((peer) => of(peer.host) === most)?.destroy();
  }

  #maxRtmpConnections(): number {
    return this.#limits.maxPublishers + this.#limits.maxPlayers + this.#limits.maxPending;
  }

  #createHttp(): HttpServer {
    const server = createHttpServer(HTTP_OPTIONS, (request, response) => {
      if (this.#webrtc?.handle(request, response)) return;
      const player = serveFlv(request, response, this.#context);
      if (!player) return;
      this.#players.add(player);
      response.on("close", () => this.#players.delete(player));
    });
    server.headersTimeout = this.#limits.handshakeMs;
    server.requestTimeout = this.#limits.handshakeMs;
    server.maxConnections = this.#limits.maxPlayers + this.#limits.maxPending;
    return server;
  }

  #createChannels(): Server {
    const server = createServer((socket) => {
      const link = new ChannelLink(socket, this.#context);
      this.#links.add(link);
      socket.on("close", () => this.#links.delete(link));
    });
    server.maxConnections = this.#limits.maxPublishers + this.#limits.maxPending;
    return server;
  }

  #check(): void {
    this.#context.hub.check();
    this.#webrtc?.check();
    for (const peer of [...this.#peers, ...this.#players, ...this.#links]) peer.check();
  }
}

function portOf(server: Server | HttpServer): number {
  return (server.address() as AddressInfo).port;
}

function listening(
  server: Server | HttpServer,
  where: { path: string } | { host: string; port: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      // What comes later (EMFILE on accept) costs one connection, not the process.
      server.on("error", () => {});
      resolve();
    });
  });
}

/** A socket file that a killed gateway has left; anything else at that path is left alone and makes `listen` fail. */
async function removeStaleSocket(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isSocket()) await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
