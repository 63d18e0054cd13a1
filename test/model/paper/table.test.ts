import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type PaperGraph, type PaperOptions, paperGraph } from "../../../src/model/paper/graph.js";
import type { PresetName } from "../../../src/model/paper/presets.js";

const test = suite("tables of the paper's network");

/** The graph alone: nothing asks for weights. */
const plan = (preset: PresetName, options: PaperOptions = {}): PaperGraph =>
  paperGraph(
    preset,
    (name) => {
      throw new Error(`asked for ${name}`);
    },
    { form: "training", ...options },
  );

/** One line a row: scope, output (time x height x width x channels), pads. As in sections 2.1 and 2.2. */
const rows = (graph: PaperGraph): Map<string, string> =>
  new Map(
    graph.levels.map((l) => [l.scope, `${l.shape.join("x")} ${l.pads.map((p) => p.join("/")).join(" ")}`.trimEnd()]),
  );

const trunk63 = `
sf/conv1_1 11036x1x64 30/31 0/0
sf/pool1 2759x1x64
sf/conv2_1_short 690x1x128 0/0 0/0
sf/conv2_1_1 690x1x128 6/6 0/0
sf/conv2_1_2 690x1x128 7/7 0/0
sf/conv3_1_1 173x1x128 6/7 0/0
sf/conv3_1_2 173x1x128 7/7 0/0
sf/conv4_1_short 44x1x256 0/0 0/0
sf/conv4_1_1 44x1x256 7/7 0/0
sf/conv4_1_2 44x1x256 7/7 0/0
im/conv1 32x112x112x64 2/2 2/3 2/3
im/pool 32x56x56x64 0/0 0/1 0/1
im/conv2_1_1 32x56x56x64 1/1 1/1 1/1
im/conv2_1_2 32x56x56x64 1/1 1/1 1/1
im/conv2_2_1 16x28x28x64 0/1 0/1 0/1
im/conv2_2_2 16x28x28x64 1/1 1/1 1/1
sf/pool5 16x1x256
sf/conv5_1 16x1x128 1/1 0/0
im/merge 16x28x28x192
im/merge1 16x28x28x512 0/0 0/0 0/0
im/merge2 16x28x28x128 0/0 0/0 0/0
im/conv3_1_1 16x28x28x128 1/1 1/1 1/1
im/conv3_1_2 16x28x28x128 1/1 1/1 1/1
im/conv3_2_1 16x28x28x128 1/1 1/1 1/1
im/conv3_2_2 16x28x28x128 1/1 1/1 1/1
im/conv4_1_short 8x14x14x256 0/0 0/0 0/0
im/conv4_1_1 8x14x14x256 0/1 0/1 0/1
im/conv4_1_2 8x14x14x256 1/1 1/1 1/1
im/conv4_2_1 8x14x14x256 1/1 1/1 1/1
im/conv4_2_2 8x14x14x256 1/1 1/1 1/1
im/conv5_1_short 8x7x7x512 0/0 0/0 0/0
im/conv5_1_1 8x7x7x512 1/1 0/1 0/1
im/conv5_1_2 8x7x7x512 1/1 1/1 1/1
im/conv5_2_1 8x7x7x512 1/1 1/1 1/1
im/conv5_2_2 8x7x7x512 1/1 1/1 1/1
joint/logits 1x1x1x1 0/0 0/0 0/0
joint/logits of every cell 8x7x7x1 0/0 0/0 0/0`;

const unet63 = `
gen/conv1 128x512x64 1/2 1/1
gen/conv2 128x256x128 1/2 1/1
gen/conv3 64x128x256 1/1 1/1
gen/join0 64x128x320
gen/conv4 32x64x512 1/1 1/1
gen/join1 32x64x640
gen/conv5 16x32x512 1/1 1/1
gen/join2 16x32x1024
gen/conv6 8x16x512 1/1 1/1
gen/conv7 4x8x512 1/1 1/1
gen/conv8 2x4x512 1/1 1/1
gen/conv9 1x2x512 1/1 1/1
gen/deconv1 2x4x512 1/1 1/1
gen/deconv2 4x8x512 1/1 1/1
gen/deconv3 8x16x512 1/1 1/1
gen/deconv4 16x32x512 1/1 1/1
gen/deconv5 32x64x512 1/1 1/1
gen/deconv6 64x128x256 1/1 1/1
gen/deconv7 128x256x128 1/1 1/1
gen/deconv8 128x512x64 1/2 1/1
gen/fg 128x1024x2 1/2 1/1
gen/bg 128x1024x2 1/2 1/1`;

/** Where 125 frames differ in more than the numbers of steps. */
const trunk125 = `
sf/conv1_1 21897x1x64 30/31 0/0
sf/pool1 5474x1x64
sf/conv2_1_short 1369x1x128 0/0 0/0
sf/conv2_1_1 1369x1x128 6/7 0/0
sf/conv2_1_2 1369x1x128 7/7 0/0
sf/conv3_1_1 343x1x128 7/7 0/0
sf/conv3_1_2 343x1x128 7/7 0/0
sf/conv4_1_short 86x1x256 0/0 0/0
sf/conv4_1_1 86x1x256 6/6 0/0
sf/conv4_1_2 86x1x256 7/7 0/0
im/conv1 63x112x112x64 2/2 2/3 2/3
im/pool 63x56x56x64 0/0 0/1 0/1
im/conv2_1_1 63x56x56x64 1/1 1/1 1/1
im/conv2_2_1 32x28x28x64 1/1 0/1 0/1
im/conv2_2_2 32x28x28x64 1/1 1/1 1/1
sf/pool5 32x1x256
sf/conv5_1 32x1x128 1/1 0/0
im/merge 32x28x28x192
im/merge1 32x28x28x512 0/0 0/0 0/0
im/merge2 32x28x28x128 0/0 0/0 0/0
im/conv3_2_2 32x28x28x128 1/1 1/1 1/1
im/conv4_1_short 16x14x14x256 0/0 0/0 0/0
im/conv4_1_1 16x14x14x256 0/1 0/1 0/1
im/conv4_2_2 16x14x14x256 1/1 1/1 1/1
im/conv5_1_short 16x7x7x512 0/0 0/0 0/0
im/conv5_1_1 16x7x7x512 1/1 0/1 0/1
im/conv5_2_2 16x7x7x512 1/1 1/1 1/1
joint/logits of every cell 16x7x7x1 0/0 0/0 0/0`;

function check(graph: PaperGraph, table: string, whole: boolean): void {
  const got = rows(graph);
  const want = table
    .trim()
    .split("\n")
    .map((line) => line.match(/^(.*?) (\d+x.*)$/)!.slice(1) as [string, string]);
  for (const [scope, row] of want) assert.is(got.get(scope), row, scope);
  if (whole) assert.is(got.size, want.length);
}

test("sizes and pads of 63 frames, trunk and u-net, row by row", () => {
  check(plan("full"), trunk63 + unet63, true);
});

test("sizes and pads of 125 frames", () => {
  check(plan("shift"), trunk125, false);
  const long = plan("full", { frames: 125 });
  check(long, trunk125, false);
  assert.is(rows(long).get("gen/conv9"), "2x2x512 1/1 1/1");
  assert.is(rows(long).get("gen/fg"), "256x1024x2 1/2 1/1");
});

test("248 frames: other pads, 62 steps; the fine map has 14 x 14 cells", () => {
  const got = rows(plan("full", { frames: 248 }));
  assert.match(got.get("sf/conv1_1")!, / 31\/32 0\/0$/);
  assert.match(got.get("sf/conv2_1_1")!, / 7\/7 0\/0$/);
  assert.match(got.get("sf/conv3_1_1")!, / 5\/6 0\/0$/);
  assert.match(got.get("sf/conv4_1_1")!, / 6\/6 0\/0$/);
  assert.match(got.get("im/conv1")!, / 1\/2 2\/3 2\/3$/);
  assert.is(got.get("sf/pool5"), "62x1x256");
  assert.is(got.get("im/conv5_2_2"), "31x7x7x512 1/1 1/1 1/1");
  const cam = rows(plan("cam"));
  assert.is(cam.get("joint/logits of every cell"), "16x14x14x1 0/0 0/0 0/0");
  assert.is(cam.get("im/conv5_1_1"), "16x14x14x512 1/1 1/1 1/1");
});

test("112 pixels: only heights and widths change", () => {
  const got = rows(plan("full", { image: 112 }));
  assert.is(got.get("im/conv2_2_2"), "16x14x14x64 1/1 1/1 1/1");
  assert.is(got.get("im/conv4_2_2"), "8x7x7x256 1/1 1/1 1/1");
  assert.is(got.get("im/conv5_2_2"), "8x4x4x512 1/1 1/1 1/1");
  check(plan("full", { image: 112 }), unet63, false);
});

test("parameters and multiply-adds (sections 2.3 and 8)", () => {
  for (const [preset, options, parameters, giga] of [
    ["full", {}, 113_669_445, 142.475],
    ["full", { frames: 125 }, 113_669_445, 283.66],
    ["full", { frames: 248 }, 113_669_445, 558.91],
    ["unet_pit", {}, 67_001_092, 47.9],
    ["shift", {}, 36_044_609, 174.97],
    ["cam", {}, 36_044_609, 233.55],
    ["cam", { frames: 63 }, 36_044_609, 117.42],
    ["full", { image: 112 }, 113_669_445, 77.5],
    ["full", { width: 1 / 2 }, 28_441_253, 40.53],
    ["full", { width: 1 / 2, image: 112 }, 28_441_253, 20.75],
    ["full", { width: 1 / 4 }, 7_122_261, 12.59],
    ["full", { width: 1 / 4, image: 112 }, 7_122_261, 5.87],
    ["unet_pit", { width: 1 / 2 }, 16_756_100, 12.14],
  ] as const) {
    const graph = plan(preset, options);
    const label = `${preset} ${JSON.stringify(options)}`;
    assert.is(graph.parameters, parameters, label);
    assert.ok(Math.abs(graph.macs / 1e9 - giga) <= 0.005, `${label}: ${graph.macs / 1e9} GMAC, expected ${giga}`);
  }
});

test("multiply-adds by part: sf, im, joint, gen", () => {
  const part = (prefix: string): number =>
    plan("full")
      .levels.filter((l) => l.scope.startsWith(prefix))
      .reduce((n, l) => n + l.macs, 0) / 1e9;
  for (const [prefix, giga] of [
    ["sf/", 0.505],
    ["im/", 87.629],
    ["gen/", 54.341],
    ["im/conv1", 18.8822],
    ["im/conv5_2", 5.5491],
    ["gen/conv", 18.0271],
    ["gen/deconv", 35.7774],
  ] as const) {
    assert.ok(Math.abs(part(prefix) - giga) <= 6e-4, `${prefix}: ${part(prefix)} GMAC, expected ${giga}`);
  }
});

test("inputs and outputs in the documented order", () => {
  const names = (list: PaperGraph["inputs"]): string[] => list.map((t) => `${t.name} ${t.type} ${t.shape.join("x")}`);
  const full = plan("full", { form: "folded", scales: true });
  assert.equal(names(full.inputs), [
    "video uint8 1x63x224x224x3",
    "samples float32 1x44144x2",
    "db float32 1x128x1025",
    "phase float32 1x128x1025",
  ]);
  assert.equal(names(full.outputs), [
    "fg_db float32 1x128x1025",
    "fg_phase float32 1x128x1025",
    "bg_db float32 1x128x1025",
    "bg_phase float32 1x128x1025",
    "logit float32 1x1",
    "cam float32 1x8x7x7",
    "scale0 float32 1x64x16x28x28",
    "scale1 float32 1x128x16x28x28",
    "scale2 float32 1x512x8x7x7",
  ]);
  assert.equal(names(plan("shift").inputs), ["video uint8 -1x125x224x224x3", "samples float32 -1x87588x2"]);
  assert.equal(names(plan("no-audio").inputs).length, 3);
  assert.equal(names(plan("unet_pit").outputs).length, 4);
  assert.equal(names(plan("shift_lowfps").outputs), ["logit float32 -1x1", "cam float32 -1x4x7x7"]);
});

test("sizes that the network does not take are refused with what is allowed", () => {
  assert.throws(() => plan("full", { frames: 62 }), /at least 63/);
  assert.throws(() => plan("shift", { frames: 7 }), /from 8 to 1199/);
  assert.throws(() => plan("full", { frames: 63.5 }), /whole numbers/);
  assert.throws(() => plan("full", { image: 16 }), /image side 16/);
  assert.throws(() => plan("full", { width: 3 }), /allowed are 1, 1\/2/);
});

test.run();
