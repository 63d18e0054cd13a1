import { suite } from "uvu";
import * as assert from "uvu/assert";
import { tensor } from "../../../src/model/engines/onnxruntime.js";
import { type PaperGraph, type PaperOptions, paperGraph } from "../../../src/model/paper/graph.js";
import type { Form } from "../../../src/model/paper/layers.js";
import type { PresetName } from "../../../src/model/paper/presets.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { channelOf, relativeError, runGraph, testInputs, testPixels, testSound } from "./support.js";

/** Small, but with every layer: 64 pixels, an eighth of the channels. */
const SIZE = { width: 1 / 8, image: 64 } as const;

const net = (preset: PresetName, options: PaperOptions = {}): PaperGraph =>
  paperGraph(preset, randomVariables(preset, { width: SIZE.width, seed: 7 }), { ...SIZE, ...options });

const test = suite("forms and presets of the paper's network");

type Outputs = Record<string, Float32Array>;

/** All outputs alike to 1e-5. The logit is a mean of the map's cells, which may cancel: its error is measured by theirs. */
function alike(got: Outputs, want: Outputs, label: string): void {
  for (const name of Object.keys(want)) {
    const error =
      name === "logit"
        ? Math.abs(got.logit![0]! - want.logit![0]!) / Math.max(...want.cam!.map(Math.abs))
        : relativeError(got[name]!, want[name]!);
    assert.ok(error <= 1e-5, `${label}, ${name}: ${error}`);
  }
}

const mean = (x: Float32Array): number => x.reduce((a, b) => a + b, 0) / x.length;

test("training, folded and unfolded form give the same; the map's mean is the logit", async () => {
  const form = (f: Form): Promise<Outputs> => runGraph(net("full", { form: f }));
  const want = await form("training");
  assert.ok(Math.abs(mean(want.cam!) - want.logit![0]!) <= 1e-5 * Math.max(...want.cam!.map(Math.abs)));
  for (const f of ["folded", "unfolded"] as const) {
    alike(await form(f), want, f);
  }
});

test("the same for the alignment network with the fine map and no gamma, and for sound alone", async () => {
  for (const [preset, frames] of [
    ["cam", 30],
    ["unet_pit", 63],
  ] as const) {
    const want = await runGraph(net(preset, { frames, form: "training" }));
    for (const form of ["folded", "unfolded"] as const) {
      alike(await runGraph(net(preset, { frames, form })), want, `${preset}, ${form}`);
    }
  }
});

test("a batch of the training form is two windows", async () => {
  const graph = net("shift", { frames: 16, form: "training", pixels: "float32" });
  const [a, b] = [
    testInputs(graph),
    testInputs(
      graph,
      testSound(graph.sizes.samples).map((v) => v * 4),
    ),
  ];
  const both = Object.fromEntries(
    graph.inputs.map(({ name, shape }) => {
      const [x, y] = [a[name]!.data as Float32Array, b[name]!.data as Float32Array];
      const data = new Float32Array(2 * x.length);
      data.set(x);
      data.set(y, x.length);
      return [name, tensor(data, [2, ...shape.slice(1)])];
    }),
  );
  const [first, second, joint] = [await runGraph(graph, a), await runGraph(graph, b), await runGraph(graph, both)];
  assert.ok(relativeError(joint.logit!, [first.logit![0]!, second.logit![0]!]) <= 1e-5);
  assert.ok(relativeError(joint.cam!, [...first.cam!, ...second.cam!]) <= 1e-5);
  assert.ok(relativeError(first.cam!, second.cam!) > 1e-3, "sound must matter");
});

test("mono hears the mean of both channels: equal channels make it the stereo network", async () => {
  const { samples } = net("full").sizes;
  const sound = testSound(samples);
  const left = channelOf(sound, 0);
  const same = Float32Array.from({ length: 2 * samples }, (_, i) => left[i >> 1]!);
  const run = (preset: PresetName, heard: Float32Array) => {
    const graph = net(preset);
    return runGraph(graph, testInputs(graph, heard));
  };
  const [mono, stereo] = [await run("mono", same), await run("full", same)];
  alike(mono, stereo, "mono");
  const apart = [await run("mono", sound), await run("full", sound)];
  assert.ok(relativeError(apart[0]!.cam!, apart[1]!.cam!) > 1e-4);
});

test("static looks at the middle frame only; no-audio hears nothing at its trunk", async () => {
  const still = net("static");
  const full = net("full");
  const { frames, image } = full.sizes;
  const size = image * image * 3;
  const middle = testPixels(frames, image).slice(31 * size, 32 * size);
  const repeated = new Uint8Array(frames * size);
  for (let t = 0; t < frames; t++) repeated.set(middle, t * size);
  const inputs = testInputs(full);
  const got = await runGraph(still, inputs);
  const want = await runGraph(full, { ...inputs, video: tensor(repeated, [1, frames, image, image, 3]) });
  alike(got, want, "static");

  const deaf = net("no-audio");
  assert.equal(
    deaf.inputs.map((i) => i.name),
    ["video", "db", "phase"],
  );
  const silent = await runGraph(deaf);
  alike(await runGraph(net("no-audio", { form: "unfolded" })), silent, "no-audio, unfolded");
  assert.ok(relativeError(silent.cam!, (await runGraph(full, inputs)).cam!) > 1e-3, "sound must matter");
});

test("variables that do not fit are named", () => {
  const good = randomVariables("shift", { width: SIZE.width });
  const broken = (change: (name: string, values: Float32Array) => Float32Array): PaperGraph =>
    paperGraph("shift", (name) => change(name, good(name)), { ...SIZE, frames: 16 });
  assert.throws(
    () => broken((name, v) => (name === "im/conv3_1_2/weights" ? v.slice(1) : v)).write(),
    /variable im\/conv3_1_2\/weights: 6911 values, expected 6912 \(shape 3 x 3 x 3 x 16 x 16\)/,
  );
  assert.throws(
    () => broken((name, v) => (name === "im/conv2_1_bn/moving_variance" ? v.fill(-1) : v)).write(),
    /norm im\/conv2_1_bn: a scale or shift is not finite/,
  );
  assert.throws(() => good("im/conv9/weights"), /shift has no variable im\/conv9\/weights/);
});

test.run();
