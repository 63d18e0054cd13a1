import * as assert from "uvu/assert";
import { type StepOutcome, StepRunner } from "../../src/channel/step-runner.js";
import type { LocalInference } from "../../src/model/inference/local.js";
import type { StepRequest } from "../../src/model/inference.js";
import { Beliefs } from "../../src/pipeline/voices.js";
import { faces, only, rendererWithSound, runnerSuite, UNIT } from "./step-stage.js";

const test = runnerSuite("look-ahead");
const LATER = 10;
const HOP = 4;

type Scene = ReturnType<typeof scene>;
function scene(model: LocalInference, lookAheadUnits: number) {
  const renderer = rendererWithSound(model);
  const side = model.card.picture.side;
  const shown = { now: faces(side, [1]) };
  const runner = new StepRunner({
    inference: model,
    session: `s${Math.random()}`,
    faces: {
      facesAt: (sample) => shown.now.facesAt(sample),
      cropsFor: (...args) => shown.now.cropsFor(...args),
      frozenAt: (unit) => shown.now.frozenAt(unit),
      detectionFault: null,
    },
    renderer,
    policy: {},
    lookAheadUnits,
  });
  const see = (ids: readonly number[], who = 0): void => {
    shown.now = faces(side, ids, false, who);
  };
  return { renderer, runner, see };
}

/** All steps, what was decided by each, and the rest. */
async function all({ renderer, runner }: Scene): Promise<{ byStep: StepOutcome[][]; rest: StepOutcome[] }> {
  const byStep: StepOutcome[][] = [];
  for (let step = renderer.nextStep(HOP); step !== null; step = renderer.nextStep(HOP))
    byStep.push([...(await runner.run(step))]);
  return { byStep, rest: [...runner.finish()] };
}

/** What the network says of the whole sound in one call, voices one by one. */
async function inOneCall(model: LocalInference, asked: readonly StepRequest[]) {
  const result = await model.step({
    ...asked[0]!,
    session: "one",
    reset: true,
    voices: true,
    units: asked.reduce((sum, r) => sum + r.units, 0),
    samples: Float32Array.from(asked.flatMap((r) => [...r.samples])),
    crops: Uint8Array.from(asked.flatMap((r) => [...r.crops])),
  });
  return { gains: result.gains, voices: result.voices! };
}

test("the network's own gains are its voices by their belief, as far as its lips are open", async ({
  model,
  asked,
}) => {
  await all(scene(model, LATER));
  const { gains, voices } = await inOneCall(model, asked.slice());
  const { frames, bins } = gains;
  const units = voices.lips.length;
  for (let unit = 0; unit < units; unit++) {
    const cells = Array.from({ length: (frames / units) * bins }, (_, c) => (unit * frames * bins) / units + c);
    const believed = cells.map((c) =>
      [0, 1].reduce((s, v) => s + voices.belief[v * units + unit]! * voices.masks[v * frames * bins + c]!, 0),
    );
    const open = cells.reduce((s, c) => s + gains.data[c]!, 0) / believed.reduce((a, b) => a + b, 0);
    assert.ok(open <= 1.0001);
    for (const [i, c] of cells.entries()) assert.ok(Math.abs(open * believed[i]! - gains.data[c]!) < 1e-4);
  }
});

test("a step is decided about by what is known a look-ahead later, with its own masks", async ({ model, asked }) => {
  const { byStep, rest } = await all(scene(model, LATER));
  assert.equal(
    byStep.map((outcomes) => outcomes.length),
    byStep.map((_, i) => (i < 3 ? 0 : 1)),
    "12 units are the first whole steps beyond 10",
  );
  const outcomes = [...byStep.flat(), ...rest];
  assert.is(outcomes.length, byStep.length);
  const { gains, voices } = await inOneCall(model, asked.slice());
  const { frames, bins, atSample } = gains;
  const units = voices.lips.length;
  const known = new Beliefs(model.card.voices!, units);
  known.add(0, voices, true);
  let different = 0;
  for (const [i, { layout, decision }] of outcomes.entries()) {
    assert.is(layout.atSample, atSample + i * HOP * UNIT);
    // The last steps know no more than all of it.
    const weights = known.weights(i * HOP, HOP, LATER);
    for (let c = 0; c < layout.frames * bins; c++) {
      const cell = (i * HOP * frames * bins) / units + c;
      const unit = Math.floor((Math.floor(c / bins) * HOP) / layout.frames);
      const sum = [0, 1].reduce((s, v) => s + weights[v * HOP + unit]! * voices.masks[v * frames * bins + cell]!, 0);
      assert.ok(Math.abs(decision!.gains!.data[c]! - sum) < 1e-4, `step ${i}`);
      if (Math.abs(decision!.gains!.data[c]! - gains.data[cell]!) > 1e-3) different += 1;
    }
  }
  assert.ok(different > 0, "and not by what was known at once");
});

test("gains come without a hole, and what must leave is decided with what is known", async ({ model }) => {
  const { renderer, runner } = scene(model, LATER);
  for (let i = 0; i < 2; i++) assert.equal([...(await runner.run(renderer.nextStep(HOP)!))], []);
  assert.is(renderer.render(renderer.gainsUntil), null);
  // The first step's gains begin in front of it, by the guard.
  const before = [...runner.decideBefore(UNIT)];
  assert.is(before.length, 1);
  assert.is(before[0]!.decision?.reason, null);
  const until = renderer.gainsUntil;
  assert.ok(until > 0 && until < HOP * UNIT);
  const { rest } = await all({ renderer, runner, see: () => {} });
  assert.ok(rest.length >= 2);
  assert.ok(renderer.render(renderer.gainsUntil)!.kept.channels[0]!.length > 60_000);
  assert.is(renderer.counters.timesLate, 0);
});

test("a cut: what was before it keeps its own decision, what comes after has its own", async ({ model, asked }) => {
  const { renderer, runner, see } = scene(model, LATER);
  const outcomes: StepOutcome[] = [];
  const step = model.step.bind(model);
  // Of the first face only voice 0 is wanted, of the second only voice 1, whose masks are told apart by their value.
  model.step = async (request) => {
    const result = await step(request);
    const voices = result.voices!;
    const first = request.track === 1 ? 1 : 0;
    const half = voices.masks.length / 2;
    return {
      ...result,
      confidence: 0.9,
      voices: {
        ...voices,
        masks: voices.masks.map((_, i) => (i < half ? 0.25 : 0.75)),
        belief: voices.belief.map((_, i) => (i < voices.belief.length / 2 ? first : 1 - first)),
        lips: voices.lips.map(() => 100),
      },
    };
  };
  for (let i = 0, step = renderer.nextStep(HOP); step !== null; step = renderer.nextStep(HOP), i++) {
    // The second one is settled at once: the first does not go on beside.
    if (i === 5) see([2], 1);
    if (i === 8) see([]);
    outcomes.push(...(await runner.run(step)));
  }
  outcomes.push(...runner.finish());
  assert.equal(
    outcomes.map(({ decision }) => [...new Set(decision!.gains!.data)]),
    // On the slide the one who was seen last goes on.
    outcomes.map((_, i) => (i < 5 ? [0.25] : [0.75])),
  );
  assert.equal(
    outcomes.map(({ faces: shown }) => shown.map((f) => f.id)),
    outcomes.map((_, i) => (i < 5 ? [1] : i < 8 ? [2] : [])),
  );
  assert.ok(asked.every((r) => r.voices === true));
});

test("a step that failed is told in its place, and those around it are decided", async ({ model }) => {
  const { renderer, runner } = scene(model, LATER);
  const step = model.step.bind(model);
  let calls = 0;
  model.step = (request) => {
    calls += 1;
    return step(calls === 4 ? { ...request, samples: new Float32Array(3) } : request);
  };
  const { byStep, rest } = await all({ renderer, runner, see: () => {} });
  assert.equal(
    [...byStep.flat(), ...rest].map((o) => o.failure),
    [...byStep, ...rest].slice(0, byStep.length).map((_, i) => (i === 3 ? "SL_INFERENCE_FAILED" : null)),
  );
});

test("without a look-ahead every step is decided about at once; a model that gives no voices can have none", async ({
  model,
  asked,
}) => {
  const { renderer, runner } = scene(model, 0);
  only(await runner.run(renderer.nextStep(HOP)!));
  assert.is(asked[0]!.voices, true);
  const { voices: _, ...card } = model.card;
  const mute = { ...model, card, step: model.step } as unknown as LocalInference;
  assert.throws(() => scene(mute, LATER), /does not give its voices one by one/);
});

test.run();
