/** Arithmetic of counters that wrap (RTP's 16-bit sequence numbers and 32-bit timestamps, RFC 3550). */

/** Signed distance from `from` to `to` on a circle of 2^16: -32768..32767. */
export function difference16(to: number, from: number): number {
  return ((to - from) << 16) >> 16;
}

/** Signed distance from `from` to `to` on a circle of 2^32. */
export function difference32(to: number, from: number): number {
  return (to - from) | 0;
}

/** A 32-bit counter without its wraps: consecutive values may lie up to 2^31 apart, in both directions. */
export class Unwrapper32 {
  #last: { wrapped: number; value: number } | null = null;

  /** The value on an endless line; the first one stays as it is. */
  next(wrapped: number): number {
    const value = this.#last === null ? wrapped : this.#last.value + difference32(wrapped, this.#last.wrapped);
    this.#last = { wrapped, value };
    return value;
  }
}
