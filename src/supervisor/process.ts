import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import { BACK_OFF, BackOff, type BackOffOptions } from "../backoff.js";
import { forkChild, isMessage, type Message, ProcessStartError, type Run, residentBytes, untilReady } from "./fork.js";
import { childFields, type Log } from "./log.js";

/** Messages kept that come before `ready` was passed on; a child that says more by then has gone wrong. */
const MAX_EARLY = 100;

export const ProcessState = {
  Stopped: "stopped",
  Starting: "starting",
  Running: "running",
  BackOff: "back-off",
  Stopping: "stopping",
} as const;
export type ProcessState = (typeof ProcessState)[keyof typeof ProcessState];

export type ProcessInfo = {
  readonly name: string;
  readonly pid: number | null;
  readonly state: ProcessState;
  /** How often it was started anew since the service began. */
  readonly restarts: number;
  /** Code of the newest change of state. */
  readonly reason: string;
  /** Resident memory in bytes, null until measured. */
  readonly memoryBytes: number | null;
};

export type ProcessLimits = {
  /** From the fork to `ready`. Milliseconds. */
  readonly startTimeoutMs: number;
  /** Longest silence between two `status` messages once it is ready; then SIGKILL. Milliseconds. */
  readonly statusTimeoutMs: number;
  /** From `stop` to SIGKILL at a restart. Milliseconds. */
  readonly restartGraceMs: number;
  /** How often life and memory are looked at. Milliseconds. */
  readonly checkIntervalMs: number;
  /** Resident memory at which a warning is logged, and at which the process is killed. Megabytes (1e6 bytes). */
  readonly memoryWarnMb: number;
  readonly memoryKillMb: number;
  /** Least time between two memory warnings. Milliseconds. */
  readonly memoryCoolDownMs: number;
  readonly backOff: BackOffOptions;
};

export const LIMITS: ProcessLimits = {
  startTimeoutMs: 20_000,
  statusTimeoutMs: 5000,
  restartGraceMs: 1500,
  checkIntervalMs: 500,
  memoryWarnMb: 1500,
  memoryKillMb: 3000,
  memoryCoolDownMs: 60_000,
  backOff: BACK_OFF,
};

export type ProcessOptions<To> = {
  readonly name: string;
  /** JavaScript file that is forked. */
  readonly entry: string;
  /** Added to our own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * First message of every start; made anew each time, so that settings changed meanwhile are in it. null: a helper that knows no control
   * messages; it counts as ready once it is forked, is not watched for silence, and is ended by SIGTERM.
   */
  readonly configure: (() => To) | null;
  readonly log: Log;
  readonly limits?: Partial<ProcessLimits>;
};

type Events<From> = { state: [ProcessInfo]; message: [From] };

/**
 * One supervised child, joined to us by Node's IPC: forks it, tells it its settings, waits for `ready`, listens for `status`, and starts it
 * anew with growing waits when it ends for whatever reason. Emits `state` at each change and `message` for every message but `log`.
 */
export class ManagedProcess<To extends Message, From extends Message> extends EventEmitter<Events<From>> {
  readonly name: string;
  readonly #options: ProcessOptions<To>;
  readonly #limits: ProcessLimits;
  readonly #backOff: BackOff;
  #state: ProcessState = ProcessState.Stopped;
  #reason = "SL_PROCESS_STOP";
  #run: Run | null = null;
  #restarts = 0;
  #closed = false;
  #retired = false;
  #loop: Promise<void> | null = null;
  /** Ends the wait between two runs. */
  #wake: (() => void) | null = null;
  /** Set while a restart was asked for: the run's end is no failure. */
  #restartAsked = false;
  /** Why we killed the current run ourselves, if we did. */
  #killReason: string | null = null;
  #memoryBytes: number | null = null;
  #memoryWarnedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ProcessOptions<To>) {
    super();
    this.name = options.name;
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.#backOff = new BackOff(this.#limits.backOff);
  }

  get info(): ProcessInfo {
    return {
      name: this.name,
      pid: this.#run?.child.pid ?? null,
      state: this.#state,
      restarts: this.#restarts,
      reason: this.#reason,
      memoryBytes: this.#memoryBytes,
    };
  }

  get log(): Log {
    return this.#options.log;
  }

  /**
   * Begins to supervise. The promise is that of the first start only: it resolves with the `ready` message and rejects when the child ends
   * first or the time is up; either way the child is started anew from then on until `stop()`.
   * @throws ProcessStartError (as a rejection)
   */
  start(): Promise<From> {
    if (this.#loop) throw new Error(`${this.name} was started already`);
    const first = new Promise<From>((resolve, reject) => {
      this.#loop = this.#supervise(resolve, reject);
    });
    // Whoever does not wait for the first start must not be ended by its failure: it is logged, and tried again.
    first.catch(() => {});
    return first;
  }

  /** Sends a message; to a child that is not there, or no longer listens, it is harmless. @returns whether there was a child to send to */
  send(message: To): boolean {
    const child = this.#run?.child;
    if (!child?.connected) return false;
    child.send(message, () => {
      // An error here means that the child is gone; its exit event tells.
    });
    return true;
  }

  /** Ends the current run in good order and starts the next at once, with new settings. */
  restart(reason = "SL_PROCESS_RESTART"): void {
    if (this.#closed) return;
    this.#backOff.reset();
    this.#wake?.();
    const run = this.#run;
    if (!run || this.#restartAsked) return;
    this.#restartAsked = true;
    this.#killReason = reason;
    this.#askToStop(run);
    this.#killAfter(run, this.#limits.restartGraceMs);
  }

  /** Ends the child and supervision: `stop` message now, SIGKILL after `graceMs`. Resolves when the process is gone. Idempotent. */
  async stop(graceMs = this.#limits.restartGraceMs): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#wake?.();
      if (this.#run) {
        this.#setState(ProcessState.Stopping, "SL_PROCESS_STOP");
        this.#askToStop(this.#run);
      }
    }
    if (this.#run) this.#killAfter(this.#run, graceMs);
    await this.#loop;
    this.#setState(ProcessState.Stopped, "SL_PROCESS_STOP");
  }

  /**
   * From now on a child that ends stays ended; one that runs goes on until `stop()`. For the moment in which the whole service ends: a
   * terminal or a service manager may have sent its signal to the children as well.
   */
  retire(): void {
    this.#retired = true;
    this.#wake?.();
  }

  /** SIGKILL now. Supervision goes on unless `stop()` was called. */
  kill(reason: string): void {
    this.#killReason = reason;
    this.#run?.child.kill("SIGKILL");
  }

  /** The one place where the state changes. */
  #setState(next: ProcessState, reason: string, fields: Record<string, unknown> = {}): void {
    if (next === this.#state && reason === this.#reason) return;
    const old = this.#state;
    this.#state = next;
    this.#reason = reason;
    const bad = next === ProcessState.BackOff;
    this.log[bad ? "warn" : "info"](
      { from: old, to: next, reason, pid: this.#run?.child.pid, ...fields },
      "process state",
    );
    this.#safeEmit(() => this.emit("state", this.info));
  }

  /** A listener's fault must not end supervision. */
  #safeEmit(emit: () => void): void {
    try {
      emit();
    } catch (error) {
      this.log.error({ error: String((error as Error).stack ?? error) }, "a listener of a process event failed");
    }
  }

  async #supervise(resolveFirst: (ready: From) => void, rejectFirst: (error: Error) => void): Promise<void> {
    while (!this.#closed && !this.#retired) {
      this.#restartAsked = false;
      this.#killReason = null;
      this.#memoryBytes = null;
      let ended: { readonly how: string; readonly ranMs: number };
      try {
        ended = await this.#runOnce(resolveFirst, rejectFirst);
      } catch (error) {
        // The system has no room for a process now; it may have later, and the other processes go on.
        rejectFirst(error as Error);
        ended = { how: `could not be started: ${(error as Error).message}`, ranMs: 0 };
      }
      this.#run = null;
      this.#memoryBytes = null;
      if (this.#closed || this.#retired) break;
      this.#restarts++;
      if (this.#restartAsked) continue;
      const waitMs = Math.round(this.#backOff.next(ended.ranMs));
      this.#setState(ProcessState.BackOff, this.#killReason ?? "SL_PROCESS_EXITED", { how: ended.how, waitMs });
      await this.#pause(waitMs);
    }
    rejectFirst(new ProcessStartError("SL_PROCESS_STOP", `${this.name} was stopped`));
  }

  /** From the fork to the end. @returns how it ended, and for how long it was ready */
  async #runOnce(
    resolveFirst: (ready: From) => void,
    rejectFirst: (error: Error) => void,
  ): Promise<{ how: string; ranMs: number }> {
    const { entry, env, configure, log } = this.#options;
    // Before the fork: if it throws, there is no child that nobody knows of.
    const settings = configure?.();
    const run = forkChild(this.name, entry, env ?? {}, log);
    run.child.on("message", (message) => this.#receive(run.child, message));
    this.#run = run;
    this.#early = [];
    this.#setState(ProcessState.Starting, "SL_PROCESS_START");
    if (settings !== undefined) this.send(settings);
    let readyAt: number | null = null;
    let stopChecks = (): void => {};
    try {
      const limitMs = this.#limits.startTimeoutMs;
      const ready = (configure ? await untilReady(this.name, run, limitMs) : { type: "ready" }) as From;
      readyAt = performance.now();
      if (!this.#closed) this.#setState(ProcessState.Running, "SL_PROCESS_READY");
      stopChecks = this.#watch(run);
      resolveFirst(ready);
      this.#safeEmit(() => this.emit("message", ready));
      const early = this.#early ?? [];
      this.#early = null;
      for (const message of early) this.#safeEmit(() => this.emit("message", message));
    } catch (error) {
      rejectFirst(error as Error);
      if ((error as ProcessStartError).code === "SL_PROCESS_START_TIMEOUT") this.kill("SL_PROCESS_START_TIMEOUT");
    }
    const how = await run.exited;
    stopChecks();
    return { how, ranMs: readyAt === null ? 0 : performance.now() - readyAt };
  }

  #receive(child: ChildProcess, message: unknown): void {
    // Late messages of an earlier run, and `ready` (handled by untilReady), are not passed on.
    if (child !== this.#run?.child || !isMessage(message) || message.type === "ready") return;
    if (message.type === "log") {
      const { level, message: text, fields } = message as { level?: unknown; message?: unknown; fields?: unknown };
      const known = level === "debug" || level === "info" || level === "warn" || level === "error" ? level : "info";
      this.log[known](childFields(fields), String(text).slice(0, 4096));
      return;
    }
    if (message.type === "status") this.#lastStatusAt = performance.now();
    const own = message as unknown as From;
    if (this.#early === null) this.#safeEmit(() => this.emit("message", own));
    else if (this.#early.length < MAX_EARLY) this.#early.push(own);
  }

  /**
   * What came before `ready` was passed on, in its order; null once it was. `ready` is awaited, so a message in the same read of the pipe
   * (an engine that fails in its first run) would overtake it, and the older news would stay in the state.
   */
  #early: From[] | null = null;

  #lastStatusAt = 0;

  /** Looks after a ready child: silence and memory. @returns a function that ends the watch */
  #watch(run: Run): () => void {
    const { statusTimeoutMs, checkIntervalMs } = this.#limits;
    this.#lastStatusAt = performance.now();
    let lastCheckAt = performance.now();
    let measuring = false;
    const timer = setInterval(() => {
      const now = performance.now();
      // We ourselves were held up (suspended machine, stopped by a debugger): what the child sent meanwhile is not read yet.
      if (now - lastCheckAt > checkIntervalMs + 1000) this.#lastStatusAt = now;
      lastCheckAt = now;
      if (this.#restartAsked || this.#closed) return;
      if (this.#options.configure && now - this.#lastStatusAt > statusTimeoutMs) this.kill("SL_PROCESS_SILENT");
      if (measuring || run.child.pid === undefined) return;
      measuring = true;
      void residentBytes(run.child.pid).then((bytes) => {
        measuring = false;
        if (bytes !== null && this.#run === run) this.#checkMemory(bytes);
      });
    }, checkIntervalMs);
    return () => clearInterval(timer);
  }

  #checkMemory(bytes: number): void {
    this.#memoryBytes = bytes;
    const { memoryWarnMb, memoryKillMb, memoryCoolDownMs } = this.#limits;
    const megabytes = Math.round(bytes / 1e6);
    if (megabytes >= memoryKillMb) {
      this.log.error(
        { reason: "SL_PROCESS_MEMORY", megabytes, memoryKillMb },
        "process uses too much memory and is ended",
      );
      this.kill("SL_PROCESS_MEMORY");
    } else if (megabytes >= memoryWarnMb && performance.now() - this.#memoryWarnedAt >= memoryCoolDownMs) {
      this.#memoryWarnedAt = performance.now();
      this.log.warn({ reason: "SL_PROCESS_MEMORY", megabytes, memoryWarnMb }, "process uses much memory");
    }
  }

  #askToStop(run: Run): void {
    if (this.#options.configure) this.send({ type: "stop" } as To);
    else run.child.kill("SIGTERM");
  }

  #killAfter(run: Run, graceMs: number): void {
    const timer = setTimeout(() => run.child.kill("SIGKILL"), graceMs);
    void run.exited.then(() => clearTimeout(timer));
  }

  #pause(ms: number): Promise<void> {
    return new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    }).then(() => {
      this.#wake = null;
    });
  }
}
