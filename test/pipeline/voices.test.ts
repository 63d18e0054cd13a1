import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { MemoryRules, VoiceMemory } from "../../src/pipeline/voice-memory.js";
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
      const voices = { count, masks: some(count * frames * bins), belief: none, fit: none, lips: none, speaker: none };
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
  const voices = { count: 2, masks: new Float32Array(12), belief: none, fit: none, lips: none, speaker: none };
  assert.throws(() => mixedVoices(grid(2, 4), voices, new Float32Array(4)), /do not fit/);
  assert.throws(() => mixedVoices(grid(3, 2), voices, new Float32Array(4)), /do not fit/);
});

const GATE: VoiceGate = {
  score: { always: 1, lips: 1, fit: 10, known: -5, voice: 5 },
  shut: -1,
  open: 1,
  around: { lips: { before: 2, after: 3 }, fit: { before: 4, after: 6 }, voice: { before: 3, after: 2 } },
  early: 0,
};
/** Lets everything through. */
const WIDE: VoiceGate = { ...GATE, shut: -1e9, open: -1e8 };

type Unit = { p: number; fit: number; other: number; lips: number; seen: boolean; speaker?: readonly number[] };
const said = ({ p, fit, other, lips, speaker = [] }: Unit): Voices => ({
  count: 2,
  masks: none,
  belief: Float32Array.of(p, 1 - p),
  fit: Float32Array.of(fit, other),
  lips: Float32Array.of(lips),
  speaker: Float32Array.from(speaker),
});
const filled = (rows: readonly Unit[], gate: VoiceGate, begin = 0, kept = 1000): Beliefs => {
  const beliefs = new Beliefs({ count: 2, gate }, kept);
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
        const fit = mean(around(4, 6).map((r) => r.fit));
        const expected = seen ? Math.min(1, Math.max(0, (1 + lips + 10 * fit + 1) / 2)) : 1;
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
  assert.not(new Beliefs({ count: 2, gate: GATE }, 5).speaks(), "nothing is known yet");
});

test("what is old is forgotten, what comes after a hole begins anew", () => {
  const beliefs = filled(
    Array.from({ length: 40 }, (_, u) => plain(u / 64)),
    WIDE,
    0,
    5,
  );
  // Beside what is asked for, what a gate looks at around a unit is kept.
  assert.equal(first(beliefs.weights(0, 1, 0)), [15 / 64], "the oldest that is kept");
  beliefs.add(60, said(plain(1)), true);
  assert.equal(first(beliefs.weights(12, 2, 0)), [1, 1]);
  assert.throws(() => new Beliefs({ count: 2, gate: WIDE }, 5).weights(0, 1, 0), /nothing is known/);
});

test("a voice is let through so many units before its score does, as far as that is known then", () => {
  const rows = Array.from({ length: 30 }, (_, u): Unit => ({ ...plain(1), lips: u < 20 ? -9 : 9 }));
  const gate = { ...GATE, around: { ...GATE.around, lips: { before: 0, after: 0 } } };
  const opened = (early: number, later: number): number =>
    first(filled(rows, { ...gate, early }).weights(0, 30, later)).indexOf(1);
  assert.is(opened(0, 10), 20);
  assert.is(opened(4, 10), 16);
  assert.is(opened(4, 2), 18);
  assert.is(opened(4, 0), 20);
  // A row that is so many units on is seen with so much less of what comes after it.
  const wide = { ...gate, around: { ...gate.around, lips: { before: 0, after: 8 } }, early: 4 };
  const score = (row: number, until: number): number =>
    rows.slice(row, until + 1).reduce((s, r) => s + r.lips, 0) / (until - row + 1);
  const expected = (at: number): number =>
    Math.max(...[0, 1, 2, 3, 4].map((k) => 1 + score(at + k, Math.min(at + k + 8, at + 6))));
  const got = first(filled(rows, wide).weights(0, 20, 6));
  got.forEach((w, at) => {
    assert.ok(Math.abs(w - Math.min(1, Math.max(0, (expected(at) + 1) / 2))) < 1e-5, `unit ${at}`);
  });
});

const RULES: MemoryRules = {
  size: 2,
  half: 5,
  settled: 10,
  most: 100,
  spoken: { lips: 1, fit: 10, from: 0.5, to: 1 },
  least: 0.5,
  alike: { from: 0.5, to: 0.8 },
  against: 0,
  doubt: 25,
};
const remembering = (rows: readonly Unit[], memory: VoiceMemory | null = null): Beliefs => {
  const beliefs = new Beliefs({ count: 2, gate: GATE, memory: RULES }, 1000, memory);
  rows.forEach((row, u) => {
    beliefs.add(u, said(row), row.seen);
  });
  return beliefs;
};
/** Voice 0 is heard, voice 1 is not: x, y of the one, nothing of the other. */
const voiced = (x: number, y: number, row: Partial<Unit> = {}): Unit => ({
  ...plain(1),
  speaker: [x, y, 0, 0],
  ...row,
});

test("another voice under the lips of somebody who was heard to speak is shut out, their own is let through", () => {
  const speaking = Array.from({ length: 30 }, () => voiced(1, 0, { lips: 2 }));
  // Lips that say nothing either way.
  const after = (x: number, y: number): Unit[] => Array.from({ length: 30 }, () => voiced(x, y));
  const at = 50;
  const through = (rows: readonly Unit[]): number => first(remembering(rows).weights(at, 1, 6))[0]!;
  assert.ok(through([...speaking, ...after(1, 0.1)]) > 0.95);
  assert.is(through([...speaking, ...after(-0.2, 1)]), 0);
  assert.is(through([...after(1, 0), ...after(-0.2, 1)]), 1, "nothing was learnt: nobody was seen to speak");
  const unseen = speaking.map((row) => ({ ...row, seen: false }));
  assert.is(through([...unseen, ...after(-0.2, 1)]), 1, "nor where nobody was seen");
});

test("the score of somebody who is remembered: how like the voice around a moment is counts as far as it is known", () => {
  const memory = remembering(Array.from({ length: 30 }, () => voiced(1, 0, { lips: 2 }))).memory!;
  const number = fc.float({ min: -1, max: 1, noNaN: true });
  const unit = fc.record({
    x: number,
    y: number,
    lips: number,
    fit: fc.float({ min: Math.fround(-0.1), max: Math.fround(0.1), noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(unit, { minLength: 1, maxLength: 20 }), fc.nat(8), (rows, later) => {
      // Unsure of whose the voice is, so that nothing more is learnt.
      const beliefs = remembering(
        rows.map(({ x, y, lips, fit }) => voiced(x, y, { p: 0.5, lips, fit })),
        memory.copy(),
      );
      rows.forEach((_, at) => {
        const around = (before: number, after: number) =>
          rows.filter((_, i) => i >= at - before && i <= at + Math.min(after, later));
        const mean = (x: number[]): number => x.reduce((a, b) => a + b, 0) / x.length;
        const sum = (of: "x" | "y"): number => around(3, 2).reduce((s, r) => s + Math.fround(r[of]), 0);
        const length = Math.hypot(sum("x"), sum("y"));
        const like = length === 0 ? 0 : sum("x") / length;
        const base = 1 + mean(around(2, 3).map((r) => r.lips)) + 10 * mean(around(4, 6).map((r) => r.fit));
        const score = base + memory.known * (-5 + 5 * like);
        const expected = 0.5 * Math.min(1, Math.max(0, (score + 1) / 2));
        const got = first(beliefs.weights(at, 1, later))[0]!;
        assert.ok(Math.abs(got - expected) < 1e-5, `unit ${at}: ${got}, expected ${expected}`);
      });
    }),
    { seed: 4, numRuns: 200 },
  );
});

test("while the remembered voice is heard beside the one that is believed, the memory says nothing", () => {
  const speaking = Array.from({ length: 30 }, () => voiced(1, 0, { lips: 2 }));
  const memory = remembering(speaking).memory!;
  const through = (x: number, y: number): number =>
    first(
      remembering(
        Array.from({ length: 10 }, () => ({ ...voiced(0, 1), speaker: [0, 1, x, y] })),
        memory.copy(),
      ).weights(5, 1, 2),
    )[0]!;
  assert.is(through(0, 0.1), 0, "it is not heard");
  assert.is(through(0.4, 1), 0, "hardly like it");
  assert.is(through(1, 0.3), 1);
});

test("a voice is learnt as far as it is believed more than the other, and doubted when the remembered one is beside it", () => {
  const speaking = (p: number, units = 30): Unit[] => Array.from({ length: units }, () => voiced(1, 0, { p, lips: 2 }));
  assert.is(remembering(speaking(0.7)).memory!.known, 0);
  const sure = 0.8 * 24;
  assert.ok(Math.abs(remembering(speaking(0.9)).memory!.known - sure / (sure + 5)) < 1e-6);
  /** Another voice is believed; the second voice sounds like this. */
  const after = (x: number, y: number): Unit[] =>
    Array.from({ length: 60 }, () => ({ ...voiced(0, 1, { lips: 2 }), speaker: [0, 1, x, y] }));
  const like = (rows: readonly Unit[]): number => remembering(rows).memory!.likeness(Float64Array.of(0, 1));
  assert.ok(
    like([...speaking(1), ...after(1, 0)]) > 0.8,
    `the remembered one goes on beside: ${like([...speaking(1), ...after(1, 0)])}`,
  );
  assert.ok(like([...speaking(1), ...after(0, 0)]) < 0.3, `it is not heard: ${like([...speaking(1), ...after(0, 0)])}`);
});

test("what is forgotten was learnt before", () => {
  const rows = Array.from({ length: 200 }, (_, u) => voiced(1, 0, { lips: u % 50 < 25 ? 2 : -9 }));
  const known = (kept: number): number => {
    const beliefs = new Beliefs({ count: 2, gate: GATE, memory: RULES }, kept);
    rows.forEach((row, u) => {
      beliefs.add(1000 + u, said(row), row.seen);
    });
    return beliefs.memory!.known;
  };
  assert.is(known(0), known(1000));
  assert.ok(known(0) > 0.9);
});

test("nothing is learnt of a unit before all that counts around it is known", () => {
  const rows = Array.from({ length: 30 }, () => voiced(1, 0, { lips: 2 }));
  const known = (n: number): number => remembering(rows.slice(0, n)).memory!.known;
  assert.is(known(6), 0);
  assert.is(known(7), 1 / 6);
  assert.is(known(16), 10 / 15);
});

test("a person's memory goes on in another run, and what that one learns stays its own", () => {
  const before = remembering(Array.from({ length: 30 }, () => voiced(1, 0, { lips: 2 }))).memory!;
  const known = before.known;
  const next = remembering(
    Array.from({ length: 10 }, () => voiced(0, 1)),
    before.copy(),
  );
  assert.is(first(next.weights(0, 1, 6))[0], 0, "from the first unit on");
  remembering(
    Array.from({ length: 30 }, () => voiced(1, 0, { lips: 2 })),
    before.copy(),
  );
  assert.is(before.known, known);
});

test.run();
