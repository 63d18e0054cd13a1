import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Faces, type StepOutcome, StepRunner } from "../../src/channel/step-runner.js";
import { joinSteps } from "../../src/channel/steps.js";
import type { LoadedModel } from "../../src/model/cards.js";
import type { Inference, StepRequest } from "../../src/model/inference.js";
import { makeLive } from "../../src/model/live/build.js";
import { LocalInference } from "../../src/model/local-inference.js";
import { Separator, type StepSound } from "../../src/pipeline/separator.js";
import { noise, noiseLive, tinyBand } from "../model/noise.js";

const UNIT = 1920;
const SECONDS = 4;

const test = suite<{ model: LocalInference; asked: StepRequest[] }>("step runner");
test.before.each(async (t) => {
  const { card, files } = makeLive(noiseLive(tinyBand), { name: "tiny", version: "1" });
  const loaded: LoadedModel = { folder: "tiny", card, step: files["model.onnx"]!, voice: files["voice.onnx"]! };
  t.model = await LocalInference.open(loaded, { threads: 1 });
  // The real engine, and what was asked of it.
  t.asked = [];
  const step = t.model.step.bind(t.model);
  t.model.step = (request) => {
    t.asked.push(request);
    return step(request);
  };
});
test.after.each((t) => t.model.close());

/** Faces as they were seen: one mouth that moves (noise), or none, or a frozen picture. */
function faces(side: number, ids: readonly number[], frozen = false, who = 0): Faces {
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
  };
}

function separatorWithSound(model: LocalInference): Separator {
  const separator = new Separator({ model: model.card, channels: 1 });
  separator.pushAudio({
    atSample: 0,
    channels: [Float32Array.from(noise("speech", SECONDS * 48_000), (v) => v * 0.2)],
  });
  return separator;
}

async function gainsOf(model: LocalInference, skip: (index: number) => boolean): Promise<Map<number, Float32Array>> {
  const separator = separatorWithSound(model);
  const runner = new StepRunner({
    inference: model,
    session: `s${Math.random()}`,
    faces: faces(model.card.picture.side, [1]),
    separator,
    policy: {},
  });
  const out = new Map<number, Float32Array>();
  for (let i = 0, step = separator.nextStep(4); step !== null && i < 8; step = separator.nextStep(4), i++) {
    if (skip(i)) continue;
    const { decision, failure } = await runner.run(step);
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
  const separator = separatorWithSound(model);
  const runner = new StepRunner({
    inference: model,
    session: "s",
    faces: faces(model.card.picture.side, [1]),
    separator,
    policy: {},
  });
  await runner.run(separator.nextStep(4)!);
  model.forget("s");
  const outcome = await runner.run(separator.nextStep(4)!);
  assert.equal(
    asked.map((r) => r.reset),
    [true, false, true],
  );
  assert.is(outcome.failure, null);
  assert.is(outcome.decision?.reason, null);
});

test("a model that fails leaves the sound as it is and says why; the next step begins anew", async ({
  model,
  asked,
}) => {
  const separator = separatorWithSound(model);
  const good = faces(model.card.picture.side, [1]);
  let short = false;
  const damaged: Faces = {
    ...good,
    cropsFor: (...args) => (short ? { ...good.cropsFor(...args), crops: new Uint8Array(3) } : good.cropsFor(...args)),
  };
  const runner = new StepRunner({ inference: model, session: "s", faces: damaged, separator, policy: {} });
  await runner.run(separator.nextStep(4)!);
  short = true;
  const failed = await runner.run(separator.nextStep(4)!);
  assert.equal([failed.decision, failed.failure], [null, "SL_INFERENCE_FAILED"]);
  short = false;
  assert.is((await runner.run(separator.nextStep(4)!)).failure, null);
  assert.is(asked.at(-1)!.reset, true);
});

/** A runner whose faces can be changed, over a model that says how sure it is. */
function watching(
  model: LocalInference,
  sure: (track: number) => number,
): {
  see(ids: readonly number[], frozen?: boolean, who?: number): void;
  jump(atSample: number): void;
  readonly forgotten: readonly number[];
  next(): Promise<StepOutcome>;
} {
  const step = model.step.bind(model);
  model.step = async (request) => ({ ...(await step(request)), confidence: sure(request.track) });
  const separator = separatorWithSound(model);
  let now = faces(model.card.picture.side, [1]);
  const shown: Faces = {
    facesAt: (sample) => now.facesAt(sample),
    cropsFor: (...args) => now.cropsFor(...args),
    frozenAt: (unit) => now.frozenAt(unit),
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
  const runner = new StepRunner({ inference, session: "s", faces: shown, separator, policy: {} });
  return {
    forgotten,
    jump: (atSample) => runner.beginAnew(atSample),
    see: (ids, frozen = false, who = 0) => {
      now = faces(model.card.picture.side, ids, frozen, who);
    },
    next: () => runner.run(separator.nextStep(4)!),
  };
}

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

const anna = 0;
const ben = 1;

test("a cut is no new beginning: the sound goes on, and who comes back is known again", async ({ model, asked }) => {
  let sure = 0.9;
  const runner = watching(model, () => sure);
  const see = async (track: number, who: number): Promise<StepOutcome> => {
    runner.see([track], false, who);
    asked.length = 0;
    return runner.next();
  };
  const requests = () => asked.map((r) => [r.track, r.soundOf, r.personOf, r.reset, r.hasPicture]);
  await see(1, anna);
  assert.equal(requests(), [[1, null, null, true, true]]);
  // Anna's voice goes on until it is known whose Ben's is.
  for (const now of [0.1, 0.5, 0.9]) {
    sure = now;
    const { failure, recognised, recalled } = await see(2, ben);
    assert.equal([failure, recognised, recalled], [null, 0, true]);
    assert.equal(requests(), [
      [2, now === 0.1 ? 1 : null, null, false, true],
      [1, null, null, false, false],
    ]);
  }
  assert.is((await see(2, ben)).recalled, false);
  assert.equal(requests(), [[2, null, null, false, true]]);
  // Ben is known too, but Anna is who comes.
  const back = await see(3, anna);
  assert.equal(requests(), [[3, 2, 1, false, true]]);
  assert.is(back.recognised, 1);
  // Over a slide: only who was seen last.
  runner.see([]);
  asked.length = 0;
  assert.is((await runner.next()).recalled, true);
  assert.equal(requests(), [[3, null, null, false, false]]);
  await see(4, ben);
  assert.equal(requests()[0], [4, 3, 2, false, true]);
  assert.equal(runner.forgotten, [], "both are kept by every track they were seen as");
});

test("somebody of whom the model was hardly sure comes back as a listener: the speaker goes on beside", async ({
  model,
  asked,
}) => {
  const runner = watching(model, (track) => (track === 2 ? 0.9 : 0.35));
  const see = async (track: number, who: number): Promise<void> => {
    runner.see([track], false, who);
    asked.length = 0;
    await runner.next();
  };
  await see(1, ben);
  await see(2, anna);
  for (const personOf of [1, null]) {
    await see(3, ben);
    assert.equal(
      asked.map((r) => [r.track, r.personOf, r.hasPicture]),
      [
        [3, personOf, true],
        [2, null, false],
      ],
    );
  }
});

test("what is lost is made anew in the same step: first without the person, then from the past", async ({
  model,
  asked,
}) => {
  const runner = watching(model, () => 0.9);
  const see = async (track: number, who: number): Promise<StepOutcome> => {
    runner.see([track], false, who);
    asked.length = 0;
    return runner.next();
  };
  const requests = () => asked.map((r) => [r.track, r.soundOf, r.personOf, r.reset]);
  await see(1, anna);
  await see(2, ben);
  await see(2, ben);
  model.forget("s", 1);
  const { failure, recognised } = await see(3, anna);
  assert.equal([failure, recognised], [null, 0]);
  assert.equal(requests(), [
    [3, 2, 1, false],
    [3, 2, null, false],
  ]);
  model.forget("s");
  assert.is((await see(4, ben)).failure, null);
  assert.equal(
    requests().filter(([track]) => track === 4),
    [
      [4, 3, 2, false],
      [4, 3, null, false],
      [4, null, null, true],
    ],
  );
});

test("who is nobody's memory is forgotten, and everybody when the timestamps jump", async ({ model, asked }) => {
  let sure = 0.9;
  const runner = watching(model, () => sure);
  const see = async (track: number, who: number): Promise<void> => {
    runner.see([track], false, who);
    await runner.next();
  };
  await see(1, anna);
  sure = 0.1;
  await see(2, ben);
  assert.equal(runner.forgotten, []);
  await see(3, ben);
  assert.equal(runner.forgotten, [2], "was not surely found");
  runner.jump(3 * 4 * UNIT);
  asked.length = 0;
  await see(4, anna);
  assert.equal([...runner.forgotten].sort(), [1, 2, 3]);
  assert.equal(
    asked.map((r) => [r.track, r.soundOf, r.personOf, r.reset]),
    [[4, null, null, true]],
  );
});

test("two that begin together have heard the same: each is kept while the other is seen", async ({ model, asked }) => {
  const runner = watching(model, () => 0.9);
  runner.see([1, 2]);
  await runner.next();
  for (const track of [3, 4]) {
    runner.see([track], false, ben);
    await runner.next();
  }
  asked.length = 0;
  assert.equal(runner.forgotten, []);
  runner.see([5]);
  await runner.next();
  assert.ok([1, 2].includes(asked[0]!.personOf!));
});

test("two in the picture, and nobody who was not surely found: the new one goes on with the sound, as somebody new", async ({
  model,
  asked,
}) => {
  let sure = 0.1;
  const runner = watching(model, () => sure);
  await runner.next();
  asked.length = 0;
  runner.see([1, 2]);
  sure = 0.9;
  assert.is((await runner.next()).failure, null);
  const requests = () => asked.map((r) => [r.track, r.soundOf, r.personOf]);
  assert.equal(requests(), [
    [2, 1, null],
    [1, null, null],
  ]);
  asked.length = 0;
  // The same face in two places is not the one who is still there.
  runner.see([1, 2, 3]);
  await runner.next();
  assert.equal(requests()[0], [3, 1, null]);
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
    const separator = separatorWithSound(model);
    const runner = new StepRunner({
      inference: model,
      session: "s",
      faces: faces(model.card.picture.side, ids, frozen),
      separator,
      policy: {},
    });
    const outcome = await runner.run(separator.nextStep(4)!);
    assert.equal([outcome.decision?.gains, outcome.decision?.reason], [null, reason]);
    assert.is(asked.length, 0);
    const out = separator.render(24_000);
    assert.is(separator.mode.mode, "bypass");
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
