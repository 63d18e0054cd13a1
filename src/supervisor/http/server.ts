import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { CHANNEL_NAME } from "../../config/schema.js";
import type { ChannelPatch } from "../../transport/ipc/messages.js";
import type { Log } from "../log.js";
import type { ServerEvent, ServerState } from "../state.js";
import { EVENT_LIMITS, EventHub, type EventLimits } from "./events.js";
import { serveFile } from "./files.js";
import { checkSource } from "./guard.js";
import { metricsText } from "./metrics.js";
import { parsePatch } from "./patch.js";
import { Problem, readJson, send, sendJson, sendProblem } from "./problem.js";

/** What the server asks of the service; the supervisor, or a fixture. */
export type Backend = {
  state(): ServerState;
  /** Names of processes that are not ready. */
  waitingFor(): string[];
  patch(name: string, patch: ChannelPatch): Required<ChannelPatch> | null;
  on(event: "event", listener: (event: ServerEvent) => void): unknown;
  off(event: "event", listener: (event: ServerEvent) => void): unknown;
};

export type HttpOptions = {
  readonly backend: Backend;
  readonly log: Log;
  readonly pageFolder: string;
  /** Host names, beside localhost, by which settings may be read and changed; asked for at each request. */
  readonly allowedHosts: () => readonly string[];
  readonly eventLimits?: EventLimits;
};

const MAX_BODY_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 256;

/** Dashboard, API, metrics and health: plain node:http, seven addresses. */
export class HttpServer {
  readonly #options: HttpOptions;
  readonly #server: Server;
  readonly #events: EventHub;
  readonly #onEvent = (event: ServerEvent): void => this.#events.broadcast(event);

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#events = new EventHub(
      () => ({ type: "state", state: options.backend.state() }),
      options.eventLimits ?? EVENT_LIMITS,
    );
    this.#server = createServer(
      { requestTimeout: 10_000, headersTimeout: 5000, keepAliveTimeout: 5000, connectionsCheckingInterval: 2000 },
      (req, res) => void this.#answer(req, res),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on("upgrade", (req, socket, head) => this.#upgrade(req, socket, head));
    this.#server.on("clientError", (_error, socket) => {
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
      else socket.destroy();
    });
    options.backend.on("event", this.#onEvent);
  }

  /** The port that is listened on; 0 before `listen`. */
  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? 0;
  }

  /** @throws NodeJS.ErrnoException, EADDRINUSE when the port is taken */
  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, () => {
        this.#server.off("error", reject);
        // Too many open files and the like: told, not fatal.
        this.#server.on("error", (error) => this.#options.log.error({ error: error.message }, "HTTP server"));
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    this.#options.backend.off("event", this.#onEvent);
    this.#events.close();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.#server.closeAllConnections(), 300);
    await closed;
    clearTimeout(timer);
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    try {
      await this.#route(req, res);
    } catch (error) {
      if (res.headersSent || res.destroyed) {
        res.destroy();
        return;
      }
      if (error instanceof Problem) {
        sendProblem(req, res, error);
        return;
      }
      if (req.destroyed && !req.complete) return; // the client went away while it sent
      this.#options.log.error({ error: String((error as Error).stack ?? error), url: req.url }, "a request failed");
      sendProblem(
        req,
        res,
        new Problem(500, "SL_HTTP_INTERNAL", "Internal error", "the request could not be answered; the log has more"),
      );
    }
  }

  async #route(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { backend } = this.#options;
    const path = pathOf(req);
    switch (path) {
      case "/healthz":
        allow(req, "GET", "HEAD");
        return send(req, res, 200, "text/plain; charset=utf-8", "ok\n");
      case "/readyz": {
        allow(req, "GET", "HEAD");
        const waiting = backend.waitingFor();
        return sendJson(req, res, waiting.length === 0 ? 200 : 503, {
          ready: waiting.length === 0,
          waitingFor: waiting,
        });
      }
      case "/metrics": {
        allow(req, "GET", "HEAD");
        const text = await metricsText(backend.state(), {
          clients: this.#events.clients,
          dropped: this.#events.dropped,
        });
        return send(req, res, 200, "text/plain; version=0.0.4; charset=utf-8", text);
      }
      case "/api/state":
        allow(req, "GET", "HEAD");
        checkSource(req, this.#options.allowedHosts());
        return sendJson(req, res, 200, backend.state());
      case "/api/events":
        throw new Problem(426, "SL_HTTP_METHOD", "Upgrade required", "this address speaks WebSocket", {
          headers: { Upgrade: "websocket" },
        });
    }
    if (path.startsWith("/api/channels/")) return this.#channel(req, res, path.slice("/api/channels/".length));
    if (path === "/api" || path.startsWith("/api/"))
      throw new Problem(404, "SL_HTTP_NOT_FOUND", "Not found", "nothing is at this address");
    allow(req, "GET", "HEAD");
    await serveFile(req, res, path, this.#options.pageFolder, backend.state().mediaPort);
  }

  async #channel(req: IncomingMessage, res: ServerResponse, name: string): Promise<void> {
    const { backend } = this.#options;
    allow(req, "GET", "HEAD", "PATCH");
    checkSource(req, this.#options.allowedHosts());
    const unknown = new Problem(
      404,
      "SL_CHANNEL_UNKNOWN",
      "No such channel",
      `there is no channel ${JSON.stringify(name.slice(0, 100))}`,
    );
    if (!CHANNEL_NAME.test(name)) throw unknown;
    const channel = backend.state().channels.find((c) => c.name === name);
    if (!channel) throw unknown;
    if (req.method !== "PATCH") return sendJson(req, res, 200, channel);
    const settings = backend.patch(name, parsePatch(await readJson(req, MAX_BODY_BYTES)));
    if (!settings) throw unknown;
    sendJson(req, res, 200, { name, ...settings });
  }

  #upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    const refuse = (status: string): void => {
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      setTimeout(() => socket.destroy(), 500).unref();
    };
    try {
      if (pathOf(req) !== "/api/events") {
        refuse("404 Not Found");
        return;
      }
      checkSource(req, this.#options.allowedHosts());
      if (this.#events.full) refuse("503 Service Unavailable");
      else this.#events.accept(req, socket, head);
    } catch (error) {
      refuse(error instanceof Problem && error.status === 403 ? "403 Forbidden" : "400 Bad Request");
    }
  }
}

/** The path as it was sent, without the query; it is never decoded, since no address of ours needs that. */
function pathOf(req: IncomingMessage): string {
  const url = req.url ?? "/";
  const end = url.search(/[?#]/);
  return end < 0 ? url : url.slice(0, end);
}

/** @throws Problem 405 */
function allow(req: IncomingMessage, ...methods: string[]): void {
  if (methods.includes(req.method ?? "")) return;
  throw new Problem(405, "SL_HTTP_METHOD", "Method not allowed", `this address knows ${methods.join(", ")}`, {
    headers: { Allow: methods.join(", ") },
  });
}
