/** A look costs the binding some thousand bytes that it never frees, while somebody is connected; a hundred when nobody is. */
const EVERY_MS = { connected: 30_000, alone: 1000 } as const;

/**
 * Whether anybody takes what an srtsink sends. It says nothing by itself: as a caller it goes on calling, as a listener it waits, and what
 * comes meanwhile is dropped; but only of connections that stand do its statistics count packets.
 */
export class SrtReceivers {
  connected = false;
  #lookedMs = Number.NEGATIVE_INFINITY;

  /** @param statistics property `stats` of the element as text */
  constructor(private readonly statistics: () => string) {}

  /** A connection was lost or did not come about, says the bus: the next look is due at once. */
  changed(): void {
    this.#lookedMs = Number.NEGATIVE_INFINITY;
  }

  /** The whole pipeline was stopped. */
  lost(): void {
    this.connected = false;
    this.changed();
  }

  look(nowMs: number): boolean {
    if (nowMs - this.#lookedMs < EVERY_MS[this.connected ? "connected" : "alone"]) return this.connected;
    this.#lookedMs = nowMs;
    this.connected = this.statistics().includes("packets-sent");
    return this.connected;
  }
}
