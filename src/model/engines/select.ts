import { MAKERS } from "./catalogue.js";
import { largestError, TOLERANCE } from "./compare.js";
import {
  ENGINES,
  type Engine,
  type EngineChoice,
  EngineError,
  type EngineMaker,
  type EngineName,
  type EngineReason,
  type ModelSource,
  messageOf,
  type TensorMap,
} from "./engine.js";
import { GuardedEngine } from "./guarded.js";
import type { EngineReport, EngineTry } from "./names.js";
import { type Trial, tryEngine } from "./trial.js";

export type SelectOptions = {
  /** Default `cpu`. */
  readonly engine?: EngineChoice;
  readonly threads: number;
  /** One window as the model gets them, for the comparison and the times. */
  readonly trial: TensorMap;
  /** True: an engine that was named and cannot be used is an error; false (default): the CPU takes its place, visibly. */
  readonly strict?: boolean;
  /** The model's name for messages. */
  readonly what?: string;
  /** How long the trial of one engine may take. Default 12 s: a service with three of them is still ready in time. */
  readonly limitMs?: number;
  readonly onFallback?: (report: EngineReport) => void;
  /** What became of the engines with another part of the same model: one that crashed, hung or did not load is not tried again. */
  readonly tried?: readonly EngineTry[];
  /** The engines, and how one is tried; for tests. */
  readonly makers?: Readonly<Record<EngineName, EngineMaker>>;
  readonly attempt?: typeof tryEngine;
};

const TRIAL_LIMIT_MS = 12_000;
export const SMALL_TRIAL_LIMIT_MS = 6000;
/** Reasons that are the engine's own, whatever the network. */
const UNFIT: ReadonlySet<EngineReason | null> = new Set(["does-not-load", "crashed", "timed-out"]);
/** Where the CPU's engine does not load, the quickest of these is taken, unchecked: there is nothing to check it by. */
const LAST_RESORTS = ["tensorflow", "wasm"] as const satisfies readonly EngineName[];

/**
 * Opens a model in the engine that was asked for, or with `auto` in the fastest that gives the CPU's numbers (TOLERANCE): engines are
 * tried in the order of expected speed (ENGINES), each first in a process of its own, then here.
 *
 * @throws InferenceError SL_MODEL_INVALID when the CPU refuses the file; EngineError when no engine loads, or (strict) the named one
 */
export async function openEngine(model: ModelSource, options: SelectOptions): Promise<GuardedEngine> {
  const { engine: asked = "cpu", threads, trial, strict = false, what, limitMs = TRIAL_LIMIT_MS } = options;
  const makers = options.makers ?? MAKERS;
  const attempt = options.attempt ?? tryEngine;
  const tries = new Map<EngineName, EngineTry>();
  const note = (name: EngineName, reason: EngineReason | null, detail: string, more: Partial<EngineTry> = {}): void => {
    tries.set(name, { name, reason, detail, warmUpMs: null, runMs: null, error: null, ...more });
  };
  const report = (engine: Engine, code: EngineReport["code"] = null): EngineReport => {
    for (const name of ENGINES) {
      if (tries.has(name)) continue;
      if (asked === "auto") note(name, "not-needed", `${engine.name} comes before it`);
      else note(name, "not-asked", `engine: ${asked}`);
    }
    return { asked, running: engine.name, label: engine.label, code, tries: ENGINES.map((n) => tries.get(n)!) };
  };
  const guarded = (engine: Engine, reference: Engine | null, code: EngineReport["code"] = null): GuardedEngine =>
    new GuardedEngine(engine, reference, report(engine, code), options.onFallback);

  const missing = async (name: EngineName, byName: boolean): Promise<EngineError | null> => {
    const before = options.tried?.find((t) => t.name === name);
    if (before && UNFIT.has(before.reason)) return new EngineError(name, before.reason!, before.detail);
    return makers[name].missing(byName);
  };

  const begin = performance.now();
  let reference: Engine;
  try {
    reference = await makers.cpu.open(model, { threads }, what);
  } catch (e) {
    const named = LAST_RESORTS.find((name) => name === asked);
    // The other named engines live in the package that does not load: they cannot be used either.
    if (!(e instanceof EngineError) || (strict && asked !== "auto" && !named)) throw e;
    note("cpu", e.reason, e.detail);
    const engine = await lastResort(named ? [named] : LAST_RESORTS, e);
    return guarded(engine, null, asked === "auto" || asked === engine.name ? null : "SL_ENGINE_FALLBACK");
  }
  let engine: Engine | null = null;
  try {
    const wanted: EngineName[] = [];
    for (const name of asked === "auto" ? ENGINES.slice(0, ENGINES.indexOf("cpu")) : asked === "cpu" ? [] : [asked]) {
      const without = await missing(name, asked !== "auto");
      if (without && strict && asked !== "auto") throw without;
      if (without) note(name, without.reason, without.detail);
      else wanted.push(name);
    }
    // Nothing to compare with: no window is run for nothing, a large network takes seconds.
    if (wanted.length === 0) {
      note("cpu", null, reference.label);
      return guarded(reference, null, asked === "auto" || asked === "cpu" ? null : "SL_ENGINE_FALLBACK");
    }
    const want = await reference.run(trial);
    const warmUpMs = performance.now() - begin;
    const cpuMs = await quickest(reference, trial);
    note("cpu", asked === "auto" ? "not-needed" : "not-asked", reference.label, { warmUpMs, runMs: cpuMs, error: 0 });
    for (const name of wanted) {
      try {
        engine = await candidate(name, want, cpuMs);
        break;
      } catch (e) {
        if (!(e instanceof EngineError)) throw e;
        if (strict && asked !== "auto") throw e;
        note(name, e.reason, e.detail, (e as Refusal).measured ?? {});
      }
    }
    if (engine !== null) return guarded(engine, reference);
    note("cpu", null, reference.label, { warmUpMs, runMs: cpuMs, error: 0 });
    return guarded(reference, null, asked === "auto" ? null : "SL_ENGINE_FALLBACK");
  } catch (e) {
    await reference.close();
    await engine?.close();
    throw e;
  }

  /** @throws EngineError */
  async function candidate(name: EngineName, want: TensorMap, cpuMs: number): Promise<Engine> {
    const named = asked !== "auto";
    const tried = await attempt(name, model, trial, { threads, limitMs });
    const measured = { warmUpMs: tried.warmUpMs, runMs: tried.runMs, error: largestError(tried.outputs, want) };
    judge(name, measured, named ? null : cpuMs);
    const engine = await makers[name].open(model, { threads }, what);
    try {
      // Warms up what this process will use, and looks once more.
      const error = largestError(await engine.run(trial), want);
      judge(name, { ...measured, error }, null);
      note(name, null, engine.label, { ...measured, error });
      return engine;
    } catch (e) {
      await engine.close();
      throw e instanceof EngineError ? e : new EngineError(name, "failed", messageOf(e));
    }
  }

  /** The quickest of those that work. */
  async function lastResort(names: readonly EngineName[], first: EngineError): Promise<Engine> {
    const passed: (Pick<Trial, "warmUpMs" | "runMs"> & { readonly name: EngineName })[] = [];
    for (const name of names) {
      try {
        const without = await missing(name, true);
        if (without) throw without;
        const { warmUpMs, runMs } = await attempt(name, model, trial, { threads, limitMs });
        passed.push({ name, warmUpMs, runMs });
      } catch (e) {
        if (!(e instanceof EngineError)) throw e;
        note(name, e.reason, e.detail);
      }
    }
    passed.sort((a, b) => a.runMs - b.runMs);
    const best = passed[0];
    if (!best) throw first;
    const opened = await makers[best.name].open(model, { threads }, what);
    for (const { name, ...measured } of passed)
      if (name === best.name)
        note(name, null, `${opened.label}, not compared: the CPU's engine does not load`, measured);
      else
        note(
          name,
          "slower",
          `${measured.runMs.toFixed(1)} ms a window, ${best.name} ${best.runMs.toFixed(1)} ms`,
          measured,
        );
    return opened;
  }
}

/**
 * The same for a small network beside a model, on the CPU. Trials, which only last resorts need, are shorter: with all three networks in them
 * a service is still ready within its minute.
 */
export const openSmall = (
  model: ModelSource,
  options: Pick<SelectOptions, "threads" | "trial" | "strict" | "what">,
): Promise<GuardedEngine> => openEngine(model, { ...options, limitMs: SMALL_TRIAL_LIMIT_MS });

type Measured = Pick<Trial, "warmUpMs" | "runMs"> & { readonly error: number };
class Refusal extends EngineError {
  constructor(
    engine: EngineName,
    reason: EngineReason,
    detail: string,
    readonly measured: Measured,
  ) {
    super(engine, reason, detail);
  }
}

/** @param cpuMs null: speed does not matter */
function judge(name: EngineName, measured: Measured, cpuMs: number | null): void {
  const { error, runMs } = measured;
  if (!(error <= TOLERANCE)) {
    const detail = `its first window differs from the CPU's by ${error.toExponential(1)} of the largest value (allowed ${TOLERANCE})`;
    throw new Refusal(name, "differs", detail, measured);
  }
  if (cpuMs !== null && runMs >= cpuMs)
    throw new Refusal(name, "slower", `${runMs.toFixed(1)} ms a window, CPU ${cpuMs.toFixed(1)} ms`, measured);
}

async function quickest(engine: Engine, inputs: TensorMap): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 2; i++) {
    const from = performance.now();
    await engine.run(inputs);
    best = Math.min(best, performance.now() - from);
  }
  return best;
}
