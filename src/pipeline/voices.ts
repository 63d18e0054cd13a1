import type { GainGrid } from "./types.js";

/** Voices that a model tells apart in one step, and what it knew at that time of whose they are. */
export type Voices = {
  readonly count: number;
  /** Masks 0..1, voice by voice, each on the cells of the step's gains: count x frames x bins. */
  readonly masks: Float32Array;
  /** How far each voice is believed to be the wanted one: count x units. */
  readonly belief: Float32Array;
  /** How far the lips are believed to speak, 0..1: one number a unit. */
  readonly open: Float32Array;
};

/**
 * The gains of a step, each voice let through as far as it is believed to be the wanted one.
 *
 * @param grid the cells of the step
 * @param weights count x units, 0..1; a unit's weights hold for its frames
 */
export function mixedVoices(grid: Omit<GainGrid, "data">, { count, masks }: Voices, weights: Float32Array): GainGrid {
  const { frames, bins } = grid;
  const units = weights.length / count;
  if (masks.length !== count * frames * bins || !Number.isInteger(units) || frames % units !== 0) {
    throw new RangeError(
      `${count} voices on ${frames} x ${bins} cells do not fit ${masks.length} values and ${weights.length} weights`,
    );
  }
  const data = new Float32Array(frames * bins);
  const perUnit = frames / units;
  for (let v = 0; v < count; v++) {
    for (let f = 0; f < frames; f++) {
      const weight = weights[v * units + Math.floor(f / perUnit)]!;
      const from = (v * frames + f) * bins;
      for (let b = 0; b < bins; b++) data[f * bins + b]! += weight * masks[from + b]!;
    }
  }
  for (let i = 0; i < data.length; i++) data[i] = Math.min(1, data[i]!);
  return { ...grid, data };
}

/**
 * What was found out about one face, unit by unit, while its run goes on: who decides about a step later than at once, knows more of it than
 * was known in it. Bounded: units older than `kept` are forgotten.
 */
export class Beliefs {
  readonly #count: number;
  readonly #kept: number;
  /** One row a unit: a belief for each voice, how open the lips are, whether they were seen (0, 1). */
  readonly #rows: Float32Array[] = [];
  /** Unit of the first row. */
  #from = 0;

  constructor(count: number, keptUnits: number) {
    this.#count = count;
    this.#kept = keptUnits;
  }

  /**
   * @param fromUnit where these voices begin; what comes after a hole begins anew
   * @param seen whether there was a picture of the face
   */
  add(fromUnit: number, { belief, open }: Voices, seen: boolean): void {
    if (fromUnit !== this.#from + this.#rows.length) {
      this.#rows.length = 0;
      this.#from = fromUnit;
    }
    for (let u = 0; u < open.length; u++) {
      const row = new Float32Array(this.#count + 2);
      for (let v = 0; v < this.#count; v++) row[v] = belief[v * open.length + u]!;
      row[this.#count] = open[u]!;
      row[this.#count + 1] = seen ? 1 : 0;
      this.#rows.push(row);
    }
    const over = this.#rows.length - this.#kept;
    if (over <= 0) return;
    this.#rows.splice(0, over);
    this.#from += over;
  }

  /**
   * Weights of the voices in units from `fromUnit` on, count x units: whose voice is whose as it is known `later` units after each, whether the lips
   * speak as it is known `openLater` units after, while they are seen: what says nothing of lips opens for all. What lies beyond the newest is
   * what the newest says.
   */
  weights(fromUnit: number, units: number, later: number, openLater: number): Float32Array {
    const out = new Float32Array(this.#count * units);
    for (let u = 0; u < units; u++) {
      const belief = this.#at(fromUnit + u + later);
      let open = this.#at(fromUnit + u);
      for (let k = 1; k <= openLater; k++) {
        const next = this.#at(fromUnit + u + k);
        if (next[this.#count + 1] !== open[this.#count + 1]) break;
        open = next;
      }
      for (let v = 0; v < this.#count; v++) out[v * units + u] = belief[v]! * open[this.#count]!;
    }
    return out;
  }

  #at(unit: number): Float32Array {
    const i = Math.min(this.#rows.length - 1, Math.max(0, unit - this.#from));
    const row = this.#rows[i];
    if (row === undefined) throw new RangeError("nothing is known of this face yet");
    return row;
  }
}
