import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { z } from "zod";
import { loadWindow } from "../../../src/model/cards.js";
import { OnnxEngine, type TensorMap } from "../../../src/model/engines/onnxruntime.js";
import { buildPaper } from "../../../src/model/paper/build.js";
import { type PaperGraph, paperGraph } from "../../../src/model/paper/graph.js";
import { type PresetName, presets } from "../../../src/model/paper/presets.js";
import { trainingGraph } from "../../../src/model/paper/training.js";
import { PaperWindow } from "../../../src/model/paper/window.js";
import { sourceFile } from "../../../src/paths.js";
import { relativeError, testInputs } from "./support.js";
import { writeClasses, writeManifest } from "./training-clips.js";
import { runJobs, trainer, withoutTraining } from "./training-support.js";

const test = suite("training of the paper's networks");
const [WIDTH, SIDE] = [1 / 32, 32];

type Training = {
  readonly task: "align" | "cam" | "separate" | "action";
  readonly preset: PresetName;
  readonly more: readonly string[];
};

/** Pairs, mixtures and clips that are judged. */
const items: Partial<Record<PresetName, number>> = { shift: 3, full: 3, action: 2 };
const START = "what align learnt";
const short = ["--frames", "20", "--lr", "0.02", "--cosine"];
const voices = ["--lr", "0.004", "--steps", "8"];
/** Every training once, as short as shows that it learns. Some begin with what `align` learnt. */
const trainings: readonly Training[] = [
  { task: "align", preset: "shift", more: [...short, "--steps", "40"] },
  { task: "cam", preset: "cam", more: [...short, "--steps", "20", "--init", START] },
  { task: "separate", preset: "full", more: [...voices, "--batch", "2", "--init", START] },
  { task: "separate", preset: "unet_pit", more: [...voices, "--batch", "4"] },
  { task: "action", preset: "action", more: [...short, "--steps", "20", "--init", START] },
  { task: "action", preset: "action-no-audio", more: [...short, "--steps", "20"] },
];

const line = z.object({ first_loss: z.number(), loss: z.number(), steps: z.number() }).partial();
const log = (run: string): z.infer<typeof line>[] =>
  readFileSync(join(run, "log.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((text) => line.parse(JSON.parse(text)));

const floats = (bytes: Buffer): Float32Array => new Float32Array(new Uint8Array(bytes).buffer);

/** The values of a safetensors file. */
const values = (path: string): Float32Array => {
  const bytes = readFileSync(path);
  return floats(bytes.subarray(8 + Number(bytes.readBigUInt64LE(0))));
};

/** For trainings.py; what it answers lies in the same folder. */
function ask(folder: string, inputs: TensorMap): void {
  mkdirSync(folder, { recursive: true });
  const about = Object.entries(inputs).map(([name, { data, dims }]) => {
    writeFileSync(join(folder, `${name}.bin`), data as Float32Array);
    return [name, { type: data instanceof Uint8Array ? "uint8" : "float32", shape: dims }];
  });
  writeFileSync(join(folder, "inputs.json"), JSON.stringify(Object.fromEntries(about)));
}

function answers(folder: string): Record<string, Float32Array> {
  const names = z.array(z.string()).parse(JSON.parse(readFileSync(join(folder, "outputs.json"), "utf8")));
  return Object.fromEntries(names.map((name) => [name, floats(readFileSync(join(folder, `${name}.bin`)))]));
}

/** Frames, sizes and inputs as the trained network will have them; the weights are not looked at. */
const shapes = ({ preset, more }: Training): PaperGraph => {
  const at = more.indexOf("--frames");
  const frames = at < 0 ? {} : { frames: Number(more[at + 1]) };
  return paperGraph(preset, () => new Float32Array(0), { width: WIDTH, image: SIDE, ...frames });
};

const why = withoutTraining();
if (why) {
  console.log(`skipped: training of the paper's networks (${why})`);
  for (const { task, preset } of trainings) test.skip(`${task} ${preset}`, () => {});
} else {
  const dir = mkdtempSync(join(tmpdir(), "sightline-training-"));
  // Also when preparing fails, after which uvu calls no hook.
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  const runOf = ({ task, preset }: Training): string => join(dir, `${task}-${preset}`);
  const judged = trainings.filter(({ preset }) => preset in items);
  const scoresOf = (training: Training, time: number): string => join(runOf(training), `scores${time}.json`);
  const [whole, halves] = [join(dir, "whole"), join(dir, "halves")];

  const command = ({ task, preset, more }: Training, run: string): { train: string[] } => {
    const sightline = [process.execPath, ...process.execArgv, sourceFile("cli/main")].join(" ");
    const small = ["--size", SIDE, "--width", WIDTH, "--minutes", 3, "--threads", 1, "--judge", 0].map(String);
    const from = task === "action" ? ["--classes", join(dir, "classes")] : ["--data", join(dir, "data")];
    const given = more.map((v) => (v === START ? join(runOf(trainings[0]!), "align.pt") : v));
    const about = ["--task", task, "--preset", preset, "--out", run, "--sightline", sightline];
    return { train: [...about, ...small, ...from, ...given] };
  };

  let said = "";
  test.before(() => {
    writeManifest(join(dir, "data"));
    writeClasses(join(dir, "classes"));
    const jobs: unknown[] = trainings.flatMap((training) => {
      const run = runOf(training);
      const folder = join(run, "asked");
      const graph = shapes(training);
      ask(folder, testInputs(graph));
      const file = join(run, "graph.onnx");
      const { frames } = graph.sizes;
      const classes = training.task === "action" ? 2 : 0;
      writeFileSync(file, trainingGraph(training.preset, { width: WIDTH, image: SIDE, frames, classes }));
      const made = command(training, run);
      made.train.push("--graph", file);
      return [made, { outputs: { run, task: training.task, folder } }];
    });
    const piece = (steps: number, run: string, ...more: string[]): void => {
      const lasting = ["--frames", "20", "--lr", "0.01", "--steps", String(steps), ...more];
      jobs.push(command({ ...trainings[0]!, more: lasting }, run));
    };
    piece(4, whole);
    piece(2, halves);
    piece(2, halves, "--resume");
    for (const training of judged)
      for (const time of [1, 2]) {
        const from = training.task === "action" ? ["--classes", join(dir, "classes")] : ["--data", join(dir, "data")];
        const about = [
          "--run",
          runOf(training),
          "--task",
          training.task,
          "--items",
          String(items[training.preset]),
          "--threads",
          "1",
        ];
        jobs.push({ evaluate: [...about, ...from, "--json", scoresOf(training, time)] });
      }
    jobs.push({ norms: { graph: join(runOf(trainings[0]!), "align.onnx"), out: join(dir, "norms.json") } });
    said = runJobs(dir, jobs);
  });

  for (const training of trainings) {
    const { task, preset } = training;
    test(`${task} ${preset}: the loss falls, and the product runs what came of it`, async () => {
      const run = runOf(training);
      const lines = log(run);
      const [first, last] = [lines[0]!.first_loss!, lines.at(-1)!];
      assert.ok(last.loss! < first, `loss ${first} -> ${last.loss}`);
      const card = await buildPaper(join(run, `${task}.safetensors`), join(run, "model"));
      const loaded = await loadWindow(join(run, "model"));
      assert.equal(loaded.card, card);
      assert.equal([card.paper.preset, card.paper.side, card.paper.checkpoint.step], [preset, SIDE, last.steps]);
      assert.is(card.training.task, task);

      const engine = await OnnxEngine.open(loaded.step, { threads: 1 });
      const got = await engine.run(testInputs(shapes(training)));
      await engine.close();
      const want = answers(join(run, "asked"));
      const declared = card.paper.outputs.map((o) => o.name).sort();
      assert.equal(Object.keys(want).sort(), declared);
      const cells = want.cam ? Math.max(...want.cam.map(Math.abs)) : 1;
      for (const [name, expected] of Object.entries(want)) {
        const mine = got[name]!.data as Float32Array;
        // The logit is a mean over the map's cells, which may cancel: its error is measured by theirs.
        const error = name === "logit" ? Math.abs(mine[0]! - expected[0]!) / cells : relativeError(mine, expected);
        assert.ok(error <= 1e-4, `${name}: ${error}`);
      }

      const window = await PaperWindow.open(loaded, { threads: 1 });
      const { frames, samples } = card.paper.window;
      const sound = Float32Array.from({ length: samples }, (_, n) => 0.1 * Math.sin(n / 7));
      const { trunk, unet } = presets[preset].parts;
      const pictures = trunk ? Array.from({ length: frames }, () => new Uint8Array(3 * SIDE * SIDE)) : null;
      const result = await window.run({ pictures, left: sound, right: sound });
      await window.close();
      assert.is(result.voices !== null, unet);
      assert.is(result.logit !== null, trunk);
    });
  }

  test("a run goes on where it ended, with the batches that an uninterrupted one would have seen", () => {
    assert.match(said, /going on from step 2/);
    const [a, b] = [whole, halves].map((run) => values(join(run, "align.safetensors")));
    assert.ok(relativeError(b!, a!) < 1e-5);
    assert.equal(
      log(halves).flatMap((l) => l.steps ?? []),
      [0, 2, 2, 4],
    );
  });

  test("an evaluation covers all that was held out, beside its controls, and gives the same table again", () => {
    assert.match(
      said,
      /Alignment, val \(chance 0\.5\)\n\| \| n \| accuracy \| pairs \| frozen_accuracy \| frozen_pairs \|/,
    );
    assert.match(said, /Separation, val, two voices at equal level\n.*gain_db .*oracle_db \| frozen_gain_db/);
    assert.match(said, /Action recognition, held out \(chance 0\.50\)/);
    for (const training of judged) {
      const [first, again] = [1, 2].map((time) => readFileSync(scoresOf(training, time), "utf8"));
      assert.is(first, again);
      const { scores } = z.object({ scores: z.record(z.string(), z.number()) }).parse(JSON.parse(first!));
      assert.is(scores.n, items[training.preset]);
      for (const [name, value] of Object.entries(scores))
        if (/accuracy|pairs|kept|above/.test(name)) assert.ok(value >= 0 && value <= 1, `${name}: ${value}`);
    }
  });

  const lacking = withoutTraining("onnxruntime");
  if (lacking) console.log(`skipped: models of the product in place of checkpoints (${lacking})`);
  (lacking ? test.skip : test)(
    "a model of the product has the scores of the checkpoint that it was built from",
    async () => {
      const run = runOf(trainings[0]!);
      const judge = (name: string, ...more: string[]): { evaluate: string[] } => {
        const about = ["--run", run, "--task", "align", "--data", join(dir, "data"), "--items", "24", "--threads", "1"];
        return { evaluate: [...about, "--json", join(dir, `${name}.json`), ...more] };
      };
      const forms = ["folded", "unfolded"] as const;
      for (const form of forms) await buildPaper(join(run, "align.safetensors"), join(dir, form), { form });
      const printed = runJobs(dir, [
        judge("checkpoint"),
        ...forms.map((form) => judge(form, "--model", join(dir, form))),
      ]);
      const result = z.object({ about: z.looseObject({}), scores: z.record(z.string(), z.number()) });
      const of = (name: string) => result.parse(JSON.parse(readFileSync(join(dir, `${name}.json`), "utf8")));
      const want = of("checkpoint").scores;
      // Not the same for moving and for frozen pictures, for true and for shifted sound: a mix-up of them would be seen.
      const { n, accuracy, pairs, frozen_accuracy, frozen_pairs } = want;
      assert.is(n, 24);
      assert.ok(new Set([accuracy, pairs, frozen_accuracy, frozen_pairs]).size > 1, JSON.stringify(want));
      for (const form of forms) {
        const { about, scores } = of(form);
        assert.equal(about, { model: `${form} 1, preset shift, ${form}` });
        assert.match(printed, `${form} 1, preset shift, ${form}\n`);
        assert.equal(scores, want, form);
      }
    },
  );

  test("norms end at the statistics that they saw; pictures that serve two sounds count once for each", () => {
    const found = JSON.parse(readFileSync(join(dir, "norms.json"), "utf8")) as Record<string, number>;
    for (const what of ["renorm", "plain", "twice"]) assert.ok(found[what]! < 1e-4, `${what}: ${found[what]}`);
  });

  test("an operator that is not known is named, and a file that is no training form refused", () => {
    const good = join(dir, "good.onnx");
    writeFileSync(good, trainingGraph("shift", { width: WIDTH, image: SIDE, frames: 16 }));
    const changed = (what: string, change: string): string => {
      const path = join(dir, `${what}.onnx`);
      const text = JSON.stringify([good, path, trainer]);
      const steps = `import onnx, sys; good, path, trainer = ${text}; m = onnx.load(good); ${change}; onnx.save(m, path)`;
      execFileSync("python3", ["-c", steps]);
      const open = `import sys; sys.path.insert(0, ${JSON.stringify(trainer)}); import onnx_net; onnx_net.OnnxNet(${JSON.stringify(path)})`;
      return spawnSync("python3", ["-c", open], { encoding: "utf8" }).stderr;
    };
    const odd = changed("odd", "m.graph.node[5].op_type = 'Sin'");
    assert.match(odd, /GraphError: .*odd\.onnx: node .*: operator Sin is not known; known are Add, /);
    const bare = changed("bare", "del m.metadata_props[:]");
    assert.match(bare, /GraphError: .*bare\.onnx: form is None; only the training form/);
  });
}

test.run();
