import { type Look, likeness } from "../model/faces/look.js";
import { SAMPLE_RATE } from "../pipeline/types.js";

/** From this likeness on a face is taken for the one seen before (look.ts). */
const ALIKE = 0.7;
/** Of the look there was, after each further picture. */
const LOOK_KEPT = 0.95;
/** Looks that are as alike as that are told apart by who was seen last: mostly they are one person, whose newer evidence counts. */
const NEARLY = 0.05;
/** A person not seen for so long is forgotten: the separator does not keep two voices in their order for ever. */
const FORGOTTEN_AFTER_SAMPLES = 60 * SAMPLE_RATE;
const MOST_PEOPLE = 8;

type Person = { readonly look: Look; readonly chain: number; readonly atSample: number };

/**
 * People whose voice was surely found when they were last seen, by the track they were seen as. What the model found out of one is worth
 * something only together with the two voices it speaks of: `chain` names what has heard the sound without a break since then.
 */
export class KnownPeople {
  readonly #people = new Map<number, Person>();

  /** @param look of `pictures` new pictures; null: this step showed nothing of the face */
  know(track: number, chain: number, atSample: number, look: Look | null, pictures: number): void {
    const keep = LOOK_KEPT ** pictures;
    const before = this.#people.get(track);
    const known = before?.chain === chain ? before.look : null;
    const mixed =
      look === null || known === null ? (look ?? known) : known.map((v, i) => v * keep + look[i]! * (1 - keep));
    if (mixed === null) return;
    this.#people.delete(track);
    this.#people.set(track, { look: mixed, chain, atSample });
    // A Map keeps the order of the last seeing.
    if (this.#people.size > MOST_PEOPLE) this.#people.delete(this.#people.keys().next().value!);
  }

  forget(track: number): void {
    this.#people.delete(track);
  }

  has(track: number): boolean {
    return this.#people.has(track);
  }

  get tracks(): readonly number[] {
    return [...this.#people.keys()];
  }

  /** The sample at which the person was last seen; null: not known. */
  lastSeen(track: number): number | null {
    return this.#people.get(track)?.atSample ?? null;
  }

  /** Who of these chains looks most like this, and enough so; `not`: tracks that are somebody else. */
  find(look: Look, chains: ReadonlySet<number>, not: ReadonlySet<number>): { track: number; chain: number } | null {
    let best: { track: number; chain: number } | null = null;
    let most = ALIKE + NEARLY;
    for (const [track, person] of this.#people) {
      if (!chains.has(person.chain) || not.has(track)) continue;
      const alike = likeness(person.look, look);
      if (alike < most - NEARLY) continue;
      most = Math.max(most, alike);
      best = { track, chain: person.chain };
    }
    return best;
  }

  clear(): void {
    this.#people.clear();
  }

  /** Drops who was not seen for long, and those whose chain has ended. */
  keepOnly(chains: ReadonlySet<number>, atSample: number): void {
    for (const [track, { chain, atSample: seen }] of this.#people)
      if (!chains.has(chain) || atSample - seen > FORGOTTEN_AFTER_SAMPLES) this.#people.delete(track);
  }
}
