import { Tensor } from "onnxruntime-common";
import { MAKERS } from "./catalogue.js";
import { EngineError, messageOf, type TensorMap } from "./engine.js";
import type { TrialAnswer, TrialRequest } from "./trial.js";

/**
 * The process of one trial: opens one engine, runs one window a few times, answers, ends. Native code that crashes or hangs here costs
 * nobody anything.
 */
const RUNS = 3;

async function attempt({ engine, model, threads, inputs }: TrialRequest): Promise<TrialAnswer> {
  const begin = performance.now();
  const opened = await MAKERS[engine].open(model, { threads });
  const given: TensorMap = Object.fromEntries(
    Object.entries(inputs).map(([name, { type, data, dims }]) => [
      name,
      new Tensor(type as "float32", data as Float32Array, dims),
    ]),
  );
  const outputs = await opened.run(given);
  const warmUpMs = performance.now() - begin;
  let runMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < RUNS; i++) {
    const from = performance.now();
    await opened.run(given);
    runMs = Math.min(runMs, performance.now() - from);
  }
  const { label } = opened;
  const plain = Object.entries(outputs).map(([name, { type, data, dims }]) => [name, { type, data, dims: [...dims] }]);
  // Not closed: the process ends, and some drivers crash while they are taken down.
  return { ok: true, label, warmUpMs, runMs, outputs: Object.fromEntries(plain) };
}

process.on("message", (request: TrialRequest) => {
  attempt(request)
    .catch((e: unknown): TrialAnswer => {
      const reason = e instanceof EngineError ? e.reason : "does-not-load";
      return { ok: false, reason, detail: e instanceof EngineError ? e.detail : messageOf(e) };
    })
    .then((answer) => process.send?.(answer, undefined, undefined, () => process.exit(0)));
});
process.on("disconnect", () => process.exit(1));
