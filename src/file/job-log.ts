import type { EngineReport } from "../model/engines/names.js";
import { FileError, type FileWarning } from "./errors.js";
import type { Progress } from "./progress.js";

export type JobLogOptions = {
  readonly input: string;
  readonly onProgress?: (progress: Progress) => void;
  readonly onWarning?: (warning: FileWarning) => void;
  readonly signal?: AbortSignal;
};

/** What the reading of an input ended with. Lengths in seconds. */
export type InputFaults = {
  readonly sound: string | null;
  readonly picture: string | null;
  readonly heard: number;
  readonly declared: number | null;
  readonly jumps: number;
};

/** Tells whoever started a job how it goes, and keeps the warnings for its report. */
export class JobLog {
  readonly warnings: FileWarning[] = [];
  readonly #o: JobLogOptions;
  readonly #begin = performance.now();

  constructor(options: JobLogOptions) {
    this.#o = options;
  }

  /** Says so when the engine failed on the way. */
  engine({ code, label, tries }: EngineReport): void {
    if (code === null) return;
    const failed = tries.find((t) => t.reason === "failed");
    this.warn(code, `${failed?.name ?? "the engine"} failed (${failed?.detail ?? "unknown"}); went on with ${label}`);
  }

  get wallSeconds(): number {
    return (performance.now() - this.#begin) / 1000;
  }

  warn(code: FileWarning["code"], message: string): void {
    this.warnings.push({ code, message });
    this.#o.onWarning?.({ code, message });
  }

  progress(stage: Progress["stage"], seconds: number, ofSeconds: number | null, done = false): void {
    const wall = this.wallSeconds;
    this.#o.onProgress?.({ stage, seconds, ofSeconds, speed: wall > 0 ? seconds / wall : 0, done });
  }

  /** @throws FileError SL_FILE_STOPPED */
  throwIfStopped(): void {
    if (this.#o.signal?.aborted) throw new FileError("SL_FILE_STOPPED", "stopped");
  }

  faults({ sound, picture, heard, declared, jumps }: InputFaults): void {
    const { input } = this.#o;
    if (sound !== null)
      this.warn("SL_FILE_CUT_OFF", `${input} is damaged after ${heard.toFixed(1)} s of sound (${sound})`);
    else if (declared !== null && heard < declared - 2)
      this.warn(
        "SL_FILE_CUT_OFF",
        `${input} says it lasts ${declared} s, but its sound ends after ${heard.toFixed(1)} s`,
      );
    if (picture !== null)
      this.warn("SL_FILE_CUT_OFF", `${input}: the picture is damaged, what could be decoded was used (${picture})`);
    if (jumps > 0)
      this.warn(
        "SL_FILE_JUMP",
        `${input}: the times jump ${jumps} times; onscreen.mp4 fits the picture up to the first jump`,
      );
  }
}
