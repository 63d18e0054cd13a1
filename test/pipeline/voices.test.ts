import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Beliefs, mixedVoices, type VoiceGate, type Voices } from "../../src/pipeline/voices.js";

const grid = (frames: number, bins: number) => ({ atSample: 0, hopSamples: 960, frames, bins, binHz: 25 });
const unitInterval = fc.float({ min: 0, max: 1, noNaN: true });
const none = new Float32Array(0);

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
      const voices = { count, masks: some(count * frames * bins), belief: none, fit: none, lips: none };
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
  const voices = { count: 2, masks: new Float32Array(12), belief: none, fit: none, lips: none };
  assert.throws(() => mixedVoices(grid(2, 4), voices, new Float32Array(4)), /do not fit/);
  assert.throws(() => mixedVoices(grid(3, 2), voices, new Float32Array(4)), /do not fit/);
});

const GATE: VoiceGate = {
  fitWeight: 10,
  shut: -1,
  open: 1,
  lips: { before: 2, after: 3 },
  fit: { before: 4, after: 6 },
  prior: { units: 2, fit: 0.1 },
};
/** Lets everything through. */
const WIDE: VoiceGate = { ...GATE, shut: -1e9, open: -1e8 };

type Unit = { p: number; fit: number; other: number; lips: number; seen: boolean };
const said = ({ p, fit, other, lips }: Unit): Voices => ({
  count: 2,
  masks: none,
  belief: Float32Array.of(p, 1 - p),
  fit: Float32Array.of(fit, other),
  lips: Float32Array.of(lips),
});
const filled = (rows: readonly Unit[], gate: VoiceGate, begin = 0, kept = 1000): Beliefs => {
  const beliefs = new Beliefs(2, gate, kept);
  rows.forEach((row, u) => {
    beliefs.add(begin + u, said(row), row.seen);
  });
  return beliefs;
};
const plain = (p: number): Unit => ({ p, fit: 0, other: 0, lips: 0, seen: true });
const first = (weights: Float32Array): number[] => [...weights.subarray(0, weights.length / 2)];

test("whose voice is whose is told by what was known so many units later, and beyond the newest by the newest", () => {
  fc.assert(
    fc.property(
      fc.array(unitInterval, { minLength: 1, maxLength: 40 }),
      fc.nat(20),
      fc.nat(50),
      fc.nat(20),
      (rows, begin, at, later) => {
        const beliefs = filled(rows.map(plain), WIDE, begin);
        const row = (unit: number) => rows[Math.min(rows.length - 1, Math.max(0, unit - begin))]!;
        first(beliefs.weights(at, 2, later)).forEach((w, i) => {
          assert.ok(Math.abs(w - row(at + i + later)) < 1e-6);
        });
      },
    ),
    { seed: 2, numRuns: 200 },
  );
});

test("a voice is let through as far as the lips around a unit speak and fit it, as far as they were seen and are known", () => {
  const unit = fc.record({
    p: fc.constant(1),
    fit: fc.float({ min: -1, max: 1, noNaN: true }),
    other: fc.constant(0),
    lips: fc.float({ min: -3, max: 3, noNaN: true }),
    seen: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(unit, { minLength: 1, maxLength: 30 }), fc.nat(10), (rows, later) => {
      const beliefs = filled(rows, GATE);
      rows.forEach(({ seen }, at) => {
        const around = (before: number, after: number): Unit[] =>
          rows.filter((r, i) => r.seen && i >= at - before && i <= at + Math.min(after, later));
        const mean = (x: number[]): number => x.reduce((a, b) => a + b, 0) / x.length;
        const lips = mean(around(2, 3).map((r) => r.lips));
        const fit = mean([...around(4, 6).map((r) => r.fit), 0.1, 0.1]);
        const expected = seen ? Math.min(1, Math.max(0, (lips + 10 * fit + 1) / 2)) : 1;
        assert.ok(Math.abs(first(beliefs.weights(at, 1, later))[0]! - expected) < 1e-5, `unit ${at}`);
      });
    }),
    { seed: 3, numRuns: 200 },
  );
});

test("another voice under resting lips is shut out, the own one under the same lips is not", () => {
  const rows = Array.from({ length: 20 }, (): Unit => ({ p: 0.5, fit: -0.3, other: 0.3, lips: 0, seen: true }));
  const [own, other] = [filled(rows, GATE).weights(10, 1, 6)[1]!, filled(rows, GATE).weights(10, 1, 6)[0]!];
  assert.ok(own > 0.49 && other < 0.01, `${own}, ${other}`);
});

test("somebody speaks of whom it is known which voice is theirs, and whose lips let it through", () => {
  const now = (row: Partial<Unit>): boolean =>
    filled(
      Array.from({ length: 10 }, () => ({ ...plain(0.9), lips: 1, ...row })),
      GATE,
    ).speaks();
  assert.ok(now({}));
  assert.not(now({ lips: -2 }), "listening");
  assert.not(now({ p: 0.5, fit: -0.3, other: -0.3, lips: 0 }), "whose voice it is not known");
  assert.ok(now({ lips: -2, seen: false }), "without a picture nothing speaks against it");
  assert.not(new Beliefs(2, GATE, 5).speaks(), "nothing is known yet");
});

test("what is old is forgotten, what comes after a hole begins anew", () => {
  const beliefs = filled(
    Array.from({ length: 20 }, (_, u) => plain(u / 32)),
    WIDE,
    0,
    5,
  );
  // Beside what is asked for, what a gate looks back at is kept.
  assert.equal(first(beliefs.weights(0, 1, 0)), [9 / 32], "the oldest that is kept");
  beliefs.add(40, said(plain(1)), true);
  assert.equal(first(beliefs.weights(12, 2, 0)), [1, 1]);
  assert.throws(() => new Beliefs(2, WIDE, 5).weights(0, 1, 0), /nothing is known/);
});

test.run();
