import { suite } from "uvu";
import * as assert from "uvu/assert";
import { longestHoleMs, type Pcm } from "../../bench/support/sound.js";

const test = suite("bench: holes in sound");

const RATE = 48_000;
/** A second of noise, times `gain(ms)`. */
function noise(startMs: number, gain: (ms: number) => number): Pcm {
  let seed = 1;
  const plane = Float32Array.from({ length: RATE }, (_, i) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return 0.1 * (seed / 2 ** 31 - 1) * gain((i * 1000) / RATE);
  });
  return { planes: [plane, plane], startMs };
}
const hole = (input: Pcm, output: Pcm, shiftMs: number): number => longestHoleMs(input, output, [0, 1000], shiftMs, 18);

test("a stretch that is missing in the output is a hole of its length, wherever the output's clock begins", () => {
  const input = noise(0, () => 1);
  const output = noise(700, (ms) => (ms >= 400 && ms < 460 ? 0 : 1));
  assert.is(hole(input, output, 700), 60);
});

test("what is turned down within the limit, and a pause of the input, are none", () => {
  const paused = (ms: number): number => (ms >= 300 && ms < 500 ? 0 : 1);
  assert.is(hole(noise(0, paused), noise(0, paused), 0), 0);
  assert.is(
    hole(
      noise(0, () => 1),
      noise(0, (ms) => (ms < 500 ? 0.25 : 1)),
      0,
    ),
    0,
  );
});

test("a shift known to 4 ms makes no hole of an onset", () => {
  const words = (ms: number): number => (ms % 100 < 50 ? 0 : 1);
  assert.is(
    hole(
      noise(0, words),
      noise(0, (ms) => words(ms - 4)),
      0,
    ),
    0,
  );
});

test.run();
