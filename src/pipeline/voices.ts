import type { StreamCard } from "../model/card.js";
import type { GainGrid } from "./types.js";
import { type MemoryRules, VoiceMemory } from "./voice-memory.js";

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
  /** Vectors that say who speaks, count x units x size; empty where the model gives none. */
  readonly speaker: Float32Array;
};

/** How a model's voices are judged: its card's `voices`. */
export type VoiceRules = {
  readonly count: number;
  readonly gate: VoiceGate;
  readonly memory?: MemoryRules | undefined;
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
  readonly speaker: readonly Float32Array[];
  readonly seen: boolean;
};

type Around = VoiceGate["around"]["fit"];

/**
 * What was found out about one face, unit by unit, while its run goes on: who decides about a step later than at once, knows more of it than
 * was known in it. Whose voice is whose adds up over seconds (`belief`); whether the person speaks at all is told by the lips around the
 * moment, by whether they fit the voice that is heard, and by whether it is the voice that the person was heard with before: another voice
 * under resting lips is neither. Bounded: units older than `kept` are forgotten.
 */
export class Beliefs {
  /** Of this person; null: the model's vectors do not say who speaks. */
  readonly memory: VoiceMemory | null;
  readonly #count: number;
  readonly #gate: VoiceGate;
  readonly #rules: MemoryRules | undefined;
  readonly #kept: number;
  readonly #rows: Row[] = [];
  /** Unit of the first row, and the first one that the memory has not learnt from. */
  #from = 0;
  #unlearnt = 0;

  /** @param memory what is known of this person from before */
  constructor({ count, gate, memory: rules }: VoiceRules, keptUnits: number, memory: VoiceMemory | null = null) {
    const { lips, fit, voice } = gate.around;
    this.#count = count;
    this.#gate = gate;
    this.#rules = rules;
    this.#kept = keptUnits + [lips, fit, voice].reduce((sum, { before, after }) => sum + before + after, 0);
    this.memory = rules === undefined ? null : (memory ?? new VoiceMemory(rules));
  }

  /**
   * @param fromUnit where these voices begin; what comes after a hole begins anew
   * @param seen whether there was a picture of the face
   */
  add(fromUnit: number, { belief, fit, lips, speaker }: Voices, seen: boolean): void {
    if (fromUnit !== this.#from + this.#rows.length) {
      this.#rows.length = 0;
      this.#from = fromUnit;
      this.#unlearnt = fromUnit;
    }
    const units = lips.length;
    const size = speaker.length / this.#count / units;
    const voices = Array.from({ length: this.#count }, (_, v) => v);
    for (let u = 0; u < units; u++)
      this.#rows.push({
        belief: voices.map((v) => belief[v * units + u]!),
        fit: voices.map((v) => fit[v * units + u]!),
        lips: lips[u]!,
        speaker: voices.map((v) => speaker.slice((v * units + u) * size, (v * units + u + 1) * size)),
        seen,
      });
    if (this.memory !== null && this.#rules !== undefined) this.#learn(this.memory, this.#rules);
    const over = this.#rows.length - this.#kept;
    if (over <= 0) return;
    this.#rows.splice(0, over);
    this.#from += over;
  }

  /**
   * Weights of the voices in units from `fromUnit` on, count x units, 0..1: whose voice is whose as it is known `later` units after each, and how far
   * the person is taken to speak, of which as much of the future counts. What lies beyond the newest unit is what the newest says.
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

  /** How far a voice is let through in a row, 0..1, as far as that is known `later` units on; without a picture nothing speaks against it. */
  #openness(at: number, voice: number, later: number): number {
    if (!this.#rows[at]!.seen) return 1;
    const last = Math.min(at + this.#gate.early, at + later, this.#rows.length - 1);
    let most = 0;
    for (let row = at; row <= last && most < 1; row++)
      if (this.#rows[row]!.seen)
        most = Math.max(most, between(this.#score(row, voice, at + later - row), this.#gate.shut, this.#gate.open));
    return most;
  }

  #score(at: number, voice: number, later: number): number {
    const { score: of, around } = this.#gate;
    const lips = this.#mean(at, around.lips, later, (r) => r.lips);
    const fit = this.#mean(at, around.fit, later, (r) => r.fit[voice]!);
    const score = of.always + of.lips * lips + of.fit * fit;
    const { memory } = this;
    if (memory === null || memory.known === 0) return score;
    // While the remembered voice is heard beside this one, either belief or memory is wrong: then it says nothing.
    if (memory.among(this.#beside(at, voice, later))) return score;
    return score + memory.known * (of.known + of.voice * memory.likeness(this.#heard(at, voice, later)));
  }

  /** Learns the rows of which all that counts around them is there: lips and fit must say that the person speaks, whatever is remembered. */
  #learn(memory: VoiceMemory, { spoken }: MemoryRules): void {
    const { around } = this.#gate;
    const after = Math.max(around.lips.after, around.fit.after, around.voice.after);
    for (const end = this.#from + this.#rows.length - after; this.#unlearnt < end; this.#unlearnt++) {
      const at = this.#unlearnt - this.#from;
      const { seen, belief, speaker } = this.#rows[at]!;
      if (!seen) continue;
      const most = Math.max(...belief);
      const voice = belief.indexOf(most);
      const others = Math.max(...belief.filter((_, v) => v !== voice));
      const said =
        spoken.lips * this.#mean(at, around.lips, after, (r) => r.lips) +
        spoken.fit * this.#mean(at, around.fit, after, (r) => r.fit[voice]!);
      const sure = (most - others) * between(said, spoken.from, spoken.to);
      memory.learn(
        this.#unlearnt,
        sure,
        speaker[voice]!,
        this.#heard(at, voice, after),
        this.#beside(at, voice, after),
      );
    }
  }

  /** Mean over the seen rows around one; that one is seen. */
  #mean(at: number, { before, after }: Around, later: number, of: (row: Row) => number): number {
    const last = Math.min(at + Math.min(after, later), this.#rows.length - 1);
    let sum = 0;
    let count = 0;
    for (let i = Math.max(0, at - before); i <= last; i++) {
      const row = this.#rows[i]!;
      if (!row.seen) continue;
      sum += of(row);
      count++;
    }
    return sum / count;
  }

  /** As `#heard`, of all other voices. */
  #beside(at: number, voice: number, later: number): Float64Array[] {
    return Array.from({ length: this.#count }, (_, v) => v).flatMap((v) =>
      v === voice ? [] : [this.#heard(at, v, later)],
    );
  }

  /** Sum of a voice's vectors around a row. */
  #heard(at: number, voice: number, later: number): Float64Array {
    const { before, after } = this.#gate.around.voice;
    const last = Math.min(at + Math.min(after, later), this.#rows.length - 1);
    const sum = new Float64Array(this.#rows[at]!.speaker[voice]!.length);
    for (let i = Math.max(0, at - before); i <= last; i++) {
      const vector = this.#rows[i]!.speaker[voice]!;
      for (let k = 0; k < sum.length; k++) sum[k]! += vector[k]!;
    }
    return sum;
  }

  /** Of the row that stands for a unit. */
  #index(unit: number): number {
    if (this.#rows.length === 0) throw new RangeError("nothing is known of this face yet");
    return Math.min(this.#rows.length - 1, Math.max(0, unit - this.#from));
  }
}

/** 0 up to `from`, 1 from `to` on. */
const between = (x: number, from: number, to: number): number => Math.min(1, Math.max(0, (x - from) / (to - from)));
