import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type LoadedWindow, loadWindow } from "../../../src/model/cards.js";
import { importCheckpoint } from "../../../src/model/checkpoint/import.js";
import { OnnxEngine, tensor } from "../../../src/model/engines/onnxruntime.js";
import { GraphBuilder } from "../../../src/model/onnx/graph-builder.js";
import { ModelProtoSchema, TensorProto_DataType } from "../../../src/model/onnx/onnx_pb.js";
import { qlinearConv } from "../../../src/model/onnx/ops.js";
import { type PaperGraph, type PaperOptions, paperGraph } from "../../../src/model/paper/graph.js";
import { inIntegers, quantisedWeights, type Ranges, WEIGHT_LIMIT } from "../../../src/model/paper/int8.js";
import { type PresetName, presets } from "../../../src/model/paper/presets.js";
import { type CalibrationWindow, quantiseModel } from "../../../src/model/paper/quantise.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { paperRows } from "../../../src/model/paper/table.js";
import { PaperWindow } from "../../../src/model/paper/window.js";
import { windowTensors } from "../../../src/model/paper/window-tensors.js";
import { paperBundle } from "../checkpoint/paper-bundle.js";
import { saveBundle, writeBundle } from "../checkpoint/write-bundle.js";
import { channelOf, runGraph, testInputs, testPixels, testSound } from "./support.js";

const SIZE = { width: 1 / 8, image: 64 } as const;

const net = (preset: PresetName, options: PaperOptions = {}): PaperGraph =>
  paperGraph(preset, randomVariables(preset, { width: SIZE.width, seed: 7 }), { ...SIZE, ...options });

/** Root mean square of the difference over that of the second. */
function difference(got: Float32Array, want: Float32Array): number {
  assert.is(got.length, want.length);
  let [error, level] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    error += (got[i]! - want[i]!) ** 2;
    level += want[i]! ** 2;
  }
  return Math.sqrt(error / level);
}

function rangesOf(outputs: Record<string, Float32Array>): Ranges {
  const names = Object.keys(outputs).filter((name) => name.endsWith("/least"));
  return Object.fromEntries(
    names.map((name) => {
      const key = name.slice(0, -"/least".length);
      return [key, [outputs[name]![0]!, outputs[`${key}/most`]![0]!]];
    }),
  );
}

const test = suite<{ dir: string; model: LoadedWindow }>("the paper's trunk in int8");
test.before(async (t) => {
  t.dir = mkdtempSync(join(tmpdir(), "sightline-int8-test-"));
  saveBundle(join(t.dir, "net"), writeBundle(paperBundle("full", false)));
  await importCheckpoint(join(t.dir, "net"), "full", join(t.dir, "float"), { image: 32 });
  t.model = await loadWindow(join(t.dir, "float"));
});
test.after((t) => rmSync(t.dir, { recursive: true, force: true }));

test("weights fit seven bits, half a step off at most; a half step of the input goes into the bias", () => {
  const weights = Float32Array.of(0.3, -1.28, 0.64, 0, 0, 0, 1e-3, 2e-3, -3e-3);
  const biases = Float32Array.of(0.5, 1000, -2);
  const x = { scale: 0.01, offset: 0.005 };
  const q = quantisedWeights(weights, biases, x);
  assert.equal([...q.weights.slice(0, 6)], [15, -64, 32, 0, 0, 0]);
  for (const [i, w] of weights.entries()) {
    const scale = q.scales[Math.floor(i / 3)]!;
    assert.ok(Math.abs(q.weights[i]! * scale - w) <= 0.5001 * scale, `weight ${i}`);
  }
  for (const row of [0, 1, 2]) {
    const sum = q.weights.slice(3 * row, 3 * row + 3).reduce((a, b) => a + b, 0) * q.scales[row]!;
    const bias = q.biases[row]! * x.scale * q.scales[row]!;
    assert.ok(Math.abs(bias - biases[row]! - x.offset * sum) <= x.scale * q.scales[row]!, `bias ${row}: ${bias}`);
  }
});

test("largest bytes times largest weights do not saturate in the engine", async () => {
  const channels = 192;
  const run = async (sign: 1 | -1): Promise<number> => {
    const g = new GraphBuilder("extreme");
    const x = g.input("x", "uint8", [1, channels, 4, 4]);
    const zero = g.constant(Uint8Array.of(128), []);
    const none = g.constant(Uint8Array.of(0), []);
    const w = g.constant(new Int8Array(16 * channels * 9).fill(sign * WEIGHT_LIMIT), [16, channels, 3, 3]);
    const b = g.constant(new Int32Array(16));
    const sum = 255 * WEIGHT_LIMIT * channels * 9;
    const as = { scale: g.constant(new Float32Array(16).fill(1)), zero: g.constant(Int8Array.of(0), []) };
    const to = { scale: g.scalar(sum / 100), zero };
    g.output("y", qlinearConv(g, { of: x, as: { scale: g.scalar(1), zero: none } }, { of: w, as }, b, to));
    const engine = await OnnxEngine.open(g.finish(), { threads: 1 });
    const bytes = new Uint8Array(channels * 16).fill(255);
    const { y } = await engine.run({ x: tensor(bytes, [1, channels, 4, 4]) });
    await engine.close();
    const values = [...(y!.data as Uint8Array)];
    assert.is(new Set(values).size, 1);
    return values[0]! - 128;
  };
  assert.is(await run(1), 100);
  assert.is(await run(-1), -100);
});

for (const [preset, options] of [
  ["full", {}],
  ["cam", { frames: 30, pixels: "float32" }],
  ["static", {}],
  ["no-audio", {}],
  ["shift_lowfps", {}],
] as const)
  test(`${preset}: features within 5 % of the float network's, spectra within 2 %`, async () => {
    const probing = net(preset, { ...options, form: "unfolded", probes: true, scales: true });
    const inputs = testInputs(probing);
    const want = await runGraph(probing, inputs);
    const graph = net(preset, { ...options, form: "int8", ranges: rangesOf(want), scales: true });
    const got = await runGraph(graph, inputs);
    for (const { name } of graph.outputs) {
      if (name === "cam" || name === "logit") continue; // a random head weighs differences of features, not features
      const d = difference(got[name]!, want[name]!);
      assert.ok(d > 0 && d <= (name.startsWith("scale") ? 0.05 : 0.02), `${name}: ${d}`);
    }
    const level = Math.sqrt(want.cam!.reduce((sum, v) => sum + v * v, 0) / want.cam!.length);
    assert.ok(Math.abs(got.logit![0]! - want.logit![0]!) <= 0.05 * level, `${got.logit} for ${want.logit}`);
    assert.ok(difference(got.cam!, want.cam!) <= 0.15);
  });

test("every convolution of the picture is one QLinearConv with int8 weights; nothing else is", async () => {
  const probing = net("full", { form: "unfolded", probes: true });
  const ranges = rangesOf(await runGraph(probing));
  const graph = net("full", { form: "int8", ranges });
  assert.is(
    graph.macs,
    graph.levels.reduce((sum, l) => sum + l.macs, 0),
  );
  const model = fromBinary(ModelProtoSchema, graph.write()).graph!;
  const rows = paperRows(presets.full, SIZE.width).flatMap((row) =>
    row.kind === "conv" && inIntegers(row) ? [row.scope] : [],
  );
  const integer = model.node.filter((n) => n.opType === "QLinearConv");
  assert.equal(integer.map((n) => n.input[3]!.replace(/\/weights$/, "")).sort(), rows.sort());
  assert.is(rows.length, 21);
  for (const { input } of integer) {
    const w = model.initializer.find((t) => t.name === input[3])!;
    assert.is(w.dataType, TensorProto_DataType.INT8);
    const values = new Int8Array(new Uint8Array(w.rawData).buffer);
    assert.is(Math.max(...values.map(Math.abs)), WEIGHT_LIMIT, w.name);
    assert.is(model.initializer.find((t) => t.name === input[8])!.dataType, TensorProto_DataType.INT32);
  }
  assert.ok(!model.node.some((n) => n.opType === "Conv" && n.name.startsWith("im/")));
  assert.ok(model.node.some((n) => n.opType === "Conv" && n.name.startsWith("gen/")));
  assert.throws(() => net("full", { form: "int8" }), /needs the ranges of a calibration/);
  const { "im/conv3_1_2/out": _, ...less } = ranges;
  assert.throws(() => net("full", { form: "int8", ranges: less }), /no range of im\/conv3_1_2\/out/);
});

/** Pictures and sound of section 7.5, moved on from clip to clip. */
function windowInput({ card }: LoadedWindow, clip: number) {
  const { window, side } = card.paper;
  const pixels = testPixels(window.frames + clip, side);
  const sound = testSound(window.samples + 500 * clip);
  const size = 3 * side * side;
  const channel = (c: number): Float32Array => channelOf(sound, c).slice(500 * clip);
  return {
    pictures: Array.from({ length: window.frames }, (_, i) => pixels.slice((i + clip) * size, (i + clip + 1) * size)),
    left: channel(0),
    right: channel(1),
  };
}

async function* synthetic(model: LoadedWindow, clips: number): AsyncGenerator<CalibrationWindow> {
  for (let clip = 0; clip < clips; clip++)
    yield { clip: `clip ${clip}`, tensors: windowTensors(model.card, windowInput(model, clip)).tensors };
}

test("a model folder becomes an int8 one that the product loads and runs, and whose card says how", async ({
  dir,
  model,
}) => {
  const out = join(dir, "int8");
  const { card } = await quantiseModel(model, () => synthetic(model, 6), out, { threads: 2, limit: 0.5 });
  const { int8, form, checkpoint } = card.paper;
  assert.is(card.name, "int8");
  assert.is(form, "int8");
  assert.equal(checkpoint, model.card.paper.checkpoint);
  assert.equal([card.parameters, card.macPerWindow], [model.card.parameters, model.card.macPerWindow]);
  assert.is(int8!.from, model.card.sha256["model.onnx"]);
  assert.equal(int8!.calibration, { windows: 4, clips: 4, method: "minimum and maximum" });
  assert.equal([int8!.check.windows, int8!.check.clips], [2, 2]);
  assert.equal(Object.keys(int8!.check.difference).sort(), model.card.paper.outputs.map((o) => o.name).sort());

  const loaded = await loadWindow(out);
  assert.ok(loaded.step.length < model.step.length);
  const [float, integer] = [
    await PaperWindow.open(model, { threads: 1 }),
    await PaperWindow.open(loaded, { threads: 1 }),
  ];
  const input = windowInput(model, 9);
  const [want, got] = [await float.run(input), await integer.run(input)];
  await float.close();
  await integer.close();
  for (const voice of ["on", "off"] as const) {
    const d = difference(got.voices![voice].db, want.voices![voice].db);
    assert.ok(d > 0 && d <= 0.03, `${voice}: ${d}`);
  }

  const path = join(out, "card.json");
  const text = readFileSync(path, "utf8");
  writeFileSync(path, text.replace('"form": "int8"', '"form": "unfolded"'));
  await refused(loadWindow(out), /form unfolded has the section int8/);
  writeFileSync(path, text);
});

async function refused(job: Promise<unknown>, what: RegExp): Promise<void> {
  const error = await job.then(
    () => null,
    (e: unknown) => e as Error & { code?: string },
  );
  assert.ok(error, "it was taken");
  assert.is(error.code, "SL_MODEL_INVALID", String(error));
  assert.match(error.message, what);
}

test("what cannot be quantised is refused, and what differs too much; nothing is left", async ({ dir, model }) => {
  const out = join(dir, "never");
  const options = { threads: 1 };
  const six = () => synthetic(model, 6);
  await refused(quantiseModel(model, six, out, { ...options, limit: 1e-4 }), /differs by .* %, allowed are 0\.01 %/);
  await refused(
    quantiseModel(model, () => synthetic(model, 1), out, options),
    /only one clip/,
  );
  await refused(
    quantiseModel(model, () => synthetic(model, 0), out, options),
    /no clip/,
  );
  await importCheckpoint(join(dir, "net"), "full", join(dir, "folded"), { image: 32, form: "folded" });
  await refused(quantiseModel(await loadWindow(join(dir, "folded")), six, out, options), /its form is folded/);
  const foreign = { ...model, step: new Uint8Array([1, 2, 3]) };
  await refused(quantiseModel(foreign, six, out, options), /not an ONNX file/);
  saveBundle(join(dir, "pit"), writeBundle(paperBundle("unet_pit", false)));
  await importCheckpoint(join(dir, "pit"), "unet_pit", join(dir, "deaf"), {});
  await refused(quantiseModel(await loadWindow(join(dir, "deaf")), six, out, options), /unet_pit has no trunk/);
  assert.not(readdirSync(dir).includes("never"));
});

test.run();
