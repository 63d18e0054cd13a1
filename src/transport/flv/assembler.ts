/** Bytes reserved before the first growth; a peer pays for memory by sending, not by announcing. */
const FIRST_BYTES = 4096;

/**
 * Gathers a body of a known, untrusted length. The buffer grows with what really came (at most twofold), and the data is
 * copied: a view would keep the whole socket read alive for one byte of it.
 */
export class Assembler {
  #data: Buffer;
  #filled = 0;

  constructor(readonly length: number) {
    this.#data = Buffer.allocUnsafe(Math.min(length, FIRST_BYTES));
  }

  get filled(): number {
    return this.#filled;
  }

  get complete(): boolean {
    return this.#filled === this.length;
  }

  /** Takes what still fits of `source[from, to)`; returns how many bytes it took. */
  append(source: Buffer, from: number, to: number): number {
    const count = Math.min(this.length - this.#filled, to - from);
    const needed = this.#filled + count;
    if (needed > this.#data.length) {
      const grown = Buffer.allocUnsafe(Math.min(this.length, Math.max(needed, 2 * this.#data.length)));
      this.#data.copy(grown, 0, 0, this.#filled);
      this.#data = grown;
    }
    source.copy(this.#data, this.#filled, from, from + count);
    this.#filled = needed;
    return count;
  }

  /** The body; only when complete. */
  get data(): Buffer {
    return this.#data;
  }
}
