import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type PaperOptions, paperGraph } from "../../../src/model/paper/graph.js";
import type { PresetName } from "../../../src/model/paper/presets.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { errorsAgainst, references, withoutTorch } from "./reference.js";
import { runGraph, testInputs } from "./support.js";

const test = suite("paper's network against PyTorch");
const reason = withoutTorch();

/** The `lite` sizes of section 8. */
const lite: readonly (readonly [PresetName, PaperOptions])[] = [
  ["full", { width: 1 / 4, image: 112, frames: 63 }],
  ["no-audio", { width: 1 / 16, image: 112, frames: 63 }],
  ["mono", { width: 1 / 16, image: 64, frames: 64 }],
  ["static", { width: 1 / 16, image: 64, frames: 63 }],
  ["cam", { width: 1 / 8, image: 112, frames: 29 }],
  ["unet_pit", { width: 1 / 16 }],
];

if (reason) {
  console.log(`skipped: ${reason}`);
  for (const [preset] of lite) test.skip(preset, () => {});
} else {
  const questions = lite.map(([preset, options]) => {
    const width = options.width!;
    const source = randomVariables(preset, { width, seed: 3 });
    const graph = paperGraph(preset, source, options);
    return { preset, options, width, source, graph, sizes: graph.sizes };
  });
  const answers = references(questions, { threads: 1 });
  for (const [i, { preset, options, graph }] of questions.entries()) {
    test(`${preset} ${JSON.stringify(options)}`, async () => {
      const inputs = testInputs(graph);
      const outputs = await runGraph(graph, inputs);
      const errors = errorsAgainst(answers[i]!, (name) => outputs[name] ?? (inputs[name]!.data as Float32Array));
      assert.ok(errors.length >= 2);
      for (const [name, error] of errors) assert.ok(error <= 1e-4, `${name}: ${error}`);
    });
  }
}

test.run();
