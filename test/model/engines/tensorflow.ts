import * as assert from "uvu/assert";
import { largestError } from "../../../src/model/engines/compare.js";
import { cpu } from "../../../src/model/engines/onnxruntime.js";
import { type Library, openGraph } from "../../../src/model/engines/tensorflow.js";
import type { Net } from "./support.js";

/** The network in TensorFlow.js gives onnxruntime's outputs to `limit`, with their shapes, and keeps no tensor. */
export async function equal({ tf, label }: Library, { name, bytes, inputs }: Net, limit = 1e-4): Promise<void> {
  const near = await cpu.open(bytes, { threads: 1 });
  const want = await near.run(inputs);
  await near.close();
  assert.ok(label.endsWith(` ${tf.getBackend()}`), "the backend that was found is the one that runs");
  const before = tf.memory().numTensors;
  const far = openGraph(tf, label, bytes, name);
  assert.equal([...far.inputNames].sort(), [...near.inputNames].sort());
  const got = await far.run(inputs);
  const between = tf.memory().numTensors;
  const error = largestError(got, want);
  assert.ok(error <= limit, `${name} on ${label}: ${error}`);
  for (const [output, { dims }] of Object.entries(want)) assert.equal(got[output]!.dims, dims, output);
  assert.ok(largestError(await far.run(inputs), got) <= 1e-6, "again");
  assert.is(tf.memory().numTensors, between, "a run keeps no tensor");
  await far.close();
  assert.is(tf.memory().numTensors, before, "closing frees all");
}
