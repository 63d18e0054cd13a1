import type { InferenceSession } from "onnxruntime-node";
import { InferenceError } from "../inference.js";
import {
  type Engine,
  EngineError,
  type EngineMaker,
  type EngineOptions,
  type ModelSource,
  messageOf,
  type TensorMap,
} from "./engine.js";

export { type EngineOptions, type TensorMap, tensor } from "./engine.js";

/** Engines that are providers inside onnxruntime-node. */
export type Provider = "cpu" | "webgpu" | "cuda" | "tensorrt";

type Runtime = typeof import("onnxruntime-node");
let loading: Promise<Runtime> | null = null;

/** Loaded when first needed: where the native library does not load, other engines can still be used. */
function runtime(provider: Provider): Promise<Runtime> {
  loading ??= import("onnxruntime-node");
  return loading.catch((e: unknown) => {
    const missing = (e as { code?: unknown }).code === "ERR_MODULE_NOT_FOUND";
    throw new EngineError(
      provider,
      missing ? "not-installed" : "does-not-load",
      `onnxruntime-node: ${messageOf(e).split("\n")[0]}`,
    );
  });
}

/**
 * One model in onnxruntime-node. `run` blocks the event loop while it computes although it answers with a promise (the binding
 * computes in setImmediate), so long models belong into a process of their own; runs of one engine follow each other.
 */
export class OnnxEngine implements Engine {
  private closed = false;

  private constructor(
    private readonly session: InferenceSession,
    readonly name: Provider,
    readonly label: string,
    private readonly model: string,
  ) {}

  /**
   * @param what the model's name for messages
   * @throws InferenceError SL_MODEL_INVALID when the CPU refuses the file; EngineError when the provider does
   */
  static async open(
    model: ModelSource,
    options: EngineOptions,
    what = typeof model === "string" ? model : "model",
    provider: Provider = "cpu",
  ): Promise<OnnxEngine> {
    const ort = await runtime(provider);
    const settings: InferenceSession.SessionOptions = {
      executionProviders: [provider],
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
      // Threads that spin while they wait would eat the cores of the other processes.
      extra: { session: { intra_op: { allow_spinning: "0" }, inter_op: { allow_spinning: "0" } } },
    };
    try {
      const session =
        typeof model === "string"
          ? await ort.InferenceSession.create(model, settings)
          : await ort.InferenceSession.create(model, settings);
      return new OnnxEngine(session, provider, `${await OnnxEngine.version()} ${provider}`, what);
    } catch (e) {
      if (provider !== "cpu") throw new EngineError(provider, "does-not-load", `${what}: ${messageOf(e)}`);
      throw new InferenceError("SL_MODEL_INVALID", `${what}: the engine cannot load it: ${messageOf(e)}`);
    }
  }

  /** Package and version, for tables. */
  static async version(): Promise<string> {
    const { versions } = (await runtime("cpu")).env;
    return `onnxruntime-node ${versions.node ?? versions.common}`;
  }

  get inputNames(): readonly string[] {
    return this.session.inputNames;
  }

  get outputNames(): readonly string[] {
    return this.session.outputNames;
  }

  /** Throws SL_INFERENCE_FAILED when the engine refuses the inputs. */
  async run(inputs: TensorMap): Promise<TensorMap> {
    if (this.closed) throw new InferenceError("SL_INFERENCE_FAILED", `${this.model}: the engine is closed`);
    try {
      return (await this.session.run(inputs)) as TensorMap;
    } catch (e) {
      throw new InferenceError("SL_INFERENCE_FAILED", `${this.model}: ${messageOf(e)}`);
    }
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.session.release();
  }
}

/** onnxruntime on the processor: always there, and the measure for all others. */
export const cpu: EngineMaker = {
  name: "cpu",
  missing: async () => null,
  open: (model, options, what) => OnnxEngine.open(model, options, what),
};
