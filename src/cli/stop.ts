/** Whoever started the command ended it: no fault, and nothing to explain. Exit code 130, as shells give it for Ctrl-C. */
export class StoppedError extends Error {
  override readonly name = "StoppedError";
}

export const STOPPED = 130;

/** Ctrl-C, `kill`, a terminal that is closed. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * A signal for work that leaves nothing half done when it is stopped; its reason is a StoppedError. `done`: the work is over, from now on
 * signals end the process as usual.
 */
export function stopOnSignals(): { readonly stop: AbortController; done(): void } {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort(new StoppedError("stopped; nothing was written"));
  for (const signal of SIGNALS) process.once(signal, onSignal);
  return {
    stop,
    done() {
      for (const signal of SIGNALS) process.off(signal, onSignal);
    },
  };
}
