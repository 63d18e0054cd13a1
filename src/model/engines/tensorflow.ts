import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { InferenceError } from "../inference.js";
import { type Engine, EngineError, type EngineMaker, messageOf } from "./engine.js";
import { Executor } from "./tensorflow/executor.js";
import { readGraph } from "./tensorflow/graph.js";
import { Unsupported } from "./tensorflow/layers.js";
import type { Tf } from "./tensorflow/value.js";

/** In the order in which they are looked for. None is needed to run Sightline; the last is an optional dependency, plain JavaScript. */
const PACKAGES = ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node", "@tensorflow/tfjs", "@tensorflow/tfjs-core"];
const CPU_BACKEND = "@tensorflow/tfjs-backend-cpu";

export type Library = { readonly tf: Tf; readonly label: string; readonly package: string };

let found: Promise<Library> | null = null;

/**
 * Finds and loads TensorFlow.js (one a process: the newest found is what all engines run on), from the folder that SIGHTLINE_TFJS names (one with a node_modules), then from Sightline's own packages. A
 * native one that does not load is passed over for the next; `faults` says so.
 */
export async function findTensorFlow(packages: readonly string[] = PACKAGES): Promise<Library> {
  const faults: string[] = [];
  // Its notes about the processor are no warnings, and would stand in the log as such.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= "1";
  const extra = process.env.SIGHTLINE_TFJS;
  const bases = [...(extra ? [join(resolve(extra), "package.json")] : []), import.meta.url];
  for (const name of packages) {
    for (const base of bases) {
      const require = createRequire(base);
      try {
        require.resolve(name);
      } catch {
        continue;
      }
      try {
        const tf = require(name) as Tf;
        // All copies of TensorFlow.js in a process share one registry of backends: what is wanted is said, not left to priorities.
        const native = name.includes("/tfjs-node");
        if (name === "@tensorflow/tfjs-core") require(CPU_BACKEND);
        if (!(await tf.setBackend(native ? "tensorflow" : "cpu"))) throw new Error("its backend does not start");
        await tf.ready();
        const { version } = require(`${name}/package.json`) as { version: string };
        return { tf, package: name, label: `${name} ${version} ${tf.getBackend()}` };
      } catch (e) {
        faults.push(`${name}: ${messageOf(e).split("\n")[0]}`);
      }
    }
  }
  const detail = faults.length > 0 ? faults.join("; ") : `none of ${packages.join(", ")} is installed`;
  throw new EngineError("tensorflow", faults.length > 0 ? "does-not-load" : "not-installed", detail);
}

/**
 * TensorFlow.js: our operators over the same ONNX file, channels last inside. With tfjs-node about the CPU cost of onnxruntime and about
 * twice its memory; in plain JavaScript many times slower. Which thread count TensorFlow takes is its own business.
 */
export const tensorflow: EngineMaker = {
  name: "tensorflow",
  missing: async () => null,
  open: async (model, _options, what = typeof model === "string" ? model : "model") => {
    found ??= findTensorFlow();
    const { tf, label } = await found;
    return openGraph(tf, label, typeof model === "string" ? await readFile(model) : model, what);
  },
};

/** @throws InferenceError SL_MODEL_INVALID; EngineError `model-refused` for an operator that is not ours */
export function openGraph(tf: Tf, label: string, bytes: Uint8Array, what: string): Engine {
  const graph = readGraph(bytes, what);
  let executor: Executor;
  try {
    executor = new Executor(tf, graph);
  } catch (e) {
    if (e instanceof Unsupported) throw new EngineError("tensorflow", "model-refused", `${what}: ${e.message}`);
    throw e;
  }
  let closed = false;
  return {
    name: "tensorflow",
    label,
    inputNames: graph.inputs,
    outputNames: graph.outputs,
    async run(inputs) {
      if (closed) throw new InferenceError("SL_INFERENCE_FAILED", `${what}: the engine is closed`);
      try {
        return await executor.run(inputs);
      } catch (e) {
        throw new InferenceError("SL_INFERENCE_FAILED", `${what}: ${messageOf(e)}`);
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      executor.dispose();
    },
  };
}
