import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BANK_BIN_HZ, BANK_BINS, BANK_HOP, FilterBank, type GainsAt } from "../../src/pipeline/filter-bank.js";
import { concat, errorDb, noise, sine } from "./signals.js";

const test = suite("filter bank");
const identity: GainsAt = (_, gains) => void gains.fill(1);

/** Feeds `channels` in the given block sizes (repeated), flushes with zeros, gives the output at the input's length. */
function filter(channels: readonly Float32Array[], blocks: readonly number[], gainsAt: GainsAt): Float32Array[] {
  const bank = new FilterBank(channels.length);
  const length = channels[0]!.length;
  const padded = channels.map((x) => concat([x, new Float32Array(2048)]));
  const parts: Float32Array[][] = channels.map(() => []);
  for (let at = 0, b = 0; at < length + 2048; b++) {
    const count = Math.min(blocks[b % blocks.length]!, length + 2048 - at);
    const out = channels.map(() => new Float32Array(bank.outputCount(count)));
    assert.is(bank.process(padded, at, count, gainsAt, out), out[0]!.length);
    at += count;
    assert.is(bank.inputSamples, at);
    for (const [c, part] of out.entries()) parts[c]!.push(part);
  }
  return parts.map((p) => concat(p).subarray(0, length));
}

test("gains of 1 give the input back better than -90 dB, aligned, for any block sizes, bit-identically", () => {
  const x = [noise(6000, 1), noise(6000, 2)];
  const whole = filter(x, [8048], identity);
  for (let c = 0; c < 2; c++) assert.ok(errorDb(x[c]!, whole[c]!) < -130, `${errorDb(x[c]!, whole[c]!)} dB`);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 6 }), (blocks) => {
      assert.equal(filter(x, blocks, identity), whole);
    }),
    { seed: 1, numRuns: 20 },
  );
});

test("time-varying gains do not depend on block sizes either", () => {
  const x = [noise(6000, 3)];
  const wobble: GainsAt = (centre, gains) => {
    for (let k = 0; k < BANK_BINS; k++) gains[k] = 0.5 + 0.5 * Math.sin(centre / 999 + k / 17);
  };
  const whole = filter(x, [8048], wobble);
  for (const size of [1, 255, 257, 1024]) assert.equal(filter(x, [size], wobble), whole);
});

test("frames are asked for in order, a hop apart, centred from -512 on", () => {
  const centres: number[] = [];
  filter([noise(4096, 1)], [100], (centre, gains) => {
    centres.push(centre);
    gains.fill(1);
  });
  assert.is(centres[0], -512);
  for (let i = 1; i < centres.length; i++) assert.is(centres[i]! - centres[i - 1]!, BANK_HOP);
});

test("a gain on one band changes the sound of that band only, in both channels alike", () => {
  const low = sine(24_000, 500);
  const high = sine(24_000, 5000);
  const mix = Float32Array.from(low, (v, n) => v + high[n]!);
  const lowPass: GainsAt = (_, gains) => {
    for (let k = 0; k < BANK_BINS; k++) gains[k] = k * BANK_BIN_HZ < 2000 ? 1 : 0;
  };
  const [left, right] = filter([mix, mix.map((v) => -0.25 * v)], [480], lowPass);
  const middle = (x: Float32Array) => x.subarray(2048, -2048);
  assert.ok(errorDb(middle(low), middle(left!)) < -60, `${errorDb(middle(low), middle(left!))}`);
  assert.ok(
    errorDb(
      left!,
      right!.map((v) => -4 * v),
    ) < -120,
  );
});

test("the power row sums to the mean square of the sound", () => {
  let sum = 0;
  let frames = 0;
  filter([sine(48_000, 1000, 0.8), new Float32Array(48_000)], [480], (centre, gains, power) => {
    gains.fill(1);
    if (centre < 1024 || centre > 46_000) return;
    sum += power.reduce((a, b) => a + b, 0);
    frames++;
  });
  assert.ok(Math.abs(sum / frames - (0.8 * 0.8) / 2 / 2) < 1e-4, `${sum / frames}`); // half of it: one of two channels is silent
});

test("wrong channel counts and arrays too short are refused", () => {
  assert.throws(() => new FilterBank(0), /channels/);
  const bank = new FilterBank(1);
  assert.throws(() => bank.process([], 0, 0, identity, []), /channels/);
  assert.throws(() => bank.process([new Float32Array(10)], 5, 6, identity, [new Float32Array(0)]), /input too short/);
  assert.throws(
    () => bank.process([new Float32Array(2048)], 0, 2048, identity, [new Float32Array(10)]),
    /output too short/,
  );
});

test.run();
