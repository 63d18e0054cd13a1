import { suite } from "uvu";
import { type Faces, type StepOutcome, StepRunner } from "../../src/channel/step-runner.js";
import { LocalInference } from "../../src/model/inference/local.js";
import type { Inference, StepRequest } from "../../src/model/inference.js";
import { loadedFrom, makeLive } from "../../src/model/live/build.js";
import { GainRenderer } from "../../src/pipeline/gain-renderer.js";
import { noise, noiseLive, tinyBand } from "../model/noise.js";

export const UNIT = 1920;
const SECONDS = 4;

type Stage = { model: LocalInference; asked: StepRequest[] };

/** Tests with the real engine on a model of noise, and what was asked of it. */
export function runnerSuite(name: string): ReturnType<typeof suite<Stage>> {
  const test = suite<Stage>(name);
  test.before.each(async (t) => {
    const built = makeLive(noiseLive(tinyBand), { name: "tiny", version: "1" });
    t.model = await LocalInference.open(loadedFrom(built, "tiny"), { threads: 1 });
    // The real engine, and what was asked of it.
    t.asked = [];
    const step = t.model.step.bind(t.model);
    t.model.step = (request) => {
      t.asked.push(request);
      return step(request);
    };
  });
  test.after.each((t) => t.model.close());
  return test;
}

/** Faces as they were seen: one mouth that moves (noise), or none, or a frozen picture. */
export function faces(side: number, ids: readonly number[], frozen = false, who = 0): Faces {
  const units = (SECONDS * 48_000) / UNIT;
  // Light on one side of the face: which one tells two people apart from afar.
  const light = (i: number): number => (i % side < side / 2 === (who === 0) ? 30 : -30);
  const all = Uint8Array.from(noise("mouth", units * side * side), (v, i) => Math.floor(128 + v * 60 + light(i)));
  return {
    facesAt: () =>
      ids.map((id) => ({ id, score: 0.9, still: false, box: { x: 0.4, y: 0.4, width: 0.2, height: 0.2 } })),
    cropsFor: (_id, from, count) => ({
      crops: all.slice(from * side * side, (from + count) * side * side),
      hasPicture: true,
      repeated: 0,
    }),
    frozenAt: () => frozen,
    detectionFault: null,
  };
}

export function rendererWithSound(model: LocalInference): GainRenderer {
  const renderer = new GainRenderer({ model: model.card, channels: 1 });
  renderer.pushAudio({
    atSample: 0,
    channels: [Float32Array.from(noise("speech", SECONDS * 48_000), (v) => v * 0.2)],
  });
  return renderer;
}

/** The outcome of a step that is decided about at once. */
export function only(outcomes: Iterable<StepOutcome>): StepOutcome {
  const [outcome, ...more] = outcomes;
  if (outcome === undefined || more.length > 0) throw new Error(`${more.length + 1} outcomes`);
  return outcome;
}

/** A runner whose faces can be changed, over a model that says how sure it is whose voice is whose, and what the lips do (logit). */
export function watching(
  model: LocalInference,
  sure: (track: number) => number,
  lipsOf: (track: number) => number = () => 100,
): {
  see(ids: readonly number[], frozen?: boolean, who?: number): void;
  jump(atSample: number): void;
  readonly forgotten: readonly number[];
  next(): Promise<StepOutcome>;
} {
  const step = model.step.bind(model);
  model.step = async (request) => {
    const result = await step(request);
    const { belief, lips } = result.voices!;
    belief.fill(1, 0, lips.length).fill(0, lips.length);
    lips.fill(lipsOf(request.track));
    return { ...result, confidence: sure(request.track) };
  };
  const renderer = rendererWithSound(model);
  let now = faces(model.card.picture.side, [1]);
  const shown: Faces = {
    facesAt: (sample) => now.facesAt(sample),
    cropsFor: (...args) => now.cropsFor(...args),
    frozenAt: (unit) => now.frozenAt(unit),
    detectionFault: null,
  };
  const forgotten: number[] = [];
  const inference: Inference = {
    card: model.card,
    step: (request) => model.step(request),
    remember: (...args) => model.remember(...args),
    detectFaces: (...args) => model.detectFaces(...args),
    forget: (session, track) => {
      if (track !== undefined) forgotten.push(track);
      model.forget(session, track);
    },
    close: () => model.close(),
  };
  const runner = new StepRunner({ inference, session: "s", faces: shown, renderer, policy: {} });
  return {
    forgotten,
    jump: (atSample) => runner.beginAnew(atSample),
    see: (ids, frozen = false, who = 0) => {
      now = faces(model.card.picture.side, ids, frozen, who);
    },
    next: async () => only(await runner.run(renderer.nextStep(4)!)),
  };
}
