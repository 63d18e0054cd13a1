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
  /** It works, but the CPU (or what stands in for it) is faster with this model. */
  | "slower"
  /** It ran and failed, or gave numbers that are not finite where the CPU did not; or its process died while it ran. */
  | "failed";

/** What became of one engine when the model was opened, or later. */
export type EngineTry = {
  readonly name: EngineName;
  /** Null: this one runs. */
  readonly reason: EngineReason | null;
  readonly detail: string;
  /** Milliseconds of opening and the first window, and of a window after it; null: it was not run. */
  readonly warmUpMs: number | null;
  readonly runMs: number | null;
  /** Largest difference from the CPU's first window (compare.ts); null: not compared. */
  readonly error: number | null;
};

/** Which engine runs and why the others do not: log, /api/state, /metrics, `sightline doctor`. */
export type EngineReport = {
  readonly asked: string;
  readonly running: EngineName;
  readonly label: string;
  /** SL_ENGINE_FALLBACK: not the engine that was asked for or chosen; else null. */
  readonly code: "SL_ENGINE_FALLBACK" | null;
  readonly tries: readonly EngineTry[];
};
