import type { FollowedFace } from "../model/faces/follower.js";
import type { FaceGains, FacePolicy } from "../pipeline/face-policy.js";
import type { GainRenderer } from "../pipeline/gain-renderer.js";
import type { GainGrid } from "../pipeline/types.js";
import { type Beliefs, mixedVoices, type Voices } from "../pipeline/voices.js";
import type { StepOutcome } from "./step-runner.js";

/** From this confidence in a face that is seen, nobody's voice from before is kept beside it. */
const SETTLED = 0.8;

/** One face's run of the model, from a beginning of its state on; goes on while steps that it answered wait for their decision. */
export class Run {
  /** Of its newest step. */
  confidence = 0;

  /** @param beliefs null: the model does not give its voices one by one, and decides itself */
  constructor(readonly beliefs: Beliefs | null) {}

  /** Whose voice it is has been found out, and it speaks: whoever is shown listening takes the place of nobody who is heard. */
  get settled(): boolean {
    return this.confidence >= SETTLED && (this.beliefs?.speaks() ?? true);
  }
}

/** What the model said of one face in one step. */
export type Answered = {
  readonly face: FollowedFace;
  /** The face is not seen now; its voice is known from before. */
  readonly recalled: boolean;
  readonly gains: GainGrid;
  readonly voices: Voices | null;
  readonly run: Run;
};

/** A step that was run and waits for its decision. */
export type Waiting = Pick<StepOutcome, "layout" | "failure" | "facesSample" | "engineMs" | "resets" | "recognised"> & {
  readonly fromUnit: number;
  readonly units: number;
  /** Those in the picture. */
  readonly faces: readonly FollowedFace[];
  readonly answered: readonly Answered[];
  readonly frozen: boolean;
};

export type StepDecisionsOptions = {
  readonly renderer: GainRenderer;
  readonly policy: FacePolicy;
  readonly lookAheadUnits: number;
};

/**
 * Steps that were run, in order, and what becomes of them. Choosing whose voice is whose takes seconds of lips and voices; with a look-ahead a step is
 * decided about when so much more is known; its masks are still those of its own time. Without one it is decided about at once.
 */
export class StepDecisions {
  readonly #o: StepDecisionsOptions;
  readonly #waiting: Waiting[] = [];
  /** Newest unit that was run. */
  #newest = Number.NEGATIVE_INFINITY;

  constructor(options: StepDecisionsOptions) {
    this.#o = options;
  }

  push(step: Waiting): void {
    this.#waiting.push(step);
    this.#newest = step.fromUnit + step.units - 1;
  }

  /** Decides about the steps whose look-ahead ends with this unit or before. */
  until(unit: number): Iterable<StepOutcome> {
    return this.#decideWhile((step) => lookAheadEnd(step, this.#o.lookAheadUnits) <= unit);
  }

  /** Decides about the steps whose gains reach this sample; in between the gains of two steps are those of both. */
  before(sample: number): Iterable<StepOutcome> {
    return this.#decideWhile(({ layout }) => layout.atSample - layout.hopSamples < sample);
  }

  /** One after another, as they are asked for. */
  *#decideWhile(due: (step: Waiting) => boolean): Iterable<StepOutcome> {
    for (let step = this.#waiting[0]; step !== undefined && due(step); step = this.#waiting[0]) {
      this.#waiting.shift();
      yield this.#decide(step);
    }
  }

  #decide(step: Waiting): StepOutcome {
    const { renderer, policy } = this.#o;
    const { layout, failure, facesSample, engineMs, resets, recognised, answered } = step;
    // Who is known from before goes on beside a face only until it is known, by now, whose voice that one has.
    const settled = answered.some(({ recalled, run }) => !recalled && run.settled);
    const counted = answered.filter(({ recalled }) => !recalled || !settled);
    const decision =
      failure === null
        ? policy.decide({
            layout,
            faces: counted.map((a) => this.#gainsOf(a, step)),
            frozen: step.frozen,
            energies: renderer.energies(layout),
          })
        : null;
    if (decision !== null) renderer.acceptDecision(decision);
    return {
      layout,
      fromSample: layout.atSample,
      decision,
      failure,
      faces: step.faces.map(({ still: _, ...face }) => ({ ...face, speaking: decision?.speaking.get(face.id) ?? 0 })),
      facesSample,
      engineMs,
      resets,
      recalled: counted.some((a) => a.recalled),
      recognised,
      hurried: lookAheadEnd(step, this.#o.lookAheadUnits) > this.#newest,
    };
  }

  #gainsOf({ face: { id, box, still }, gains, voices, run }: Answered, { fromUnit, units }: Waiting): FaceGains {
    const { lookAheadUnits } = this.#o;
    if (voices === null || run.beliefs === null) return { id, box, still, gains };
    const weights = run.beliefs.weights(fromUnit, units, lookAheadUnits);
    return { id, box, still, gains: mixedVoices(gains, voices, weights) };
  }
}

/** The last unit that is to be seen and heard before a step is decided about. */
const lookAheadEnd = ({ fromUnit, units }: Waiting, lookAheadUnits: number): number =>
  fromUnit + units - 1 + lookAheadUnits;
