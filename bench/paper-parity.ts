import { errorsAgainst, references, withoutTorch } from "../test/model/paper/reference.js";
import { runGraph, testInputs } from "../test/model/paper/support.js";
import { machine, printTable, row } from "./support/numbers.js";
import { paperNet } from "./support/paper-net.js";

/**
 * The paper's networks at their own size against the PyTorch network of test/model/paper/reference.py (random weights, the window of
 * the spec's known answers). Exit status 1 when an output differs by more than 1e-4 of its largest value.
 *
 *     npx tsx bench/paper-parity.ts [PRESET:1/WIDTH:IMAGE[:FRAMES] ...]         default full, unet_pit, shift
 */
const LIMIT = 1e-4;

const reason = withoutTorch();
if (reason) {
  console.log(`skipped: ${reason}`);
} else {
  const named = process.argv.slice(2);
  let status = 0;
  for (const net of (named.length > 0 ? named : ["full", "unet_pit", "shift"]).map(paperNet)) {
    const graph = net.graph();
    const [want] = references([{ ...net, sizes: graph.sizes }]);
    const inputs = testInputs(graph);
    const got = await runGraph(graph, inputs);
    const rows = errorsAgainst(want!, (name) => got[name] ?? (inputs[name]!.data as Float32Array)).map(
      ([name, error]) => row(name, error.toExponential(1), `<= ${LIMIT}`, error <= LIMIT),
    );
    status |= printTable(`${net.text} against PyTorch ${want!.version}: largest error over largest value`, rows);
  }
  console.log(machine());
  process.exitCode = status;
}
