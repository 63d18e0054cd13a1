import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { geometryOf, type ModelStage, modelStage } from "../../src/channel/model-stage.js";
import { PictureSquares } from "../../src/channel/picture-squares.js";
import type { StepOutcome } from "../../src/channel/step-runner.js";
import { FramePictures, WindowPictures } from "../../src/file/window-pictures.js";
import type { LocalWindows } from "../../src/model/inference/local-windows.js";
import { InferenceError, type WindowInference, type WindowRequest } from "../../src/model/inference.js";
import { FRAME_CENTRE, FRAME_HOP } from "../../src/model/paper/gains.js";
import { FRAME_SAMPLES } from "../../src/model/paper/geometry.js";
import { sourceBox } from "../../src/model/paper/source-box.js";
import { GainRenderer, type StepSound } from "../../src/pipeline/gain-renderer.js";
import { CROSS_FADE_SAMPLES } from "../../src/pipeline/gain-timeline.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";
import { only } from "./step-stage.js";
import { barPicture, openWindows, stereoNoise } from "./window-stage.js";

const SECONDS = 5;
const PICTURE_SAMPLES = 1920;
const HOP_UNITS = 10;
const POLICY = { whenNobodyVisible: "keep", whenVisibleSilent: "reduce" } as const;

type Context = { folder: ReturnType<typeof clipFolder>; model: LocalWindows };
const test = suite<Context>("window models in a channel");
test.before(async (t) => {
  t.folder = clipFolder();
  t.model = await openWindows(t.folder.path);
});
test.after(async (t) => {
  await t.model.close();
  t.folder.remove();
});

type Live = {
  stage: ModelStage;
  renderer: GainRenderer;
  asked: WindowRequest[];
  sound: Float32Array[];
  /** The next step, once its pictures were shown; null at the end. */
  next(): StepSound | null;
};

/** Five seconds of sound that is there, pictures that move until `stillFrom`, and what the model was asked. */
function live(model: LocalWindows, stillFrom = SECONDS, window?: WindowInference["window"]): Live {
  const asked: WindowRequest[] = [];
  const inference: WindowInference = {
    card: model.card,
    window: (request) => {
      asked.push(request);
      return window === undefined ? model.window(request) : window(request);
    },
    close: () => model.close(),
  };
  const stage = modelStage(inference, "test", POLICY);
  const renderer = new GainRenderer({ model: geometryOf(inference), channels: 2 });
  const sound = stereoNoise(SECONDS * 48_000);
  renderer.pushAudio({ atSample: 0, channels: sound });
  let shown = 0;
  const next = (): StepSound | null => {
    const step = renderer.nextStep(HOP_UNITS);
    for (; step !== null && shown * PICTURE_SAMPLES <= step.atSample + step.samples.length; shown++)
      stage.pictures.push(barPicture(Math.min(shown, stillFrom * 25), shown * PICTURE_SAMPLES));
    return step;
  };
  return { stage, renderer, asked, sound, next };
}

/** Every step there is, and the sound that comes of it. */
async function runAll({ stage, renderer, next }: Live): Promise<{ outcomes: StepOutcome[]; out: Float32Array }> {
  const runner = stage.runner(renderer);
  const outcomes: StepOutcome[] = [];
  for (let step = next(); step !== null; step = next()) outcomes.push(...(await runner.run(step)));
  return { outcomes, out: renderer.render(renderer.gainsUntil)?.kept.channels[0] ?? new Float32Array(0) };
}

test("each hop gets the trusted part of its own window, without a hole, cross-faded with the one before", async ({
  model,
}) => {
  const scene = live(model);
  const { outcomes, out } = await runAll(scene);
  assert.is(outcomes.length, Math.floor((SECONDS * 25) / HOP_UNITS));
  const guard = model.card.paper.guardSamples;
  // Windows that would lie mostly before the beginning are not asked for.
  const first = outcomes.findIndex((o) => o.decision !== null);
  assert.is(first, 2);
  assert.ok(outcomes.slice(0, first).every((o) => o.failure === null && o.faces.length === 0));
  for (const [i, { decision, failure, layout, faces, fromSample }] of outcomes.entries()) {
    if (i < first) continue;
    assert.is(failure, null);
    assert.is(faces.length, 1);
    assert.is(fromSample, i * HOP_UNITS * 1920 - guard);
    const { atSample } = scene.asked[i - first]!;
    const end = (i + 1) * HOP_UNITS * 1920;
    const window = await model.window(scene.asked[i - first]!);
    // Row for row what the network says of this window; before its first frame that one holds on.
    const firstRow = (layout.atSample - atSample - FRAME_CENTRE) / FRAME_HOP;
    for (let f = 0; f < layout.frames; f++) {
      const row = Math.max(0, firstRow + f);
      assert.equal(
        decision!.gains!.data.slice(f * layout.bins, f * layout.bins + 20),
        window.gains.data.slice(row * layout.bins, row * layout.bins + 20),
      );
    }
    // It is the newest window whose sound is all there, and its end is not used.
    assert.ok(Math.abs(atSample / FRAME_SAMPLES - Math.round(atSample / FRAME_SAMPLES)) < 1e-3);
    const last = layout.atSample + (layout.frames - 1) * layout.hopSamples;
    assert.ok(last >= end - guard && last < end - guard + FRAME_HOP);
    const before = outcomes[i - 1]!.layout;
    if (i > first) {
      const overlap = before.atSample + (before.frames - 1) * FRAME_HOP - layout.atSample;
      assert.ok(
        overlap >= CROSS_FADE_SAMPLES - FRAME_HOP && overlap <= CROSS_FADE_SAMPLES + 2 * FRAME_HOP,
        `${overlap}`,
      );
    }
  }
  const { mode, counters } = scene.renderer;
  assert.is(mode.mode, "separated");
  assert.is(counters.timesLate, 0);
  assert.ok(out.length > 4 * 48_000 && out.every(Number.isFinite));
  // All rows are convex combinations of the model's gains: nothing comes out louder than it went in.
  assert.ok(
    out.some((v, n) => Math.abs(v - scene.sound[0]![n]!) > 0.01),
    "the sound is another one",
  );
});

test("a hop that was left out is made good by the next window", async ({ model }) => {
  const scene = live(model);
  const runner = scene.stage.runner(scene.renderer);
  const layouts = [];
  for (let i = 0, step = scene.next(); step !== null; i++, step = scene.next())
    if (i !== 5) layouts.push(only(await runner.run(step)).layout);
  for (const [i, layout] of layouts.slice(1).entries()) {
    const before = layouts[i]!;
    assert.ok(layout.atSample <= before.atSample + before.frames * before.hopSamples, `a hole before step ${i + 1}`);
  }
  scene.renderer.render(scene.renderer.gainsUntil);
  assert.is(scene.renderer.counters.timesLate, 0);
});

test("a picture that stands still, or none, leaves the sound as it is, and the model is not asked", async ({
  model,
}) => {
  const still = live(model, 0);
  const { outcomes, out } = await runAll(still);
  assert.is(still.asked.length, 0);
  for (const { decision } of outcomes) assert.equal([decision?.gains, decision?.reason], [null, "SL_PICTURE_FROZEN"]);
  assert.equal([still.renderer.mode.mode, still.renderer.mode.reason], ["bypass", "SL_PICTURE_FROZEN"]);
  assert.ok(out.length > 0 && out.every((v, n) => Math.abs(v - still.sound[0]![n]!) < 1e-4));

  const blind = live(model);
  const step = blind.next()!;
  blind.stage.pictures.reset();
  const { decision } = only(await blind.stage.runner(blind.renderer).run(step));
  assert.is(decision?.reason, "SL_PICTURE_FROZEN");
});

test("what the inference cannot answer is a failure with its code, and the next window goes on", async ({ model }) => {
  let calls = 0;
  const scene = live(model, SECONDS, async (request) => {
    if (++calls === 3) throw new InferenceError("SL_INFERENCE_LATE", "too late");
    return model.window(request);
  });
  const { outcomes } = await runAll(scene);
  assert.equal(
    outcomes.map((o) => o.failure),
    outcomes.map((_, i) => (i === 4 ? "SL_INFERENCE_LATE" : null)),
  );
  // It makes good what the failed one would have said.
  const [before, after] = [outcomes[3]!.layout, outcomes[5]!.layout];
  assert.ok(after.atSample < before.atSample + (before.frames - 1) * before.hopSamples);
});

test("after a jump of the timestamps no window mixes what was with what is", async ({ model }) => {
  const scene = live(model);
  const runner = scene.stage.runner(scene.renderer);
  const asked: boolean[] = [];
  for (let i = 0, step = scene.next(); step !== null; i++, step = scene.next()) {
    if (i === 6) runner.beginAnew(step.atSample);
    asked.push(only(await runner.run(step)).decision !== null);
  }
  assert.equal(asked, [false, false, true, true, true, true, false, false, true, true, true, true]);
});

test("sound that left the ring is a late hop, not the end of the chain", async ({ model }) => {
  const scene = live(model);
  const step = scene.next()!;
  for (let i = 0; i < 4; i++) scene.next();
  scene.renderer.render(scene.renderer.soundUntil);
  for (let n = 0; n < 5; n++)
    scene.renderer.pushAudio({ atSample: scene.renderer.pushedSamples, channels: stereoNoise(48_000) });
  const late = { ...step, atSample: step.atSample + 2 * step.samples.length };
  assert.is(only(await scene.stage.runner(scene.renderer).run(late)).failure, "SL_INFERENCE_LATE");
});

test("mono sound, `mute` and `keep` of a channel hold for windows too", async ({ model }) => {
  const stage = modelStage(model, "test", { whenNobodyVisible: "mute", whenVisibleSilent: "reduce" });
  const renderer = new GainRenderer({ model: geometryOf(model), channels: 1 });
  renderer.pushAudio({ atSample: 0, channels: [stereoNoise(3 * 48_000)[0]!] });
  const runner = stage.runner(renderer);
  let decision: StepOutcome["decision"] = null;
  for (let step = renderer.nextStep(HOP_UNITS); step !== null; step = renderer.nextStep(HOP_UNITS))
    ({ decision } = only(await runner.run(step)));
  assert.equal([decision?.mute, decision?.reason], [true, "SL_PICTURE_FROZEN"]);
  renderer.render(renderer.soundUntil);
  assert.is(renderer.mode.mode, "muted");

  const moving = modelStage(model, "test", { whenNobodyVisible: "keep", whenVisibleSilent: "keep" });
  const one = new GainRenderer({ model: geometryOf(model), channels: 1 });
  one.pushAudio({ atSample: 0, channels: [stereoNoise(3 * 48_000)[0]!] });
  for (let i = 0; i < 75; i++) moving.pictures.push(barPicture(i, i * PICTURE_SAMPLES));
  const again = moving.runner(one);
  for (let step = one.nextStep(15); step !== null; step = one.nextStep(15))
    ({ decision } = only(await again.run(step)));
  assert.ok(decision!.gains !== null);
});

test("a channel sees what a file sees: the same squares of the same clip", async ({ folder }) => {
  const input = join(folder.path, "squares.mkv");
  ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-t", "3", "-c:v", "libx264", "-preset", "ultrafast", input);
  const toSample = (ptsMs: number): number => Math.round(ptsMs * 48);
  const side = 112;
  const ours = new PictureSquares({ side, unitSamples: 1920, keptSamples: 240_000, region: null });
  const whole = new FramePictures({ input, reading: { bt601: true }, toSample, make: (picture) => picture });
  await whole.begin();
  const given = new Set<number>();
  for (const { ptsMs, ...picture } of await whole.window(0, 80)) {
    if (!given.has(ptsMs)) ours.push({ ...picture, atSample: toSample(ptsMs) });
    given.add(ptsMs);
  }
  whole.close();
  const file = new WindowPictures({ input, side, mask: null, toSample });
  await file.begin();
  const theirs = await file.window(0, 63);
  file.close();
  const squares = ours.window(0, 63)!;
  const size = 3 * side * side;
  let worst = 0;
  for (const [f, square] of theirs.entries()) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += Math.abs(square[i]! - squares[f * size + i]!);
    worst = Math.max(worst, sum / size);
  }
  // Two ways to scale a test picture full of edges; one frame's difference in time, or a pixel's in place, gives over 10.
  assert.ok(worst < 8, `a square differs by ${worst.toFixed(1)} of 255`);
});

test("only the region is seen", () => {
  const box = { x: 0.5, y: 0, width: 0.5, height: 1 };
  const pictures = new PictureSquares({ side: 32, unitSamples: 1920, keptSamples: 48_000, region: box });
  pictures.push(barPicture(0, 0));
  const square = pictures.window(0, 1)!;
  const grey = Array.from({ length: 32 * 32 }, (_, i) => square.subarray(3 * i, 3 * i + 3).every((v) => v === 128));
  assert.equal(
    grey,
    grey.map((_, i) => i % 32 < 16),
  );
});

test("pictures kept are bounded, and a jump of the timestamps forgets them", () => {
  const pictures = new PictureSquares({ side: 32, unitSamples: 1920, keptSamples: 96_000, region: null });
  for (let i = 0; i < 1000; i++) pictures.push(barPicture(i, i * 800));
  // What is asked for from before that shows the oldest that is kept: all the same.
  const size = 3 * 32 * 32;
  const old = pictures.window(0, 400)!;
  assert.equal(old.subarray(0, size), old.subarray(300 * size, 301 * size));
  assert.not.equal(old.subarray(0, size), pictures.window(470, 1)!);
  assert.is(pictures.decidedUnit, Math.ceil((999 * 800) / 1920) - 1);
  pictures.push(barPicture(0, 5));
  assert.is(pictures.counters.pictures_late, 1);
  assert.not(pictures.frozenAt(999 * 800));
  assert.ok(pictures.frozenAt(999 * 800 + 48_000));
  pictures.reset();
  assert.is(pictures.window(0, 1), null);
  assert.is(pictures.decidedUnit, Number.NEGATIVE_INFINITY);
});

test("the source is the map's peak and what hangs together with it, in fractions of the whole picture", () => {
  const data = Float32Array.of(0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0, 3);
  const { x, y, width, height } = sourceBox({ height: 4, width: 4, data }, 112);
  // The network sees the middle 7/8 of the picture.
  const at = (cells: number): number => 1 / 16 + (cells / 4) * (7 / 8);
  assert.ok(Math.abs(x - at(1)) < 1e-9 && Math.abs(y - at(1)) < 1e-9);
  assert.ok(Math.abs(width - (at(3) - at(1))) < 1e-9 && Math.abs(height - (at(2) - at(1))) < 1e-9);
  const flat = sourceBox({ height: 2, width: 2, data: new Float32Array(4) }, 112);
  assert.ok(flat.width > 0 && flat.height > 0);
});

test.run();
