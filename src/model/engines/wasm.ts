import { readFile } from "node:fs/promises";
import { Tensor } from "onnxruntime-common";
import { InferenceError } from "../inference.js";
import { EngineError, type EngineMaker, messageOf, type TensorMap } from "./engine.js";

const PACKAGE = "onnxruntime-web";

/**
 * onnxruntime compiled to WebAssembly (the optional package onnxruntime-web): several times slower than the native one, and only for
 * machines where that does not load. One thread: more need workers and gained nothing.
 */
export const wasm: EngineMaker = {
  name: "wasm",
  missing: async () => null,
  open: async (model, _options, what = typeof model === "string" ? model : "model") => {
    // The entry without WebGPU and its larger binary, which Node cannot use.
    const ort = await import("onnxruntime-web/wasm").catch((e: unknown) => {
      const missing = (e as { code?: unknown }).code === "ERR_MODULE_NOT_FOUND";
      throw new EngineError("wasm", missing ? "not-installed" : "does-not-load", `${PACKAGE}: ${messageOf(e)}`);
    });
    ort.env.wasm.numThreads = 1;
    const bytes = typeof model === "string" ? new Uint8Array(await readFile(model)) : model;
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    }).catch((e: unknown) => {
      throw new EngineError("wasm", "does-not-load", `${what}: ${messageOf(e)}`);
    });
    let closed = false;
    return {
      name: "wasm",
      label: `${PACKAGE} ${ort.env.versions.web ?? ort.env.versions.common} wasm`,
      inputNames: session.inputNames,
      outputNames: session.outputNames,
      async run(inputs) {
        if (closed) throw new InferenceError("SL_INFERENCE_FAILED", `${what}: the engine is closed`);
        try {
          return ours(await session.run(inputs));
        } catch (e) {
          throw new InferenceError("SL_INFERENCE_FAILED", `${what}: ${messageOf(e)}`);
        }
      },
      async close() {
        if (closed) return;
        closed = true;
        await session.release();
      },
    };
  },
};

/** Copies: what the package gives may lie in memory that the next run writes to. */
function ours(outputs: Readonly<Record<string, { type: string; data: unknown; dims: readonly number[] }>>): TensorMap {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data, dims }]) => {
      if (!(data instanceof Float32Array)) throw new TypeError(`output ${name} is not float32`);
      return [name, new Tensor("float32", data.slice(), [...dims])];
    }),
  );
}
