import { fileURLToPath } from "node:url";
import { pino } from "pino";
import type { Log } from "../../src/supervisor/log.js";

const SUFFIX = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

/** Path of a child script in fixtures/, from the sources and from dist/. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`./fixtures/${name}${SUFFIX}`, import.meta.url));
}

/** Waits until `what` holds. @throws after `limitMs` with the name of what was waited for */
export async function until<T>(name: string, what: () => T | Promise<T>, limitMs = 30_000): Promise<NonNullable<T>> {
  const end = performance.now() + limitMs;
  for (;;) {
    const value = await what();
    if (value) return value;
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain for: ${name}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Whether a process exists (a zombie that nobody waited for counts as gone). */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A log whose records can be looked at. */
export function recordingLog(): { log: Log; records: Record<string, unknown>[] } {
  const records: Record<string, unknown>[] = [];
  const log = pino(
    { level: "debug", base: null, messageKey: "message" },
    { write: (line: string) => void records.push(JSON.parse(line)) },
  );
  return { log, records };
}
