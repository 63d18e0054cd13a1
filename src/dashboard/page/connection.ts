import type { DashboardEvent } from "../api.js";
import { decodeEvent, decodeState } from "./decode.js";

export type Link = { readonly up: boolean; readonly sinceMs: number };

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 3000;
/** A server that says nothing for this long is taken for gone, even if its connection stands. */
const SILENCE_MS = 4000;
const ASK_AFTER_MS = 1500;

/** Keeps a connection to the server's events; asks for the state once in case the first event does not carry it. */
export class Connection {
  link: Link = { up: false, sinceMs: performance.now() };
  #waitMs = FIRST_WAIT_MS;
  #heardMs = 0;

  constructor(private readonly onEvent: (event: DashboardEvent) => void) {
    this.#open();
  }

  #open(): void {
    const url = new URL("/api/events", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    const watch = setInterval(() => {
      const silentMs = performance.now() - this.#heardMs;
      if (this.link.up && silentMs > SILENCE_MS) this.#set(false);
      // Without channels the server has nothing to send: ask whether it is there.
      if (silentMs > ASK_AFTER_MS && socket.readyState === WebSocket.OPEN) void this.#fetchState();
    }, 1000);
    socket.addEventListener("open", () => {
      this.#waitMs = FIRST_WAIT_MS;
      void this.#fetchState();
    });
    socket.addEventListener("message", ({ data }) => {
      const event = typeof data === "string" ? decodeEvent(data) : null;
      if (event !== null) this.#heard(event);
    });
    socket.addEventListener("close", () => {
      clearInterval(watch);
      this.#set(false);
      setTimeout(() => this.#open(), this.#waitMs * (0.75 + 0.5 * Math.random()));
      this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    });
  }

  async #fetchState(): Promise<void> {
    try {
      const answer = await fetch("/api/state", { cache: "no-store", signal: AbortSignal.timeout(3000) });
      const state = answer.ok ? decodeState(await answer.text()) : null;
      if (state !== null) this.#heard({ type: "state", state });
    } catch {
      // The socket's end tells the same, and is acted upon.
    }
  }

  #heard(event: DashboardEvent): void {
    this.#heardMs = performance.now();
    this.#set(true);
    this.onEvent(event);
  }

  #set(up: boolean): void {
    if (this.link.up !== up) this.link = { up, sinceMs: performance.now() };
  }
}
