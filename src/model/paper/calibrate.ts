import type { TensorMap } from "../engines/engine.js";
import { InferenceError } from "../inference.js";
import type { Range } from "./int8.js";

/** What the outputs of a graph with `probes` (graph.ts) say, window by window: the ranges that form `int8` needs. */
export class CalibrationRanges {
  readonly found: Record<string, Range> = {};
  windows = 0;
  readonly clips = new Set<string>();

  /** Throws SL_MODEL_INVALID for values that are not finite. */
  take(clip: string, y: TensorMap): void {
    this.windows += 1;
    this.clips.add(clip);
    for (const [name, { data }] of Object.entries(y)) {
      const [, key, what] = /^(.*)\/(least|most)$/.exec(name) ?? [];
      if (key === undefined) continue;
      const [least, most] = this.found[key] ?? [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      const value = Number(data[0]);
      if (!Number.isFinite(value))
        throw new InferenceError(
          "SL_MODEL_INVALID",
          `${clip}: ${name} is not finite: the model gives no numbers for this clip`,
        );
      this.found[key] = what === "least" ? [Math.min(least, value), most] : [least, Math.max(most, value)];
    }
  }
}

/** How far outputs are from what they should be, window by window. */
export class Differences {
  windows = 0;
  readonly clips = new Set<string>();
  floatMs = 0;
  int8Ms = 0;
  readonly #sums = new Map<string, { of: number; difference: number; count: number }>();

  take(clip: string, want: TensorMap, got: TensorMap): void {
    this.windows += 1;
    this.clips.add(clip);
    for (const [name, { data }] of Object.entries(want)) {
      const [a, b] = [data as Float32Array, got[name]!.data as Float32Array];
      const sum = this.#sums.get(name) ?? { of: 0, difference: 0, count: 0 };
      for (let i = 0; i < a.length; i++) {
        sum.of += a[i]! ** 2;
        sum.difference += (b[i]! - a[i]!) ** 2;
      }
      sum.count += a.length;
      this.#sums.set(name, sum);
    }
  }

  /** Root mean square of the difference over that of the output; the logit is a mean of the map's cells, which may cancel: over theirs. */
  relative(): Record<string, number> {
    const mean = (x: number, count: number): number => Math.sqrt(x / count);
    return Object.fromEntries(
      [...this.#sums].map(([name, { of, difference, count }]) => {
        const cells = name === "logit" ? this.#sums.get("cam") : undefined;
        const level = cells ? mean(cells.of, cells.count) : mean(of, count);
        return [name, mean(difference, count) / Math.max(level, Number.MIN_VALUE)];
      }),
    );
  }
}
