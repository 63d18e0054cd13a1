import type { FileWarning } from "./errors.js";

export type Progress = {
  /** `separate` reads the input; `cam.jsonl` (a second network over the pictures) and the videos come after it. */
  readonly stage: "separate" | "cam.jsonl" | "onscreen.mp4" | "cam.mp4" | "crop.mp4";
  readonly seconds: number;
  /** Length that the file declares; null while not known. */
  readonly ofSeconds: number | null;
  /** Times real time. */
  readonly speed: number;
  /** The stage is over. */
  readonly done: boolean;
};

export type Reporter = {
  progress(progress: Progress): void;
  warning(warning: FileWarning): void;
  done(report: Readonly<Record<string, unknown>> & { readonly files: Readonly<Record<string, string>> }): void;
  error(error: { readonly code: string; readonly message: string }): void;
};

type Out = { write(text: string): unknown; readonly isTTY?: boolean };

const BAR_EVERY_MS = 200;
const LINE_EVERY_MS = 10_000;
const BAR_CELLS = 30;

/** A bar on a terminal (standard error), a line now and then elsewhere, or JSON lines (standard output). */
export function reporter(json: boolean, out: Out = process.stdout, err: Out = process.stderr): Reporter {
  if (json) return jsonReporter(out);
  const bar = err.isTTY === true;
  let lastMs = performance.now();
  let stage: Progress["stage"] = "separate";
  const clear = (): void => {
    if (bar) err.write("\r\x1b[K");
  };
  return {
    progress(p) {
      const now = performance.now();
      if (!p.done && p.stage === stage && now - lastMs < (bar ? BAR_EVERY_MS : LINE_EVERY_MS)) return;
      lastMs = now;
      stage = p.stage;
      err.write(bar ? `\r\x1b[K${barOf(p)}` : `${plain(p)}\n`);
    },
    warning({ code, message }) {
      clear();
      err.write(`warning: ${message} [${code}]\n`);
    },
    done({ files }) {
      clear();
      for (const path of Object.values(files)) out.write(`${path}\n`);
    },
    error() {
      // Whoever called prints it.
      clear();
    },
  };
}

function jsonReporter(out: Out): Reporter {
  const say = (event: string, fields: object): void => {
    out.write(`${JSON.stringify({ event, ...fields })}\n`);
  };
  let lastMs = Number.NEGATIVE_INFINITY;
  let stage = "";
  return {
    progress(p) {
      const now = performance.now();
      if (!p.done && p.stage === stage && now - lastMs < 1000) return;
      lastMs = now;
      stage = p.stage;
      say("progress", p);
    },
    warning: (warning) => say("warning", warning),
    done: (report) => say("done", report),
    error: ({ code, message }) => say("error", { code, message }),
  };
}

const clock = (seconds: number): string => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

function plain({ stage, seconds, ofSeconds, speed }: Progress): string {
  if (stage !== "separate") return `writing ${stage}`;
  const of = ofSeconds === null ? "" : ` of ${clock(ofSeconds)} (${percent(seconds, ofSeconds)} %)`;
  return `separated ${clock(seconds)}${of}, ${speed.toFixed(1)} times real time`;
}

const percent = (seconds: number, of: number): number =>
  of > 0 ? Math.min(100, Math.round((100 * seconds) / of)) : 100;

function barOf(p: Progress): string {
  if (p.stage !== "separate" || p.ofSeconds === null) return plain(p);
  const full = Math.round((BAR_CELLS * percent(p.seconds, p.ofSeconds)) / 100);
  const cells = "#".repeat(full).padEnd(BAR_CELLS, ".");
  return `[${cells}] ${percent(p.seconds, p.ofSeconds)} %  ${clock(p.seconds)} / ${clock(p.ofSeconds)}  ${p.speed.toFixed(1)}x`;
}
