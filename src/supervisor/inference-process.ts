import {
  ENGINES,
  type EngineChoice,
  type EngineName,
  type EngineReason,
  type EngineReport,
} from "../model/engines/names.js";
import { FACES_MODEL } from "../paths.js";
import type { FromInference, ToInference } from "../transport/ipc/messages.js";
import type { Log } from "./log.js";
import { ManagedProcess, type ProcessLimits, ProcessState } from "./process.js";
import type { InferenceState } from "./state.js";

export type InferenceOptions = {
  /** Name of the process. */
  readonly name: string;
  readonly entry: string;
  /** The model as the configuration names it, and its folder. */
  readonly model: string;
  readonly folder: string;
  /** Path of its socket; what an earlier process left there is removed. */
  readonly socket: () => string;
  /** Asked for at each start. */
  readonly settings: () => { readonly threads: number; readonly engine: EngineChoice };
  readonly log: Log;
  readonly limits: Partial<ProcessLimits>;
  /** The process has another state, or its model another engine. */
  readonly onChange: () => void;
};

/** Ends of an inference process that its engine may have caused: a crash, or a run that never returned. */
const ENGINE_DEATHS: ReadonlySet<string> = new Set(["SL_PROCESS_EXITED", "SL_PROCESS_SILENT"]);

/** The inference child of one model: started, watched, and started again on the CPU when it died, or did not get ready, with another engine. */
export class InferenceProcess {
  readonly process: ManagedProcess<ToInference, FromInference>;
  readonly socket: string;
  readonly model: string;
  readonly #options: InferenceOptions;
  readonly #idle: InferenceState;
  #state: InferenceState;
  /** Engines with which the process died or did not get ready, and which of it; the next ones run on the CPU until the service restarts. */
  #unfit: { readonly engines: readonly EngineName[]; readonly reason: EngineReason; readonly detail: string } | null =
    null;

  constructor(options: InferenceOptions) {
    this.#options = options;
    this.model = options.model;
    this.socket = options.socket();
    const { name, entry, model, folder, settings, log, limits } = options;
    this.#idle = { ready: false, model, engine: null, engines: null, warmUpMs: null, counters: {}, stepMs: null };
    this.#state = this.#idle;
    this.process = new ManagedProcess<ToInference, FromInference>({
      ...{ name, entry, log, limits },
      configure: () => {
        const { threads, engine } = settings();
        const asked = this.#unfit === null ? engine : "cpu";
        const socket = options.socket();
        return { type: "configure", socket, modelDir: folder, facesModel: FACES_MODEL, threads, engine: asked };
      },
    });
    this.process.on("state", (info) => {
      if (info.state !== ProcessState.Running) {
        this.#judge(info.reason);
        this.#state = this.#idle;
      }
      options.onChange();
    });
    this.process.on("message", (message) => this.#take(message));
  }

  get state(): InferenceState {
    return this.#state;
  }

  #take(message: FromInference): void {
    if (message.type === "ready") {
      const { engine, warmUpMs } = message;
      this.#state = {
        ...this.#state,
        ready: true,
        engine,
        warmUpMs,
        engines: this.#afterDeath(message.engines ?? null),
      };
    } else if (message.type === "engines") {
      this.#state = { ...this.#state, engine: message.engines.label, engines: message.engines };
      this.#options.onChange();
    } else if (message.type === "status") {
      this.#state = { ...this.#state, counters: message.counters, stepMs: message.stepMs };
    }
  }

  /** Not with the same engine again: native code that took its process down, or held its start up, would do so for ever. */
  #judge(reason: string): void {
    const engine = this.#state.engines?.running ?? "cpu";
    if (engine !== "cpu" && ENGINE_DEATHS.has(reason))
      this.#unfit = { engines: [engine], reason: "failed", detail: "its process died while it ran" };
    const { engine: asked } = this.#options.settings();
    if (reason === "SL_PROCESS_START_TIMEOUT" && asked !== "cpu")
      this.#unfit ??= {
        engines: asked === "auto" ? ENGINES.slice(0, ENGINES.indexOf("cpu")) : [asked],
        reason: "timed-out",
        detail: "a process that tried it was not ready in time",
      };
  }

  /** What a child reports that was told to use the CPU because of the one before it: the fallback it is, and what was asked for first. */
  #afterDeath(report: EngineReport | null): EngineReport | null {
    const unfit = this.#unfit;
    if (report === null || unfit === null) return report;
    const { engines, reason, detail } = unfit;
    const tries = report.tries.map((t) => (engines.includes(t.name) ? { ...t, reason, detail } : t));
    return { ...report, asked: this.#options.settings().engine, code: "SL_ENGINE_FALLBACK", tries };
  }
}
