import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadStream, loadWindow, modelInfo, readStreamCard, sha256 } from "../../../src/model/cards.js";
import { importCheckpoint } from "../../../src/model/checkpoint/import.js";
import { OnnxEngine } from "../../../src/model/engines/onnxruntime.js";
import { LocalInference } from "../../../src/model/inference/local.js";
import { paperGraph } from "../../../src/model/paper/graph.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { smallBundle, smallBundleVariables, testInputs } from "../paper/support.js";
import { paperBundle, replaced, STEP, WIDTH } from "./paper-bundle.js";
import { refusedLater } from "./refused.js";
import {
  field,
  float32,
  partitioned,
  saveBundle,
  shapeMessage,
  type TestSlice,
  type TestVariable,
  writeBundle,
} from "./write-bundle.js";

type World = { dir: string; prefix: string; out: string };
const test = suite<World>("import of checkpoints");
const full = paperBundle("full");
/** 374 variables of the network, of which 29 norms have four of renormalisation each. */
const NEEDED = 374 - 4 * 29;

let next = 0;
test.before(async (t) => {
  t.dir = await mkdtemp(join(tmpdir(), "sightline-import-"));
});
test.before.each((t) => {
  const here = join(t.dir, String(next++));
  mkdirSync(here);
  t.prefix = join(here, "net.tf-7");
  t.out = join(here, "models", "mine");
});
test.after((t) => rm(t.dir, { recursive: true, force: true }));

const save = (t: World, variables: readonly TestVariable[]): void =>
  saveBundle(t.prefix, writeBundle(variables, { blockBytes: 4096 }));

/** Nothing is where the model was to be, hidden folders included. */
function nothingIn(t: World): void {
  const parent = join(t.out, "..");
  assert.equal(existsSync(parent) ? readdirSync(parent) : [], []);
}

test("a checkpoint becomes the very network that its values make, with a card that says so", async (t) => {
  save(t, full);
  for (const form of ["unfolded", "folded"] as const) {
    const { card, match } = await importCheckpoint(t.prefix, "full", t.out, { form });
    const expected = paperGraph("full", randomVariables("full", { width: WIDTH }), { width: WIDTH, form });
    assert.is(card.sha256["model.onnx"], sha256(expected.write()));
    assert.is(match.width, WIDTH);
    assert.is(match.ignored.length, 697 - NEEDED);
    const loaded = await loadWindow(t.out);
    assert.equal(loaded.card, card);
    assert.equal(Buffer.compare(loaded.step, expected.write()), 0);
    const { paper } = card;
    assert.equal(
      [card.name, card.kind, card.parameters, paper.preset, paper.width, paper.form, paper.checkpoint.step],
      ["mine", "window", 113_903, "full", WIDTH, form, STEP],
    );
    assert.equal(paper.window, { frames: 63, samples: 44_144, spectrum: 128 });
    assert.is(card.macPerWindow, paperGraph("full", randomVariables("full", { width: WIDTH }), { width: WIDTH }).macs);
    assert.is(paper.checkpoint.indexSha256, sha256(readFileSync(`${t.prefix}.index`)));
    assert.equal(readdirSync(join(t.out, "..")), ["mine"]);
    assert.equal(readdirSync(t.out).sort(), ["card.json", "model.onnx"]);
  }
});

test("what was imported runs, with the inputs and outputs that the card names", async (t) => {
  save(t, paperBundle("shift", false));
  const { card } = await importCheckpoint(t.prefix, "shift", t.out, { frames: 8, image: 32, name: "s", version: "2" });
  assert.equal([card.name, card.version, card.paper.window.frames, card.paper.side], ["s", "2", 8, 32]);
  const loaded = await loadWindow(t.out);
  const engine = await OnnxEngine.open(loaded.step, { threads: 1 });
  assert.equal(
    engine.inputNames,
    card.paper.inputs.map((p) => p.name),
  );
  assert.equal(
    engine.outputNames,
    card.paper.outputs.map((p) => p.name),
  );
  const graph = paperGraph("shift", randomVariables("shift", { width: WIDTH }), {
    width: WIDTH,
    frames: 8,
    image: 32,
    pixels: "float32",
  });
  const outputs = await engine.run(testInputs(graph));
  for (const p of card.paper.outputs) assert.equal([...outputs[p.name]!.dims], p.shape);
  await engine.close();
});

test("a checkpoint whose variables were partitioned gives the same network", async (t) => {
  save(t, full);
  const { card } = await importCheckpoint(t.prefix, "full", t.out);
  const cut = full.flatMap((v) => {
    if (v.type !== undefined && v.type !== 1) return [v];
    const axis = v.shape.findLastIndex((d) => d > 1);
    if (axis < 0) return [v];
    const slice = (start: number, length: number): TestSlice =>
      v.shape.map((_, i) => (i === axis ? ([start, length] as const) : null));
    return partitioned(v, [slice(0, 1), slice(1, v.shape[axis]! - 1)]);
  });
  save(t, cut);
  assert.is((await importCheckpoint(t.prefix, "full", t.out)).card.sha256["model.onnx"], card.sha256["model.onnx"]);
});

test("a model with another checksum, or of another kind, never runs", async (t) => {
  save(t, full);
  await importCheckpoint(t.prefix, "full", t.out);
  await refusedLater(readStreamCard(t.out), /kind window cannot be run step by step/);
  await refusedLater(loadStream(t.out), /kind window cannot be run step by step/);
  await refusedLater(LocalInference.open(t.out, { threads: 1 }), /kind window cannot be run step by step/);
  const path = join(t.out, "model.onnx");
  const bytes = readFileSync(path);
  bytes[bytes.length - 1000]! ^= 1;
  writeFileSync(path, bytes);
  await refusedLater(loadWindow(t.out), path, /its SHA-256 is [0-9a-f]{64}, the card says [0-9a-f]{64}/);
  await refusedLater(modelInfo(t.out), path, /its SHA-256 is/);
});

test("what does not fit is named, with expected and found, and nothing is written", async (t) => {
  const weights = "im/conv2_1_1/weights";
  const cases: [TestVariable[], RegExp[]][] = [
    [replaced(full, weights, () => null), [/1 variables are missing: im\/conv2_1_1\/weights/]],
    [
      replaced(full, weights, (v) => float32(v.name, [3, 3, 3, 4, 1], new Float32Array(108))),
      [/1 differ: im\/conv2_1_1\/weights is \(3, 3, 3, 4, 1\), expected \(3, 3, 3, 2, 2\)/],
    ],
    [
      replaced(full, weights, (v) => ({ ...v, type: 3 })),
      [/im\/conv2_1_1\/weights is int32, expected float32 or float16/],
    ],
    [
      replaced(full, "gen/fg/biases", (v) => ({
        ...v,
        data: new Uint8Array(0),
        message: Uint8Array.from([...field(1, 1), ...shapeMessage([2])]),
        ...partitioned(v, [[[0, 1]]])[0],
      })).concat(partitioned(float32("gen/fg/biases", [2], [1, 2]), [[[0, 1]]])[1]!),
      [/gen\/fg\/biases is \(2\) in 1 pieces that lack 1 of its values, expected \(2\) whole/],
    ],
    [
      [...full, float32("gen/extra/weights", [1], [1]), float32("gen/extra/weights/Adam", [1], [1])],
      [/2 are unknown: gen\/extra\/weights \(/, /--ignore-unknown leaves unknown variables out/],
    ],
    [paperBundle("shift"), [/missing: .*gamma.* and \d+ more/, /it fits shift, shift_lowfps, cam/]],
    [paperBundle("unet_pit"), [/missing: /, /gen\/conv4\/weights is \(4, 4, 8, 16\), expected \(4, 4, 10, 16\)/]],
    [[float32("w", [2], [1, 2])], [/258 variables are missing/, /1 are unknown: w/, /it fits no known preset/]],
  ];
  for (const [variables, words] of cases) {
    save(t, variables);
    await refusedLater(importCheckpoint(t.prefix, "full", t.out), t.prefix, /does not fit preset full/, ...words);
    nothingIn(t);
  }
  save(t, full);
  // Norms with a scale where the network knows none: leaving the scale out would change every value.
  await refusedLater(
    importCheckpoint(t.prefix, "shift", t.out, { ignoreUnknown: true }),
    /im\/conv1\/BatchNorm\/gamma is \(2\), expected no gamma/,
  );
  nothingIn(t);
});

test("unknown variables are left out when asked, and verified all the same", async (t) => {
  const more = [
    ...full,
    float32("gen/extra/weights", [2], [1, 2]),
    { name: "note", shape: [], type: 7, data: Uint8Array.of(1, 97) },
  ];
  const bundle = writeBundle(more);
  saveBundle(t.prefix, bundle);
  const { match } = await importCheckpoint(t.prefix, "full", t.out, { ignoreUnknown: true });
  assert.equal(match.unknown, ["gen/extra/weights", "note"]);
  const bad = Uint8Array.from(bundle.data[0]!);
  bad[placeOf(more, "gen/extra/weights")]! ^= 1;
  writeFileSync(`${t.prefix}.data-00000-of-00001`, bad);
  await refusedLater(
    importCheckpoint(t.prefix, "full", t.out, { ignoreUnknown: true }),
    /variable gen\/extra\/weights: checksum/,
  );
});

/** Byte of the data file at which a variable begins. */
function placeOf(variables: readonly TestVariable[], name: string): number {
  const sorted = [...variables].sort((a, b) => (a.name < b.name ? -1 : 1));
  let at = 0;
  for (const v of sorted) {
    if (v.name === name) return at;
    at += v.data.length;
  }
  throw new Error(`no variable ${name}`);
}

test("a damaged byte anywhere, and a value that is not finite, leave nothing behind", async (t) => {
  const bundle = writeBundle(full);
  saveBundle(t.prefix, bundle);
  const data = `${t.prefix}.data-00000-of-00001`;
  // Weights that are written late, a norm, a slot, renormalisation, the step: all are looked at.
  const names = ["gen/bg/weights", "sf/conv5_1/BatchNorm/moving_mean", "im/conv1/weights/Adam_1", "global_step"];
  for (const name of [...names, "gen/conv1/BatchNorm/renorm_mean_weight", "joint/logits/biases"]) {
    const bad = Uint8Array.from(bundle.data[0]!);
    bad[placeOf(full, name) + 1]! ^= 16;
    writeFileSync(data, bad);
    await refusedLater(importCheckpoint(t.prefix, "full", t.out), data, `variable ${name}: checksum`);
    nothingIn(t);
  }
  const odd = replaced(full, "sf/conv1_1/weights", (v) => {
    const values = new Float32Array(v.data.slice().buffer);
    values[5] = Number.NaN;
    return float32(v.name, v.shape, values);
  });
  save(t, odd);
  await refusedLater(
    importCheckpoint(t.prefix, "full", t.out),
    /variable sf\/conv1_1\/weights holds a value that is not finite/,
  );
  nothingIn(t);
});

test("a failed or stopped import leaves the model that was there; a good one takes its place", async (t) => {
  save(t, full);
  const before = (await importCheckpoint(t.prefix, "full", t.out)).card;
  const stop = new AbortController();
  stop.abort(new Error("enough"));
  const stopped = await importCheckpoint(t.prefix, "full", t.out, { form: "folded", signal: stop.signal }).catch(
    (e: Error) => e.message,
  );
  assert.is(stopped, "enough");
  save(
    t,
    replaced(full, "joint/logits/biases", () => null),
  );
  await refusedLater(importCheckpoint(t.prefix, "full", t.out), /joint\/logits\/biases/);
  assert.equal((await loadWindow(t.out)).card, before);
  assert.equal(readdirSync(join(t.out, "..")), ["mine"]);
  save(t, full);
  await importCheckpoint(t.prefix, "full", t.out, { form: "folded" });
  assert.is((await loadWindow(t.out)).card.paper.form, "folded");
  assert.equal(readdirSync(join(t.out, "..")), ["mine"]);
});

test("what a killed import left goes, what stands there and is no model stays", async (t) => {
  save(t, full);
  const parent = join(t.out, "..");
  const dead = 2 ** 31 - 1; // above any process id
  mkdirSync(join(parent, `.mine.part-${dead}`), { recursive: true });
  mkdirSync(join(parent, `.other.part-${dead}`));
  mkdirSync(join(parent, ".mine.part-1")); // of a process that lives
  await importCheckpoint(t.prefix, "full", t.out);
  assert.equal(readdirSync(parent).sort(), [".mine.part-1", `.other.part-${dead}`, "mine"]);
  const own = join(parent, "letters");
  mkdirSync(own);
  writeFileSync(join(own, "dear.txt"), "dear");
  await refusedLater(importCheckpoint(t.prefix, "full", own), /letters: is there already and holds no card\.json/);
  assert.is(readFileSync(join(own, "dear.txt"), "utf8"), "dear");
  await refusedLater(importCheckpoint(t.prefix, "full", join(own, "dear.txt")), /is there already and is no folder/);
});

const folder = smallBundle();
if (!folder) console.log("skipped: import of TensorFlow's own bundle (../shared/spec/checkpoint is not there)");
(folder ? test : test.skip)("TensorFlow's own bundle gives the network of its values", async (t) => {
  const { card, match } = await importCheckpoint(join(folder ?? "", "small.tf-160000"), "full", t.out, {
    form: "folded",
  });
  const expected = paperGraph("full", smallBundleVariables(folder ?? ""), { width: WIDTH }).write();
  assert.is(card.sha256["model.onnx"], sha256(expected));
  assert.equal([card.parameters, card.paper.checkpoint.step, match.unknown], [113_903, 160_000, []]);
});

test.run();
