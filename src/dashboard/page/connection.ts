import type { DashboardEvent } from "../api.js";
import { decodeEvent, decodeRefusal, decodeState } from "./decode.js";

export type Link = { readonly up: boolean; readonly sinceMs: number };

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 3000;
/** A server that says nothing for this long is taken for gone, even if its connection stands. */
const SILENCE_MS = 4000;
/** A socket that says nothing for this long is replaced; the server answers a new one with its state. */
const SOCKET_SILENCE_MS = 20_000;
const ASK_AFTER_MS = 1500;
/** The state's slow parts (memory) change without an event. */
const ASK_EVERY_MS = 5000;

/** Keeps a connection to the server's events; asks for the state once in case the first event does not carry it. */
export class Connection {
  link: Link = { up: false, sinceMs: performance.now() };
  /** Why the server refuses this page, in its own words; null: it does not. */
  refusal: string | null = null;
  /** The server answers in words that this page does not know: it was opened before an upgrade. */
  isOutdated = false;
  #waitMs = FIRST_WAIT_MS;
  #heardMs = 0;
  #askedMs = 0;
  /** A channel runs, so that the server has something to send four times a second. */
  #newsAreDue = false;

  constructor(private readonly onEvent: (event: DashboardEvent) => void) {
    this.#open();
  }

  #open(): void {
    const url = new URL("/api/events", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    let socketHeardMs = performance.now();
    const watch = setInterval(() => {
      const silentMs = performance.now() - this.#heardMs;
      if (this.link.up && silentMs > SILENCE_MS) this.#set(false);
      // Answers over HTTP with a socket that says nothing: it is half open (a sleeping laptop, a lost NAT entry).
      if (!this.#newsAreDue) socketHeardMs = performance.now();
      if (socket.readyState === WebSocket.OPEN && performance.now() - socketHeardMs > SOCKET_SILENCE_MS) socket.close();
      // Without channels the server has nothing to send: ask whether it is there.
      const due = silentMs > ASK_AFTER_MS || performance.now() - this.#askedMs > ASK_EVERY_MS;
      if (due && socket.readyState === WebSocket.OPEN) void this.#fetchState();
    }, 1000);
    let opened = false;
    socket.addEventListener("open", () => {
      opened = true;
      this.#waitMs = FIRST_WAIT_MS;
      void this.#fetchState();
    });
    socket.addEventListener("message", ({ data }) => {
      socketHeardMs = performance.now();
      const event = typeof data === "string" ? decodeEvent(data) : null;
      if (event !== null) this.#heard(event);
    });
    socket.addEventListener("close", () => {
      clearInterval(watch);
      this.#set(false);
      // A page is not told why its socket was refused; the same question over HTTP is answered in words.
      if (!opened) void this.#fetchState(false);
      setTimeout(() => this.#open(), this.#waitMs * (0.75 + 0.5 * Math.random()));
      this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
    });
  }

  /** @param linked false: only whether the server refuses this page counts, for nothing else comes without a socket */
  async #fetchState(linked = true): Promise<void> {
    this.#askedMs = performance.now();
    try {
      const answer = await fetch("/api/state", { cache: "no-store", signal: AbortSignal.timeout(3000) });
      const text = await answer.text();
      this.refusal = answer.status === 403 ? decodeRefusal(text) : null;
      const state = answer.ok && linked ? decodeState(text) : null;
      this.isOutdated = answer.ok && linked && state === null;
      if (state !== null) this.#heard({ type: "state", state });
    } catch {
      this.refusal = null;
      // The socket's end tells the same, and is acted upon.
    }
  }

  #heard(event: DashboardEvent): void {
    if (event.type === "state")
      this.#newsAreDue = event.state.channels.some((channel) => channel.process === "running");
    this.#heardMs = performance.now();
    this.#set(true);
    this.onEvent(event);
  }

  #set(up: boolean): void {
    if (this.link.up !== up) this.link = { up, sinceMs: performance.now() };
  }
}
