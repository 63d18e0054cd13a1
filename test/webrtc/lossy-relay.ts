import { createSocket, type Socket } from "node:dgram";

export type Loss = {
  /** Share of datagrams that vanish, each way, 0..1. */
  readonly loss: number;
  /** Each datagram is late by 0 to so many milliseconds, so they overtake each other. */
  readonly jitterMs: number;
  readonly seed: number;
};

/** More than these are on their way only when nobody takes them. */
const MAX_ON_THE_WAY = 20_000;

/**
 * A bad line between one WebRTC peer and the gateway: the peer is told the relay's address in place of the gateway's (`rewrite`).
 * Passes everything until `bad` is set, so that what is measured is the media and not the set-up. The same seed loses the same datagrams
 * of the same sequence.
 */
export class LossyRelay {
  bad = false;
  readonly counters = { passed: 0, lost: 0, overflowed: 0 };
  #random: number;
  #onTheWay = 0;
  #peerPort: number | null = null;
  #gatewayPort = 0;
  #closed = false;

  private constructor(
    private readonly options: Loss,
    private readonly peerSide: Socket,
    private readonly gatewaySide: Socket,
  ) {
    this.#random = options.seed;
    peerSide.on("message", (data, { port }) => {
      this.#peerPort = port;
      this.#pass(() => gatewaySide.send(data, this.#gatewayPort, "127.0.0.1"));
    });
    gatewaySide.on("message", (data) => {
      this.#pass(() => this.#peerPort !== null && peerSide.send(data, this.#peerPort, "127.0.0.1"));
    });
    for (const socket of [peerSide, gatewaySide]) socket.on("error", () => {});
  }

  static async open(options: Loss): Promise<LossyRelay> {
    const sockets = [0, 1].map(() => createSocket({ type: "udp4", recvBufferSize: 4 * 1024 * 1024 }));
    await Promise.all(sockets.map((socket) => new Promise<void>((done) => socket.bind(0, "127.0.0.1", done))));
    return new LossyRelay(options, sockets[0]!, sockets[1]!);
  }

  /** The gateway's answer with our port in place of its own. */
  rewrite(sdp: string): string {
    const port = /^a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) /im.exec(sdp)?.[1];
    if (port === undefined) throw new Error(`no candidate on 127.0.0.1 in ${sdp}`);
    this.#gatewayPort = Number(port);
    return sdp.replaceAll(` 127.0.0.1 ${port} `, ` 127.0.0.1 ${this.peerSide.address().port} `);
  }

  close(): void {
    this.#closed = true;
    this.peerSide.close();
    this.gatewaySide.close();
  }

  #pass(send: () => void): void {
    if (!this.bad) {
      this.counters.passed += 1;
      send();
      return;
    }
    if (this.#next() < this.options.loss) {
      this.counters.lost += 1;
      return;
    }
    if (this.#onTheWay >= MAX_ON_THE_WAY) {
      this.counters.overflowed += 1;
      return;
    }
    this.#onTheWay += 1;
    setTimeout(() => {
      this.#onTheWay -= 1;
      this.counters.passed += 1;
      if (!this.#closed) send();
    }, this.#next() * this.options.jitterMs);
  }

  /** 0..1 (Lehmer's generator). */
  #next(): number {
    this.#random = (this.#random * 48_271) % 2_147_483_647;
    return this.#random / 2_147_483_647;
  }
}
