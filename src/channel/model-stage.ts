import type { ChannelConfig } from "../config/schema.js";
import { FaceFollower } from "../model/faces/follower.js";
import { type AnyInference, type Inference, isWindowed, type WindowInference } from "../model/inference.js";
import { RATIO } from "../model/paper/gains.js";
import { coveredSamples } from "../model/paper/geometry.js";
import type { GainRenderer, StepSound } from "../pipeline/gain-renderer.js";
import { CROSS_FADE_SAMPLES } from "../pipeline/gain-timeline.js";
import { type Picture, SAMPLE_RATE } from "../pipeline/types.js";
import type { ModelGeometry } from "./latency.js";
import { PictureSquares } from "./picture-squares.js";
import { type StepOutcome, StepRunner } from "./step-runner.js";
import { WindowRunner } from "./window-runner.js";

/** Where decoded pictures go, whatever the model wants to see of them. */
export type PictureSide = {
  push(picture: Picture): void;
  reset(): void;
  /** Newest unit whose picture is certain. */
  readonly decidedUnit: number;
  readonly counters: Readonly<Record<string, number>>;
};

/** Runs steps, and decides about them: at once, or later (StepRunner). */
export type Runner = {
  run(step: StepSound): Promise<Iterable<StepOutcome>>;
  decideBefore(sample: number): Iterable<StepOutcome>;
  beginAnew(atSample: number): void;
};

/** The part of a channel that is another one for each kind of model: what it sees, and how it is asked. */
export type ModelStage = {
  readonly pictures: PictureSide;
  /** Pictures nearer than this to the one before are of no use. */
  readonly leastStepMs: number;
  runner(renderer: GainRenderer): Runner;
  /** Lets the inference forget us; for who keeps it open. */
  close(): void;
};

type Policy = Pick<ChannelConfig, "region" | "whenNobodyVisible" | "whenVisibleSilent">;

/** A window model is asked once a hop of so many samples; its hop is a multiple of them, so that pictures and steps meet as for other models. */
const WINDOW_UNIT_SAMPLES = 1920;

/** What the latency plan and the renderer must know of a model. */
export function geometryOf({ card }: AnyInference): ModelGeometry {
  if (card.kind === "stream") return card;
  const { window, guardSamples } = card.paper;
  const edge = Math.ceil((window.samples * RATIO.down) / RATIO.up) - coveredSamples(window);
  return {
    kind: "window",
    unitSamples: WINDOW_UNIT_SAMPLES,
    // The cross-fade with the window before must lie before the guard.
    guardSamples: guardSamples + CROSS_FADE_SAMPLES,
    // Steps may be joined as far as one window's gains reach.
    lookBackSamples: coveredSamples(window) + edge - guardSamples - CROSS_FADE_SAMPLES,
  };
}

/** @param session name under which the inference knows us */
export function modelStage(inference: AnyInference, session: string, config: Policy, lookAheadUnits = 0): ModelStage {
  return isWindowed(inference)
    ? windowStage(inference, session, config)
    : streamStage(inference, session, config, lookAheadUnits);
}

function streamStage(inference: Inference, session: string, config: Policy, lookAheadUnits: number): ModelStage {
  const { card } = inference;
  const pictures = new FaceFollower({ inference, side: card.picture.side, unitSamples: card.unitSamples });
  const { region, whenNobodyVisible, whenVisibleSilent } = config;
  const policy = { region: region ?? null, whenNobodyVisible, whenVisibleSilent };
  return {
    pictures,
    leastStepMs: 25,
    runner: (renderer) => new StepRunner({ inference, session, faces: pictures, renderer, policy, lookAheadUnits }),
    close: () => inference.forget(session),
  };
}

function windowStage(inference: WindowInference, session: string, config: Policy): ModelStage {
  const { side, window } = inference.card.paper;
  const { region, ...policy } = config;
  const unitSamples = WINDOW_UNIT_SAMPLES;
  // A window is asked for when the sound of its end is there, which may be seconds after its pictures.
  const keptSamples = 2 * coveredSamples(window) + 3 * SAMPLE_RATE;
  const pictures = new PictureSquares({ side, unitSamples, keptSamples, region: region ?? null });
  return {
    pictures,
    leastStepMs: 15,
    runner: (renderer) => new WindowRunner({ inference, session, pictures, renderer, policy, unitSamples }),
    close: () => {},
  };
}
