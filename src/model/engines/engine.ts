import { Tensor } from "onnxruntime-common";
import { InferenceError } from "../inference.js";

/** Named tensors of a network; their class is pure JavaScript and the same for every engine. */
export type TensorMap = Record<string, Tensor>;

/** Every engine, the fastest expected one first. `cpu` is the measure for the others: what differs from it is not used. */
export const ENGINES = ["tensorrt", "cuda", "webgpu", "cpu", "tensorflow", "wasm"] as const;
export type EngineName = (typeof ENGINES)[number];
export const ENGINE_CHOICES = ["auto", ...ENGINES] as const;
export type EngineChoice = (typeof ENGINE_CHOICES)[number];

/** Why an engine is not used. The words never change their meaning (docs/decisions/15-engines.md). */
export type EngineReason =
  /** Another engine was named in the settings. */
  | "not-asked"
  /** One that is expected to be faster runs. */
  | "not-needed"
  /** Its package or one of its libraries is not there. */
  | "not-installed"
  /** The machine has no device for it. */
  | "no-device"
  /** It is there, but refused to start with this model. */
  | "does-not-load"
  /** The model holds an operator that it does not have. */
  | "model-refused"
  /** The process of its trial died. */
  | "crashed"
  /** Its trial took too long. */
  | "timed-out"
  /** Its first window is not that of the CPU. */
  | "differs"
  /** It works, but the CPU is faster with this model. */
  | "slower"
  /** It ran and failed, or gave numbers that are not finite where the CPU did not; or its process died while it ran. */
  | "failed";

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
