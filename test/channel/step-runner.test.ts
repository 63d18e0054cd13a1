import * as assert from "uvu/assert";
import { type Faces, StepRunner } from "../../src/channel/step-runner.js";
import { joinSteps } from "../../src/channel/steps.js";
import type { LocalInference } from "../../src/model/inference/local.js";
import type { StepSound } from "../../src/pipeline/gain-renderer.js";
import { faces, only, rendererWithSound, runnerSuite, UNIT, watching } from "./step-stage.js";

const test = runnerSuite("step runner");

async function gainsOf(model: LocalInference, skip: (index: number) => boolean): Promise<Map<number, Float32Array>> {
  const renderer = rendererWithSound(model);
  const runner = new StepRunner({
    inference: model,
    session: `s${Math.random()}`,
    faces: faces(model.card.picture.side, [1]),
    renderer,
    policy: {},
  });
  const out = new Map<number, Float32Array>();
  for (let i = 0, step = renderer.nextStep(4); step !== null && i < 8; step = renderer.nextStep(4), i++) {
    if (skip(i)) continue;
    const { decision, failure } = only(await runner.run(step));
    assert.is(failure, null);
    out.set(step.atSample, decision!.gains!.data);
  }
  return out;
}

test("the first step of a face is a reset, then its state goes on", async ({ model, asked }) => {
  await gainsOf(model, () => false);
  assert.equal(
    asked.map((r) => r.reset),
    [true, ...Array(7).fill(false)],
  );
  assert.ok(asked.every((r) => r.units === 4));
});

test("a step that was left out costs a look-back, after which the gains are those of the unbroken run", async ({
  model,
  asked,
}) => {
  const unbroken = await gainsOf(model, () => false);
  asked.length = 0;
  const broken = await gainsOf(model, (i) => i === 3);
  assert.equal(
    asked.map((r) => r.reset),
    [true, false, false, true, false, false, false],
  );
  const reset = asked[3]!;
  assert.is(reset.atSample, 0, "the look-back reaches back to the beginning here");
  assert.is(reset.units, 20);
  for (const [at, gains] of broken) {
    const expected = unbroken.get(at)!;
    assert.is(gains.length, expected.length);
    assert.ok(
      gains.every((g, i) => Math.abs(g - expected[i]!) < 1e-4),
      `step at ${at}`,
    );
  }
});

test("a state that the inference lost is re-made within the same step", async ({ model, asked }) => {
  const renderer = rendererWithSound(model);
  const runner = new StepRunner({
    inference: model,
    session: "s",
    faces: faces(model.card.picture.side, [1]),
    renderer,
    policy: {},
  });
  only(await runner.run(renderer.nextStep(4)!));
  model.forget("s");
  const outcome = only(await runner.run(renderer.nextStep(4)!));
  assert.equal(
    asked.map((r) => r.reset),
    [true, false, true],
  );
  assert.is(outcome.failure, null);
  assert.is(outcome.decision?.reason, null);
});

test("that nobody was found because nobody could be looked for is a fault, not an empty picture, which may be set to mute", async ({
  model,
}) => {
  const renderer = rendererWithSound(model);
  const nobody = faces(model.card.picture.side, []);
  const run = async (shown: Faces) => {
    const policy = { whenNobodyVisible: "mute" } as const;
    const runner = new StepRunner({ inference: model, session: "s", faces: shown, renderer, policy });
    return only(await runner.run(renderer.nextStep(4)!));
  };
  const fault = await run({ ...nobody, detectionFault: "SL_INFERENCE_DOWN" });
  assert.equal([fault.failure, fault.decision], ["SL_INFERENCE_DOWN", null]);
  const empty = await run(nobody);
  assert.equal([empty.failure, empty.decision?.reason, empty.decision?.mute], [null, "SL_NO_FACE", true]);
});

test("a model that fails leaves the sound as it is and says why; the next step begins anew", async ({
  model,
  asked,
}) => {
  const renderer = rendererWithSound(model);
  const good = faces(model.card.picture.side, [1]);
  let short = false;
  const damaged: Faces = {
    ...good,
    cropsFor: (...args) => (short ? { ...good.cropsFor(...args), crops: new Uint8Array(3) } : good.cropsFor(...args)),
  };
  const runner = new StepRunner({ inference: model, session: "s", faces: damaged, renderer, policy: {} });
  only(await runner.run(renderer.nextStep(4)!));
  short = true;
  const failed = only(await runner.run(renderer.nextStep(4)!));
  assert.equal([failed.decision, failed.failure], [null, "SL_INFERENCE_FAILED"]);
  short = false;
  assert.is(only(await runner.run(renderer.nextStep(4)!)).failure, null);
  assert.is(asked.at(-1)!.reset, true);
});

test("a voice that was surely found is kept while nobody is to be seen, and while the picture is frozen", async ({
  model,
  asked,
}) => {
  const runner = watching(model, () => 0.9);
  assert.is((await runner.next()).recalled, false);
  for (const [ids, frozen] of [
    [[], false],
    [[1], true],
  ] as const) {
    runner.see(ids, frozen);
    const outcome = await runner.next();
    assert.equal([outcome.recalled, outcome.decision?.reason, outcome.decision?.gains === null], [true, null, false]);
    const { track, hasPicture, reset } = asked.at(-1)!;
    assert.equal({ track, hasPicture, reset }, { track: 1, hasPicture: false, reset: false });
  }
  // The same face as another track: it is recognised, and goes on.
  runner.see([2]);
  const other = await runner.next();
  assert.equal([other.recalled, asked.at(-1)!.track, asked.at(-1)!.hasPicture], [false, 2, true]);
  const before = asked.length;
  runner.see([]);
  assert.is((await runner.next()).recalled, true);
  assert.equal(
    asked.slice(before).map((r) => r.track),
    [2],
  );
});

test("a voice that was not surely found, or whose state was lost, is not kept: the sound stays as it is", async ({
  model,
}) => {
  let sure = 0.29;
  const runner = watching(model, () => sure);
  await runner.next();
  runner.see([]);
  const unsure = await runner.next();
  assert.equal([unsure.recalled, unsure.decision?.reason], [false, "SL_NO_FACE"]);
  runner.see([1]);
  sure = 0.9;
  await runner.next();
  runner.see([]);
  model.forget("s");
  const lost = await runner.next();
  assert.equal([lost.recalled, lost.failure, lost.decision?.reason], [false, null, "SL_NO_FACE"]);
});

test("nobody visible, or a frozen picture: nothing is asked, the sound stays, with the reason", async ({
  model,
  asked,
}) => {
  for (const [ids, frozen, reason] of [
    [[], false, "SL_NO_FACE"],
    [[1], true, "SL_PICTURE_FROZEN"],
  ] as const) {
    const renderer = rendererWithSound(model);
    const runner = new StepRunner({
      inference: model,
      session: "s",
      faces: faces(model.card.picture.side, ids, frozen),
      renderer,
      policy: {},
    });
    const outcome = only(await runner.run(renderer.nextStep(4)!));
    assert.is(outcome.facesSample, 3 * UNIT, "that of the step's last unit");
    assert.equal([outcome.decision?.gains, outcome.decision?.reason], [null, reason]);
    assert.is(asked.length, 0);
    const out = renderer.render(24_000);
    assert.is(renderer.mode.mode, "bypass");
    assert.ok(out !== null);
  }
});

test("waiting steps are joined while they follow each other and stay within the bound", () => {
  const step = (atSample: number, units: number): StepSound => ({
    atSample,
    units,
    samples: new Float32Array(units * UNIT).fill(atSample),
  });
  const both = joinSteps(step(0, 4), step(4 * UNIT, 4), UNIT, 50);
  assert.equal(
    [both?.atSample, both?.units, both?.samples.length, both?.samples[4 * UNIT]],
    [0, 8, 8 * UNIT, 4 * UNIT],
  );
  assert.is(joinSteps(step(0, 4), step(8 * UNIT, 4), UNIT, 50), null, "a hole");
  assert.is(joinSteps(step(0, 48), step(48 * UNIT, 4), UNIT, 50), null, "too long");
});

test.run();
