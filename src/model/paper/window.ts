import type { WindowCard } from "../card.js";
import type { LoadedWindow } from "../cards.js";
import type { TensorMap } from "../engines/engine.js";
import type { GuardedEngine } from "../engines/guarded.js";
import type { EngineReport } from "../engines/names.js";
import { openEngine, type SelectOptions } from "../engines/select.js";
import { windowTrial } from "../engines/trial-inputs.js";
import { InferenceError } from "../inference.js";
import { allFinite } from "../numbers.js";
import { FRAME_RATE, PAPER_RATE } from "./sizes.js";
import { BINS, FFT_SIZE, FLOOR_DB, type Spectrum, STEP, WINDOW } from "./spectrum.js";
import {
  type ActivationInput,
  activationTensors,
  type Mixture,
  type WindowInput,
  windowTensors,
} from "./window-tensors.js";

export type { Mixture, WindowInput } from "./window-tensors.js";

/** Class activation map: |value| is evidence for or against the sound coming from there; row-major (frames, height, width). */
export type ActivationMap = {
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly data: Float32Array;
};

export type WindowResult = {
  /** Of a model with a u-net: the predicted voices, at the network's level; null else. */
  readonly voices: { readonly on: Spectrum; readonly off: Spectrum } | null;
  /** The mixture was brought to the network's level by this; predicted sound divided by it has the input's. */
  readonly gain: number;
  /** Above 0: sound and pictures belong together. Null for a model without pictures. */
  readonly logit: number | null;
  readonly cam: ActivationMap | null;
  readonly engineMs: number;
};

export type Activation = {
  readonly map: ActivationMap;
  /** Above 0: sound and pictures belong together. */
  readonly logit: number;
  readonly engineMs: number;
};

/** A network of Owens & Efros 2018 in the engine: whole windows in, spectra, map and logit out (spec section 5, steps 3 to 5). */
export class PaperWindow {
  private constructor(
    readonly card: WindowCard,
    private readonly engine: GuardedEngine,
  ) {}

  /** Throws SL_MODEL_INVALID when the card's constants are not those of this code, or the engine refuses the file. */
  static async open(
    { folder, card, step }: LoadedWindow,
    options: Omit<SelectOptions, "trial" | "what">,
  ): Promise<PaperWindow> {
    const { sampleRate, frameRate, stft, floorDb } = card.paper.constants;
    const said = [sampleRate, frameRate, stft.window, stft.step, stft.size, stft.bins, floorDb];
    const ours = [PAPER_RATE, FRAME_RATE, WINDOW, STEP, FFT_SIZE, BINS, FLOOR_DB];
    if (said.some((v, i) => v !== ours[i]))
      throw new InferenceError(
        "SL_MODEL_INVALID",
        `${folder}: its constants are ${said.join(", ")} (rates, transform, floor); only ${ours.join(", ")} can be run`,
      );
    const engine = await openEngine(step, {
      ...options,
      trial: windowTrial(card),
      what: folder,
    });
    return new PaperWindow(card, engine);
  }

  /** Which engine runs the windows, and why no other. */
  get engines(): EngineReport {
    return this.engine.report;
  }

  /** Whether it looks at pictures at all (`unet_pit` does not), and whether it separates (`shift` and `cam` do not). */
  get sees(): boolean {
    return this.card.paper.inputs.some((p) => p.name === "video");
  }

  get separates(): boolean {
    return this.card.paper.window.spectrum > 0;
  }

  /**
   * A network without u-net alone, as the release runs it beside the separator: pictures of whole frames, values 0..255, sound at its own
   * level, clipped to -1..1 (spec section 5, "CAM"). Throws as `run`.
   */
  async activation(input: ActivationInput): Promise<Activation> {
    const tensors = activationTensors(this.card, input);
    const begin = performance.now();
    const y = await this.engine.run(tensors);
    const engineMs = performance.now() - begin;
    return { map: this.map(y), logit: this.values(y, "logit")[0]!, engineMs };
  }

  /** Runs follow each other. Throws RangeError for a wrong size, SL_INFERENCE_FAILED. */
  async run(input: WindowInput, mixture: Mixture = "mean"): Promise<WindowResult> {
    const { tensors, gain } = windowTensors(this.card, input, mixture);
    const steps = this.card.paper.window.spectrum;
    const begin = performance.now();
    const y = await this.engine.run(tensors);
    const engineMs = performance.now() - begin;
    const voice = (name: "fg" | "bg"): Spectrum => ({
      frames: steps,
      db: this.values(y, `${name}_db`),
      phase: this.values(y, `${name}_phase`),
    });
    const sees = this.sees;
    return {
      voices: this.separates ? { on: voice("fg"), off: voice("bg") } : null,
      gain,
      logit: sees ? this.values(y, "logit")[0]! : null,
      cam: sees ? this.map(y) : null,
      engineMs,
    };
  }

  close(): Promise<void> {
    return this.engine.close();
  }

  private values(y: TensorMap, name: string): Float32Array {
    const data = y[name]?.data;
    const shape = this.card.paper.outputs.find((p) => p.name === name)?.shape ?? [0];
    const size = shape.reduce((product, d) => product * d, 1);
    if (!(data instanceof Float32Array) || data.length !== size || !allFinite(data))
      throw new InferenceError(
        "SL_INFERENCE_FAILED",
        `${this.card.name}: output ${name} is not ${size} finite numbers, as its card says`,
      );
    return data;
  }

  private map(y: TensorMap): ActivationMap {
    const [, frames, height, width] = this.card.paper.outputs.find((p) => p.name === "cam")?.shape ?? [];
    return { frames: frames!, height: height!, width: width!, data: this.values(y, "cam") };
  }
}
