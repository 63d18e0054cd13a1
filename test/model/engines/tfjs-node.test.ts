import { existsSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openEngine } from "../../../src/model/engines/select.js";
import { findTensorFlow } from "../../../src/model/engines/tensorflow.js";
import { liveNets, paperNet, root } from "./support.js";
import { equal } from "./tensorflow.js";

/** Where `make test-tfjs` puts tfjs-node. */
const prepared = `${root}.work/tfjs`;
if (!process.env.SIGHTLINE_TFJS && existsSync(prepared)) process.env.SIGHTLINE_TFJS = prepared;

const test = suite("tfjs-node");
const native = await findTensorFlow(["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"]).catch((e: Error) => e);
if (native instanceof Error) console.log(`skipped: tfjs-node (${native.message}); \`make test-tfjs\` prepares it`);
else {
  test("tfjs-node: the shipped networks and the paper's whole network in all three forms", async () => {
    assert.is(native.tf.getBackend(), "tensorflow");
    for (const net of await liveNets()) await equal(native, net);
    for (const form of ["training", "folded", "unfolded"] as const) await equal(native, paperNet(form));
  });

  test("named, it passes its trial and runs", async () => {
    const { bytes, inputs } = (await liveNets())[0]!;
    const options = { engine: "tensorflow", threads: 1, trial: inputs, strict: true, limitMs: 60_000 } as const;
    const engine = await openEngine(bytes, options);
    assert.is(engine.report.running, "tensorflow");
    assert.match(engine.label, /^@tensorflow\/tfjs-node/);
    await engine.close();
  });
}

test("is looked for without being needed", async () => {
  const first = await findTensorFlow();
  assert.is(first.package.startsWith("@tensorflow/tfjs-node"), !(native instanceof Error));
});

test.run();
