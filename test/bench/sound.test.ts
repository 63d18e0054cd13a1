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

const near = (ms: number, expected: number): void =>
  assert.ok(Math.abs(ms - expected) <= 6, `${ms}, expected ${expected}`);
const missing =
  (fromMs: number, toMs: number) =>
  (ms: number): number =>
    ms >= fromMs && ms < toMs ? 0 : 1;

test("a stretch that is missing in the output is a hole of its length, wherever the output's clock begins", () => {
  const input = noise(0, () => 1);
  near(hole(input, noise(700, missing(400, 460)), 700), 60);
  near(hole(input, noise(0, missing(403.3, 453.3)), 0), 50);
});

test("sound that never comes back, or never comes at all, is a hole", () => {
  const input = noise(0, () => 1);
  const whole = noise(0, () => 1).planes[0]!;
  near(hole(input, { planes: [whole.subarray(0, RATE / 2)], startMs: 0 }, 0), 500);
  near(hole(input, { planes: [new Float32Array(0)], startMs: 0 }, 0), 1000);
  assert.throws(() => hole(input, input, Number.NaN), /not a stretch of time/);
});

test("a word's pause inside a hole does not make two of it, nor does a splinter of sound", () => {
  const words = (ms: number): number => (ms >= 430 && ms < 440 ? 0 : 1);
  near(hole(noise(0, words), noise(0, missing(400, 470)), 0), 70);
  near(
    hole(
      noise(0, () => 1),
      noise(0, (ms) => (ms >= 433 && ms < 434 ? 0.5 : missing(400, 470)(ms))),
      0,
    ),
    70,
  );
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
