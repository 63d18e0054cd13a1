import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadWindow } from "../../../src/model/cards.js";
import { importCheckpoint } from "../../../src/model/checkpoint/import.js";
import { OnnxEngine, type TensorMap } from "../../../src/model/engines/onnxruntime.js";
import { paperGraph } from "../../../src/model/paper/graph.js";
import { type PresetName, presets } from "../../../src/model/paper/presets.js";
import { relativeError, testInputs } from "../paper/support.js";
import { paperBundle } from "./paper-bundle.js";
import { saveBundle, writeBundle } from "./write-bundle.js";

const test = suite("imported networks beside TensorFlow's");

const root = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/");
const script = join(root, "test/model/checkpoint/tensorflow_net.py");

function hasTensorFlow(): boolean {
  try {
    execFileSync("python3", ["-c", "import importlib.util as u, sys; sys.exit(u.find_spec('tensorflow') is None)"]);
    return true;
  } catch {
    return false;
  }
}
const there = hasTensorFlow();
if (!there) console.log("skipped: outputs beside TensorFlow's (python3 has no tensorflow)");

const dir = mkdtempSync(join(tmpdir(), "sightline-beside-"));
// Also when preparing fails, after which uvu calls no hook.
process.once("exit", () => rmSync(dir, { recursive: true, force: true }));

type Case = {
  readonly preset: PresetName;
  readonly form: "folded" | "unfolded";
  readonly sizes: { readonly image?: number; readonly frames?: number };
  /** Of a bundle at hand; default: one of no training. */
  readonly prefix?: string;
  /** Largest difference allowed of an output over its largest value. */
  readonly limit: number;
};
const cases: Case[] = [
  { preset: "full", form: "unfolded", sizes: { image: 48 }, limit: 1e-4 },
  { preset: "unet_pit", form: "folded", sizes: {}, limit: 1e-4 },
  { preset: "shift", form: "unfolded", sizes: { image: 80, frames: 21 }, limit: 1e-4 },
  { preset: "cam", form: "folded", sizes: { image: 64, frames: 30 }, limit: 1e-4 },
];
// A bundle of any size: SIGHTLINE_CHECKPOINT=PREFIX node dist/test/run.js tensorflow-net (preset `full`).
const own = process.env.SIGHTLINE_CHECKPOINT;
if (own) cases.push({ preset: "full", form: "unfolded", sizes: {}, prefix: own, limit: 1e-3 });

type Prepared = { readonly folder: string; readonly inputs: TensorMap };

/** Imports, and writes what TensorFlow needs: pixels and sound of the spec's section 7.5. */
async function prepare({ preset, form, sizes, prefix }: Case, i: number): Promise<Prepared> {
  const folder = join(dir, `${i}`);
  mkdirSync(folder);
  const bundle = prefix ?? join(folder, "net.tf-7");
  if (!prefix) saveBundle(bundle, writeBundle(paperBundle(preset, false)));
  const { card } = await importCheckpoint(bundle, preset, join(folder, "model"), { form, ...sizes });
  const noSource = (): Float32Array => assert.unreachable("only sizes are asked for") as never;
  const pixels = presets[preset].parts.unet ? "uint8" : "float32";
  const inputs = testInputs(paperGraph(preset, noSource, { width: card.paper.width, pixels, ...sizes }));
  for (const { name } of card.paper.inputs)
    writeFileSync(join(folder, `${name}.raw`), inputs[name]!.data as Float32Array);
  writeFileSync(join(folder, "in.json"), JSON.stringify({ prefix: bundle, preset, inputs: card.paper.inputs }));
  return { folder, inputs };
}

let prepared: readonly Prepared[] = [];
if (there)
  test.before(async () => {
    prepared = await Promise.all(cases.map(prepare));
    // One process for all: TensorFlow takes seconds to load.
    const folders = prepared.map((p) => p.folder);
    execFileSync("python3", [script, ...folders], {
      stdio: ["ignore", "inherit", "pipe"],
      timeout: own ? 900_000 : 150_000,
    });
  });

for (const [i, { preset, form, limit, prefix }] of cases.entries())
  (there ? test : test.skip)(`${preset}, ${form}${prefix ? `, ${prefix}` : ""}: every output`, async () => {
    const { folder, inputs } = prepared[i]!;
    const { card, step } = await loadWindow(join(folder, "model"));
    const engine = await OnnxEngine.open(step, { threads: 2 });
    const outputs = await engine.run(inputs);
    await engine.close();
    const unet = ["fg_db", "fg_phase", "bg_db", "bg_phase"];
    const trunk = ["logit", "cam"];
    const names = card.paper.outputs.map((p) => p.name);
    assert.equal(names, preset === "full" ? [...unet, ...trunk] : preset === "unet_pit" ? unet : trunk);
    for (const name of names) {
      const bytes = readFileSync(join(folder, `${name}.raw`));
      const want = new Float32Array(Uint8Array.from(bytes).buffer);
      const error = relativeError(outputs[name]!.data as Float32Array, want);
      if (prefix) console.log(`${name}: ${error.toExponential(1)}`);
      assert.ok(error < limit, `${name}: ${error}`);
    }
  });

test.run();
