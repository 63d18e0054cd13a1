import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LineMeter } from "../../src/transport/webrtc/line-meter.js";

const test = suite("WebRTC: jitter of a line");
const SOUND = { ticksPerMs: 48, leastMs: 20, mostMs: 120, firstMs: 60 } as const;
const PICTURE = { ticksPerMs: 90, leastMs: 40, mostMs: 250, firstMs: 150 } as const;

/** Packets of 20 ms that are late by `lateMs(i)`, in the order in which they come. */
function send(meter: LineMeter, count: number, lateMs: (i: number) => number, fromMs = 0): number {
  const packets = Array.from({ length: count }, (_, i) => ({ i, atMs: fromMs + 20 * i + lateMs(i) }));
  packets.sort((a, b) => a.atMs - b.atMs);
  for (const { i, atMs } of packets) meter.arrived((((fromMs / 20 + i) * 960 + 0xffff_0000) & 0xffff_ffff) >>> 0, atMs);
  return fromMs + 20 * count;
}

test("a steady line has no jitter, whatever its delay and over the wrap; nothing is known before the second packet", () => {
  const meter = new LineMeter(SOUND);
  assert.equal([meter.jitterMs, meter.waitMs(0, null)], [0, 60]);
  const end = send(meter, 200, () => 300);
  assert.ok(meter.jitterMs < 1e-6, `${meter.jitterMs}`);
  assert.is(meter.waitMs(end + 10_000, null), 20);
});

test("the wait covers what the line does: evenly spread delays of any size within the bounds", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 1, max: 2 ** 31 - 2 }), (jitterMs, seed) => {
      let state = seed;
      const late = (): number => {
        state = (state * 48_271) % 2_147_483_647;
        return (jitterMs * state) / 2_147_483_647;
      };
      const meter = new LineMeter(SOUND);
      const end = send(meter, 500, late);
      const waitMs = meter.waitMs(end, null);
      assert.ok(waitMs >= Math.min(120, Math.max(20, jitterMs)), `${waitMs} ms for a jitter of ${jitterMs}`);
      assert.ok(waitMs <= Math.max(60, 2.5 * jitterMs + 12), `${waitMs} ms for a jitter of ${jitterMs}`);
    }),
    { numRuns: 100 },
  );
});

test("it rises at once, falls by 10 ms a second, and stays within its bounds; answers count where packets are asked for", () => {
  const meter = new LineMeter(SOUND);
  let end = send(meter, 100, (i) => 200 * (i % 2));
  assert.is(meter.waitMs(end, null), 120);
  end = send(meter, 500, () => 0, end);
  const calm = meter.waitMs(end, null);
  assert.ok(calm < 60 && calm >= 20, `${calm}`);
  const picture = new LineMeter(PICTURE);
  assert.is(picture.waitMs(0, { graceMs: 15, retryMs: 20 }), 150);
  for (let i = 0; i < 400; i++) picture.arrived(i * 3000, i * (100 / 3));
  assert.ok(Math.abs(picture.waitMs(5000, { graceMs: 15, retryMs: 20 }) - 100) < 1e-6, "150 less 5 s of falling");
  assert.ok(Math.abs(picture.waitMs(20_000, { graceMs: 15, retryMs: 20 }) - 65) < 0.1);
  assert.ok(Math.abs(picture.waitMs(20_001, { graceMs: 15, retryMs: 100 }) - 225) < 0.1);
});

test("packets of one picture, pauses and another start of the clock are no jitter", () => {
  const meter = new LineMeter(PICTURE);
  for (let i = 0; i < 100; i++) for (let k = 0; k < 5; k++) meter.arrived(i * 3000, i * (100 / 3) + 3 * k);
  assert.ok(meter.jitterMs < 1e-6);
  meter.arrived(12_345_678, 99 * (100 / 3) + 10);
  assert.ok(meter.jitterMs < 1e-6);
});

test.run();
