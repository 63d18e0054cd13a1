import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PresetName } from "../../../src/model/paper/presets.js";
import { paperVariables, sizeOfVariable } from "../../../src/model/paper/variables.js";

const test = suite("paper variables");

const bytes = (preset: PresetName, slots: boolean, width = 1): number =>
  paperVariables(preset, { slots, width }).reduce((n, v) => n + sizeOfVariable(v) * (v.dtype === "int64" ? 8 : 4), 0);
const trainable = (preset: PresetName, width = 1): number =>
  paperVariables(preset, { width })
    .filter((v) => v.trainable)
    .reduce((n, v) => n + sizeOfVariable(v), 0);

test("tensors, trainable tensors and bytes of the published files (section 7.4)", () => {
  for (const [preset, tensors, trained, size] of [
    ["full", 375, 162, 454_858_244],
    ["static", 375, 162, 454_858_244],
    ["mono", 375, 162, 454_858_244],
    ["unet_pit", 158, 55, 268_108_960],
    ["shift", 187, 76, 144_254_316],
    ["cam", 187, 76, 144_254_316],
  ] as const) {
    const list = paperVariables(preset, { slots: false });
    assert.is(list.length, tensors, preset);
    assert.is(new Set(list.map((v) => v.name)).size, tensors, `${preset}: a name twice`);
    assert.is(list.filter((v) => v.trainable).length, trained, preset);
    assert.is(bytes(preset, false), size, preset);
  }
  assert.is(paperVariables("full").length, 697);
  assert.is(bytes("full", true), 1_364_209_708);
});

test("trainable parameters (sections 2.3 and 8)", () => {
  assert.is(trainable("full"), 113_669_445);
  assert.is(trainable("unet_pit"), 67_001_092);
  assert.is(trainable("shift"), 36_044_609);
  assert.is(trainable("cam"), 36_044_609);
  assert.is(trainable("full", 1 / 2), 28_441_253);
  assert.is(trainable("full", 1 / 4), 7_122_261);
  assert.is(trainable("unet_pit", 1 / 2), 16_756_100);
});

test("the small bundle of section 7.5", () => {
  const small = paperVariables("full", { width: 1 / 32 });
  assert.is(small.length, 697);
  assert.is(bytes("full", true, 1 / 32), 1_372_580);
  assert.is(trainable("full", 1 / 32), 113_903);
  const shape = new Map(small.map((v) => [v.name, v.shape]));
  assert.equal(shape.get("gen/bg/weights"), [4, 4, 2, 4]);
  assert.equal(shape.get("gen/conv1/BatchNorm/renorm_mean_weight"), []);
});

test("a width that gives no whole channels is refused with what is allowed", () => {
  for (const width of [0, 2, 0.3, 1 / 64, Number.NaN]) {
    assert.throws(() => paperVariables("full", { width }), /allowed are 1, 1\/2/);
  }
});

test.run();
