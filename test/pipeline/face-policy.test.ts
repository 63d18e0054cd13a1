import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BandEnergy } from "../../src/pipeline/band-energy.js";
import { type FaceGains, FacePolicy, modeOf } from "../../src/pipeline/face-policy.js";
import { sine } from "./signals.js";

const test = suite("attribution");
const layout = { atSample: 0, hopSamples: 384, frames: 5, bins: 4, binHz: 6000 };
const cells = layout.frames * layout.bins;
const even = new Float32Array(cells).fill(0.01);
const left = { x: 0.1, y: 0.3, width: 0.2, height: 0.3 };
const right = { x: 0.7, y: 0.3, width: 0.2, height: 0.3 };

function face(id: number, gain: number | Float32Array, box = left): FaceGains {
  return { id, box, gains: { ...layout, data: typeof gain === "number" ? new Float32Array(cells).fill(gain) : gain } };
}

test("several faces: the largest gain of each cell", () => {
  const gains = fc.float32Array({ minLength: cells, maxLength: cells, min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(gains, gains, (a, b) => {
      const { gains: combined, reason } = new FacePolicy().decide({
        layout,
        faces: [face(1, a), face(2, b, right)],
        frozen: false,
        energies: even,
      });
      assert.is(reason, null);
      for (let i = 0; i < cells; i++) assert.is(combined!.data[i], Math.max(a[i]!, b[i]!));
    }),
    { seed: 7, numRuns: 50 },
  );
});

test("the region decides by the centre of the face; faces outside it are heard of but not kept", () => {
  const attribution = new FacePolicy({ region: { x: 0, y: 0, width: 0.5, height: 1 } });
  const both = attribution.decide({ layout, faces: [face(1, 0.5), face(2, 1, right)], frozen: false, energies: even });
  assert.is(both.gains!.data[0], 0.5);
  assert.is(both.speaking.get(2), 1);
  const outside = attribution.decide({ layout, faces: [face(2, 1, right)], frozen: false, energies: even });
  assert.equal([outside.gains, outside.reason], [null, "SL_NO_FACE"]);
});

test("a photograph beside a person keeps nobody's voice; where all stand still they count as before", () => {
  const photograph = { ...face(2, 1, right), still: true };
  const decide = (faces: FaceGains[], region = null as null | typeof left) =>
    new FacePolicy({ region }).decide({ layout, faces, frozen: false, energies: even });
  assert.is(decide([face(1, 0.5), photograph]).gains!.data[0], 0.5);
  assert.is(decide([photograph, { ...face(1, 0.5), still: true }]).gains!.data[0], 1);
  assert.is(decide([photograph]).gains!.data[0], 1);
  // One that moves outside of the region is no reason to leave out who is in it.
  assert.is(decide([face(1, 0.5), photograph], { x: 0.5, y: 0, width: 0.5, height: 1 }).gains!.data[0], 1);
});

test("nobody visible or a frozen picture: the sound is left, or muted when set so", () => {
  const attribution = new FacePolicy();
  assert.equal(attribution.decide({ layout, faces: [], frozen: false, energies: even }).reason, "SL_NO_FACE");
  const frozen = attribution.decide({ layout, faces: [face(1, 0.2)], frozen: true, energies: even });
  assert.equal([frozen.gains, frozen.reason], [null, "SL_PICTURE_FROZEN"]);
  attribution.set({ whenNobodyVisible: "mute" });
  const muted = attribution.decide({ layout, faces: [], frozen: false, energies: even });
  assert.equal([muted.gains, muted.mute, muted.reason, modeOf(muted)], [null, true, "SL_NO_FACE", "muted"]);
  assert.equal([frozen.mute, modeOf(frozen)], [false, "bypass"]);
});

test("visible but silent: reduced by default; with `keep` left alone after one second, until they speak again", () => {
  const reduce = new FacePolicy();
  const keep = new FacePolicy({ whenVisibleSilent: "keep" });
  const step = (attribution: FacePolicy, gain: number, energies = even) =>
    attribution.decide({ layout, faces: [face(1, gain)], frozen: false, energies }).reason;
  for (let i = 0; i < 24; i++) assert.is(step(keep, 0.1), null);
  for (let i = 0; i < 5; i++) assert.is(step(keep, 0.1), "SL_VISIBLE_SILENT");
  assert.is(step(keep, 0.4), "SL_VISIBLE_SILENT"); // 16 % of the energy: between the two thresholds nothing changes
  assert.is(step(keep, 0.1, new Float32Array(cells)), "SL_VISIBLE_SILENT"); // nor while nothing is heard
  assert.is(step(keep, 0.7), null);
  assert.is(step(keep, 0.1), null);
  for (let i = 0; i < 50; i++) assert.is(step(reduce, 0.1), null);
});

test("the speaking share weighs gains by the energy under them", () => {
  const energies = new Float32Array(cells);
  const gain = new Float32Array(cells);
  for (let i = 0; i < cells; i++) {
    energies[i] = i % 4 === 0 ? 0.03 : 0.01;
    gain[i] = i % 4 === 0 ? 1 : 0;
  }
  const { speaking } = new FacePolicy().decide({ layout, faces: [face(1, gain)], frozen: false, energies });
  assert.ok(Math.abs(speaking.get(1)! - 0.5) < 1e-6);
  const silence = new FacePolicy().decide({
    layout,
    faces: [face(1, 1)],
    frozen: false,
    energies: new Float32Array(cells),
  });
  assert.is(silence.speaking.get(1), 0);
});

test("grids that do not lie on the step's cells are refused", () => {
  const attribution = new FacePolicy();
  assert.throws(
    () => attribution.decide({ layout, faces: [face(1, new Float32Array(3))], frozen: false, energies: even }),
    RangeError,
  );
  assert.throws(
    () => attribution.decide({ layout, faces: [], frozen: false, energies: new Float32Array(3) }),
    RangeError,
  );
});

test("band energy: a sine lies in its cell; levels are those of its mean square on any grid", () => {
  const x = sine(48_000, 1000, 1);
  for (const [bins, binHz] of [
    [257, 31.25],
    [257, 46.875],
    [129, 62.5],
  ] as const) {
    const energies = new BandEnergy().measure(
      { atSample: 4000, hopSamples: 384, frames: 3, bins, binHz },
      (n) => x[n] ?? 0,
    );
    const rows = [0, 1, 2].map((f) => energies.subarray(f * bins, (f + 1) * bins));
    for (const row of rows) {
      assert.ok(Math.abs(row.indexOf(Math.max(...row)) * binHz - 1000) <= 47);
      const sum = row.reduce((a, b) => a + b, 0);
      assert.ok(sum > 0.35 && sum < 0.65, `${binHz} Hz: ${sum}`);
    }
  }
});

test.run();
