import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AudioTimeline, type TimelineEvent } from "../../src/pipeline/timeline.js";
import { concat, largestStep, noise, sine } from "./signals.js";

const test = suite("audio timeline");
const START = 1_234_567_890_123n;
const ns = (samples: number) => BigInt(Math.round((samples * 1e9) / 48_000));

/** Pushes one block whose PTS is `atSample` samples after START; gives the sound and the events; checks that nothing jumps. */
function push(
  timeline: AudioTimeline,
  atSample: number,
  ...channels: Float32Array[]
): { sound: Float32Array[]; events: readonly TimelineEvent[] } {
  let next = timeline.nextSample;
  const { blocks, events } = timeline.push({ ptsNs: START + ns(atSample), channels });
  for (const block of blocks) {
    assert.is(block.atSample, next, "blocks are contiguous");
    assert.is(block.channels.length, timeline.channels);
    for (const channel of block.channels) assert.is(channel.length, block.channels[0]!.length);
    next += block.channels[0]!.length;
  }
  assert.is(timeline.nextSample, next);
  return {
    sound: Array.from({ length: timeline.channels }, (_, c) => concat(blocks.map((b) => b.channels[c]!))),
    events,
  };
}
const types = (events: readonly TimelineEvent[]) => events.map((e) => e.type);

test("sound with even PTS passes untouched, anchored at its first PTS", () => {
  const timeline = new AudioTimeline();
  const x = noise(10_240, 1);
  for (let at = 0; at < x.length; at += 1024) {
    const { sound, events } = push(timeline, at, x.subarray(at, at + 1024));
    assert.equal(sound[0], x.subarray(at, at + 1024));
    assert.equal(types(events), at === 0 ? ["anchor"] : []);
  }
  assert.is(timeline.toSample(START), 0);
  assert.is(timeline.toSample(START + ns(4800)), 4800);
  assert.is(timeline.toPtsNs(48_000), START + 1_000_000_000n);
});

test("jitter below 20 ms changes no sample", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -450, max: 450 }), { minLength: 5, maxLength: 60 }), (jitter) => {
      const timeline = new AudioTimeline();
      const x = noise(jitter.length * 480, 2);
      for (const [i, j] of jitter.entries()) {
        const { sound } = push(timeline, i * 480 + j, x.subarray(i * 480, (i + 1) * 480));
        assert.equal(sound[0], x.subarray(i * 480, (i + 1) * 480));
      }
    }),
    { seed: 8, numRuns: 30 },
  );
});

test("a gap is filled with silence, exactly, and the sound goes on in its place", () => {
  fc.assert(
    fc.property(fc.integer({ min: 960, max: 47_999 }), (gap) => {
      const timeline = new AudioTimeline();
      push(timeline, 0, new Float32Array(4800).fill(0.5));
      const { sound, events } = push(timeline, 4800 + gap, new Float32Array(4800).fill(0.5));
      assert.equal(events, [{ type: "gap", atSample: 4800, samples: gap }]);
      assert.is(sound[0]!.length, gap + 4800);
      for (let i = 240; i < gap; i++) assert.is(sound[0]![i], 0);
      assert.is(sound[0]![gap + 240], 0.5);
      assert.ok(largestStep(sound[0]!) < 0.005, "5 ms fades");
      assert.is(timeline.toPtsNs(4800 + gap), START + ns(4800 + gap));
    }),
    { seed: 9, numRuns: 30 },
  );
});

test("an overlap is cut; what was there first stays", () => {
  const timeline = new AudioTimeline();
  const x = sine(20_000, 200);
  push(timeline, 0, x.subarray(0, 10_000));
  const { sound, events } = push(timeline, 8000, x.subarray(8000, 14_000));
  assert.equal(events, [{ type: "overlap", atSample: 10_000, samples: 2000 }]);
  assert.is(sound[0]!.length, 4000);
  assert.equal(sound[0]!.subarray(240), x.subarray(10_240, 14_000));
});

test("jumps of a second and more, and backwards, re-anchor: the timeline goes on, the mapping changes", () => {
  fc.assert(
    fc.property(fc.oneof(fc.integer({ min: 48_000, max: 1e9 }), fc.integer({ min: -1e9, max: -48_000 })), (jump) => {
      const timeline = new AudioTimeline();
      push(timeline, 0, noise(4800, 3));
      const { sound, events } = push(timeline, 4800 + jump, noise(4800, 4));
      assert.equal(events, [
        { type: "discontinuity", atSample: 4800, fromPtsNs: START + ns(4800), toPtsNs: START + ns(4800 + jump) },
      ]);
      assert.is(sound[0]!.length, 4800);
      assert.is(timeline.toSample(START + ns(4800 + jump)), 4800);
      assert.is(timeline.toPtsNs(4800), START + ns(4800 + jump));
      assert.is(timeline.toPtsNs(100), START + ns(100), "samples before it keep their PTS");
      assert.is(timeline.toSample(START + ns(4000)), 4000, "late pictures of the time before still find their place");
    }),
    { seed: 10, numRuns: 50 },
  );
});

test("a late-comer is left out and nothing else happens", () => {
  const timeline = new AudioTimeline();
  const x = noise(10_240, 5);
  const events: TimelineEvent[] = [];
  for (const block of [0, 1, 3, 2, 4, 5])
    events.push(...push(timeline, block * 1024, x.subarray(block * 1024, (block + 1) * 1024)).events);
  assert.equal(types(events), ["anchor", "gap", "overlap"]);
  assert.is(timeline.nextSample, 6 * 1024);
});

test("a jump back of less than a second costs one block", () => {
  const timeline = new AudioTimeline();
  for (let i = 0; i < 40; i++) push(timeline, i * 1024, new Float32Array(1024));
  assert.equal(types(push(timeline, 20 * 1024, new Float32Array(1024)).events), ["overlap"]);
  assert.equal(types(push(timeline, 21 * 1024, new Float32Array(1024)).events), ["discontinuity"]);
  assert.equal(types(push(timeline, 22 * 1024, new Float32Array(1024)).events), []);
  assert.is(timeline.nextSample, 42 * 1024);
});

test("what a filled gap leaves (timestamps are whole milliseconds, packets are lost) is worked off in some seconds", () => {
  for (const left of [-300, 300]) {
    const timeline = new AudioTimeline();
    let at = 0;
    const packets = (count: number): void => {
      for (let i = 0; i < count; i++, at += 960) push(timeline, at, new Float32Array(960));
    };
    packets(100);
    at += left;
    packets(500);
    assert.ok(Math.abs(at - timeline.nextSample) < 48, `${at - timeline.nextSample} samples off`);
  }
});

// 4 ms before anything is done, what 2 s of patience and the smoothing add, and one piece of 1 ms.
for (const [ppm, limitMs] of [
  [-1000, 9],
  [-200, 7],
  [-50, 6],
  [-10, 3],
  [50, 6],
  [200, 7],
  [1000, 9],
] as const) {
  test(`a source that runs ${ppm} ppm fast is measured to 2 ppm and kept within ${limitMs} ms of its PTS, without a click`, () => {
    const timeline = new AudioTimeline();
    const seconds = 180;
    const tone = sine(48_000, 500);
    const jitter = noise(10_000, 6);
    const counts = { drift: 0, other: 0 };
    let step = 0;
    let last = 0;
    for (let n = 0, i = 0; n < seconds * 48_000; n += 1024, i++) {
      const block = Float32Array.from({ length: 1024 }, (_, k) => tone[(n + k) % 48_000]!);
      const at = n / (1 + ppm / 1e6);
      const { sound, events } = push(timeline, at + 200 * jitter[i]!, block);
      step = Math.max(step, Math.abs(sound[0]![0]! - last), largestStep(sound[0]!));
      last = sound[0]!.at(-1)!;
      for (const { type } of events) type === "drift" ? counts.drift++ : counts.other++;
      const error = at + 1024 / (1 + ppm / 1e6) - timeline.nextSample;
      assert.ok(Math.abs(error) < limitMs * 48, `${error} samples off after ${n}`);
    }
    assert.is(counts.other, 1, "the anchor alone");
    assert.ok(Math.abs(timeline.driftPpm - ppm) < 2, `measured ${timeline.driftPpm} ppm`);
    assert.ok(step <= largestStep(tone) + 1e-6, `step ${step}`);
    assert.is(counts.drift > 0, Math.abs(ppm) >= 50);
  });
}

test("whatever PTS and lengths come: contiguous blocks, bounded fills, finite samples, and toSample(toPtsNs(n)) = n", () => {
  const block = fc.record({
    move: fc.oneof(fc.integer({ min: -3000, max: 3000 }), fc.integer({ min: -200_000, max: 200_000 })),
    length: fc.integer({ min: 0, max: 3000 }),
    channels: fc.integer({ min: 1, max: 6 }),
    bad: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 60 }), (list) => {
      const timeline = new AudioTimeline();
      let at = 0;
      for (const { move, length, channels, bad } of list) {
        at += move;
        const before = timeline.nextSample;
        const sound = Array.from({ length: channels }, (_, c) => noise(length, c));
        if (bad && length > 0) sound[0]![length >> 1] = Number.NaN;
        const out = push(timeline, at, ...sound).sound;
        for (const channel of out) assert.ok(channel.every((x) => Math.abs(x) <= 1.5));
        assert.ok(timeline.nextSample - before < 48_000 + length);
        at += length;
      }
      const n = timeline.nextSample;
      if (n > 0) assert.is(timeline.toSample(timeline.toPtsNs(n)), n);
    }),
    { seed: 11, numRuns: 300 },
  );
});

test("NaN and Inf become 0 and are counted", () => {
  const timeline = new AudioTimeline();
  const { sound, events } = push(timeline, 0, Float32Array.of(0.5, Number.NaN, Number.NEGATIVE_INFINITY, 0.25));
  assert.equal(sound[0], Float32Array.of(0.5, 0, 0, 0.25));
  assert.equal(types(events), ["non-finite", "anchor"]);
  assert.is(timeline.counters.nonFiniteSamples, 2);
});

test("a change of channels in mid-stream is told and mixed to the first layout", () => {
  const left = noise(480, 7);
  const right = noise(480, 8);
  const stereo = new AudioTimeline();
  push(stereo, 0, left, right);
  const up = push(stereo, 480, left);
  assert.equal(up.events, [{ type: "layout", atSample: 480, from: 2, to: 1 }]);
  assert.equal(up.sound, [left, left]);
  const mono = new AudioTimeline();
  push(mono, 0, left);
  assert.equal(push(mono, 480, left, right).sound, [Float32Array.from(left, (x, i) => x / 2 + right[i]! / 2)]);
  const surround = new AudioTimeline();
  const ones = new Float32Array(480).fill(1);
  const zero = new Float32Array(480);
  const [l, r] = push(surround, 0, ones, zero, ones, ones, ones, zero).sound;
  assert.is(surround.channels, 2);
  assert.ok(Math.abs(l![0]! - 1) < 1e-6 && Math.abs(r![0]! - Math.SQRT1_2 / (1 + Math.SQRT2)) < 1e-6);
  assert.is(new AudioTimeline({ channels: 2 }).push({ ptsNs: 0n, channels: [left] }).blocks[0]!.channels.length, 2);
});

test("before the first sound no picture has a place; malformed blocks are refused", () => {
  const timeline = new AudioTimeline();
  assert.is(timeline.toSample(0n), null);
  assert.throws(() => timeline.toPtsNs(0), RangeError);
  assert.throws(
    () => timeline.push({ ptsNs: 0n, channels: [new Float32Array(2), new Float32Array(3)] }),
    /differ in length/,
  );
  assert.throws(() => timeline.push({ ptsNs: 0n, channels: [new Float32Array(480_001)] }), /too long/);
  assert.equal(timeline.push({ ptsNs: 0n, channels: [] }), { blocks: [], events: [] });
});

test.run();
