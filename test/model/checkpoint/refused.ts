import * as assert from "uvu/assert";
import { InferenceError } from "../../../src/model/inference.js";

/** Runs the job; it must throw SL_MODEL_INVALID with all of these words. */
export function refused(job: () => unknown, ...words: readonly (RegExp | string)[]): void {
  let error: unknown = null;
  try {
    job();
  } catch (e) {
    error = e;
  }
  isRefusal(error, ...words);
}

/** As `refused`, for a promise. */
export async function refusedLater(job: Promise<unknown>, ...words: readonly (RegExp | string)[]): Promise<void> {
  isRefusal(
    await job.then(
      () => null,
      (e: unknown) => e,
    ),
    ...words,
  );
}

function isRefusal(error: unknown, ...words: readonly (RegExp | string)[]): void {
  if (!(error instanceof InferenceError)) assert.unreachable(`expected a refusal, got ${String(error)}`);
  assert.is((error as InferenceError).code, "SL_MODEL_INVALID");
  for (const w of words) assert.match((error as InferenceError).message, w);
}
