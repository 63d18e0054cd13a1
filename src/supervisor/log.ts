import { type DestinationStream, destination, type Logger, pino } from "pino";
import { Secret } from "../config/secret.js";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type Log = Logger;

/** Bytes that may wait for a reader of stderr that does not read; what is over it is dropped, so that a stuck pipe never stops the service. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;

/** The service's log: JSON lines on stderr, or, on a terminal, lines for people. Message texts are constant, values go in fields. */
export function createLog(level: LogLevel, options: { pretty?: boolean } = {}): Log {
  const out = destination({ fd: 2, sync: false, maxLength: MAX_WAITING_BYTES });
  // Once the reader is gone there is nobody to tell.
  out.on("error", () => {});
  process.on("exit", () => {
    try {
      out.flushSync();
    } catch {
      // stderr is closed.
    }
  });
  const pretty = options.pretty ?? process.stderr.isTTY === true;
  const target: DestinationStream = pretty ? { write: (line: string) => out.write(prettyLine(line)) } : out;
  return pino(
    {
      level,
      base: null,
      messageKey: "message",
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Secrets redact themselves in JSON; these names are a second fence for text that came from elsewhere.
      redact: { paths: ["key", "*.key", "password", "*.password", "passphrase", "*.passphrase"], censor: "[redacted]" },
    },
    target,
  );
}

const NAMES: Record<string, string> = { debug: "debug", info: "     ", warn: "WARN ", error: "ERROR", fatal: "FATAL" };

/** `12:34:56.789Z WARN  channel studio: message field=value`; the time is UTC, as in the JSON lines. */
export function prettyLine(line: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, message, process: name, ...fields } = record;
  const clock = typeof time === "string" ? time.slice(11) : "";
  const rest = Object.entries(fields)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  return `${clock} ${NAMES[String(level)] ?? String(level)} ${name ? `${String(name)}: ` : ""}${String(message ?? "")}${rest ? `  ${rest}` : ""}\n`;
}

/** Fields of a child's log message may be anything that JSON holds; what they are called must not hide our own fields. */
export function childFields(fields: unknown): Record<string, unknown> {
  if (typeof fields !== "object" || fields === null || fields instanceof Secret) return {};
  const { process: _p, level: _l, time: _t, message: _m, ...rest } = fields as Record<string, unknown>;
  return rest;
}
