/** The newest values of one measurement; p50 and p95 on demand. */
export class Rolling {
  readonly #values: Float64Array;
  #count = 0;

  constructor(size = 256) {
    this.#values = new Float64Array(size);
  }

  add(value: number): void {
    this.#values[this.#count++ % this.#values.length] = value;
  }

  /** Null while there is nothing. */
  summary(): { p50: number; p95: number; max: number } | null {
    const n = Math.min(this.#count, this.#values.length);
    if (n === 0) return null;
    const sorted = this.#values.slice(0, n).sort();
    const at = (share: number): number => round(sorted[Math.min(n - 1, Math.floor(share * n))]!);
    return { p50: at(0.5), p95: at(0.95), max: round(sorted[n - 1]!) };
  }

  clear(): void {
    this.#count = 0;
  }
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Times of named stages. */
export class StageTimes {
  readonly #stages = new Map<string, Rolling>();

  add(stage: string, ms: number): void {
    let rolling = this.#stages.get(stage);
    if (rolling === undefined) {
      rolling = new Rolling();
      this.#stages.set(stage, rolling);
    }
    rolling.add(ms);
  }

  summary(): Record<string, { p50: number; p95: number }> {
    const out: Record<string, { p50: number; p95: number }> = {};
    for (const [name, rolling] of this.#stages) {
      const s = rolling.summary();
      if (s !== null) out[name] = { p50: s.p50, p95: s.p95 };
    }
    return out;
  }
}
