import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BANK_BINS, BANK_HOP } from "../../src/pipeline/filter-bank.js";
import { CROSS_FADE_SAMPLES, GainTimeline, HOLD_SAMPLES } from "../../src/pipeline/gain-timeline.js";
import type { GainGrid } from "../../src/pipeline/types.js";

const test = suite("gain timeline");

/** A grid whose gain is `value(sample)` in all of its 65 bins. */
function grid(
  atSample: number,
  frames: number,
  value: number | ((sample: number) => number),
  hopSamples = 384,
): GainGrid {
  const bins = 65;
  const data = new Float32Array(frames * bins);
  for (let f = 0; f < frames; f++)
    data.fill(typeof value === "number" ? value : value(atSample + f * hopSamples), f * bins, (f + 1) * bins);
  return { atSample, hopSamples, frames, bins, binHz: 125, data };
}

/** Gains (of bin 100; all are equal here) at every centre of the bank from `from` to `to`. */
function ask(
  timeline: GainTimeline,
  from: number,
  to: number,
): { centre: number; gain: number; mode: string; reason: string | null }[] {
  const row = new Float32Array(BANK_BINS);
  const answers = [];
  for (let centre = from; centre < to; centre += BANK_HOP) {
    timeline.gainsAt(centre, row);
    answers.push({ centre, gain: row[100]!, mode: timeline.mode.mode, reason: timeline.mode.reason });
  }
  return answers;
}
/** The most that a ramp of sin^2 over `length` rises by from one frame to the next. */
const steepest = (rise: number, length: number): number => rise * (Math.PI / 2) * (BANK_HOP / length) + 0.01;
const close = (a: number, b: number, tolerance = 1e-6) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);

test("contiguous pieces are joined linearly in time, inside and across pieces", () => {
  const timeline = new GainTimeline();
  const line = (sample: number) => 0.1 + sample / 100_000;
  for (let at = 0; at < 38_400; at += 1920) timeline.accept(grid(at, 5, line));
  for (const { centre, gain, mode } of ask(timeline, 0, 38_000)) {
    close(gain, line(centre));
    assert.is(mode, "separated");
  }
});

test("overlapping windows are cross-faded by sin^2 and cos^2 over 64 ms", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 101, 0.2, 192)); // 0 .. 19200
  timeline.accept(grid(9600, 101, 0.8, 192)); // 9600 .. 28800
  for (const { centre, gain } of ask(timeline, 0, 28_800)) {
    const u = Math.sin((Math.PI / 2) * Math.min(1, Math.max(0, (centre - 9600) / CROSS_FADE_SAMPLES))) ** 2;
    close(gain, 0.2 + 0.6 * u);
  }
});

test("a window that comes when its cross-fade should be over still fades in from where the output is", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 101, 0.2, 192));
  ask(timeline, 0, 15_000);
  timeline.accept(grid(9600, 101, 0.8, 192));
  const gains = ask(timeline, 15_104, 28_800).map((a) => a.gain);
  close(gains[0]!, 0.2, 0.02);
  for (let i = 1; i < gains.length; i++)
    assert.ok(gains[i]! - gains[i - 1]! < steepest(0.6, CROSS_FADE_SAMPLES) && gains[i]! >= gains[i - 1]! - 1e-6);
  close(gains.at(-1)!, 0.8);
});

test("missing gains: held 100 ms as late, 1 within 50 ms more, then bypass; coming back takes 50 ms", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 26, 0.25)); // to 9600
  const answers = ask(timeline, 0, 30_000);
  for (const { centre, gain, mode, reason } of answers) {
    if (centre <= 9600) assert.is(mode, "separated");
    else if (centre <= 9600 + HOLD_SAMPLES - BANK_HOP) {
      close(gain, 0.25);
      assert.is(mode, "late");
    } else if (centre > 9600 + HOLD_SAMPLES + 2400) {
      close(gain, 1);
      assert.is(mode, "bypass");
    }
    assert.is(reason, centre <= 9600 ? null : "SL_MODEL_LATE");
  }
  const resume = answers.at(-1)!.centre + BANK_HOP;
  timeline.accept(grid(resume, 50, 0.25));
  const back = ask(timeline, resume, resume + 5000);
  assert.is(back[0]!.mode, "separated");
  for (let i = 1; i < back.length; i++) assert.ok(Math.abs(back[i]!.gain - back[i - 1]!.gain) < steepest(0.75, 2400));
  for (const { centre, gain } of back) if (centre >= resume + 2400) close(gain, 0.25);
  assert.is(timeline.counters.timesLate, 1);
});

test("gains that come back within the hold are reached by a ramp, not a step", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 26, 0.1));
  const before = ask(timeline, 0, 12_000).at(-1)!;
  close(before.gain, 0.1);
  timeline.accept(grid(12_000, 50, 0.9));
  const gains = [before, ...ask(timeline, 12_032, 16_000)].map((a) => a.gain);
  for (let i = 1; i < gains.length; i++) assert.ok(gains[i]! - gains[i - 1]! < steepest(0.8, 2400));
  close(gains.at(-1)!, 0.9);
});

test("the very first gains are used at once: nothing came out before that they could step from", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(-3840, 50, 0.3));
  close(ask(timeline, -BANK_HOP, 0)[0]!.gain, 0.3);
});

test("bypass and separate take effect at their sample, ramped, with reasons; the operator's reason is shown first", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 500, 0));
  timeline.bypassFrom(10_000, "SL_NO_FACE");
  timeline.bypassFrom(20_000, "SL_BYPASS_OPERATOR");
  timeline.separateFrom(30_000, "SL_NO_FACE");
  timeline.separateFrom(40_000, "SL_BYPASS_OPERATOR");
  for (const { centre, gain, mode, reason } of ask(timeline, 0, 60_000)) {
    assert.is(mode, centre < 10_000 || centre >= 40_000 ? "separated" : "bypass");
    assert.is(reason, mode === "separated" ? null : centre < 20_000 ? "SL_NO_FACE" : "SL_BYPASS_OPERATOR");
    if (centre < 10_000 || centre > 42_500) close(gain, 0);
    if (centre > 12_500 && centre < 40_000) close(gain, 1);
  }
});

test("separateFrom without a reason ends all of them, also those that were still to come", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 100, 0.5));
  timeline.bypassFrom(0, "A");
  timeline.bypassFrom(9000, "B");
  timeline.separateFrom(5000);
  const answers = ask(timeline, 0, 20_000);
  assert.is(answers[3]!.mode, "bypass");
  for (const { centre, mode } of answers) if (centre >= 5000) assert.is(mode, "separated");
});

test("knownUntil: the end of contiguous gains, a hole stops it, a bypass bridges it", () => {
  const timeline = new GainTimeline();
  assert.is(timeline.knownUntil, Number.NEGATIVE_INFINITY);
  timeline.accept(grid(0, 5, 0.5));
  assert.is(timeline.knownUntil, 1536);
  timeline.accept(grid(1920, 5, 0.5));
  assert.is(timeline.knownUntil, 3456);
  ask(timeline, 0, 1000);
  timeline.accept(grid(9600, 5, 0.5));
  assert.is(timeline.knownUntil, 3456);
  timeline.bypassFrom(3000, "A");
  assert.is(timeline.knownUntil, Number.POSITIVE_INFINITY);
  timeline.separateFrom(9700, "A");
  assert.is(timeline.knownUntil, 11_136);
  timeline.separateFrom(9000, "A");
  assert.is(timeline.knownUntil, 8999);
});

test("whatever comes, weights sum to 1: with all gains equal to 1 every row is 1; no row leaves the range of its inputs", () => {
  const actions = fc.array(
    fc.record({
      kind: fc.constantFrom("grid", "grid", "grid", "bypass", "separate"),
      ahead: fc.integer({ min: -3000, max: 9000 }),
      frames: fc.integer({ min: 1, max: 40 }),
      hop: fc.constantFrom(100, 384, 1000),
      gain: fc.float({ min: Math.fround(0.3), max: Math.fround(0.6), noNaN: true }),
      rows: fc.integer({ min: 0, max: 40 }),
    }),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(actions, fc.boolean(), (list, ones) => {
      const timeline = new GainTimeline();
      let at = -BANK_HOP;
      let last: number | null = null;
      for (const action of list) {
        if (action.kind === "grid")
          timeline.accept(grid(at + action.ahead, action.frames, ones ? 1 : action.gain, action.hop));
        else if (action.kind === "bypass") timeline.bypassFrom(at + action.ahead, "A");
        else timeline.separateFrom(at + action.ahead);
        for (const { gain } of ask(timeline, at, at + action.rows * BANK_HOP)) {
          if (ones) close(gain, 1);
          else assert.ok(gain >= 0.3 - 1e-6 && gain <= 1 + 1e-6, `${gain}`);
          // Inputs differ by at most 0.3 a frame of a grid with the smallest hop; the timeline itself adds ramps of 50 ms only.
          if (last !== null) assert.ok(Math.abs(gain - last) <= 0.3 + 0.13, `step from ${last} to ${gain}`);
          last = gain;
        }
        at += action.rows * BANK_HOP;
      }
    }),
    { seed: 5, numRuns: 300 },
  );
});

test("a model on another grid may take over in mid-stream", () => {
  const timeline = new GainTimeline();
  timeline.accept(grid(0, 50, 0.5));
  timeline.accept({
    atSample: 19_200,
    hopSamples: 480,
    frames: 40,
    bins: 129,
    binHz: 62.5,
    data: new Float32Array(40 * 129).fill(0.5),
  });
  for (const { gain, mode } of ask(timeline, 0, 37_000)) {
    close(gain, 0.5);
    assert.is(mode, "separated");
  }
});

test("broken gains are repaired and counted; broken shapes, going back and endless storing are refused", () => {
  const timeline = new GainTimeline();
  const bad = grid(0, 2, 0.5);
  bad.data.set([Number.NaN, -1, 2, Number.POSITIVE_INFINITY]);
  timeline.accept(bad);
  assert.is(timeline.counters.gainsRepaired, 4);
  assert.throws(() => timeline.accept({ ...bad, frames: 3 }), RangeError);
  assert.throws(() => timeline.accept({ ...bad, atSample: Number.NaN }), RangeError);
  ask(timeline, 0, BANK_HOP + 1);
  assert.throws(() => timeline.gainsAt(0, new Float32Array(BANK_BINS)), /after 512/);
  timeline.accept(grid(-10_000, 2, 0.5));
  assert.is(timeline.counters.gridsTooOld, 1);
  assert.throws(() => {
    for (let i = 1; ; i++) timeline.accept(grid(i * 38_400, 100, 0.5));
  }, /SL_QUEUE_FULL|wait already/);
});

test("hours of pieces, asked for as they come, do not grow it; nor do thousands of switches", () => {
  const timeline = new GainTimeline();
  const row = new Float32Array(BANK_BINS);
  for (let step = 0, centre = 0; step < 3000; step++) {
    timeline.accept(grid(step * 1920, 5, 0.5)); // more frames in all than may be stored
    for (; centre <= step * 1920; centre += BANK_HOP) timeline.gainsAt(centre, row);
  }
  const idle = new GainTimeline();
  for (let i = 0; i < 2000; i++) i % 2 ? idle.separateFrom(i * 10, "A") : idle.bypassFrom(i * 10, "A");
  assert.ok(idle.counters.switchesForced! > 1000);
});

test.run();
