import { fork } from "node:child_process";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { Tensor } from "onnxruntime-common";
import { EngineError, type EngineName, type EngineReason, type ModelSource, type TensorMap } from "./engine.js";

type Plain = Record<string, { readonly type: string; readonly data: unknown; readonly dims: readonly number[] }>;
export type TrialRequest = {
  readonly engine: EngineName;
  readonly model: ModelSource;
  readonly threads: number;
  readonly inputs: Plain;
};
export type TrialAnswer =
  | {
      readonly ok: true;
      readonly label: string;
      readonly warmUpMs: number;
      readonly runMs: number;
      readonly outputs: Plain;
    }
  | { readonly ok: false; readonly reason: EngineReason; readonly detail: string };

/** `warmUpMs`: opening and the first window; `runMs`: the quickest of the windows after it. */
export type Trial = {
  readonly label: string;
  readonly warmUpMs: number;
  readonly runMs: number;
  readonly outputs: TensorMap;
};

/** Of what the process says on stderr, as much is kept for the reason. */
const MAX_WORDS = 2000;
const entry = fileURLToPath(new URL(`./trial-main${extname(import.meta.url)}`, import.meta.url));

/**
 * Tries an engine in a process of its own: one window, then the same again. Whatever native code does there, this process lives on, and
 * after `limitMs` that one is killed.
 *
 * @throws EngineError with the reason: `crashed`, `timed-out`, or what the engine itself said
 */
export async function tryEngine(
  engine: EngineName,
  model: ModelSource,
  inputs: TensorMap,
  options: { readonly threads: number; readonly limitMs: number },
): Promise<Trial> {
  const child = fork(entry, [], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: process.execArgv.filter((arg) => !arg.startsWith("--inspect")),
  });
  let words = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-MAX_WORDS);
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const answer = await new Promise<TrialAnswer>((resolve) => {
      const no = (reason: EngineReason, detail: string): void => resolve({ ok: false, reason, detail });
      timer = setTimeout(() => no("timed-out", `its trial took more than ${options.limitMs} ms`), options.limitMs);
      child.once("message", (message) => resolve(message as TrialAnswer));
      child.once("error", (e) => no("crashed", e.message));
      child.once("exit", (code, signal) =>
        // What it sent before may still be on its way.
        setImmediate(() => no("crashed", `${signal ?? `exit code ${code}`}${lastWords(words)}`)),
      );
      const request: TrialRequest = { engine, model, threads: options.threads, inputs: plain(inputs) };
      // A process that is gone already is told by `exit`.
      child.send(request, () => {});
    });
    if (!answer.ok) throw new EngineError(engine, answer.reason, answer.detail);
    const { label, warmUpMs, runMs } = answer;
    return { label, warmUpMs, runMs, outputs: tensors(answer.outputs) };
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
  }
}

function lastWords(words: string): string {
  const lines = words.trim().split("\n");
  return words.trim() === "" ? "" : `: ${lines.at(-1)!.slice(0, 300)}`;
}

const plain = (map: TensorMap): Plain =>
  Object.fromEntries(
    Object.entries(map).map(([name, { type, data, dims }]) => [name, { type, data, dims: [...dims] }]),
  );
const tensors = (map: Plain): TensorMap =>
  Object.fromEntries(
    Object.entries(map).map(([name, { type, data, dims }]) => [
      name,
      new Tensor(type as "float32", data as Float32Array, [...dims]),
    ]),
  );
