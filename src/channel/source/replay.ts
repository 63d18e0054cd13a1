import type { SourceUnit } from "../units.js";

/** Files up to this size are looped from memory. */
const MAX_BYTES = 64 * 1024 * 1024;
const TICK_MS = 5;

const timeOf = (unit: SourceUnit): number => (unit.kind === "video" ? unit.dtsMs : unit.ptsMs);

/**
 * Loops a short file from memory: GStreamer can neither rewind a pipeline that ends in gdppay (it refuses seeks), nor be built anew for
 * every round without a leak (0.4 MB each). Rounds follow each other without a restart: the timestamps simply go on.
 */
export class Replay {
  readonly #emit: (unit: SourceUnit) => void;
  #units: SourceUnit[] = [];
  #bytes = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(emit: (unit: SourceUnit) => void) {
    this.#emit = emit;
  }

  /** A first round begins (again). */
  clear(): void {
    this.#units = [];
    this.#bytes = 0;
  }

  /** Keeps a unit of the first round. */
  record(unit: SourceUnit): void {
    this.#bytes += unit.data.length;
    if (this.#bytes > MAX_BYTES) this.#units = [];
    else this.#units.push(unit);
  }

  /** The whole first round is known. */
  get ready(): boolean {
    return this.#units.length > 1 && this.#bytes <= MAX_BYTES;
  }

  /** From now on: the second round and all that follow. */
  start(): void {
    const units = [...this.#units].sort((a, b) => timeOf(a) - timeOf(b));
    const roundMs = Math.max(spanOf(units, "video"), spanOf(units, "sound"));
    const firstMs = timeOf(units[0]!);
    const begunMs = performance.now();
    let next = 0;
    this.#timer = setInterval(() => {
      const elapsedMs = performance.now() - begunMs;
      for (;;) {
        const round = Math.floor(next / units.length);
        const unit = units[next % units.length]!;
        if (round * roundMs + timeOf(unit) - firstMs > elapsedMs) return;
        this.#emit(shifted(unit, (round + 1) * roundMs));
        next += 1;
      }
    }, TICK_MS);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}

/** From the first unit of a track to the end of its last one. */
function spanOf(units: readonly SourceUnit[], kind: SourceUnit["kind"]): number {
  const times = units.filter((u) => u.kind === kind).map(timeOf);
  const span = (times.at(-1) ?? 0) - (times[0] ?? 0);
  return times.length > 1 ? span + span / (times.length - 1) : span;
}

function shifted(unit: SourceUnit, ms: number): SourceUnit {
  if (unit.kind === "video") return { ...unit, ptsMs: unit.ptsMs + ms, dtsMs: unit.dtsMs + ms };
  return { ...unit, ptsMs: unit.ptsMs + ms };
}
