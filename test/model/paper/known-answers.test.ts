import { suite } from "uvu";
import * as assert from "uvu/assert";
import { paperGraph } from "../../../src/model/paper/graph.js";
import { BINS, spectrum, waveform } from "../../../src/model/paper/spectrum.js";
import { channelOf, runGraph, smallBundle, smallBundleVariables, testSound } from "./support.js";

const test = suite("known answers of section 7.5");

/** Figures of the spec hold to 1e-4 of the larger of 1 and themselves. */
function near(got: number, want: number, what: string): void {
  assert.ok(Math.abs(got - want) <= 1e-4 * Math.max(1, Math.abs(want)), `${what}: ${got}, expected ${want}`);
}

function check(values: Float32Array, mean: number | null, deviation: number, first: readonly number[], what: string) {
  const m = values.reduce((a, b) => a + b, 0) / values.length;
  const s = Math.sqrt(values.reduce((a, b) => a + (b - m) ** 2, 0) / values.length);
  if (mean !== null) near(m, mean, `${what}, mean`);
  near(s, deviation, `${what}, deviation`);
  for (const [i, want] of first.entries()) near(values[i]!, want, `${what}, value ${i}`);
}

test("spectrum of the window, and back", () => {
  const s = spectrum(channelOf(testSound(44_144), 0));
  assert.is(s.frames, 128);
  check(s.db, -0.251805, 5.549192, [5.44638, 7.12949, 8.68924], "level");
  for (const [i, want] of [0, -2.24964, 2.00203].entries()) near(s.phase[i]!, want, `phase ${i}`);
  const y = waveform(s, { releaseExact: true });
  assert.is(y.length, 44_016);
  check(y, null, 0.085289, [], "back");
  near(y[22_008]!, 0.0619831, "back, sample 22008");
});

const folder = smallBundle();
if (folder) {
  test("every output of the small bundle", async () => {
    const graph = paperGraph("full", smallBundleVariables(folder), { width: 1 / 32, scales: true });
    const y = await runGraph(graph);
    near(y.logit![0]!, 8.90923, "logit");
    check(y.cam!, 8.90923, 25.98872, [-4.5617, -26.3533, -27.7413], "cam");
    check(y.scale0!, 0.693553, 0.703327, [], "scale 0");
    check(y.scale1!, 16.80794, 16.24812, [], "scale 1");
    // The spec's first values run over channels: here those of the first cell.
    const cells = y.scale2!.length / 16;
    check(y.scale2!, 19.28049, 21.75445, [], "scale 2");
    for (const [c, want] of [0, 21.935, 39.7718].entries()) near(y.scale2![c * cells]!, want, `scale 2, channel ${c}`);
    check(y.fg_db!, 9.90617, 31.61874, [-15.3634, -7.71616, -16.2836], "fg level");
    for (const [i, want] of [-0.059618, 0.75502, 0.742018].entries()) near(y.fg_phase![i]!, want, `fg phase ${i}`);
    check(y.bg_db!, 5.52764, 28.86674, [-5.38978, -1.3159, 24.2172], "bg level");
    assert.is(y.fg_db!.length, 128 * BINS);
    const sound = (part: "fg" | "bg") =>
      waveform({ frames: 128, db: y[`${part}_db`]!, phase: y[`${part}_phase`]! }, { releaseExact: true });
    const [fg, bg] = [sound("fg"), sound("bg")];
    check(fg, null, 10.8635, [], "fg waveform");
    near(fg[22_008]!, 13.0797, "fg waveform, sample 22008");
    check(bg, null, 6.52695, [], "bg waveform");
    near(bg[22_008]!, 4.69576, "bg waveform, sample 22008");
  });
} else console.log("skipped: outputs of the small bundle (../shared/spec/checkpoint is not there)");

test.run();
