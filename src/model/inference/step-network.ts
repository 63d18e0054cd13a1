import type { StreamCard } from "../card.js";
import type { LoadedStream } from "../cards.js";
import { type TensorMap, tensor } from "../engines/engine.js";
import type { GuardedEngine } from "../engines/guarded.js";
import type { EngineReport } from "../engines/names.js";
import { openEngine, type SelectOptions } from "../engines/select.js";
import { faceTrial, soundTrial, stepTrial } from "../engines/trial-inputs.js";
import { InferenceError } from "../inference.js";

export type StepNetworkOptions = Omit<SelectOptions, "trial" | "what">;

/** What was heard in one run of the first part. */
type Hearing = { readonly samples: Float32Array; readonly states: TensorMap; readonly outputs: TensorMap };

/** Hearings that are kept: one for each programme that may be on its way at once; more only cost a run for each face. */
const MAX_KEPT = 64;

/**
 * The network of a step: one graph, or two, the first of which knows no face. It is run once for all faces that have heard the same so far and
 * hear the same now; for the others its outputs are there already, to the bit. Not to be called twice at once.
 */
export class StepNetwork {
  readonly #card: StreamCard;
  readonly #sound: GuardedEngine | null;
  readonly #step: GuardedEngine;
  readonly #soundStates: readonly string[];
  /** Newest last. */
  readonly #heard: Hearing[] = [];
  /** How often the first part was run. */
  soundRuns = 0;

  private constructor(card: StreamCard, sound: GuardedEngine | null, step: GuardedEngine) {
    this.#card = card;
    this.#sound = sound;
    this.#step = step;
    this.#soundStates = sound === null ? [] : card.states.filter((s) => s.of === "sound").map((s) => s.name);
  }

  /** Throws SL_MODEL_INVALID when the networks refuse the card's tensors, or have other inputs or outputs than it says; EngineError as `openEngine`. */
  static async open({ card, folder, sound, step }: LoadedStream, options: StepNetworkOptions): Promise<StepNetwork> {
    const opened: GuardedEngine[] = [];
    // A network that refuses the card's own tensors is not the network of this card.
    const named = (what: string) => (e: unknown) => {
      throw e instanceof InferenceError && e.code === "SL_INFERENCE_FAILED" ? invalid(what, e.message) : e;
    };
    const open = async (bytes: Uint8Array, name: string, trial: TensorMap): Promise<GuardedEngine> => {
      const what = `${folder}/${name}`;
      const engine = await openEngine(bytes, { ...options, trial, what }).catch(named(what));
      opened.push(engine);
      return engine;
    };
    try {
      let first: GuardedEngine | null = null;
      let trial = stepTrial(card);
      if (sound !== null) {
        const name = card.files.sound!;
        first = await open(sound, name, soundTrial(card));
        const heard = await first.run(soundTrial(card)).catch(named(`${folder}/${name}`));
        trial = faceTrial(card, heardOf(heard));
      }
      const network = new StepNetwork(card, first, await open(step, card.files.step, trial));
      const odd = network.#differences();
      if (odd.length > 0) throw invalid(`${folder}/${card.files.step}`, `network and card differ in ${odd.join(", ")}`);
      return network;
    } catch (e) {
      for (const engine of opened) await engine.close();
      throw e;
    }
  }

  /** Of the part that has most of the work; once one of them has handed over to the CPU, of that one. */
  get report(): EngineReport {
    const [heavier, other] = this.#sound === null ? [this.#step, this.#step] : [this.#sound, this.#step];
    return heavier.report.code === null && other.report.code !== null ? other.report : heavier.report;
  }

  /**
   * @param states of one face, by the card's names
   * @param inputs all other inputs of a step
   * @returns all outputs, states as NAME_next
   */
  async run(states: TensorMap, inputs: TensorMap): Promise<TensorMap> {
    if (this.#sound === null) return this.#step.run({ ...states, ...inputs });
    const heard = await this.#hear(this.#sound, states, inputs.samples!.data as Float32Array);
    const own = Object.fromEntries(
      this.#step.inputNames.map((name) => [name, inputs[name] ?? states[name] ?? heard[name]!]),
    );
    return { ...heard, ...(await this.#step.run(own)) };
  }

  async close(): Promise<void> {
    this.#heard.length = 0;
    await this.#sound?.close();
    await this.#step.close();
  }

  async #hear(sound: GuardedEngine, states: TensorMap, samples: Float32Array): Promise<TensorMap> {
    const same = (h: Hearing): boolean =>
      this.#soundStates.every((name) => h.states[name] === states[name]) &&
      h.samples.length === samples.length &&
      h.samples.every((v, i) => v === samples[i]);
    const known = this.#heard.find(same);
    if (known !== undefined) return known.outputs;
    const own = Object.fromEntries(this.#soundStates.map((name) => [name, states[name]!]));
    this.soundRuns++;
    const outputs = await sound.run({ ...own, samples: tensor(samples, [1, samples.length]) });
    // A caller may fill its array anew.
    this.#heard.push({ samples: samples.slice(), states: own, outputs });
    if (this.#heard.length > MAX_KEPT) this.#heard.shift();
    return outputs;
  }

  /** Names that one of network and card has and the other has not. */
  #differences(): string[] {
    const card = this.#card;
    const parts = this.#sound === null ? [this.#step] : [this.#sound, this.#step];
    const given = parts.flatMap((p) => p.outputNames);
    const taken = parts.flatMap((p) => p.inputNames);
    const inputs = ["samples", "crops", "has_picture", "memory", "has_memory", ...card.states.map((s) => s.name)];
    const outputs = [
      "gain",
      ...(card.gain === "ratio" ? ["rest"] : []),
      ...(card.voices === undefined ? [] : ["voices", "belief", "fit", "lips"]),
      ...card.states.map((s) => `${s.name}_next`),
    ];
    const between = this.#sound === null ? [] : this.#sound.outputNames;
    return [
      ...inputs.filter((name) => !taken.includes(name)),
      ...taken.filter((name) => !inputs.includes(name) && !between.includes(name)),
      ...outputs.filter((name) => !given.includes(name)),
    ];
  }
}

/** What the second part takes of the first one's outputs. */
export const heardOf = (outputs: TensorMap): TensorMap =>
  Object.fromEntries(Object.entries(outputs).filter(([name]) => !name.endsWith("_next")));

const invalid = (what: string, why: string): InferenceError =>
  new InferenceError("SL_MODEL_INVALID", `${what}: ${why}`);
