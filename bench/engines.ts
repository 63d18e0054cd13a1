import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadStream } from "../src/model/cards.js";
import { MAKERS } from "../src/model/engines/catalogue.js";
import { largestError } from "../src/model/engines/compare.js";
import { ENGINES, EngineError, type TensorMap } from "../src/model/engines/engine.js";
import { type Trial, tryEngine } from "../src/model/engines/trial.js";
import { BUILT_IN_MODELS } from "../src/paths.js";
import { stepNetworks } from "../test/model/engines/support.js";
import { testInputs } from "../test/model/paper/support.js";
import { machine } from "./support/numbers.js";
import { paperNet } from "./support/paper-net.js";

/**
 * Every engine of this machine, each in a process of its own: opening with the first window, the quickest of three windows after it, the
 * largest difference from the CPU's first window (as a part of the largest value of its output). An engine that cannot be used shows its reason.
 *
 *     npx tsx bench/engines.ts [--threads 1] [--limit-seconds 120] [live | PRESET:1/WIDTH:IMAGE[:FRAMES] ...]     default: live full:1/32:32
 *
 * VK_DRIVER_FILES chooses a software Vulkan, SIGHTLINE_TFJS a folder with tfjs-node.
 */
const { values, positionals } = parseArgs({
  options: { threads: { type: "string", default: "1" }, "limit-seconds": { type: "string", default: "120" } },
  allowPositionals: true,
});
const threads = Number(values.threads);
const limitMs = 1000 * Number(values["limit-seconds"]);
if (!(Number.isInteger(threads) && threads >= 1 && threads <= 64))
  throw new Error(`--threads ${values.threads}: 1 to 64`);
if (!(limitMs > 0 && limitMs <= 3_600_000)) throw new Error(`--limit-seconds ${values["limit-seconds"]}: up to 3600`);

type Network = { readonly name: string; readonly bytes: Uint8Array; readonly inputs: TensorMap };

async function networks(text: string): Promise<Network[]> {
  if (text !== "live") {
    const graph = paperNet(text).graph();
    return [{ name: text, bytes: graph.write(), inputs: testInputs(graph) }];
  }
  return stepNetworks(await loadStream(join(BUILT_IN_MODELS, "live")));
}

console.log(`${threads} threads, ${machine()}`);
const asked = await Promise.all((positionals.length > 0 ? positionals : ["live", "full:1/32:32"]).map(networks));
for (const { name: title, bytes, inputs } of asked.flat()) {
  console.log(title);
  console.log(`  ${"engine".padEnd(48)}${["warm-up ms", "ms", "difference"].map((h) => h.padStart(12)).join("")}`);
  const reference = await tryEngine("cpu", bytes, inputs, { threads, limitMs });
  for (const name of ENGINES) {
    try {
      const missing = await MAKERS[name].missing(true);
      if (missing) throw missing;
      const t: Trial = name === "cpu" ? reference : await tryEngine(name, bytes, inputs, { threads, limitMs });
      const cells = [
        t.warmUpMs.toFixed(0),
        t.runMs.toFixed(1),
        largestError(t.outputs, reference.outputs).toExponential(1),
      ];
      console.log(`  ${t.label.padEnd(48)}${cells.map((c) => c.padStart(12)).join("")}`);
    } catch (e) {
      if (!(e instanceof EngineError)) throw e;
      console.log(`  ${name.padEnd(48)}${e.reason}: ${e.detail.slice(0, 100)}`);
    }
  }
}
