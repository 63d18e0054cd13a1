import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { LoadedStream } from "../../src/model/cards.js";
import { LocalInference } from "../../src/model/inference/local.js";
import { InferenceError, type StepRequest, type StepResult } from "../../src/model/inference.js";
import { type BuildMeta, loadedFrom, makeLive } from "../../src/model/live/build.js";
import { clockOf } from "../../src/model/live/config.js";
import { noise, noiseLive, tinyBand, tinyLite } from "../model/noise.js";

const UNIT = 1920;
const SIDE = tinyLite.side;

const weights = noiseLive();
function loaded(meta: Partial<BuildMeta> = {}, from = weights): LoadedStream {
  return loadedFrom(makeLive(from, { name: "tiny", version: "1", ...meta }), "tiny");
}

/** Units `first` .. `first + units` of a fixed piece of noise. */
function request(first: number, units: number, more: Partial<StepRequest> = {}): StepRequest {
  const samples = Float32Array.from(noise("speech", 30 * UNIT), (v) => v * 0.2).slice(
    first * UNIT,
    (first + units) * UNIT,
  );
  const crops = Uint8Array.from(noise("mouth", 30 * SIDE ** 2), (v) => Math.floor(128 + v * 90)).slice(
    first * SIDE ** 2,
    (first + units) * SIDE ** 2,
  );
  return {
    session: "a",
    track: 1,
    reset: first === 0,
    atSample: first * UNIT,
    units,
    samples,
    crops,
    hasPicture: true,
    soundOf: null,
    personOf: null,
    memory: null,
    ...more,
  };
}

async function code(job: Promise<unknown>): Promise<string> {
  return job.then(
    () => "taken",
    (e: unknown) => (e instanceof InferenceError ? e.code : String(e)),
  );
}

const test = suite<{ model: LocalInference }>("inference in this process");
test.before(async (t) => {
  t.model = await LocalInference.open(loaded(), { threads: 1 });
});
test.after((t) => t.model.close());

for (const config of [tinyBand, tinyLite]) {
  const clock = clockOf(config.separator);
  const { firstFrameOffset, hop, frames, bins, binHz } = clock;
  test(`gains lie on the card's grid, between 0 and 1, whatever the calls are cut into (${config.separator.kind})`, async () => {
    const model = await LocalInference.open(loaded({}, noiseLive(config)), { threads: 1 });
    const { gains } = await model.step(request(0, 3));
    assert.equal(
      [gains.atSample, gains.hopSamples, gains.frames, gains.bins, gains.binHz, gains.data.length],
      [firstFrameOffset, hop, 3 * frames, bins, binHz, 3 * frames * bins],
    );
    assert.ok(gains.data.every((v) => v >= 0 && v <= 1));
    assert.is((await model.step(request(3, 1))).gains.atSample, 3 * UNIT + firstFrameOffset);
    const parts: number[] = [];
    for (let u = 0; u < 3; u++) parts.push(...(await model.step(request(u, 1))).gains.data);
    assert.ok(parts.every((v, i) => Math.abs(v - gains.data[i]!) < 1e-5));
    await model.close();
  });
}

test("tracks and sessions run side by side without touching each other, asked for all at once", async ({ model }) => {
  const others = [
    { session: "b", track: 1 },
    { session: "a", track: 2 },
  ];
  const alone = [await model.step(request(0, 2)), await model.step(request(2, 2))];
  const jobs = [request(0, 2), request(2, 2)].flatMap((r) => [
    model.step(r),
    ...others.map((o) => model.step({ ...r, ...o, samples: r.samples.map((v) => v * 3) })),
  ]);
  const all = await Promise.all(jobs);
  assert.equal(all[0]!.gains, alone[0]!.gains);
  assert.equal(all[3]!.gains, alone[1]!.gains);
  assert.equal(all[4]!.gains, all[5]!.gains);
  assert.not.equal(all[4]!.gains, alone[1]!.gains);
});

test("a reset in the middle starts from nothing, and a long look-back meets the run that never stopped", async ({
  model,
}) => {
  await model.step(request(0, 24));
  const on = await model.step(request(24, 2));
  await model.step(request(2, 22, { reset: true }));
  const again = await model.step(request(24, 2));
  const short = (await model.step(request(24, 2, { reset: true }))).gains.data;
  const apart = (x: Float32Array): number => Math.max(...x.map((v, i) => Math.abs(v - on.gains.data[i]!)));
  assert.ok(apart(again.gains.data) < 1e-3, `look-back is ${apart(again.gains.data)} away`);
  assert.ok(apart(short) > 0.05);
});

test("a new face goes on with the sound of another and, the same person, with what was found out; that track stays as it is", async () => {
  const told = loaded({}, noiseLive(tinyBand));
  const model = await LocalInference.open(told, { threads: 1 });
  const unseen = { hasPicture: false };
  await model.step(request(0, 24, unseen));
  const heir = await model.step(request(24, 2, { ...unseen, track: 2, soundOf: 1 }));
  const own = await model.step(request(24, 2, unseen));
  // Without a picture there is nothing but the sound: both are one.
  assert.equal(heir.gains, own.gains);
  assert.equal(
    (await model.step(request(26, 2, { ...unseen, track: 2 }))).gains,
    (await model.step(request(26, 2, unseen))).gains,
  );

  // Evidence for 24 pictures; lips at rest would shut all out, so what follows is without a picture.
  await model.step(request(0, 24, { track: 3 }));
  const [stranger, same] = [
    await model.step(request(24, 1, { ...unseen, track: 4, soundOf: 3 })),
    await model.step(request(24, 1, { ...unseen, track: 5, soundOf: 3, personOf: 3 })),
  ];
  const goes = await model.step(request(24, 1, { ...unseen, track: 3 }));
  const apart = (x: StepResult, y: StepResult): number =>
    Math.max(...x.gains.data.map((v, i) => Math.abs(v - y.gains.data[i]!)));
  assert.ok(apart(same, goes) < 1e-6);
  assert.ok(apart(stranger, goes) > 1e-3);
  // Also later, from a track that goes on no more.
  for (const track of [4, 5]) await model.step(request(25, 1, { ...unseen, track }));
  const back = await model.step(request(26, 1, { ...unseen, track: 6, soundOf: 4, personOf: 3 }));
  assert.ok(apart(back, await model.step(request(26, 1, { ...unseen, track: 5 }))) < 1e-6);
  await model.close();
});

test("a face cannot go on from a track that is not there, or is elsewhere in time", async ({ model }) => {
  await model.step(request(0, 2, { track: 5 }));
  for (const [first, soundOf, personOf] of [
    [2, 6, null],
    [3, 5, null],
    [2, 5, 6],
  ] as const)
    assert.is(await code(model.step(request(first, 1, { track: 7, soundOf, personOf }))), "SL_INFERENCE_STATE_LOST");
  assert.is(await code(model.step(request(2, 1, { track: 5 }))), "taken");
});

test("a step without state, after a gap or after forget answers that the state is lost", async ({ model }) => {
  assert.is(await code(model.step(request(1, 1, { track: 77 }))), "SL_INFERENCE_STATE_LOST");
  await model.step(request(0, 1));
  assert.is(await code(model.step(request(2, 1))), "SL_INFERENCE_STATE_LOST");
  await model.step(request(1, 1));
  model.forget("a", 1);
  assert.is(await code(model.step(request(2, 1))), "SL_INFERENCE_STATE_LOST");
  await model.step(request(0, 1));
  model.forget("a");
  assert.is(await code(model.step(request(1, 1))), "SL_INFERENCE_STATE_LOST");
});

test("forget while a step runs wins over the step", async ({ model }) => {
  const running = model.step(request(0, 4));
  // The engine starts its work in setImmediate: after a few microtasks the step has its state and is not done.
  for (let i = 0; i < 5; i++) await Promise.resolve();
  model.forget("a", 1);
  await running;
  assert.is(await code(model.step(request(4, 1))), "SL_INFERENCE_STATE_LOST");
});

test("sound and crops may be views into a larger buffer, and are not written to", async ({ model }) => {
  const r = request(0, 2);
  const want = (await model.step(r)).gains;
  const room = new ArrayBuffer(8 + r.samples.byteLength + 3 + r.crops.length);
  const samples = new Float32Array(room, 8, r.samples.length);
  const crops = new Uint8Array(room, 8 + r.samples.byteLength + 3);
  samples.set(r.samples);
  crops.set(r.crops);
  assert.equal((await model.step({ ...r, samples, crops })).gains, want);
  assert.equal(samples, r.samples);
  assert.equal(crops, r.crops);
});

test("an impossible request is refused and leaves the state as it was", async ({ model }) => {
  await model.step(request(0, 2));
  const r = request(2, 1);
  const bad: Partial<StepRequest>[] = [
    { units: 0 },
    { units: 2 },
    { units: 1.5 },
    { samples: r.samples.slice(1) },
    { crops: r.crops.slice(1) },
    { memory: new Float32Array(3) },
    { samples: r.samples.map((v, i) => (i === 7 ? Number.NaN : v)) },
    { samples: r.samples.map((v, i) => (i === 7 ? Number.POSITIVE_INFINITY : i === 8 ? Number.NEGATIVE_INFINITY : v)) },
    { atSample: Number.NaN },
  ];
  for (const b of bad)
    assert.is(await code(model.step({ ...r, ...b })), "SL_INFERENCE_FAILED", JSON.stringify(Object.keys(b)));
  assert.is(await code(model.step(r)), "taken");
});

test("sound so loud that numbers overflow costs the state, not the next steps", async ({ model }) => {
  await model.step(request(0, 2));
  const loud = request(2, 1, { samples: new Float32Array(UNIT).fill(3e38) });
  const outcome = await code(model.step(loud));
  assert.ok(outcome === "SL_INFERENCE_FAILED" || outcome === "taken", outcome);
  const fresh = await model.step(request(0, 2));
  assert.ok(fresh.gains.data.every((v) => v >= 0 && v <= 1));
});

test("without a picture the crops do not matter, and it makes a difference", async ({ model }) => {
  const gains = async (more: Partial<StepRequest>): Promise<Float32Array> => {
    await model.step(request(0, 5));
    return (await model.step(request(5, 5, more))).gains.data;
  };
  const none = await gains({ hasPicture: false, crops: new Uint8Array(0) });
  assert.equal(await gains({ hasPicture: false, crops: new Uint8Array(5 * SIDE ** 2).fill(200) }), none);
  assert.not.equal(await gains({}), none);
  const known = await model.remember(
    "a",
    Float32Array.from(noise("voice", 48_000), (v) => v * 0.1),
  );
  assert.ok(Math.abs(Math.hypot(...known) - 4) < 1e-4);
  assert.not.equal(await gains({ hasPicture: false, memory: known }), none);
  for (const bad of [1000, 60 * 48_000 + 1])
    assert.is(await code(model.remember("a", new Float32Array(bad))), "SL_INFERENCE_FAILED");
});

test("the least recently used of too many tracks has to start anew, the others go on", async ({ model }) => {
  model.forget("a");
  for (let track = 0; track <= 256; track++) await model.step(request(0, 1, { track, session: "many" }));
  assert.is(await code(model.step(request(1, 1, { track: 0, session: "many" }))), "SL_INFERENCE_STATE_LOST");
  assert.is(await code(model.step(request(1, 1, { track: 1, session: "many" }))), "taken");
  model.forget("many");
});

test("the ratio of both masks is the gain when the card says so", async ({ model }) => {
  const ratio = await LocalInference.open(loaded({ gain: "ratio" }), { threads: 1 });
  const a = (await model.step(request(0, 2))).gains.data;
  const b = (await ratio.step(request(0, 2))).gains.data;
  await ratio.close();
  // b = a / (a + rest), rest in 0..1: between a / (a + 1) and 1.
  assert.ok(b.every((v, i) => v >= a[i]! / (a[i]! + 1) - 1e-4 && v <= 1));
  assert.not.equal(a, b);
});

test("a card that does not fit its network is refused when it is opened", async () => {
  const good = loaded();
  const wrong = async (card: Partial<LoadedStream["card"]>, more: Partial<LoadedStream> = {}): Promise<string> =>
    LocalInference.open({ ...good, ...more, card: { ...good.card, ...card } }, { threads: 1 }).then(
      async (m) => {
        await m.close();
        return "taken";
      },
      (e: InferenceError) => `${e.code} ${e.message}`,
    );
  assert.match(
    await wrong({ states: good.card.states.slice(1) }),
    /^SL_MODEL_INVALID .*differ in seen|^SL_MODEL_INVALID .*differ in/,
  );
  assert.match(
    await wrong({ states: [{ name: "other", shape: [1], init: 0 }, ...good.card.states] }),
    /^SL_MODEL_INVALID .*other/,
  );
  assert.match(await wrong({ grid: { ...good.card.grid, bins: 129 } }), /^SL_MODEL_INVALID .*of gain, expected/);
  assert.match(await wrong({ picture: { ...good.card.picture, side: 48 } }), /^SL_MODEL_INVALID/);
  assert.match(await wrong({}, { step: good.step.slice(0, 5000) }), /^SL_MODEL_INVALID .*cannot load/);
});

test("after close everything is refused, and close may be called twice", async () => {
  const m = await LocalInference.open(loaded(), { threads: 1 });
  const last = m.step(request(0, 1));
  await m.close();
  await m.close();
  assert.is(await code(last), "taken");
  assert.is(await code(m.step(request(1, 1))), "SL_INFERENCE_DOWN");
  const waiting = await LocalInference.open(loaded(), { threads: 1 });
  const jobs = Array.from({ length: 70 }, (_, i) =>
    code(waiting.step(request(i === 0 ? 0 : 1, 1, { reset: true, atSample: 0 }))),
  );
  const codes = await Promise.all(jobs);
  await waiting.close();
  assert.is(codes.filter((c) => c === "SL_INFERENCE_LATE").length, 6);
});

test.run();
