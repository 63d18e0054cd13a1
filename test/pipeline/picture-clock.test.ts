import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { lumaChanged, lumaSignature, PictureClock } from "../../src/pipeline/picture-clock.js";

const test = suite("picture clock");
const UNIT = 1920;

/** The rule itself, by brute force. */
function newest(times: readonly number[], at: number): number | null {
  let best: number | null = null;
  for (const time of times) if (time <= at && (best === null || time > best)) best = time;
  return best;
}

for (const fps of [24_000 / 1001, 25, 30_000 / 1001, 30, 50, 60_000 / 1001, 60]) {
  test(`${fps.toFixed(3)} pictures a second: each model picture is the newest not later, and counts add up`, () => {
    const clock = new PictureClock<number>();
    const times = Array.from({ length: Math.floor(60 * fps) }, (_, i) => Math.round((i * 48_000) / fps));
    let pushed = 0;
    for (let p = 0; p < 59 * 25; p++) {
      while (!clock.ready(p * UNIT, Number.NEGATIVE_INFINITY)) {
        clock.push(times[pushed]!, pushed);
        pushed++;
      }
      const { picture, frozen } = clock.pick(p * UNIT);
      assert.is(picture!.atSample, newest(times.slice(0, pushed), p * UNIT));
      assert.is(times[picture!.payload], picture!.atSample);
      assert.is(frozen, false);
    }
    const { picked, repeated, skipped, missing, overflowed } = clock.counters;
    assert.equal([picked, missing, overflowed], [59 * 25, 0, 0]);
    const expectedRepeats = Math.max(0, 59 * (25 - fps));
    const expectedSkips = Math.max(0, 59 * (fps - 25));
    assert.ok(Math.abs(repeated! - expectedRepeats) <= 2, `${repeated} repeats`);
    assert.ok(Math.abs(skipped! - expectedSkips) <= 2, `${skipped} skipped`);
  });
}

test("variable rates and pictures out of order: still the newest not later, of all that came in time", () => {
  const steps = fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 80 });
  fc.assert(
    fc.property(steps, fc.array(fc.nat(3), { minLength: 80, maxLength: 80 }), (gaps, swaps) => {
      const times: number[] = [];
      for (const gap of gaps) times.push((times.at(-1) ?? 0) + gap);
      const arrival = times.map((time, i) => ({ time, order: i + swaps[i]! })).sort((a, b) => a.order - b.order);
      const clock = new PictureClock<number>();
      for (const { time } of arrival) clock.push(time, time);
      const end = times.at(-1)! + 3 * UNIT;
      for (let p = 0; p * UNIT <= end; p++)
        assert.is(clock.pick(p * UNIT).picture?.payload ?? null, newest(times, p * UNIT));
      assert.is(clock.counters.tooLate, 0);
    }),
    { seed: 12, numRuns: 200 },
  );
});

test("whatever is pushed and asked in turn: served times never go back, memory is bounded", () => {
  const action = fc.record({ push: fc.boolean(), move: fc.integer({ min: -20_000, max: 20_000 }) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const clock = new PictureClock<number>({ capacity: 8 });
      let asked = 0;
      let served = Number.NEGATIVE_INFINITY;
      for (const { push, move } of actions) {
        if (push) clock.push(asked + move, 0);
        else {
          asked += Math.abs(move);
          const { picture } = clock.pick(asked);
          if (picture === null) continue;
          assert.ok(picture.atSample >= served && picture.atSample <= asked);
          served = picture.atSample;
        }
      }
      const { pictures, tooLate, overflowed } = clock.counters;
      assert.ok(pictures! >= tooLate! + overflowed!);
    }),
    { seed: 13, numRuns: 200 },
  );
});

test("ready: when a picture at or after the time is there, or one is 80 ms overdue by the sound", () => {
  const clock = new PictureClock<string>();
  assert.is(clock.ready(0, 0), false);
  clock.push(100, "a");
  assert.is(clock.ready(100, 0), true);
  assert.is(clock.ready(101, 3940), false);
  assert.is(clock.ready(101, 3941), true);
});

test("frozen: no picture, no new picture for 1 s, or new ones that show the same for 1 s", () => {
  const still = lumaSignature(new Uint8Array(64 * 36).fill(100), 64, 36, 64);
  const moved = still.slice();
  moved.fill(130, 0, 5);
  const clock = new PictureClock<string>();
  assert.is(clock.pick(0).frozen, true);
  clock.push(1, "first", still);
  assert.is(clock.pick(UNIT).frozen, false);
  for (let at = UNIT; at <= 60_000; at += UNIT) clock.push(at, "same", still.slice());
  assert.is(clock.pick(48_000).frozen, false);
  assert.is(clock.pick(48_001).frozen, true);
  clock.push(60_001, "moved", moved);
  assert.is(clock.pick(60_001).frozen, false);
  assert.is(clock.pick(108_001).frozen, true);
});

test("a signature sees a mouth move and a fade, not an encoder's noise; any picture size has one", () => {
  const picture = Uint8Array.from({ length: 640 * 360 }, (_, i) => (i * 7) & 127);
  const base = lumaSignature(picture, 640, 360, 640);
  const noisy = lumaSignature(
    picture.map((y, i) => y + (i % 3 === 0 ? 2 : 0)),
    640,
    360,
    640,
  );
  const mouth = picture.slice();
  for (let y = 200; y < 225; y++) mouth.fill(255, y * 640 + 300, y * 640 + 330);
  assert.is(lumaChanged(base, noisy), false);
  assert.is(lumaChanged(base, lumaSignature(mouth, 640, 360, 640)), true);
  assert.is(
    lumaChanged(
      base,
      lumaSignature(
        picture.map((y) => y + 3),
        640,
        360,
        640,
      ),
    ),
    true,
  );
  assert.is(
    lumaSignature(Uint8Array.of(9), 1, 1, 4).every((y) => y === 9),
    true,
  );
  assert.throws(() => lumaSignature(new Uint8Array(10), 4, 4, 4), /no 4x4/);
});

test("going back is refused", () => {
  const clock = new PictureClock<string>();
  clock.pick(10);
  assert.throws(() => clock.pick(9), /after 10/);
  assert.throws(() => clock.push(Number.NaN, "x"), RangeError);
  assert.throws(() => new PictureClock({ capacity: 0 }), RangeError);
});

test.run();
