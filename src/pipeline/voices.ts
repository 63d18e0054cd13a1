import type { StreamCard } from "../model/card.js";
import type { GainGrid } from "./types.js";

/** Voices that a model tells apart in one step, and what it knew at that time of whose they are. */
export type Voices = {
  readonly count: number;
  /** Masks 0..1, voice by voice, each on the cells of the step's gains: count x frames x bins. */
  readonly masks: Float32Array;
  /** How far each voice is believed to be the wanted one: count x units. */
  readonly belief: Float32Array;
  /** How well each voice fits the lips in a unit, as evidence (above 0: it does): count x units. */
  readonly fit: Float32Array;
  /** Logit of lips that speak: one number a unit. */
  readonly lips: Float32Array;
};

export type VoiceGate = NonNullable<StreamCard["voices"]>["gate"];

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

/** One unit of a face. `seen`: there was a picture of it. */
type Row = {
  readonly belief: readonly number[];
  readonly fit: readonly number[];
  readonly lips: number;
  readonly seen: boolean;
};

/**
 * What was found out about one face, unit by unit, while its run goes on: who decides about a step later than at once, knows more of it than
 * was known in it. Whose voice is whose adds up over seconds (`belief`); whether the person speaks at all is told by the lips around the
 * moment, and by whether they fit the voice that is heard: another voice under resting lips does not. Bounded: units older than `kept` are
 * forgotten.
 */
export class Beliefs {
  readonly #count: number;
  readonly #gate: VoiceGate;
  readonly #kept: number;
  readonly #rows: Row[] = [];
  /** Unit of the first row. */
  #from = 0;

  constructor(count: number, gate: VoiceGate, keptUnits: number) {
    this.#count = count;
    this.#gate = gate;
    this.#kept = keptUnits + gate.fit.before + gate.lips.before;
  }

  /**
   * @param fromUnit where these voices begin; what comes after a hole begins anew
   * @param seen whether there was a picture of the face
   */
  add(fromUnit: number, { belief, fit, lips }: Voices, seen: boolean): void {
    if (fromUnit !== this.#from + this.#rows.length) {
      this.#rows.length = 0;
      this.#from = fromUnit;
    }
    const units = lips.length;
    const of = (x: Float32Array, u: number): number[] =>
      Array.from({ length: this.#count }, (_, v) => x[v * units + u]!);
    for (let u = 0; u < units; u++) this.#rows.push({ belief: of(belief, u), fit: of(fit, u), lips: lips[u]!, seen });
    const over = this.#rows.length - this.#kept;
    if (over <= 0) return;
    this.#rows.splice(0, over);
    this.#from += over;
  }

  /**
   * Weights of the voices in units from `fromUnit` on, count x units, 0..1: whose voice is whose as it is known `later` units after each, and how far
   * the lips let it through, of which as much of the future counts. What lies beyond the newest unit is what the newest says.
   */
  weights(fromUnit: number, units: number, later: number): Float32Array {
    const out = new Float32Array(this.#count * units);
    for (let u = 0; u < units; u++) {
      const i = this.#index(fromUnit + u);
      const { belief } = this.#rows[this.#index(fromUnit + u + later)]!;
      for (let v = 0; v < this.#count; v++) out[v * units + u] = belief[v]! * this.#openness(i, v, later);
    }
    return out;
  }

  /** Whether the person is heard now, by what is known in the newest unit. */
  speaks(): boolean {
    const at = this.#rows.length - 1;
    return at >= 0 && this.#rows[at]!.belief.some((belief, v) => belief * this.#openness(at, v, 0) >= 0.5);
  }

  /** How far the lips let a voice through in a row, 0..1; without a picture nothing speaks against it. */
  #openness(at: number, voice: number, later: number): number {
    const { fitWeight, shut, open, lips, fit, prior } = this.#gate;
    if (!this.#rows[at]!.seen) return 1;
    const seen = (around: VoiceGate["fit"]): Row[] =>
      this.#rows.slice(Math.max(0, at - around.before), at + Math.min(around.after, later) + 1).filter((r) => r.seen);
    const mean = (values: readonly number[], more = 0, value = 0): number =>
      values.reduce((a, b) => a + b, more * value) / (values.length + more);
    const spoken = mean(seen(lips).map((r) => r.lips));
    const fits = mean(
      seen(fit).map((r) => r.fit[voice]!),
      prior.units,
      prior.fit,
    );
    return Math.min(1, Math.max(0, (spoken + fitWeight * fits - shut) / (open - shut)));
  }

  /** Of the row that stands for a unit. */
  #index(unit: number): number {
    if (this.#rows.length === 0) throw new RangeError("nothing is known of this face yet");
    return Math.min(this.#rows.length - 1, Math.max(0, unit - this.#from));
  }
}
