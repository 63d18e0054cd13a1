import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadWindow, sha256 } from "../../../src/model/cards.js";
import { InferenceError } from "../../../src/model/inference.js";
import { buildPaper } from "../../../src/model/paper/build.js";
import { paperGraph } from "../../../src/model/paper/graph.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { trainingGraph } from "../../../src/model/paper/training.js";
import { paperVariables, sizeOfVariable } from "../../../src/model/paper/variables.js";
import { sourceFile } from "../../../src/paths.js";
import { pack } from "../safetensors.js";

const test = suite<{ dir: string }>("paper's models from trained weights");
const WIDTH = 1 / 32;
const sizes = { width: WIDTH, image: 48, frames: 20 };
const paper = { preset: "shift", ...sizes, classes: 0, step: 12 };

test.before((t) => {
  t.dir = mkdtempSync(join(tmpdir(), "sightline-build-"));
});
test.after((t) => rmSync(t.dir, { recursive: true, force: true }));

type Tensor = { shape: readonly number[]; values: Float32Array };
function tensors(): Map<string, Tensor> {
  const source = randomVariables("shift", { width: WIDTH });
  const needed = paperVariables("shift", { width: WIDTH, slots: false }).filter((v) => v.required);
  return new Map(needed.map((v) => [v.name, { shape: v.shape, values: source(v.name) }]));
}

function save(path: string, from: Map<string, Tensor>, notes: Record<string, string>): string {
  const head: Record<string, unknown> = { __metadata__: notes };
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, { shape, values }] of from) {
    head[name] = { dtype: "F32", shape, data_offsets: [at, at + values.byteLength] };
    at += values.byteLength;
    parts.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength));
  }
  writeFileSync(path, pack(head, Buffer.concat(parts)));
  return path;
}
const good = { paper: JSON.stringify(paper), training: JSON.stringify({ seed: 3, minutes: 0.5 }) };

test("weights become the very network that their values make, with a card that says how they were trained", async (t) => {
  const file = save(join(t.dir, "align.safetensors"), tensors(), good);
  const card = await buildPaper(file, join(t.dir, "lamp"), { version: "2" });
  const expected = paperGraph("shift", randomVariables("shift", { width: WIDTH }), { ...sizes, form: "unfolded" });
  const loaded = await loadWindow(join(t.dir, "lamp"));
  assert.equal(Buffer.compare(loaded.step, expected.write()), 0);
  const trained = paperVariables("shift", { width: WIDTH }).filter((v) => v.trainable);
  const values = trained.reduce((sum, v) => sum + sizeOfVariable(v), 0);
  assert.equal([card.name, card.version, card.parameters], ["lamp", "2", values]);
  assert.equal(card.paper.checkpoint, { name: "align.safetensors", step: 12, indexSha256: sha256(readFileSync(file)) });
  assert.equal(card.training, { seed: 3, minutes: 0.5 });
});

test("what is missing or wrong is named, and nothing is left", async (t) => {
  const out = join(t.dir, "refused");
  const refused = async (words: RegExp, from: Map<string, Tensor>, notes: Record<string, string>): Promise<void> => {
    const file = save(join(t.dir, "odd.safetensors"), from, notes);
    await buildPaper(file, out).then(
      () => assert.unreachable("was built"),
      (e: unknown) => {
        assert.instance(e, InferenceError);
        assert.match((e as Error).message, words);
      },
    );
    assert.not(existsSync(out));
  };
  const lacking = tensors();
  lacking.delete("im/conv3_1_1/BatchNorm/moving_mean");
  await refused(/lack tensor im\/conv3_1_1\/BatchNorm\/moving_mean/, lacking, good);
  const turned = tensors();
  const odd = turned.get("sf/conv1_1/weights")!;
  turned.set("sf/conv1_1/weights", { ...odd, shape: odd.shape.toReversed() });
  await refused(/tensor sf\/conv1_1\/weights: shape \(2, 2, 1, 65\), expected \(65, 1, 2, 2\)/, turned, good);
  await refused(/odd\.safetensors: notes: .*paper/, tensors(), {});
  await refused(/notes: .*is not JSON/, tensors(), { paper: "{" });
  await refused(/notes: .*preset/, tensors(), { paper: JSON.stringify({ ...paper, preset: "huge" }) });
});

function sightline(...args: string[]): { code: number | null; out: string; err: string } {
  const r = spawnSync(process.execPath, [...process.execArgv, sourceFile("cli/main"), "model", ...args], {
    env: { ...process.env, NO_COLOR: "1" },
    encoding: "utf8",
    timeout: 60_000,
  });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

test("by the command line: the training graph, and a model of weights", (t) => {
  const graph = join(t.dir, "graph.onnx");
  const small = ["--width", "0.03125", "--image", "48", "--frames", "20"];
  const made = sightline("graph", "--preset", "action", "--classes", "4", ...small, "--out", graph);
  assert.is(made.code, 0, made.err);
  const expected = trainingGraph("action", { ...sizes, classes: 4 });
  assert.equal(Buffer.compare(readFileSync(graph), expected), 0);
  const file = save(join(t.dir, "align.safetensors"), tensors(), good);
  const built = sightline("build", "--weights", file, "--out", join(t.dir, "named"), "--name", "mine");
  assert.is(built.code, 0, built.err);
  assert.match(built.out, /^mine 1: 0\.04 M parameters/);
  for (const [words, ...args] of [
    [/--preset huge: allowed are full, /, "--preset", "huge"],
    [/--width x: is not a number/, "--preset", "shift", "--width", "x"],
    [/width 0\.3: allowed are 1, 1\/2/, "--preset", "shift", "--width", "0.3"],
    [/frames 2: allowed are whole numbers from 8/, "--preset", "shift", "--frames", "2"],
  ] as const) {
    const r = sightline("graph", ...args, "--out", join(t.dir, "none.onnx"));
    assert.is.not(r.code, 0);
    assert.match(r.err, words);
  }
  assert.not(existsSync(join(t.dir, "none.onnx")));
});

test("a class head has one row for each class; no preset has it by itself", () => {
  const names = (classes: number): string[] => paperVariables("action", { classes, slots: false }).map((v) => v.name);
  assert.equal(
    names(4).filter((n) => !names(0).includes(n)),
    ["lb/logits/weights", "lb/logits/biases"],
  );
  const graph = paperGraph("action", randomVariables("action", { width: WIDTH }), { ...sizes, classes: 4 });
  assert.equal(
    graph.outputs.map((o) => [o.name, o.shape[1]]),
    [
      ["logit", 1],
      ["cam", 3],
      ["classes", 4],
    ],
  );
});

test.run();
