import type { FromGateway, ToGateway } from "../transport/ipc/messages.js";
import { Gateway } from "./gateway.js";
import type { LogLevel } from "./report.js";

/** The gateway process: a child of the supervisor (child_process.fork), told what to do over Node's IPC. Ends with its parent. */

const STATUS_MS = 1000;
/** Faults of ours, or of the WebRTC stack's timers, that are survived in a minute; with more it is better to begin anew. */
const MAX_FAULTS = 20;
/** A close that takes longer than this is cut off. */
const CLOSE_MS = 1500;

function send(message: FromGateway): void {
  // The channel may close between the check and the send; the disconnect handler ends the process then.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

function log(level: LogLevel, message: string, fields?: Record<string, unknown>): void {
  send(fields ? { type: "log", level, message, fields } : { type: "log", level, message });
}

const gateway = new Gateway(log);
let started = false;

async function configure(message: Extract<ToGateway, { type: "configure" }>): Promise<void> {
  if (started) {
    gateway.configure(message.streamKeys, message.channels);
    return;
  }
  started = true;
  try {
    send({ type: "ready", ...(await gateway.listen(message)) });
  } catch (error) {
    log("error", "the gateway cannot listen", { code: "SL_GATEWAY_LISTEN", detail: String(error) });
    await stop(1);
    return;
  }
  setInterval(() => send({ type: "status", ...gateway.status() }), STATUS_MS);
}

let stopping = false;
async function stop(exitCode: number): Promise<void> {
  if (stopping) return;
  stopping = true;
  setTimeout(() => process.exit(exitCode), CLOSE_MS).unref();
  await gateway.close();
  process.exit(exitCode);
}

process.on("message", (message: ToGateway) => {
  if (message.type === "configure") void configure(message);
  else void stop(0);
});
process.on("disconnect", () => void stop(0));
process.on("SIGTERM", () => void stop(0));
// Ctrl-C reaches the whole process group; the parent decides and sends "stop".
process.on("SIGINT", () => {});

let faults: number[] = [];
/** What one session did wrong must not end all others: sessions share nothing but the hub, which is not asynchronous. */
function onFault(error: unknown): void {
  const time = performance.now();
  faults = [...faults.filter((at) => time - at < 60_000), time];
  gateway.counters.add("gateway_faults_total");
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  log("error", "a fault in the gateway", { code: "SL_GATEWAY_FAULT", detail });
  if (faults.length > MAX_FAULTS) void stop(1);
}
process.on("uncaughtException", onFault);
process.on("unhandledRejection", onFault);
if (!process.send) {
  console.error("the gateway is started by the supervisor");
  process.exit(2);
}
