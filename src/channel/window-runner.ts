import { InferenceError, type WindowInference, type WindowRequest } from "../model/inference.js";
import { RATIO, windowGrid, windowLayout } from "../model/paper/gains.js";
import { coveredSamples, FRAME_SAMPLES } from "../model/paper/geometry.js";
import { sourceBox } from "../model/paper/source-box.js";
import type { GridLayout } from "../pipeline/band-energy.js";
import { PipelineError } from "../pipeline/errors.js";
import { type AttributionPolicy, FacePolicy } from "../pipeline/face-policy.js";
import type { GainRenderer, StepSound } from "../pipeline/gain-renderer.js";
import { CROSS_FADE_SAMPLES } from "../pipeline/gain-timeline.js";
import { Resampler } from "../pipeline/resample.js";
import type { PictureSquares } from "./picture-squares.js";
import type { StepOutcome } from "./step-runner.js";

export type WindowRunnerOptions = {
  readonly inference: WindowInference;
  readonly session: string;
  readonly pictures: Pick<PictureSquares, "window" | "frozenAt">;
  readonly renderer: GainRenderer;
  /** The region is the pictures' affair. */
  readonly policy: Partial<Omit<AttributionPolicy, "region">>;
  readonly unitSamples: number;
};

/** Id of the one thing that is heard and seen. */
const SOURCE = 0;
/** Of a window that begins before the sound did, or before its timestamps jumped, so much at least must be filled. */
const LEAST_FILLED = 0.5;

/** Where a hop's window lies, and the part of its gains that is used. */
type Place = {
  readonly frame: number;
  readonly atSample: number;
  readonly layout: GridLayout;
  readonly from: number;
  readonly until: number;
  /** The hop's own part begins here. */
  readonly fromSample: number;
  readonly newSamples: number;
};

/**
 * Runs one window of a model for every hop and gives the renderer its trusted part: [E - G - H - X, E - G], E the end of the hop, G the card's
 * guard, X what is cross-faded with the window before. Nothing is kept between two windows but where the gains end. One call at a time, in order.
 */
export class WindowRunner {
  readonly #o: WindowRunnerOptions;
  readonly #policy: FacePolicy;
  readonly #resampler = new Resampler(RATIO.up, RATIO.down);
  /** Gains reach so far. */
  #until = 0;
  /** What lies before does not belong to what comes. */
  #begins = 0;

  constructor(options: WindowRunnerOptions) {
    this.#o = options;
    this.#policy = new FacePolicy({ ...options.policy, region: null });
  }

  /** The timestamps jumped at this sample: windows that are mostly of what was before are not asked for. */
  beginAnew(atSample: number): void {
    this.#begins = atSample;
  }

  /** A window has seen and heard all that it will: nothing waits for its decision. */
  decideBefore(): StepOutcome[] {
    return [];
  }

  /** Never rejects for what the inference does; rejects on faults of ours. */
  async run(step: StepSound): Promise<[StepOutcome]> {
    return [await this.#outcomeOf(step)];
  }

  async #outcomeOf(step: StepSound): Promise<StepOutcome> {
    const { inference, pictures } = this.#o;
    const { frames } = inference.card.paper.window;
    const place = this.#placeOf(step);
    const end = step.atSample + step.samples.length;
    const seen = pictures.frozenAt(end) ? null : pictures.window(place.frame, frames);
    if (seen === null) return this.#decided(place, [], 0);
    if (this.#begins - place.atSample > LEAST_FILLED * coveredSamples(inference.card.paper.window))
      return nothingOf(place, null);
    try {
      return await this.#asked(place, seen);
    } catch (error) {
      // Sound that left the ring meanwhile: this process is seconds behind, and so is the hop.
      if (error instanceof PipelineError && error.code === "SL_SOUND_FORGOTTEN")
        return nothingOf(place, "SL_INFERENCE_LATE");
      if (!(error instanceof InferenceError)) throw error;
      return nothingOf(place, error.code);
    }
  }

  /** The newest window whose sound is all there, on a picture frame. */
  #placeOf(step: StepSound): Place {
    const { window, guardSamples } = this.#o.inference.card.paper;
    const heard = this.#resampler.inputLength(window.samples) - this.#resampler.reach;
    const end = step.atSample + step.samples.length;
    const frame = Math.floor((end - heard) / FRAME_SAMPLES);
    const atSample = Math.round(frame * FRAME_SAMPLES);
    const until = end - guardSamples;
    const fromSample = step.atSample - guardSamples;
    // Also over a hop that was left out or failed, as far back as the window reaches.
    const from = Math.max(atSample, Math.min(fromSample, this.#until)) - CROSS_FADE_SAMPLES;
    const { layout } = windowLayout(atSample, from, until);
    return { frame, atSample, layout, from, until, fromSample, newSamples: step.samples.length };
  }

  async #asked({ atSample, ...place }: Place, pictures: Uint8Array): Promise<StepOutcome> {
    const { inference, renderer, session } = this.#o;
    const { side, window } = inference.card.paper;
    const { reach } = this.#resampler;
    const planes = renderer.sound(atSample - reach, this.#resampler.inputLength(window.samples));
    const [left, right = left] = planes.map((plane) => this.#resampler.run(plane, reach, window.samples));
    const request: WindowRequest = { session, atSample, pictures, left: left!, right: right! };
    const { gains, map, logit, engineMs } = await inference.window(request);
    const trusted = windowGrid(gains.data, atSample, place.from, place.until);
    const score = 1 / (1 + Math.exp(-logit));
    const source = { id: SOURCE, box: sourceBox(map, side), gains: trusted, score };
    return this.#decided({ atSample, ...place }, [source], engineMs);
  }

  #decided(place: Place, sources: readonly Source[], engineMs: number): StepOutcome {
    const { renderer } = this.#o;
    const { layout, newSamples } = place;
    const frozen = sources.length === 0;
    const energies = renderer.energies(layout);
    const decision = this.#policy.decide({ layout, faces: sources, frozen, energies, newSamples });
    renderer.acceptDecision(decision);
    this.#until = layout.atSample + (layout.frames - 1) * layout.hopSamples;
    const faces = sources.map(({ id, box, score }) => ({
      id,
      box,
      score,
      speaking: decision.speaking.get(id) ?? 0,
    }));
    return { ...nothingOf(place, null), decision, faces, engineMs };
  }
}

type Source = Parameters<FacePolicy["decide"]>[0]["faces"][number] & { readonly score: number };

/** The outcome without an answer. Windows have no state to lose and know nobody again. */
const nothingOf = ({ layout, fromSample }: Place, failure: StepOutcome["failure"]): StepOutcome => ({
  layout,
  fromSample,
  decision: null,
  failure,
  faces: [],
  facesSample: fromSample,
  engineMs: 0,
  resets: 0,
  recalled: false,
  recognised: 0,
  hurried: false,
});
