import { Assembler } from "../flv/assembler.js";
import { RtmpError } from "./chunk.js";

/** Plain RTMP handshake, server's side (Adobe RTMP 1.0, section 5.2): C0 C1 -> S0 S1 S2, then C2. */

export const HANDSHAKE_BYTES = 1536;
const VERSION = 3;

export class ServerHandshake {
  #hello = new Assembler(1 + HANDSHAKE_BYTES);
  #echo = new Assembler(HANDSHAKE_BYTES);

  /** @param random gives `n` random bytes for S1 */
  constructor(private readonly random: (n: number) => Buffer) {}

  get done(): boolean {
    return this.#echo.complete;
  }

  /**
   * Takes bytes; `used` of them belong to the handshake, what follows is the chunk stream. `send` is to be sent now.
   * The content of C2 is not checked: several clients do not echo exactly, and nothing depends on it.
   * @throws RtmpError for any version but 3 (6 is RTMPE, 22 and more are not RTMP at all)
   */
  push(data: Buffer): { used: number; send: Buffer | null } {
    let used = 0;
    let send: Buffer | null = null;
    if (!this.#hello.complete) {
      used = this.#hello.append(data, 0, data.length);
      if (this.#hello.filled > 0 && this.#hello.data[0] !== VERSION)
        throw new RtmpError(`version ${this.#hello.data[0]}`);
      if (this.#hello.complete) send = this.#answer(this.#hello.data.subarray(1));
    }
    if (this.#hello.complete) used += this.#echo.append(data, used, data.length);
    return { used, send };
  }

  #answer(c1: Buffer): Buffer {
    const s1 = Buffer.concat([Buffer.alloc(8), this.random(HANDSHAKE_BYTES - 8)]);
    return Buffer.concat([Buffer.of(VERSION), s1, c1]);
  }
}
