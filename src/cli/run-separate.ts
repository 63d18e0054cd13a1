import { CODES } from "../codes.js";
import { FileError } from "../file/errors.js";
import { reporter } from "../file/progress.js";
import { type SeparateReport, separateFile } from "../file/separate-file.js";
import { InferenceError } from "../model/inference.js";
import type { SeparateArguments } from "./separate.js";
import { STOPPED, stopOnSignals } from "./stop.js";

/** `sightline separate`: runs separateFile, shows how it goes. Returns the exit code; throws what the command line shall print. */
export async function runSeparate({ json, ...options }: SeparateArguments): Promise<number> {
  const report = reporter(json);
  const { stop, done } = stopOnSignals();
  // Nobody reads what is said (`| head`, a closed terminal): without a listener that would end the process, with half files left behind. It stays
  // to the end of the process, for the last lines. Without standard error the work goes on, its results are elsewhere.
  process.stdout.on("error", () => stop.abort());
  process.stderr.on("error", () => {});
  try {
    const result = await separateFile({
      ...options,
      signal: stop.signal,
      onProgress: report.progress,
      onWarning: report.warning,
    });
    report.done(result);
    if (!json) process.stderr.write(`${summary(result)}\n`);
    return 0;
  } catch (error) {
    const known = error instanceof FileError || error instanceof InferenceError;
    if (known) report.error(error);
    if (stop.signal.aborted) {
      if (!json) process.stderr.write(`${(error as Error).message}\n`);
      return STOPPED;
    }
    if (known && json) return 1;
    throw error;
  } finally {
    done();
  }
}

function summary({ seconds, wallSeconds, modes, model, engine }: SeparateReport): string {
  const total = Object.values(modes).reduce((a, b) => a + b, 0);
  const left = Object.entries(modes).filter(([mode]) => mode !== "separated");
  const reasons: Readonly<Record<string, string>> = CODES;
  const lines = left.map(
    ([code, n]) => `  ${Math.round((100 * n) / total)} % left as it is: ${reasons[code] ?? code} [${code}]`,
  );
  const speed = (seconds / wallSeconds).toFixed(1);
  return [`${seconds.toFixed(1)} s with model ${model} on ${engine}, ${speed} times real time`, ...lines].join("\n");
}
