import { InferenceError, type WindowInference, type WindowRequest } from "../model/inference.js";
import { RATIO, windowGrid, windowLayout } from "../model/paper/gains.js";
import { FRAME_SAMPLES } from "../model/paper/geometry.js";
import { sourceBox } from "../model/paper/source-box.js";
import type { GridLayout } from "../pipeline/band-energy.js";
import { type AttributionPolicy, FacePolicy } from "../pipeline/face-policy.js";
import type { GainRenderer, StepSound } from "../pipeline/gain-renderer.js";
import { CROSS_FADE_SAMPLES } from "../pipeline/gain-timeline.js";
import { Resampler } from "../pipeline/resample.js";
import type { StepOutcome } from "./step-runner.js";
import type { WindowPictures } from "./window-pictures.js";

export type WindowRunnerOptions = {
  readonly inference: WindowInference;
  readonly session: string;
  readonly pictures: Pick<WindowPictures, "window" | "frozenAt">;
  readonly separator: GainRenderer;
  /** The region is the pictures' affair. */
  readonly policy: Partial<Omit<AttributionPolicy, "region">>;
  readonly unitSamples: number;
};

/** Id of the one thing that is heard and seen. */
const SOURCE = 0;

/**
 * Runs one window of a model for every hop and gives the separator its trusted part: [E - G - H - X, E - G], E the end of the hop, G the card's
 * guard, X what is cross-faded with the window before. Nothing is kept between two windows but where the gains end. One call at a time, in order.
 */
export class WindowRunner {
  readonly #o: WindowRunnerOptions;
  readonly #policy: FacePolicy;
  readonly #resampler = new Resampler(RATIO.up, RATIO.down);
  /** Gains reach so far. */
  #until = 0;

  constructor(options: WindowRunnerOptions) {
    this.#o = options;
    this.#policy = new FacePolicy({ ...options.policy, region: null });
  }

  /** What was before a jump of the timestamps is still in the sound of the next windows; nothing else is remembered. */
  beginAnew(_atSample: number): void {}

  /** Never rejects for what the inference does; rejects on faults of ours. */
  async run(step: StepSound): Promise<StepOutcome> {
    const { inference, pictures, separator, session, unitSamples } = this.#o;
    const { side, window, guardSamples } = inference.card.paper;
    const end = step.atSample + step.units * unitSamples;
    const { reach } = this.#resampler;
    const heard = this.#resampler.inputLength(window.samples);
    // The newest window whose sound is all there, on a picture frame.
    const frame = Math.floor((end - heard + reach) / FRAME_SAMPLES);
    const atSample = Math.round(frame * FRAME_SAMPLES);
    const until = end - guardSamples;
    // Also over a hop that was left out or failed, as far back as the window reaches.
    const from = Math.max(atSample, Math.min(step.atSample - guardSamples, this.#until)) - CROSS_FADE_SAMPLES;
    const { layout } = windowLayout(atSample, from, until);

    const seen = pictures.frozenAt(end) ? null : pictures.window(frame, window.frames);
    if (seen === null) return this.#decided(layout, [], 0);
    const planes = separator.sound(atSample - reach, heard);
    const [left, right] = [planes[0]!, planes.at(-1)!].map((p) => this.#resampler.run(p, reach, window.samples));
    const request: WindowRequest = { session, atSample, pictures: seen, left: left!, right: right! };
    try {
      const { gains, map, logit, engineMs } = await inference.window(request);
      const box = sourceBox(map, side);
      const score = 1 / (1 + Math.exp(-logit));
      const trusted = windowGrid(gains.data, atSample, from, until);
      return this.#decided(layout, [{ id: SOURCE, box, gains: trusted, score }], engineMs);
    } catch (error) {
      if (!(error instanceof InferenceError)) throw error;
      return { ...NOTHING, layout, decision: null, failure: error.code, faces: [], engineMs: 0 };
    }
  }

  #decided(layout: GridLayout, sources: readonly Source[], engineMs: number): StepOutcome {
    const { separator } = this.#o;
    const decision = this.#policy.decide({
      layout,
      faces: sources,
      frozen: sources.length === 0,
      energies: separator.energies(layout),
    });
    separator.acceptDecision(decision);
    this.#until = layout.atSample + (layout.frames - 1) * layout.hopSamples;
    const faces = sources.map(({ id, box, score }) => ({
      id,
      box,
      score,
      speaking: decision.speaking.get(id) ?? 0,
    }));
    return { ...NOTHING, layout, decision, failure: null, faces, engineMs };
  }
}

type Source = Parameters<FacePolicy["decide"]>[0]["faces"][number] & { readonly score: number };

/** Windows have no state to lose and know nobody again. */
const NOTHING = { resets: 0, recalled: false, recognised: 0 };
