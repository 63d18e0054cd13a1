import type { Service } from "./serve.js";

/** After this nothing is waited for any more. The service itself needs less; SIGTERM promises 3 s. Milliseconds. */
const STOP_LIMIT_MS = 2800;

/** The first SIGTERM or SIGINT ends everything in good order, the second one at once. */
export function endOnSignals({ supervisor, stop }: Service): void {
  let asked = false;
  const end = (): void => {
    if (asked) {
      supervisor.killAll();
      process.exit(130);
    }
    asked = true;
    const limit = setTimeout(() => {
      supervisor.killAll();
      process.exit(1);
    }, STOP_LIMIT_MS);
    void stop().then(() => {
      clearTimeout(limit);
      process.exit(0);
    });
  };
  process.on("SIGTERM", end);
  process.on("SIGINT", end);
  // A terminal that was closed.
  process.on("SIGHUP", end);
  const fatal = (error: unknown): void => {
    console.error(error);
    supervisor.killAll();
    process.exit(1);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
}
