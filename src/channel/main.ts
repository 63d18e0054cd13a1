import { readLiveCard } from "../model/cards.js";
import { RemoteInference } from "../model/inference/remote.js";
import { RemoteWindows } from "../model/inference/remote-windows.js";
import { InferenceError } from "../model/inference.js";
import { stopAllPipelines, UV_THREADS } from "../transport/gst/pipeline.js";
import type { ChannelPatch, FromChannel, ToChannel } from "../transport/ipc/messages.js";
import { Channel } from "./channel.js";
import { GatewayLink } from "./gateway-link.js";
import type { Log } from "./log.js";
import { StatusReport } from "./status-report.js";

/**
 * The channel process: forked by the supervisor, runs one programme, and ends when it is told to stop (`stop`, SIGTERM) or when the
 * supervisor is gone. A native crash in GStreamer ends this process and nothing else; the supervisor starts it anew.
 */
/** For outputs that must write an end (file formats). */
const CLOSE_MS = 1100;
/** After everything is closed nothing should hold the process; a native thread that does is ended with it. */
const LINGER_MS = 150;

let stop: (() => Promise<void>) | null = null;
let channel: Channel | null = null;
/** What was set while the channel was being made. */
let early: ChannelPatch = {};
let configured = false;
let ending = false;

function say(message: FromChannel): void {
  // A supervisor that died meanwhile is no error here: `disconnect` follows.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

const log: Log = (level, message, fields) =>
  say({ type: "log", level, message, ...(fields === undefined ? {} : { fields }) });

async function configure(settings: Extract<ToChannel, { type: "configure" }>): Promise<void> {
  const { name, channel: config, gatewaySocket, inferenceSocket, modelDir } = settings;
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  if (threads < UV_THREADS) log("warn", `UV_THREADPOOL_SIZE is ${threads}; ${UV_THREADS} are needed for many outputs`);
  const inference = await openInference(modelDir, inferenceSocket);
  const gateway = new GatewayLink(gatewaySocket, name, log);
  const made: Channel = new Channel({ name, config, gateway, inference, log, onChange: () => report.changed() });
  const report = new StatusReport({ status: () => made.status(), send: (status) => say({ type: "status", status }) });
  channel = made;
  made.set(early);
  if (inference !== null) made.inferenceConnected(inference.connected);
  made.start();
  gateway.open();
  report.start();
  stop = async () => {
    report.stop();
    await made.close();
    gateway.close();
    await inference?.close();
  };
  say({ type: "ready" });
}

/** Null when the card cannot be read, or is of a model that channels cannot use: the programme passes all the same. */
async function openInference(modelDir: string, socket: string): Promise<RemoteInference | RemoteWindows | null> {
  const onConnection = (up: boolean, mismatch: string | null): void => {
    if (mismatch !== null) log("error", `the model cannot be used: ${mismatch}`, { code: "SL_MODEL_INVALID" });
    channel?.inferenceConnected(up);
  };
  try {
    const card = await readLiveCard(modelDir);
    if (card.kind === "stream") return new RemoteInference({ socket, card, onConnection });
    return new RemoteWindows({ socket, card, onConnection });
  } catch (error) {
    if (!(error instanceof InferenceError)) throw error;
    log("error", `the model cannot be used: ${error.message}`, { code: error.code });
    return null;
  }
}

async function end(code: number): Promise<void> {
  if (ending) return;
  ending = true;
  process.exitCode = code;
  const closing = stop?.().catch((error: unknown) => log("error", `could not close cleanly: ${String(error)}`));
  await Promise.race([closing, new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
  stopAllPipelines();
  if (process.connected) process.disconnect();
  // process.exit() would wait for ever for a native pull that is blocked; with nothing left to do Node ends by itself.
  setTimeout(() => process.kill(process.pid, "SIGKILL"), LINGER_MS).unref();
}

process.on("message", (message: ToChannel) => {
  if (message.type === "stop") void end(0);
  else if (message.type === "set") {
    if (channel === null) early = { ...early, ...message.patch };
    else channel.set(message.patch);
  } else if (message.type === "configure" && !configured) {
    configured = true;
    configure(message).catch((error: unknown) => {
      log("error", `the channel cannot start: ${error instanceof Error ? error.message : String(error)}`);
      void end(1);
    });
  }
});
process.on("disconnect", () => void end(0));
process.on("SIGTERM", () => void end(0));
process.on("SIGINT", () => void end(0));
