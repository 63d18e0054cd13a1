import * as assert from "uvu/assert";
import type { StepOutcome } from "../../src/channel/step-runner.js";
import { InferenceError } from "../../src/model/inference.js";
import { runnerSuite, UNIT, watching } from "./step-stage.js";

const test = runnerSuite("cuts");

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
  // Anna's voice goes on until it is known whose Ben's is; she is asked for once more, for that is not known before.
  for (const now of [0.1, 0.5, 0.9]) {
    sure = now;
    const { failure, recognised, recalled } = await see(2, ben);
    assert.equal([failure, recognised, recalled], [null, 0, now < 0.8]);
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

test("a listener whose voice is known takes nobody's place: not before he speaks", async ({ model, asked }) => {
  let benSpeaks = false;
  const runner = watching(
    model,
    () => 0.9,
    (track) => (track === 1 || benSpeaks ? 100 : -10),
  );
  const see = async (track: number, who: number): Promise<number[]> => {
    runner.see([track], false, who);
    asked.length = 0;
    await runner.next();
    return asked.map((r) => r.track);
  };
  await see(1, anna);
  for (let i = 0; i < 3; i++) assert.equal(await see(2, ben), [2, 1], "Anna goes on");
  benSpeaks = true;
  assert.equal(await see(2, ben), [2, 1], "whether he speaks is not known before");
  assert.equal(await see(2, ben), [2]);
  benSpeaks = false;
  assert.equal(await see(2, ben), [2], "his pauses are not hers");
});

test("how somebody sounds is known after a cut and when the inference was down: another voice under resting lips is shut out at once", async ({
  model,
}) => {
  // Nothing is told by how the voices fit; the first one is heard, and sounds like this.
  const sounds = { x: 1, y: 0 };
  const step = model.step.bind(model);
  let down = false;
  model.step = async (request) => {
    if (down) throw new InferenceError("SL_INFERENCE_DOWN", "restarted");
    const result = await step(request);
    const { fit, speaker, lips } = result.voices!;
    fit.fill(0);
    const size = speaker.length / 2 / lips.length;
    speaker.forEach((_, i) => {
      speaker[i] = i >= speaker.length / 2 ? 0 : i % size === 0 ? sounds.x : i % size === 1 ? sounds.y : 0;
    });
    return result;
  };
  let lips = 3;
  const runner = watching(
    model,
    () => 0.9,
    () => lips,
  );
  const speaking = async (track: number, who: number): Promise<number> => {
    runner.see([track], false, who);
    const { decision } = await runner.next();
    return decision!.speaking.get(track)!;
  };
  for (let i = 0; i < 12; i++) assert.ok((await speaking(1, anna)) > 0);
  const [annasOwn, another] = [
    { x: 1, y: 0.1 },
    { x: -0.3, y: 1 },
  ];
  await speaking(2, ben);
  lips = 0;
  Object.assign(sounds, another);
  assert.is(await speaking(3, anna), 0);
  Object.assign(sounds, annasOwn);
  // The voice around a moment counts.
  for (let i = 0; i < 4; i++) await speaking(3, anna);
  assert.ok((await speaking(3, anna)) > 0);
  down = true;
  runner.see([3], false, anna);
  assert.is((await runner.next()).failure, "SL_INFERENCE_DOWN");
  down = false;
  Object.assign(sounds, another);
  for (let i = 0; i < 3; i++) await speaking(3, anna);
  assert.is(await speaking(3, anna), 0);
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

test.run();
