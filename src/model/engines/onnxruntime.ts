import * as ort from "onnxruntime-node";
import { InferenceError } from "../inference.js";

export type TensorMap = Record<string, ort.Tensor>;
export type EngineOptions = {
  /** Threads inside one operator. 1 is best for the live model: more only wait for each other. */
  readonly threads: number;
};

/** Version of the engine, for logs and bench tables. */
export const engineName = `onnxruntime-node ${ort.env.versions.node ?? ort.env.versions.common}`;

/**
 * One model in onnxruntime on the CPU. `run` blocks the event loop while it computes although it answers with a promise (the
 * binding computes in setImmediate), so long models belong into a process of their own; runs of one engine follow each other.
 */
export class OnnxEngine {
  private closed = false;

  private constructor(
    private readonly session: ort.InferenceSession,
    private readonly label: string,
  ) {}

  /** `model`: a path or the file's bytes. Throws SL_MODEL_INVALID when the engine refuses it. */
  static async open(
    model: string | Uint8Array,
    options: EngineOptions,
    label = typeof model === "string" ? model : "model",
  ): Promise<OnnxEngine> {
    const settings: ort.InferenceSession.SessionOptions = {
      executionProviders: ["cpu"],
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
      return new OnnxEngine(session, label);
    } catch (e) {
      throw new InferenceError(
        "SL_MODEL_INVALID",
        `${label}: the engine cannot load it: ${e instanceof Error ? e.message : String(e)}`,
      );
    }
  }

  get inputNames(): readonly string[] {
    return this.session.inputNames;
  }

  get outputNames(): readonly string[] {
    return this.session.outputNames;
  }

  /** Throws SL_INFERENCE_FAILED when the engine refuses the inputs. */
  async run(inputs: TensorMap): Promise<TensorMap> {
    if (this.closed) throw new InferenceError("SL_INFERENCE_FAILED", `${this.label}: the engine is closed`);
    try {
      return (await this.session.run(inputs)) as TensorMap;
    } catch (e) {
      throw new InferenceError("SL_INFERENCE_FAILED", `${this.label}: ${e instanceof Error ? e.message : String(e)}`);
    }
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.session.release();
  }
}

export function tensor(data: Float32Array | Uint8Array, shape: readonly number[]): ort.Tensor {
  return data instanceof Uint8Array
    ? new ort.Tensor("uint8", data, [...shape])
    : new ort.Tensor("float32", data, [...shape]);
}
