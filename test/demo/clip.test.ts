import { readFileSync, statSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readClip } from "../../src/demo/clip.js";
import { decodeSound, ffprobePackets } from "./media.js";

const test = suite("demo clip");
const CLIP = "demo/talk.flv";

type Truth = {
  frames: number;
  fps: number;
  seconds: number;
  framesPerEntry: number;
  box: [number, number, number, number][];
  mouth: number[][];
  speaking: number[];
  opening: number[];
  offScreen: { sentences: { start: number; end: number }[] };
};
const truth = JSON.parse(readFileSync("demo/truth.json", "utf8")) as Truth;

const energy = (x: Float32Array) => x.reduce((sum, v) => sum + v * v, 0);
const dB = (ratio: number) => 10 * Math.log10(ratio);

test("the clip stays small enough to be shipped", () => {
  assert.ok(statSync(CLIP).size < 3_000_000);
  assert.ok(statSync("demo/on-screen.flac").size + statSync("demo/off-screen.flac").size < 400_000);
});

test("pictures come in decoding order, with a key frame every two seconds and one at the start", async () => {
  const pictures = await ffprobePackets(CLIP, "v");
  assert.is(pictures.length, truth.frames);
  for (const [i, picture] of pictures.entries()) {
    assert.is(picture.ptsMs, picture.dtsMs);
    assert.is(picture.key, i % (2 * truth.fps) === 0);
  }
});

test("picture and sound of a round are equally long, so that rounds do not drift apart", async () => {
  const clip = await readClip(CLIP);
  assert.is(clip.roundMs, truth.seconds * 1000);
  assert.is((await ffprobePackets(CLIP, "a")).length * 1024, truth.seconds * 48_000);
});

test("the two voices add up to the clip's sound", async () => {
  const [mix, on, off] = await Promise.all([CLIP, "demo/on-screen.flac", "demo/off-screen.flac"].map(decodeSound));
  const length = Math.min(mix!.length, on!.length, off!.length);
  assert.ok(length >= (truth.seconds - 0.1) * 16_000, `${length} samples`);
  const rest = new Float32Array(length).map((_, i) => mix![i]! - on![i]! - off![i]!);
  // What is left is coding noise, not a shifted or missing voice.
  const left = dB(energy(rest) / energy(mix!));
  assert.ok(left < -15, `${left.toFixed(1)} dB left`);
});

test("truth lies within the picture and says when the two speak", () => {
  const entries = Math.ceil(truth.frames / truth.framesPerEntry);
  for (const list of [truth.box, truth.mouth, truth.speaking, truth.opening]) assert.is(list.length, entries);
  for (const [x, y, width, height] of truth.box) {
    assert.ok(x >= 0 && y >= 0 && x + width <= 1280 && y + height <= 720 && width > 100 && height > 100);
  }
  assert.ok(truth.speaking.some((s) => s === 1) && truth.speaking.some((s) => s === 0));
  assert.ok(truth.offScreen.sentences.length > 2);
});

test.run();
