import type { LoadedConfig } from "../config/loader.js";
import { InferenceProcess } from "./inference-process.js";
import type { Log } from "./log.js";
import type { ManagedProcess, ProcessLimits } from "./process.js";
import type { SocketFolder } from "./sockets.js";
import type { InferenceState } from "./state.js";

export type InferencesOptions = {
  readonly entry: string;
  readonly sockets: SocketFolder;
  /** In force, asked for at each start. */
  readonly config: () => Pick<LoadedConfig, "inferenceThreads" | "engine">;
  readonly limits: () => Partial<ProcessLimits>;
  readonly childLog: (process: string) => Log;
  readonly onChange: () => void;
};

/** One inference child for each model in use: it holds the network for all channels that name that model. */
export class Inferences {
  readonly #options: InferencesOptions;
  readonly #byFolder = new Map<string, InferenceProcess>();
  #count = 0;

  constructor(options: InferencesOptions) {
    this.#options = options;
  }

  get states(): InferenceState[] {
    return [...this.#byFolder.values()].map((i) => i.state);
  }

  get processes(): InferenceProcess["process"][] {
    return [...this.#byFolder.values()].map((i) => i.process);
  }

  /** Path of the socket of a model's child; empty when there is none. */
  socket(folder: string): string {
    return this.#byFolder.get(folder)?.socket ?? "";
  }

  /**
   * Starts the child of a model unless there is one.
   * @param model as the configuration names it
   * @returns its start, if it is a new one
   */
  use(model: string, folder: string): Promise<unknown>[] {
    if (this.#byFolder.has(folder)) return [];
    const { entry, sockets, config, limits, childLog, onChange } = this.#options;
    const number = ++this.#count;
    const name = this.#byFolder.size === 0 ? "inference" : `inference-${number}`;
    const inference = new InferenceProcess({
      ...{ name, entry, model, folder, onChange },
      socket: () => sockets.socket(`inference-${number}`),
      settings: () => ({ threads: config().inferenceThreads, engine: config().engine }),
      log: childLog(name),
      limits: limits(),
    });
    this.#byFolder.set(folder, inference);
    return [inference.process.start()];
  }

  /** Takes the children of all other models out. @returns their processes, for the caller to end */
  release(used: ReadonlySet<string>): Pick<ManagedProcess<never, never>, "stop">[] {
    const unused = [...this.#byFolder].filter(([folder]) => !used.has(folder));
    for (const [folder] of unused) this.#byFolder.delete(folder);
    return unused.map(([, inference]) => inference.process);
  }
}
