import { type ChildProcess, fork } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { channelConfig } from "../../src/config/schema.js";
import { buildLive } from "../../src/model/live/build.js";
import { FlvReader, type FlvTag, PICTURE } from "../../src/transport/flv/tag.js";
import { UV_THREADS } from "../../src/transport/gst/pipeline.js";
import type { ChannelPatch, ChannelStatus, FromChannel, ToChannel } from "../../src/transport/ipc/messages.js";
import { clipFolder, flashAndBeep, lipSyncMs, videoHashes } from "../gst/clip.js";
import { within } from "../gst/within.js";
import { noiseLive } from "../model/noise.js";
import { openGateway, publish, type TestGateway, until } from "./support.js";

const test = suite("channel process");
const folder = clipFolder();
test.after(() => folder.remove());

const FACES_MODEL = `${process.cwd()}/dist/models/blazeface-back.onnx`;
/** From source under tsx, or compiled in dist. */
const SUFFIX = import.meta.url.endsWith(".ts") ? "ts" : "js";
const children = new Set<ChildProcess>();
let gateway: TestGateway;
test.before.each(async () => {
  gateway = await openGateway();
});
test.after.each(async () => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
  await gateway.close();
});

function forked(path: string): ChildProcess {
  const child = fork(fileURLToPath(new URL(`../../src/${path}.${SUFFIX}`, import.meta.url)), [], {
    env: { ...process.env, UV_THREADPOOL_SIZE: String(UV_THREADS) },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  children.add(child);
  return child;
}

const exitOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? `code ${code}`)));

type Running = { child: ChildProcess; status: () => ChannelStatus | null; logs: string[] };

async function startChannel(
  settings: Omit<Extract<ToChannel, { type: "configure" }>, "type" | "name">,
  patch?: ChannelPatch,
): Promise<Running> {
  const child = forked("channel/main");
  let status: ChannelStatus | null = null;
  const logs: string[] = [];
  const ready = new Promise<void>((resolve) => {
    child.on("message", (message: FromChannel) => {
      if (message.type === "ready") resolve();
      if (message.type === "status") status = message.status;
      if (message.type === "log") logs.push(`${message.level} ${message.message} ${JSON.stringify(message.fields)}`);
    });
  });
  child.send({ type: "configure", name: "main", ...settings } satisfies ToChannel);
  // While it starts: the operator does not know.
  if (patch !== undefined) child.send({ type: "set", patch } satisfies ToChannel);
  await within(15_000, ready, "ready");
  return { child, status: () => status, logs };
}

for (const how of ["stop", "SIGTERM", "disconnect"] as const) {
  test(`${how} ends the process in good order in the middle of a programme`, async () => {
    const clip = flashAndBeep(folder.path, "clip.flv", { seconds: 4 });
    const file = join(folder.path, `${how}.mp4`);
    const { child, status } = await startChannel({
      channel: channelConfig.parse({ profile: "low", outputs: [`file://${file}`] }),
      gatewaySocket: gateway.socket,
      inferenceSocket: join(gateway.folder, "none.sock"),
      modelDir: join(gateway.folder, "none"),
    });
    const publisher = publish(clip, gateway.rtmpPort);
    await until(() => (status()?.counters.video_units_out ?? 0) > 40, 15_000, "40 pictures");
    assert.equal([status()?.mode, status()?.reason], ["bypass", "SL_MODEL_INVALID"]);
    const exit = exitOf(child);
    if (how === "stop") child.send({ type: "stop" } satisfies ToChannel);
    else if (how === "SIGTERM") child.kill("SIGTERM");
    else child.disconnect();
    assert.is(await within(3000, exit, "the end"), "code 0");
    publisher.child.kill("SIGKILL");
    assert.ok(videoHashes(file).length > 20, "the recording was finished");
  });
}

test("killed and started anew: players of a source that is fetched stay, and their time goes on", async () => {
  const clip = flashAndBeep(folder.path, "fetched.flv", { seconds: 4 });
  const settings = {
    channel: channelConfig.parse({ profile: "low", input: `file://${clip}?loop=1` }),
    gatewaySocket: gateway.socket,
    inferenceSocket: join(gateway.folder, "none.sock"),
    modelDir: join(gateway.folder, "none"),
  };
  const { child } = await startChannel(settings);
  const tags: FlvTag[] = [];
  let hasEnded = false;
  const reader = new FlvReader();
  const abort = new AbortController();
  const player = (async () => {
    const { body } = await fetch(`http://127.0.0.1:${gateway.mediaPort}/out/main.flv`, { signal: abort.signal });
    for await (const chunk of body!) tags.push(...reader.push(Buffer.from(chunk as Uint8Array)));
  })().then(
    () => (hasEnded = true),
    () => (hasEnded = true),
  );
  const pictures = (): FlvTag[] => tags.filter((tag) => tag.type === PICTURE && tag.body[1] === 1);
  // Longer than the head room of a timeline, so that one which began anew would step back.
  await until(() => pictures().length > 150, 20_000, "five seconds of pictures");
  child.kill("SIGKILL");
  await exitOf(child);
  const before = pictures().length;
  await startChannel(settings);
  await until(() => pictures().length > before + 60, 20_000, "pictures again");
  assert.not.ok(hasEnded, "the player was not ended");
  const times = pictures().map((tag) => tag.timestampMs);
  const step = times[before]! - times[before - 1]!;
  assert.ok(step > 0 && step < 10_000, `${step} ms over the restart`);
  for (const [i, ms] of times.entries()) assert.ok(i === 0 || ms > times[i - 1]!, `${ms} after ${times[i - 1]}`);
  abort.abort();
  await player;
});

test("what is set while the channel starts counts", async () => {
  const modelDir = join(gateway.folder, "tiny");
  await buildLive(noiseLive(), { name: "tiny", version: "1" }, modelDir);
  const settings = { gatewaySocket: gateway.socket, inferenceSocket: join(gateway.folder, "none.sock"), modelDir };
  const clip = flashAndBeep(folder.path, "early.flv", { seconds: 6 });
  const { status } = await startChannel({ channel: channelConfig.parse({}), ...settings }, { bypass: true });
  publish(clip, gateway.rtmpPort);
  await until(() => status()?.reason === "SL_BYPASS_OPERATOR", 5000, "bypass by the operator");
});

test("with a model: its decisions reach the sound, live patches, bypass when the inference dies and back by itself", async () => {
  if (!existsSync(FACES_MODEL)) {
    console.log(`    skipped: ${FACES_MODEL} is missing (npm run build makes it)`);
    return;
  }
  const modelDir = join(gateway.folder, "tiny");
  await buildLive(noiseLive(), { name: "tiny", version: "1" }, modelDir);
  const inferenceSocket = join(gateway.folder, "inference.sock");
  const startInference = (): ChildProcess => {
    rmSync(inferenceSocket, { force: true }); // as the supervisor does for a killed one
    const child = forked("model/inference/main");
    child.send({ type: "configure", socket: inferenceSocket, modelDir, facesModel: FACES_MODEL, threads: 1 });
    return child;
  };
  const clip = flashAndBeep(folder.path, "long.flv", { seconds: 18 });
  const file = join(folder.path, "model.flv");
  let inference = startInference();
  const { child, status, logs } = await startChannel({
    // Nobody is in the picture: muting then shows that the steps' decisions reach the sound.
    channel: channelConfig.parse({ profile: "balanced", whenNobodyVisible: "mute", outputs: [`file://${file}`] }),
    gatewaySocket: gateway.socket,
    inferenceSocket,
    modelDir,
  });
  const publisher = publish(clip, gateway.rtmpPort);
  const shows = (mode: string, reason: string | null) => (): boolean =>
    status()?.mode === mode && status()?.reason === reason;
  await until(shows("muted", "SL_NO_FACE"), 15_000, "muted");
  child.send({ type: "set", patch: { bypass: true } } satisfies ToChannel);
  await until(shows("bypass", "SL_BYPASS_OPERATOR"), 3000, "bypass by the operator");
  await sleep(2200); // the clip beeps once a second: at least one beep falls into the span that is heard
  child.send({ type: "set", patch: { bypass: false } } satisfies ToChannel);
  await until(shows("muted", "SL_NO_FACE"), 3000, "muted again");
  inference.kill("SIGKILL");
  await until(shows("bypass", "SL_INFERENCE_DOWN"), 3000, "bypass without inference");
  inference = startInference();
  await until(shows("muted", "SL_NO_FACE"), 10_000, "muted by itself");
  await within(20_000, publisher.exited);
  assert.is(status()?.counters.faults, 0, logs.join("\n"));
  const exit = exitOf(child);
  child.send({ type: "stop" } satisfies ToChannel);
  assert.is(await within(3000, exit), "code 0");
  assert.is(videoHashes(file).length > 380, true);
  assert.ok(lipSyncMs(file).length >= 1, "beeps are heard where the sound was left alone");
});

test.run();
