import type { FaceFollower, FollowedFace } from "../model/faces/follower.js";
import { type Inference, InferenceError, type StepRequest } from "../model/inference.js";
import { Attribution, type AttributionPolicy, type Decision, type FaceGains } from "../pipeline/attribution.js";
import type { GridLayout } from "../pipeline/band-energy.js";
import type { Separator, StepSound } from "../pipeline/separator.js";
import { type Face, type GainGrid, SAMPLE_RATE } from "../pipeline/types.js";

/** What the runner asks about the picture; unit u begins at sample u * unitSamples. */
export type Faces = Pick<FaceFollower, "facesAt" | "cropsFor" | "frozenAt">;

export type StepRunnerOptions = {
  readonly inference: Inference;
  /** Name under which the inference keeps the state of our tracks. */
  readonly session: string;
  readonly faces: Faces;
  readonly separator: Separator;
  readonly policy: Partial<AttributionPolicy>;
};

export type StepOutcome = {
  /** The cells that the step's gains lie on. */
  readonly layout: GridLayout;
  /** Null when the model failed: `failure` says why, and the sound is left as it is. */
  readonly decision: Decision | null;
  readonly failure: InferenceError["code"] | null;
  /** The faces of the step's last unit; `speaking` is 0 where the model said nothing. */
  readonly faces: readonly Face[];
  /** Milliseconds in the engine, all faces. */
  readonly engineMs: number;
  /** Faces whose state was made anew from the past. */
  readonly resets: number;
  /** Nobody was to be seen, and the voice of somebody seen before was kept. */
  readonly recalled: boolean;
};

/** A face's voice counts as surely found from this confidence on. */
const SURE = 0.3;
/** For so long after it was last seen a voice is kept without a picture. */
const RECALL_SAMPLES = 30 * SAMPLE_RATE;

/**
 * Runs one model step for every followed face and gives the separator what comes of it. Has no clock: live channels and files run the
 * very same steps. One call at a time, in order; a step that was left out in between costs a look-back, nothing else.
 */
export class StepRunner {
  readonly attribution: Attribution;
  readonly #options: StepRunnerOptions;
  /** By track: the sample at which its next step must begin to continue its state. */
  readonly #continues = new Map<number, number>();
  /** By track: faces of whose voice the model was sure when they were last seen, and the sample of that. */
  readonly #known = new Map<number, { readonly face: FollowedFace; readonly atSample: number }>();

  constructor(options: StepRunnerOptions) {
    this.#options = options;
    this.attribution = new Attribution(options.policy);
  }

  /** Never rejects for what the inference does; rejects on faults of ours. */
  async run(step: StepSound): Promise<StepOutcome> {
    const { card } = this.#options.inference;
    const { separator, faces } = this.#options;
    const layout = layoutOf(step, card);
    const lastUnit = step.atSample / card.unitSamples + step.units - 1;
    const frozen = faces.frozenAt(lastUnit);
    const tracks = faces.facesAt(lastUnit * card.unitSamples);
    const seen = frozen ? [] : tracks;
    const recalled = seen.length === 0 ? this.#recall(step.atSample) : [];
    this.#forgetAllBut([...tracks, ...recalled]);
    // Requests are cut before anything is awaited: the sound of a look-back may leave the ring meanwhile.
    const asked = [...seen, ...recalled].map((face, i) => ({
      face,
      request: this.#request(face.id, step, i < seen.length),
    }));
    const answers = await Promise.all(
      asked.map(({ face, request }, i) => this.#answer(face, request, step, layout, i >= seen.length)),
    );

    let engineMs = 0;
    let failure: InferenceError["code"] | null = null;
    const gains: FaceGains[] = [];
    for (const answer of answers) {
      engineMs += answer.engineMs;
      if (seen.includes(answer.face)) this.#know(answer, step.atSample);
      if (answer.gains !== null) {
        const { id, box, still } = answer.face;
        gains.push({ id, box, still, gains: answer.gains });
      }
      // A visible person without an answer must not be turned down by the answers for others.
      else if (this.attribution.counts(answer.face.box)) failure ??= answer.failure;
    }
    const decision =
      failure === null
        ? this.attribution.decide({
            layout,
            faces: gains,
            frozen: frozen && gains.length === 0,
            energies: separator.energies(layout),
          })
        : null;
    const resets = asked.filter((a) => a.request.reset).length;
    const shown = tracks.map(({ still: _, ...face }) => ({ ...face, speaking: decision?.speaking.get(face.id) ?? 0 }));
    if (decision !== null) separator.acceptDecision(decision);
    return {
      layout,
      decision,
      failure,
      faces: shown,
      engineMs,
      resets,
      recalled: recalled.length > 0 && gains.length > 0,
    };
  }

  /**
   * Faces that are not seen now (cut-away, slide, frozen picture) but whose voice was surely found not long ago: the model goes on with
   * its state and without a picture. As soon as any face is followed, the picture decides again. A state that was lost cannot be made
   * anew from sound alone: that voice is given up.
   */
  #recall(atSample: number): FollowedFace[] {
    return [...this.#known.values()]
      .filter((k) => atSample - k.atSample <= RECALL_SAMPLES && this.#continues.get(k.face.id) === atSample)
      .map((k) => k.face);
  }

  #know({ face, confidence }: Answer, atSample: number): void {
    if (confidence !== null && confidence >= SURE) this.#known.set(face.id, { face, atSample });
    else this.#known.delete(face.id);
  }

  #request(track: number, step: StepSound, withPicture: boolean): StepRequest {
    const { separator, session, faces, inference } = this.#options;
    const { unitSamples } = inference.card;
    const reset = this.#continues.get(track) !== step.atSample;
    const past = reset ? separator.lookBack(step.atSample) : null;
    const atSample = past?.atSample ?? step.atSample;
    const units = (past?.units ?? 0) + step.units;
    const samples = past === null ? step.samples : joined(past.samples, step.samples);
    const { crops, hasPicture } = withPicture
      ? faces.cropsFor(track, atSample / unitSamples, units)
      : { crops: new Uint8Array(0), hasPicture: false };
    return {
      session,
      track,
      reset,
      atSample,
      units,
      samples,
      crops,
      hasPicture,
      memory: null,
    };
  }

  async #answer(
    face: FollowedFace,
    request: StepRequest,
    step: StepSound,
    layout: GridLayout,
    recalled: boolean,
  ): Promise<Answer> {
    let engineMs = 0;
    // A lost state (the inference was restarted) is re-made at once: one second try, with the look-back.
    for (let attempt = request; ; attempt = this.#request(face.id, step, true)) {
      try {
        const result = await this.#options.inference.step(attempt);
        engineMs += result.engineMs;
        this.#continues.set(face.id, step.atSample + step.units * this.#options.inference.card.unitSamples);
        return { face, gains: tail(result.gains, layout), confidence: result.confidence, failure: null, engineMs };
      } catch (error) {
        if (!(error instanceof InferenceError)) throw error;
        this.#continues.delete(face.id);
        if (recalled) return { face, gains: null, confidence: null, failure: null, engineMs };
        if (error.code !== "SL_INFERENCE_STATE_LOST" || attempt.reset)
          return { face, gains: null, confidence: null, failure: error.code, engineMs };
      }
    }
  }

  #forgetAllBut(tracks: readonly FollowedFace[]): void {
    for (const track of this.#known.keys()) if (!tracks.some((t) => t.id === track)) this.#known.delete(track);
    for (const track of this.#continues.keys()) {
      if (tracks.some((t) => t.id === track)) continue;
      this.#continues.delete(track);
      this.#options.inference.forget(this.#options.session, track);
    }
  }
}

type Answer = {
  readonly face: FollowedFace;
  readonly gains: GainGrid | null;
  readonly confidence: number | null;
  readonly failure: InferenceError["code"] | null;
  readonly engineMs: number;
};

type CardGrid = Pick<Inference["card"], "unitSamples" | "firstFrameOffset" | "grid">;

/** Where the gains of a step lie. */
export function layoutOf(
  step: Pick<StepSound, "atSample" | "units">,
  { unitSamples, firstFrameOffset, grid }: CardGrid,
): GridLayout {
  const frames = (step.units * unitSamples) / grid.hopSamples;
  return {
    atSample: step.atSample + firstFrameOffset,
    hopSamples: grid.hopSamples,
    frames,
    bins: grid.bins,
    binHz: grid.binHz,
  };
}

/** The frames of the step itself, of an answer that may begin with those of a look-back. */
function tail(gains: GainGrid, layout: GridLayout): GainGrid {
  if (gains.frames === layout.frames) return gains;
  return { ...layout, data: gains.data.subarray((gains.frames - layout.frames) * gains.bins) };
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const out = new Float32Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** Waiting steps as one: running what came late along is cheaper than re-making the state after leaving it out. */
export function joinSteps(
  first: StepSound,
  second: StepSound,
  unitSamples: number,
  maxUnits: number,
): StepSound | null {
  if (first.atSample + first.units * unitSamples !== second.atSample || first.units + second.units > maxUnits)
    return null;
  return {
    atSample: first.atSample,
    units: first.units + second.units,
    samples: joined(first.samples, second.samples),
  };
}
