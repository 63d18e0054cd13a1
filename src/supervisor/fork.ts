import { type ChildProcess, fork } from "node:child_process";
import { readFile } from "node:fs/promises";
import { forwardLines } from "./lines.js";
import type { Log } from "./log.js";

export type Message = { readonly type: string };
/** One run of a child. `exited` never rejects and tells how it ended, in words. */
export type Run = { readonly child: ChildProcess; readonly exited: Promise<string> };

/** Why the newest start did not end in `ready`. */
export class ProcessStartError extends Error {
  override readonly name = "ProcessStartError";
  constructor(
    readonly code: "SL_PROCESS_EXITED" | "SL_PROCESS_START_TIMEOUT" | "SL_PROCESS_STOP",
    message: string,
  ) {
    super(message);
  }
}

/** Forks a child whose output becomes log records. @param entry JavaScript file @throws Error where the system has no room for a process */
export function forkChild(name: string, entry: string, env: Readonly<Record<string, string>>, log: Log): Run {
  const child = fork(entry, [], {
    env: { ...process.env, ...env, SIGHTLINE_PROCESS: name },
    // Our own debugger's port cannot be shared; everything else (a TypeScript loader in tests) is passed on.
    execArgv: process.execArgv.filter((arg) => !arg.startsWith("--inspect")),
    stdio: [
      "ignore", // 0: nobody types
      "pipe", // 1: lines for the log, level info
      "pipe", // 2: lines for the log, level warn (GStreamer and other native libraries speak here)
      "ipc", // 3: control messages; its end tells the child that we are gone
    ],
  });
  const fields = (line: string, leftOut: number): object => (leftOut > 0 ? { line, leftOut } : { line });
  // Without file descriptors left, Node gives a child without pipes; its error event follows.
  if (child.stdout) forwardLines(child.stdout, (line, leftOut) => log.info(fields(line, leftOut), "output"));
  if (child.stderr) forwardLines(child.stderr, (line, leftOut) => log.warn(fields(line, leftOut), "output"));
  const exited = new Promise<string>((resolve) => {
    const end = (how: string): void => {
      resolve(how);
      // A grandchild may hold the pipes open: what was said is read for a moment longer, then they are let go.
      setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, 200).unref();
    };
    child.once("exit", (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`));
    // Without a pid there was no process and there will be no exit event.
    child.on("error", (error) => {
      if (child.pid === undefined) end(`could not be started: ${error.message}`);
    });
  });
  return { child, exited };
}

/** Three ends: `ready`, exit, time-out; the losers are taken down. @throws ProcessStartError */
export async function untilReady(name: string, { child, exited }: Run, limitMs: number): Promise<Message> {
  let timer: NodeJS.Timeout | undefined;
  let onMessage: ((message: unknown) => void) | undefined;
  try {
    return await Promise.race([
      new Promise<Message>((resolve) => {
        onMessage = (message) => {
          if (isMessage(message) && message.type === "ready") resolve(message);
        };
        child.on("message", onMessage);
      }),
      exited.then((how): never => {
        throw new ProcessStartError("SL_PROCESS_EXITED", `${name} ended before it was ready: ${how}`);
      }),
      new Promise<never>((_, reject) => {
        const late = new ProcessStartError("SL_PROCESS_START_TIMEOUT", `${name} was not ready within ${limitMs} ms`);
        timer = setTimeout(() => reject(late), limitMs);
      }),
    ]);
  } finally {
    clearTimeout(timer);
    if (onMessage) child.off("message", onMessage);
  }
}

export function isMessage(message: unknown): message is Message {
  return typeof message === "object" && message !== null && typeof (message as { type?: unknown }).type === "string";
}

/** Resident memory of a process in bytes, or null where the system does not tell (it is gone, or this is not Linux). */
export async function residentBytes(pid: number): Promise<number | null> {
  try {
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1];
    return kilobytes === undefined ? null : Number(kilobytes) * 1024;
  } catch {
    return null;
  }
}
