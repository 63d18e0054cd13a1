import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type PaperOptions, paperGraph } from "../../../src/model/paper/graph.js";
import type { PresetName } from "../../../src/model/paper/presets.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { reference, withoutTorch } from "./reference.js";
import { relativeError, runGraph, testInputs } from "./support.js";

const test = suite("paper's network against PyTorch");
const reason = withoutTorch();

/** The `lite` sizes of section 8. */
const lite: readonly (readonly [PresetName, PaperOptions])[] = [
  ["full", { width: 1 / 4, image: 112, frames: 63 }],
  ["no-audio", { width: 1 / 8, image: 112, frames: 63 }],
  ["mono", { width: 1 / 8, image: 64, frames: 64 }],
  ["static", { width: 1 / 8, image: 64, frames: 63 }],
  ["cam", { width: 1 / 8, image: 112, frames: 63 }],
  ["unet_pit", { width: 1 / 8 }],
];

if (reason) console.log(`skipped: ${reason}`);
else
  for (const [preset, options] of lite) {
    test(`${preset} ${JSON.stringify(options)}`, async () => {
      const width = options.width!;
      const source = randomVariables(preset, { width, seed: 3 });
      const graph = paperGraph(preset, source, { ...options, form: "folded" });
      const want = reference(preset, width, graph.sizes, source).outputs;
      const inputs = testInputs(graph);
      const got = await runGraph(graph, inputs);
      for (const [name, expected] of Object.entries(want)) {
        const mine = got[name] ?? (inputs[name]!.data as Float32Array);
        // The logit is a mean over the map's cells, which may cancel.
        const error =
          name === "logit"
            ? Math.abs(mine[0]! - expected[0]!) / Math.max(...want.cam!.map(Math.abs))
            : relativeError(mine, expected);
        assert.ok(error <= 1e-4, `${name}: ${error}`);
      }
    });
  }

test.run();
