import type { FromInference, ToInference } from "../../transport/ipc/messages.js";
import { readCard } from "../cards.js";
import type { EngineReport } from "../engines/names.js";
import { OnnxFaceDetector } from "../faces/detector.js";
import { InferenceServer } from "./child.js";
import { LocalInference, type LocalOptions } from "./local.js";
import { LocalWindows } from "./local-windows.js";

/**
 * The inference process: forked by the supervisor, loads one model and the face detector, serves them to all channels over a Unix
 * socket, and ends when it is told to stop or when the supervisor is gone.
 */
const STATUS_EVERY_MS = 1000;

let stop: (() => Promise<void>) | null = null;
let configured = false;

function say(message: FromInference): void {
  // A supervisor that died meanwhile is no error here: `disconnect` follows.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

const logError = (message: string): void => say({ type: "log", level: "error", message });

async function configure(settings: Extract<ToInference, { type: "configure" }>): Promise<void> {
  const begin = performance.now();
  const { threads, engine = "cpu" } = settings;
  const onFallback = (engines: EngineReport): void => {
    const detail = engines.tries.find((t) => t.reason === "failed")?.detail ?? "";
    const fields = { code: "SL_ENGINE_FALLBACK", engine: engines.label, detail };
    say({ type: "log", level: "error", message: "the engine failed; the CPU took over", fields });
    say({ type: "engines", engines });
  };
  const inference = await open(settings, { threads, engine, onFallback });
  const server = new InferenceServer(inference, {
    onFault: (message) => say({ type: "log", level: "warn", message }),
  });
  await server.listen(settings.socket);
  const timer = setInterval(
    () => say({ type: "status", counters: { ...server.counters }, stepMs: server.stepMs }),
    STATUS_EVERY_MS,
  );
  stop = async () => {
    clearInterval(timer);
    await server.close();
    await inference.close();
  };
  const { engines } = inference;
  const tries = Object.fromEntries(engines.tries.map((t) => [t.name, t.reason ?? "running"]));
  const code = engines.code === null ? {} : { code: engines.code };
  const fields = { ...code, engine: engines.label, asked: engines.asked, ...tries };
  const warmUpMs = Math.round(performance.now() - begin);
  say({ type: "ready", engine: engines.label, warmUpMs, engines });
  say({ type: "log", level: engines.code === null ? "info" : "warn", message: "engine", fields });
}

/** A model that is called with windows looks for no faces. */
async function open(
  { modelDir, facesModel }: Extract<ToInference, { type: "configure" }>,
  options: Omit<LocalOptions, "faces">,
): Promise<LocalInference | LocalWindows> {
  if ((await readCard(modelDir)).kind === "window") return LocalWindows.open(modelDir, options);
  const faces = await OnnxFaceDetector.open(facesModel, { threads: options.threads });
  return LocalInference.open(modelDir, { ...options, faces }).catch(async (e: unknown) => {
    await faces.close();
    throw e;
  });
}

async function end(code: number): Promise<void> {
  const closing = stop;
  stop = null;
  await closing?.().catch((e: unknown) => logError(`could not close cleanly: ${String(e)}`));
  process.exit(code);
}

process.on("message", (message: ToInference) => {
  if (message.type === "stop") void end(0);
  if (message.type !== "configure" || configured) return;
  configured = true;
  configure(message).catch((e: unknown) => {
    const code = e instanceof Error && "code" in e ? `${String(e.code)}: ` : "";
    logError(`${code}${e instanceof Error ? e.message : String(e)}`);
    // The message must be out before the process ends.
    setTimeout(() => void end(1), 100);
  });
});
process.on("disconnect", () => void end(0));
// Ctrl-C reaches the whole group of processes: the supervisor ends us in its order.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => void end(0));
if (!process.connected) {
  console.error("the inference process is started by the supervisor (sightline serve)");
  process.exit(2);
}
