import { spawnSync } from "node:child_process";
import { UV_THREADS } from "../../src/transport/gst/pipeline.js";

/**
 * Several pipelines in one process need more libuv threads than the default of 4, and the number must be in the environment before
 * Node starts: a test file that needs them runs itself again, once.
 */
export function withThreads(): void {
  if (process.env.UV_THREADPOOL_SIZE !== undefined) return;
  const again = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: { ...process.env, UV_THREADPOOL_SIZE: String(UV_THREADS) },
    stdio: "inherit",
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  process.exit(again.status ?? 1);
}
