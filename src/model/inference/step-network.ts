import type { Tensor } from "onnxruntime-common";
import type { StreamCard } from "../card.js";
import type { LoadedStream } from "../cards.js";
import { type TensorMap, tensor } from "../engines/engine.js";
import type { GuardedEngine } from "../engines/guarded.js";
import { combinedReport, type EngineReport } from "../engines/names.js";
import { openEngine, type SelectOptions, SMALL_TRIAL_LIMIT_MS } from "../engines/select.js";
import { faceTrial, soundTrial, stepTrial } from "../engines/trial-inputs.js";
import { InferenceError } from "../inference.js";

export type StepNetworkOptions = Omit<SelectOptions, "trial" | "what" | "tried">;

/** What was heard in one run of the first part. */
type Hearing = { readonly samples: Float32Array; readonly states: TensorMap; readonly outputs: TensorMap };

/** Hearings that are kept of one past. All that begin have the same; of a later past there is one. More only cost a run for each face. */
const MAX_KEPT = 16;

/**
 * The network of a step: one graph, or two, the first of which knows no face. It is run once for all faces that have heard the same so far and
 * hear the same now; for the others its outputs are there already, to the bit. Not to be called twice at once.
 */
export class StepNetwork {
  readonly #card: StreamCard;
  readonly #sound: GuardedEngine | null;
  readonly #step: GuardedEngine;
  readonly #soundStates: readonly string[];
  /** By the first of the states that it began with, newest last: a past that nobody holds any more takes its hearings along. */
  #heard = new WeakMap<Tensor, Hearing[]>();
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
    let network: StepNetwork | null = null;
    // Before both parts are open the report that is made then tells it.
    const onFallback = (): void => void (network && options.onFallback?.(network.report));
    const open = async (bytes: Uint8Array, name: string, own: Pick<SelectOptions, "trial" | "tried" | "limitMs">) => {
      const what = `${folder}/${name}`;
      const engine = await openEngine(bytes, { ...options, ...own, onFallback, what }).catch(named(what));
      opened.push(engine);
      return engine;
    };
    try {
      let first: GuardedEngine | null = null;
      let own: Parameters<typeof open>[2] = { trial: stepTrial(card) };
      if (sound !== null) {
        const name = card.files.sound!;
        first = await open(sound, name, { trial: soundTrial(card) });
        const heard = await first.run(soundTrial(card)).catch(named(`${folder}/${name}`));
        // Both parts' trials must be over within the time of a start: an engine that hung is not waited for twice.
        own = { trial: faceTrial(card, heardOf(heard)), tried: first.report.tries, limitMs: SMALL_TRIAL_LIMIT_MS };
      }
      network = new StepNetwork(card, first, await open(step, card.files.step, own));
      const odd = network.#differences();
      if (odd.length > 0) throw invalid(`${folder}/${card.files.step}`, `network and card differ in ${odd.join(", ")}`);
      return network;
    } catch (e) {
      await closeAll(opened);
      throw e;
    }
  }

  /** Of both parts together. */
  get report(): EngineReport {
    return combinedReport(this.#parts.map(({ report }) => report));
  }

  /**
   * @param states of one face, by the card's names
   * @param inputs all other inputs of a step
   * @returns all outputs, states as NAME_next; what was heard is the same for other faces: not to be written into
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
    this.#heard = new WeakMap();
    await closeAll(this.#parts);
  }

  get #parts(): GuardedEngine[] {
    return this.#sound === null ? [this.#step] : [this.#sound, this.#step];
  }

  async #hear(sound: GuardedEngine, states: TensorMap, samples: Float32Array): Promise<TensorMap> {
    const same = (h: Hearing): boolean =>
      this.#soundStates.every((name) => h.states[name] === states[name]) &&
      h.samples.length === samples.length &&
      h.samples.every((v, i) => v === samples[i]);
    const past = states[this.#soundStates[0]!]!;
    const heard = this.#heard.get(past) ?? [];
    const known = heard.find(same);
    if (known !== undefined) return known.outputs;
    const own = Object.fromEntries(this.#soundStates.map((name) => [name, states[name]!]));
    this.soundRuns++;
    const outputs = await sound.run({ ...own, samples: tensor(samples, [1, samples.length]) });
    // A caller may fill its array anew.
    heard.push({ samples: samples.slice(), states: own, outputs });
    if (heard.length > MAX_KEPT) heard.shift();
    this.#heard.set(past, heard);
    return outputs;
  }

  /** Names that one of network and card has and the other has not. */
  #differences(): string[] {
    const card = this.#card;
    const parts = this.#parts;
    const given = parts.flatMap((p) => p.outputNames);
    const taken = parts.flatMap((p) => p.inputNames);
    const inputs = ["samples", "crops", "has_picture", "memory", "has_memory", ...card.states.map((s) => s.name)];
    const outputs = [
      "gain",
      ...(card.gain === "ratio" ? ["rest"] : []),
      ...(card.voices === undefined ? [] : ["voices", "belief", "fit", "lips"]),
      ...(card.voices?.memory === undefined ? [] : ["speaker"]),
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

/** What the second part takes of the first one's outputs: who speaks is no concern of a face. */
export const heardOf = (outputs: TensorMap): TensorMap =>
  Object.fromEntries(Object.entries(outputs).filter(([name]) => name !== "speaker" && !name.endsWith("_next")));

/** All of them, whatever becomes of one. */
async function closeAll(engines: readonly GuardedEngine[]): Promise<void> {
  await Promise.allSettled(engines.map((engine) => engine.close()));
}

const invalid = (what: string, why: string): InferenceError =>
  new InferenceError("SL_MODEL_INVALID", `${what}: ${why}`);
