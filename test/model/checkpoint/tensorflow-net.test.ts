import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadWindow } from "../../../src/model/cards.js";
import { importCheckpoint } from "../../../src/model/checkpoint/import.js";
import { OnnxEngine } from "../../../src/model/engines/onnxruntime.js";
import { paperGraph } from "../../../src/model/paper/graph.js";
import type { PresetName } from "../../../src/model/paper/presets.js";
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
test.after(() => rmSync(dir, { recursive: true, force: true }));

type Sizes = { readonly image?: number; readonly frames?: number };

/** Runs both on pixels and sound of the spec's section 7.5; the largest difference of each output over its largest value. */
async function differences(prefix: string, preset: PresetName, form: "folded" | "unfolded", sizes: Sizes) {
  const folder = mkdtempSync(join(dir, `${preset}-`));
  const { card } = await importCheckpoint(prefix, preset, join(folder, "model"), { form, ...sizes });
  const loaded = await loadWindow(join(folder, "model"));
  const noSource = (): Float32Array => assert.unreachable("only sizes are asked for") as never;
  const inputs = testInputs(paperGraph(preset, noSource, { width: card.paper.width, ...sizes }));
  for (const { name } of card.paper.inputs)
    writeFileSync(join(folder, `${name}.raw`), inputs[name]!.data as Float32Array);
  writeFileSync(join(folder, "in.json"), JSON.stringify({ preset, inputs: card.paper.inputs }));
  execFileSync("python3", [script, prefix, folder], { stdio: ["ignore", "inherit", "pipe"], timeout: 120_000 });
  const engine = await OnnxEngine.open(loaded.step, { threads: 2 });
  const outputs = await engine.run(inputs);
  await engine.close();
  return Object.fromEntries(
    card.paper.outputs.map(({ name }) => {
      const bytes = readFileSync(join(folder, `${name}.raw`));
      const want = new Float32Array(
        bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer,
      );
      return [name, relativeError(outputs[name]!.data as Float32Array, want)];
    }),
  );
}

const cases = [
  ["full", "unfolded", { image: 48 }, ["fg_db", "fg_phase", "bg_db", "bg_phase", "logit", "cam"]],
  ["unet_pit", "folded", {}, ["fg_db", "fg_phase", "bg_db", "bg_phase"]],
  ["shift", "unfolded", { image: 80, frames: 21 }, ["logit", "cam"]],
  ["cam", "folded", { image: 64, frames: 30 }, ["logit", "cam"]],
] as const;
for (const [preset, form, sizes, names] of cases)
  (there ? test : test.skip)(`${preset}, ${form}: every output`, async () => {
    const prefix = join(dir, `${preset}.tf-7`);
    saveBundle(prefix, writeBundle(paperBundle(preset)));
    const found = await differences(prefix, preset, form, sizes);
    assert.equal(Object.keys(found), names);
    for (const [name, error] of Object.entries(found)) assert.ok(error < 1e-4, `${name}: ${error}`);
  });

// A bundle at hand, of any size: SIGHTLINE_CHECKPOINT=PREFIX node dist/test/run.js tensorflow-net (preset `full`).
const own = process.env.SIGHTLINE_CHECKPOINT;
if (there && own && existsSync(`${own}.index`))
  test("the bundle of SIGHTLINE_CHECKPOINT", async () => {
    const found = await differences(own, "full", "unfolded", {});
    console.log(found);
    for (const [name, error] of Object.entries(found)) assert.ok(error < 1e-3, `${name}: ${error}`);
  });

test.run();
