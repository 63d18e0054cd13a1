import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Controls, GainControls } from "../../src/pipeline/controls.js";
import type { Keep } from "../../src/pipeline/types.js";

const test = suite("controls");
const close = (a: number, b: number, tolerance = 1e-6) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);

/** The gain that comes out for a constant gain `g` once nothing moves any more. */
function settled(controls: GainControls, g: number, from = 0): number {
  const row = new Float32Array(1);
  for (let i = 0; i < 200; i++) {
    row[0] = g;
    controls.apply(from + i * 256, row);
  }
  return row[0]!;
}

test("keep, strength and limit follow their formula: max(limit, 1 - s (1 - keep(g)))", () => {
  const gains = fc.float({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(
      gains,
      fc.constantFrom<Keep>("on-screen", "off-screen", "mix"),
      fc.integer({ min: 0, max: 100 }),
      fc.integer({ min: 0, max: 80 }),
      (g, keep, percent, limitDb) => {
        const kept = keep === "mix" ? 1 : keep === "on-screen" ? g : 1 - g;
        const expected = Math.max(10 ** (-limitDb / 20), 1 - (percent / 100) * (1 - kept));
        close(
          settled(new GainControls(1, { keep, strengthPercent: percent, attenuationLimitDb: limitDb }), g),
          expected,
        );
      },
    ),
    { seed: 4, numRuns: 200 },
  );
});

test("the first row is not ramped, every later change is: no step above 1/4 of the change a frame", () => {
  const controls = new GainControls(1, { attenuationLimitDb: 80 });
  const row = Float32Array.of(0.2);
  controls.apply(0, row);
  close(row[0]!, 0.2);
  const changes: Partial<Controls>[] = [
    { keep: "off-screen" },
    { strengthPercent: 0 },
    { keep: "mix" },
    { keep: "on-screen", strengthPercent: 100 },
    { attenuationLimitDb: 6 },
  ];
  let at = 256;
  let last = row[0]!;
  for (const change of changes) {
    controls.set(change);
    for (let i = 0; i < 12; i++, at += 256) {
      row[0] = 0.2;
      controls.apply(at, row);
      assert.ok(Math.abs(row[0]! - last) < 0.25, `step ${Math.abs(row[0]! - last)} after ${JSON.stringify(change)}`);
      last = row[0]!;
    }
  }
  close(last, 10 ** (-6 / 20));
});

test("a change in the middle of a ramp goes on from where the ramp is", () => {
  const controls = new GainControls(1);
  const row = Float32Array.of(0.5);
  controls.apply(0, row);
  controls.set({ strengthPercent: 0 });
  row[0] = 0.5;
  controls.apply(1200, row);
  close(row[0]!, 0.75);
  controls.set({ strengthPercent: 100 });
  row[0] = 0.5;
  controls.apply(1201, row);
  close(row[0]!, 0.75, 1e-3);
});

test("attack and release are time constants, whatever the distance of the rows", () => {
  for (const hop of [64, 256, 1000]) {
    const controls = new GainControls(1, { attackMs: 20, releaseMs: 100, attenuationLimitDb: 200 });
    const row = Float32Array.of(1);
    controls.apply(0, row);
    const fallSamples = 8000 * (hop / 1000);
    for (let i = 1; i <= 8; i++) {
      row[0] = 0;
      controls.apply(i * hop, row);
    }
    close(row[0]!, Math.exp(-fallSamples / 48 / 20), 1e-5);
    const low = row[0]!;
    for (let i = 9; i <= 16; i++) {
      row[0] = 1;
      controls.apply(i * hop, row);
    }
    close(row[0]!, 1 - (1 - low) * Math.exp(-fallSamples / 48 / 100), 1e-5);
  }
});

test("after a restart the smoothing begins anew", () => {
  const controls = new GainControls(1, { attackMs: 1000, attenuationLimitDb: 200 });
  const row = Float32Array.of(1);
  controls.apply(0, row);
  controls.restart();
  row[0] = 0;
  controls.apply(256, row);
  close(row[0]!, 0);
});

test("values out of range are refused and change nothing", () => {
  const controls = new GainControls(1);
  const before = controls.controls;
  const wrong: Partial<Controls>[] = [
    { strengthPercent: 101 },
    { strengthPercent: Number.NaN },
    { attenuationLimitDb: -1 },
    { attackMs: -1 },
    { keep: "both" as Keep },
  ];
  for (const patch of wrong) assert.throws(() => controls.set(patch), RangeError);
  assert.is(controls.controls, before);
});

test.run();
