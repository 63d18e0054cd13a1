import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";

const root = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/");
/** Folder of train.py. */
export const trainer = join(root, "train/paper");
const script = join(root, "test/model/paper/trainings.py");
const LIMIT_MS = 170_000;

/** Why nothing can be trained here, or null. `more`: modules that are also needed. Looks without importing: that alone takes seconds. */
export function withoutTraining(...more: readonly string[]): string | null {
  const modules = ["torch", "numpy", "onnx", ...more];
  const look = `import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in ${JSON.stringify(modules)}))`;
  if (spawnSync("python3", ["-c", look], { stdio: "ignore" }).status !== 0)
    return `python3 lacks ${modules.join(", ")}`;
  return spawnSync("ffmpeg", ["-version"], { stdio: "ignore" }).status === 0 ? null : "ffmpeg is not there";
}

/** What trainings.py does, one job after another; what was printed. Throws with Python's words when one fails. */
export function runJobs(folder: string, jobs: readonly unknown[]): string {
  const list = join(folder, "jobs.json");
  writeFileSync(list, JSON.stringify(jobs));
  const done = spawnSync("python3", [script, trainer, list], { encoding: "utf8", timeout: LIMIT_MS });
  assert.is(done.status, 0, `${done.error?.message ?? ""}\n${done.stdout}\n${done.stderr}`);
  return done.stdout;
}
