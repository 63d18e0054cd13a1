import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type MemoryRules, VoiceMemory } from "../../src/pipeline/voice-memory.js";

const RULES: MemoryRules = {
  size: 3,
  half: 10,
  settled: 20,
  most: 50,
  spoken: { lips: 1, fit: 1, from: 0, to: 1 },
  least: 0.5,
  alike: { from: 0.5, to: 0.8 },
  against: 0.02,
  doubt: 25,
};
const vector = (...x: readonly number[]) => Float32Array.from(x);
const sum = (...x: readonly number[]) => Float64Array.from(x);
let unit = 0;
function hear(
  memory: VoiceMemory,
  voice: readonly number[],
  times: number,
  sure = 1,
  beside: readonly Float64Array[] = [],
): void {
  for (let i = 0; i < times; i++) memory.learn(unit++, sure, vector(...voice), sum(...voice), beside);
}

test("a new memory knows nothing and is like nothing", () => {
  const memory = new VoiceMemory(RULES);
  assert.is(memory.known, 0);
  assert.is(memory.likeness(sum(1, 2, 3)), 0);
});

test("what it knows grows with what was surely heard, and its likeness is a cosine, whatever is loud", () => {
  const number = fc.float({ min: -5, max: 5, noNaN: true }).map((x) => Math.fround(x + Math.sign(x || 1) * 0.1));
  const voice = fc.tuple(number, number, number);
  fc.assert(
    fc.property(
      voice,
      voice,
      fc.integer({ min: 1, max: 40 }),
      fc.float({ min: Math.fround(0.6), max: 1, noNaN: true }),
      (a, b, n, sure) => {
        const memory = new VoiceMemory(RULES);
        hear(memory, a, n, sure);
        assert.ok(Math.abs(memory.known - (n * sure) / (n * sure + 10)) < 1e-9);
        const dot = a.reduce((s, x, i) => s + x * b[i]!, 0);
        const expected = dot / Math.hypot(...a) / Math.hypot(...b);
        assert.ok(Math.abs(memory.likeness(sum(...b)) - expected) < 1e-6);
        assert.ok(Math.abs(memory.likeness(sum(...b.map((x) => 7 * x))) - expected) < 1e-6);
        assert.is(memory.likeness(sum(0, 0, 0)), 0);
      },
    ),
    { seed: 1, numRuns: 200 },
  );
});

test("of what it is not sure it learns nothing", () => {
  const memory = new VoiceMemory(RULES);
  hear(memory, [1, 0, 0], 50, 0.5);
  hear(memory, [1, 0, 0], 50, Number.NaN);
  assert.is(memory.known, 0);
});

test("once it is settled, whoever goes on when the person falls silent is hardly learnt, but a wrong beginning does not last", () => {
  const memory = new VoiceMemory(RULES);
  hear(memory, [1, 0, 0], 25);
  hear(memory, [0, 1, 0], 50);
  assert.ok(memory.likeness(sum(1, 0, 0)) > 0.99, `after two seconds ${memory.likeness(sum(1, 0, 0))}`);
  hear(memory, [0, 1, 0], 3000);
  assert.ok(memory.likeness(sum(0, 1, 0)) > 0.9, `after two minutes ${memory.likeness(sum(0, 1, 0))}`);
});

test("a memory of the wrong voice fades within seconds: when another one is believed while it goes on beside", () => {
  const begun = (): VoiceMemory => {
    const memory = new VoiceMemory(RULES);
    hear(memory, [1, 0, 0], 50);
    return memory;
  };
  const doubted = begun();
  hear(doubted, [0, 1, 0], 100, 1, [sum(1, 0.1, 0)]);
  assert.ok(doubted.likeness(sum(0, 1, 0)) > 0.9, `${doubted.likeness(sum(0, 1, 0))}`);
  // Not when only the other one is heard, nor when both are like it.
  const silent = begun();
  hear(silent, [0, 1, 0], 100, 1, [sum(0, 0, 1)]);
  assert.ok(silent.likeness(sum(1, 0, 0)) > 0.99);
  const both = begun();
  hear(both, [1, 0.3, 0], 100, 1, [sum(1, 0.1, 0)]);
  assert.ok(both.known > 0.8);
});

test("a past that is run again is not learnt twice, by a copy neither", () => {
  const memory = new VoiceMemory(RULES);
  for (const from of [0, 0, 5]) for (let u = from; u < 20; u++) memory.learn(u, 1, vector(1, 0, 0), sum(1, 0, 0), []);
  assert.is(memory.known, 20 / 30);
  const copy = memory.copy();
  copy.learn(19, 1, vector(1, 0, 0), sum(1, 0, 0), []);
  assert.is(copy.known, 20 / 30);
  copy.learn(20, 1, vector(1, 0, 0), sum(1, 0, 0), []);
  assert.is(copy.known, 21 / 31);
  assert.is(memory.known, 20 / 30);
});

test("of a long speech the last part counts, and nothing grows without end", () => {
  const memory = new VoiceMemory({ ...RULES, against: 1 });
  hear(memory, [1, 0, 0], 10_000);
  assert.ok(memory.known <= 50 / 60 && memory.known > 0.8);
  hear(memory, [0, 1, 0], 100);
  assert.ok(memory.likeness(sum(0, 1, 0)) > 0.9);
});

test.run();
