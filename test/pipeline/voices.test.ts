import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Beliefs, mixedVoices, type Voices } from "../../src/pipeline/voices.js";

const grid = (frames: number, bins: number) => ({ atSample: 0, hopSamples: 960, frames, bins, binHz: 25 });
const unitInterval = fc.float({ min: 0, max: 1, noNaN: true });

test("each cell is the sum of the voices' masks by the weights of its unit, and never above 1", () => {
  const shape = fc.record({
    count: fc.integer({ min: 2, max: 4 }),
    units: fc.integer({ min: 1, max: 6 }),
    perUnit: fc.integer({ min: 1, max: 3 }),
    bins: fc.integer({ min: 1, max: 5 }),
    seed: fc.infiniteStream(unitInterval),
  });
  fc.assert(
    fc.property(shape, ({ count, units, perUnit, bins, seed }) => {
      const some = (n: number): Float32Array => Float32Array.from({ length: n }, () => seed.next().value);
      const frames = units * perUnit;
      const voices = { count, masks: some(count * frames * bins), belief: some(count * units), open: some(units) };
      const weights = some(count * units);
      const { data } = mixedVoices(grid(frames, bins), voices, weights);
      for (let f = 0; f < frames; f++)
        for (let b = 0; b < bins; b++) {
          let sum = 0;
          for (let v = 0; v < count; v++)
            sum += weights[v * units + Math.floor(f / perUnit)]! * voices.masks[(v * frames + f) * bins + b]!;
          assert.ok(Math.abs(data[f * bins + b]! - Math.min(1, sum)) < 1e-5);
        }
    }),
    { seed: 1, numRuns: 100 },
  );
  const voices = { count: 2, masks: new Float32Array(12), belief: new Float32Array(4), open: new Float32Array(2) };
  assert.throws(() => mixedVoices(grid(2, 4), voices, new Float32Array(4)), /do not fit/);
  assert.throws(() => mixedVoices(grid(3, 2), voices, new Float32Array(4)), /do not fit/);
});

/** One unit of a face whose first voice is believed by `p`, whose lips are open by `o`. */
const said = (p: number, o = 1): Voices => ({
  count: 2,
  masks: new Float32Array(0),
  belief: Float32Array.of(p, 1 - p),
  open: Float32Array.of(o),
});
const first = (weights: Float32Array): number[] => [...weights.subarray(0, weights.length / 2)];

test("weights are those that were known so many units later, and beyond the newest the newest", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(unitInterval, unitInterval), { minLength: 1, maxLength: 40 }),
      fc.nat(20),
      fc.nat(50),
      fc.nat(20),
      fc.nat(20),
      (rows, begin, at, later, openLater) => {
        const beliefs = new Beliefs(2, 1000);
        rows.forEach(([p, o], u) => {
          beliefs.add(begin + u, said(p, o), true);
        });
        const row = (unit: number) => rows[Math.min(rows.length - 1, Math.max(0, unit - begin))]!;
        const expected = [
          row(at + later)[0] * row(at + openLater)[1],
          row(at + 1 + later)[0] * row(at + 1 + openLater)[1],
        ];
        first(beliefs.weights(at, 2, later, openLater)).forEach((w, i) => {
          assert.ok(Math.abs(w - expected[i]!) < 1e-6);
        });
      },
    ),
    { seed: 2, numRuns: 200 },
  );
});

test("what says nothing of lips does not open the gate for those that were seen before it, nor shut it after", () => {
  const beliefs = new Beliefs(2, 100);
  // Lips that rest, two units without a picture (open for all), lips that rest again.
  [0.1, 0.2, 1, 1, 0.3].forEach((open, u) => {
    beliefs.add(u, said(1, open), u < 2 || u > 3);
  });
  const seen = first(beliefs.weights(0, 5, 0, 3)).map((w) => Math.round(10 * w) / 10);
  assert.equal(seen, [0.2, 0.2, 1, 1, 0.3]);
});

test("what is old is forgotten, what comes after a hole begins anew", () => {
  const beliefs = new Beliefs(2, 5);
  for (let u = 0; u < 10; u++) beliefs.add(u, said(u / 16), true);
  assert.equal(first(beliefs.weights(0, 1, 0, 0)), [5 / 16], "the oldest that is kept");
  beliefs.add(20, said(1), true);
  assert.equal(first(beliefs.weights(12, 2, 0, 0)), [1, 1]);
  assert.throws(() => new Beliefs(2, 5).weights(0, 1, 0, 0), /nothing is known/);
});

test.run();
