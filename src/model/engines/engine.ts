import { Tensor } from "onnxruntime-common";
import { InferenceError } from "../inference.js";
import type { EngineName, EngineReason } from "./names.js";

export { ENGINE_CHOICES, ENGINES, type EngineChoice, type EngineName, type EngineReason } from "./names.js";

/** Named tensors of a network; their class is pure JavaScript and the same for every engine. */
export type TensorMap = Record<string, Tensor>;

export type EngineOptions = {
  /** Threads inside one operator. 1 is best for the live model: more only wait for each other. Engines without threads ignore it. */
  readonly threads: number;
};

/** One network, ready to run. Runs follow each other: a second `run` before the first has ended is the caller's fault. */
export interface Engine {
  readonly name: EngineName;
  /** Package, version and device, for logs and tables. */
  readonly label: string;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** All outputs. Keeps nothing between runs: the same inputs give the same outputs. Throws SL_INFERENCE_FAILED. */
  run(inputs: TensorMap): Promise<TensorMap>;
  /** Idempotent. */
  close(): Promise<void>;
}

/** A path or the file's bytes. */
export type ModelSource = string | Uint8Array;

/** How an engine is found and opened. One in each file of this folder. */
export interface EngineMaker {
  readonly name: EngineName;
  /** Null: worth a try. `named`: the user asked for it, so only what cannot work at all is a reason. Loads no native code. */
  missing(named: boolean): Promise<EngineError | null>;
  /** Throws EngineError, or SL_MODEL_INVALID when the model is damaged. @param what the model's name for messages */
  open(model: ModelSource, options: EngineOptions, what?: string): Promise<Engine>;
}

/** An engine cannot be used here. */
export class EngineError extends InferenceError {
  override readonly name = "EngineError";
  constructor(
    readonly engine: EngineName,
    readonly reason: EngineReason,
    readonly detail: string,
  ) {
    super("SL_ENGINE_UNAVAILABLE", `engine ${engine} cannot be used (${reason}): ${detail}`);
  }
}

export function tensor(data: Float32Array | Uint8Array, shape: readonly number[]): Tensor {
  return data instanceof Uint8Array ? new Tensor("uint8", data, [...shape]) : new Tensor("float32", data, [...shape]);
}

export const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));
