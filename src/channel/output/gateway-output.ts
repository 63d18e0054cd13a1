import type { GatewayLink } from "../gateway-link.js";
import type { OutputUnit } from "../units.js";
import { FlvMuxer } from "./flv-muxer.js";
import { KeyGate, type Output, type OutputStatus } from "./output.js";

/** The own server: players pull the programme from the gateway. Drops to the next key frame while the gateway is away or full. */
export class GatewayOutput implements Output {
  readonly #link: GatewayLink;
  readonly #gate = new KeyGate();
  #muxer = new FlvMuxer();

  constructor(link: GatewayLink) {
    this.#link = link;
    link.onUp(() => {
      this.#muxer = new FlvMuxer();
      this.#gate.shut();
    });
  }

  get status(): OutputStatus {
    return this.#link.connected
      ? { uri: "gateway", state: "live", reason: null }
      : { uri: "gateway", state: "back-off", reason: "SL_GATEWAY_DOWN" };
  }

  get waitsForKey(): boolean {
    return this.#gate.waits;
  }

  get counters(): Readonly<Record<string, number>> {
    return { gateway_units_dropped: this.#gate.dropped, gateway_lost: this.#link.lost };
  }

  write(unit: OutputUnit): void {
    if (!this.#link.connected || this.#link.full) this.#gate.shut();
    if (!this.#gate.passes(unit) || !this.#link.connected) return;
    for (const tag of this.#muxer.tags(unit)) {
      if (this.#link.sendTag(tag)) continue;
      // It may have been a header: all of them are sent again with the next key frame.
      this.#muxer = new FlvMuxer();
      this.#gate.shut();
      return;
    }
  }

  interrupted(): void {
    this.#gate.shut();
  }

  async close(): Promise<void> {}
}
