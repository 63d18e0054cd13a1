/** The newest sound of a timeline by channel, for windows that are cut out of it. Bounded: what is older than `capacity` is gone. */
export class RecentSound {
  readonly #rings: readonly Float32Array[];
  readonly #capacity: number;
  #end = 0;

  constructor(channels: number, capacity: number) {
    this.#capacity = capacity;
    this.#rings = Array.from({ length: channels }, () => new Float32Array(capacity));
  }

  get channels(): number {
    return this.#rings.length;
  }

  /** Samples taken so far. */
  get end(): number {
    return this.#end;
  }

  push(channels: readonly Float32Array[]): void {
    const length = channels[0]?.length ?? 0;
    for (const [c, ring] of this.#rings.entries()) {
      for (let n = 0; n < length; ) {
        const at = (this.#end + n) % this.#capacity;
        const count = Math.min(length - n, this.#capacity - at);
        ring.set(channels[c]!.subarray(n, n + count), at);
        n += count;
      }
    }
    this.#end += length;
  }

  /** Samples `from` .. `from + count` of a channel; 0 before the beginning and after the end. Throws RangeError for what is gone. */
  copy(channel: number, from: number, count: number): Float32Array {
    const oldest = Math.max(0, this.#end - this.#capacity);
    if (from + count > 0 && Math.max(0, from) < oldest)
      throw new RangeError(`sound from ${from} on was asked for, the oldest is ${oldest}`);
    const out = new Float32Array(count);
    const ring = this.#rings[channel]!;
    for (let n = Math.max(0, from); n < Math.min(from + count, this.#end); n++)
      out[n - from] = ring[n % this.#capacity]!;
    return out;
  }
}
