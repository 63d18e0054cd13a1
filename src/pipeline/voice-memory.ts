import type { StreamCard } from "../model/card.js";

export type MemoryRules = NonNullable<NonNullable<StreamCard["voices"]>["memory"]>;

/**
 * How a person sounds, from when they were surely heard to speak. Vectors of one voice added up point the same way, whatever is said (train/speaker.py).
 * Once a voice is known, another one hardly changes it: who goes on when the person falls silent must not be learnt as theirs; but it does a little, so
 * that a wrong beginning does not last. And a memory is wrong when the lips have come to be believed to speak with another voice, while the remembered
 * one goes on beside it: then it fades within seconds.
 */
export class VoiceMemory {
  readonly #rules: MemoryRules;
  readonly #voice: Float64Array;
  #length = 0;
  #units = 0;
  /** The first unit that nothing was learnt from. */
  #next = Number.NEGATIVE_INFINITY;

  constructor(rules: MemoryRules) {
    this.#rules = rules;
    this.#voice = new Float64Array(rules.size);
  }

  /** 0..1, by how much was heard. */
  get known(): number {
    return this.#units / (this.#units + this.#rules.half);
  }

  /** Cosine between what was heard and a sum of vectors, -1..1; 0 where one of them is nothing. */
  likeness(sum: Float64Array): number {
    let dot = 0;
    let own = 0;
    for (let i = 0; i < sum.length; i++) {
      dot += sum[i]! * this.#voice[i]!;
      own += sum[i]! * sum[i]!;
    }
    const lengths = Math.sqrt(own) * this.#length;
    return lengths === 0 ? 0 : dot / lengths;
  }

  /** Whether one of these, sums as for `likeness`, is the remembered voice. */
  among(voices: readonly Float64Array[]): boolean {
    return voices.some((voice) => this.likeness(voice) > this.#rules.alike.from);
  }

  /**
   * @param unit of the timeline; one from before the newest says nothing new (the past is run again to make a lost state anew)
   * @param sure 0..1, that this voice is the person's and that they speak
   * @param vector of this unit
   * @param around the sum of the voice's vectors around the unit: one alone says little
   * @param beside the same of the other voices
   */
  learn(unit: number, sure: number, vector: Float32Array, around: Float64Array, beside: readonly Float64Array[]): void {
    const { least, settled, alike, against, doubt } = this.#rules;
    if (unit < this.#next) return;
    this.#next = unit + 1;
    if (!(sure > least)) return;
    let weight = sure;
    if (this.#units > settled) {
      const like = this.likeness(around);
      if (like < alike.from && this.among(beside)) this.#fade(1 - sure / doubt);
      else {
        const agrees = (like - alike.from) / (alike.to - alike.from);
        weight *= against + (1 - against) * Math.min(1, Math.max(0, agrees));
      }
    }
    let square = 0;
    for (let i = 0; i < vector.length; i++) {
      this.#voice[i]! += weight * vector[i]!;
      square += this.#voice[i]! ** 2;
    }
    this.#length = Math.sqrt(square);
    this.#units += weight;
    if (this.#units > this.#rules.most) this.#fade(this.#rules.most / this.#units);
  }

  copy(): VoiceMemory {
    const other = new VoiceMemory(this.#rules);
    other.#voice.set(this.#voice);
    other.#length = this.#length;
    other.#units = this.#units;
    other.#next = this.#next;
    return other;
  }

  #fade(kept: number): void {
    for (let i = 0; i < this.#voice.length; i++) this.#voice[i]! *= kept;
    this.#length *= kept;
    this.#units *= kept;
  }
}
