import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import type { ServerEvent } from "../state.js";

export type EventLimits = {
  readonly maxClients: number;
  /** What may wait for one client before it is dropped. Bytes. */
  readonly maxWaitingBytes: number;
  /** A client that does not answer a ping until the next one is dropped. Milliseconds. */
  readonly pingIntervalMs: number;
};
export const EVENT_LIMITS: EventLimits = { maxClients: 64, maxWaitingBytes: 512 * 1024, pingIntervalMs: 15_000 };

/** WebSocket /api/events: what happens, as it happens, to all who listen. One who reads too slowly is dropped and may come back. */
export class EventHub {
  readonly #server: WebSocketServer;
  readonly #first: () => ServerEvent;
  readonly #limits: EventLimits;
  readonly #answered = new WeakMap<WebSocket, boolean>();
  readonly #pings: NodeJS.Timeout;
  #dropped = 0;

  constructor(first: () => ServerEvent, limits: EventLimits = EVENT_LIMITS) {
    this.#first = first;
    this.#limits = limits;
    // Clients have nothing to say here: a few bytes are enough for a polite close.
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: 1024,
      perMessageDeflate: false,
      clientTracking: true,
    });
    this.#pings = setInterval(() => this.#ping(), limits.pingIntervalMs);
    this.#pings.unref();
  }

  get clients(): number {
    return this.#server.clients.size;
  }

  /** Clients that were dropped because they did not read. */
  get dropped(): number {
    return this.#dropped;
  }

  get full(): boolean {
    return this.#server.clients.size >= this.#limits.maxClients;
  }

  accept(req: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#server.handleUpgrade(req, socket, head, (client) => {
      this.#answered.set(client, true);
      client.on("pong", () => this.#answered.set(client, true));
      client.on("error", () => client.terminate());
      client.send(JSON.stringify(this.#first()), noError);
    });
  }

  broadcast(event: ServerEvent): void {
    if (this.#server.clients.size === 0) return;
    const text = JSON.stringify(event);
    for (const client of this.#server.clients) {
      if (client.readyState !== WebSocket.OPEN) continue;
      if (client.bufferedAmount > this.#limits.maxWaitingBytes) {
        this.#dropped++;
        client.terminate();
      } else client.send(text, noError);
    }
  }

  close(): void {
    clearInterval(this.#pings);
    for (const client of this.#server.clients) {
      client.close(1001);
      // Not every client answers a close; the service does not wait for it.
      setTimeout(() => client.terminate(), 200).unref();
    }
    this.#server.close();
  }

  #ping(): void {
    for (const client of this.#server.clients) {
      if (this.#answered.get(client) === false) {
        this.#dropped++;
        client.terminate();
        continue;
      }
      this.#answered.set(client, false);
      client.ping(noError);
    }
  }
}

/** A failed send is followed by the client's close event, which takes it off the list. */
const noError = (): void => {};
