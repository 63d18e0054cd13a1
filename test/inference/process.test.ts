import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StreamCard } from "../../src/model/card.js";
import { FACE_DETECTOR } from "../../src/model/faces/blazeface.js";
import { LocalInference } from "../../src/model/inference/local.js";
import { RemoteInference } from "../../src/model/inference/remote.js";
import type { StepRequest, StepResult } from "../../src/model/inference.js";
import { buildLive } from "../../src/model/live/build.js";
import { buildFaceModels } from "../../src/tools/assets.js";
import type { FromInference, ToInference } from "../../src/transport/ipc/messages.js";
import { noise, noiseLive } from "../model/noise.js";
import { code, until, within } from "./stage.js";

const FROM_SOURCE = import.meta.url.endsWith(".ts");
const MAIN = fileURLToPath(new URL(`../../src/model/inference/main.${FROM_SOURCE ? "ts" : "js"}`, import.meta.url));

type Child = { process: ChildProcess; messages: FromInference[]; exit: Promise<string> };
type Context = {
  folder: string;
  model: string;
  faces: string;
  socket: string;
  card: StreamCard;
  children: Child[];
  remotes: RemoteInference[];
};
const test = suite<Context>("inference process");

test.before(async (t) => {
  t.folder = mkdtempSync(join(tmpdir(), "sl-inf-"));
  t.model = join(t.folder, "tiny");
  t.card = await buildLive(noiseLive(), { name: "tiny", version: "1", training: { data: "none" } }, t.model);
  await buildFaceModels(t.folder);
  t.faces = join(t.folder, FACE_DETECTOR.file);
});
test.after((t) => rm(t.folder, { recursive: true, force: true }));
test.before.each((t) => {
  t.socket = join(t.folder, `${Math.random().toString(36).slice(2, 8)}.sock`);
  t.children = [];
  t.remotes = [];
});
test.after.each(async (t) => {
  for (const remote of t.remotes) await remote.close();
  for (const child of t.children) {
    child.process.kill("SIGKILL");
    await within(5000, child.exit, "exit");
  }
});

function start(t: Context, more: Partial<Extract<ToInference, { type: "configure" }>> = {}): Child {
  const child = fork(MAIN, { execArgv: FROM_SOURCE ? ["--import", "tsx"] : [], stdio: "ignore" });
  const exit = new Promise<string>((resolve) => child.on("exit", (c, signal) => resolve(signal ?? `code ${c}`)));
  const messages: FromInference[] = [];
  child.on("message", (message) => messages.push(message as FromInference));
  const self = { process: child, messages, exit };
  t.children.push(self);
  child.send({
    type: "configure",
    socket: t.socket,
    modelDir: t.model,
    facesModel: t.faces,
    threads: 1,
    ...more,
  } satisfies ToInference);
  return self;
}
const ready = (child: Child): Promise<void> =>
  until("ready", () => child.messages.some((m) => m.type === "ready"), 30_000);

function remote(t: Context): RemoteInference {
  const made = new RemoteInference({
    socket: t.socket,
    card: t.card,
    timeoutMs: 20_000,
    stepDeadlineMs: 20_000,
    firstRetryMs: 20,
    lastRetryMs: 100,
  });
  t.remotes.push(made);
  return made;
}

/** Units first .. first + units of a fixed piece of noise. */
function step(card: StreamCard, first: number, units: number): StepRequest {
  const area = card.picture.side ** 2;
  return {
    session: "a",
    track: 1,
    reset: first === 0,
    atSample: first * card.unitSamples,
    units,
    samples: Float32Array.from(noise(`speech${first}`, units * card.unitSamples), (v) => v * 0.2),
    crops: Uint8Array.from(noise(`mouth${first}`, units * area), (v) => Math.floor(128 + v * 90)),
    hasPicture: true,
    soundOf: null,
    personOf: null,
    memory: null,
  };
}

test("answers are those of the model in this process; ready comes after warming up", async (t) => {
  const child = start(t);
  await ready(child);
  const first = child.messages[0];
  assert.ok(first?.type === "ready" && first.engine.startsWith("onnxruntime") && first.warmUpMs > 0);
  assert.is(first.engines?.running, "cpu");
  const far = remote(t);
  assert.ok(await far.whenConnected(5000));
  const near = await LocalInference.open(t.model, { threads: 1 });
  try {
    for (const [from, units, more] of [
      [0, 3, {}],
      [3, 1, {}],
      [4, 6, {}],
      // A face after a cut.
      [10, 2, { track: 2, soundOf: 1 }],
      [12, 1, { track: 3, soundOf: 2, personOf: 1 }],
    ] as const) {
      const request = { ...step(t.card, from, units), ...more };
      const [a, b]: StepResult[] = [await far.step(request), await near.step(request)];
      assert.equal(a!.gains, b!.gains);
    }
  } finally {
    await near.close();
  }
  assert.equal(await far.detectFaces(new Uint8Array(3 * FACE_DETECTOR.side ** 2), FACE_DETECTOR.side), []);
  await until("status", () => child.messages.some((m) => m.type === "status" && m.counters.steps === 5));
});

test("kill -9 in the middle of a request: it is refused at once, and after a restart tracks begin anew", async (t) => {
  const child = start(t);
  await ready(child);
  const states: boolean[] = [];
  const far = new RemoteInference({
    socket: t.socket,
    card: t.card,
    timeoutMs: 30_000,
    stepDeadlineMs: 20_000,
    firstRetryMs: 20,
    lastRetryMs: 100,
    onConnection: (up) => states.push(up),
  });
  t.remotes.push(far);
  assert.ok(await far.whenConnected(5000));
  await far.step(step(t.card, 0, 2));
  // Long work, so that the process is in the engine when it is killed.
  const pending = [2, 3, 4].map((track) => code(far.step({ ...step(t.card, 0, 250), track })));
  await new Promise((resolve) => setTimeout(resolve, 30));
  child.process.kill("SIGKILL");
  const codes = await within(5000, Promise.all(pending), "refused");
  assert.is(codes.at(-1), "SL_INFERENCE_DOWN");
  assert.is(await child.exit, "SIGKILL");
  await until("down is told", () => !far.connected);
  assert.is(await code(far.step(step(t.card, 2, 1))), "SL_INFERENCE_DOWN");

  await rm(t.socket, { force: true });
  await ready(start(t));
  assert.ok(await far.whenConnected(10_000));
  assert.is(await code(far.step(step(t.card, 2, 1))), "SL_INFERENCE_STATE_LOST");
  const again = await far.step({ ...step(t.card, 0, 4), reset: true });
  assert.is(again.gains.atSample, t.card.firstFrameOffset);
  assert.equal(states, [true, false, true]);
  assert.is(far.counters.connects, 2);
});

test("it ends when told to, when asked by SIGTERM, and when the supervisor is gone", async (t) => {
  const endings: ((child: Child) => void)[] = [
    (c) => c.process.send({ type: "stop" } satisfies ToInference),
    (c) => c.process.kill("SIGTERM"),
    (c) => c.process.disconnect(),
  ];
  for (const ending of endings) {
    const child = start(t);
    await ready(child);
    const far = remote(t);
    assert.ok(await far.whenConnected(5000));
    ending(child);
    assert.is(await within(10_000, child.exit, "end"), "code 0");
    await far.close();
  }
});

test("SIGINT (Ctrl-C for the whole group) does not end it: the supervisor does", async (t) => {
  const child = start(t);
  await ready(child);
  child.process.kill("SIGINT");
  const far = remote(t);
  assert.ok(await far.whenConnected(5000));
  assert.is((await far.step(step(t.card, 0, 1))).gains.frames, t.card.unitSamples / t.card.grid.hopSamples);
  assert.is(child.process.exitCode, null);
});

test("a damaged model or face model: it says which and why, and ends", async (t) => {
  const damaged = join(t.folder, "damaged.onnx");
  await writeFile(damaged, Buffer.alloc(1000, 7));
  for (const [more, what] of [
    [{ facesModel: damaged }, /SL_MODEL_INVALID.*damaged\.onnx/],
    [{ modelDir: join(t.folder, "nowhere") }, /SL_MODEL_INVALID.*nowhere/],
  ] as const) {
    const child = start(t, more);
    assert.is(await within(30_000, child.exit, "end"), "code 1");
    const log = child.messages.find((m) => m.type === "log");
    assert.ok(log?.type === "log" && log.level === "error" && what.test(log.message), JSON.stringify(log));
    assert.not.ok(child.messages.some((m) => m.type === "ready"));
  }
});

test("started by hand it says what it is and ends", async () => {
  const { spawn } = await import("node:child_process");
  const child = spawn(process.execPath, [...(FROM_SOURCE ? ["--import", "tsx"] : []), MAIN], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const exit = await within(20_000, new Promise((resolve) => child.on("close", resolve)), "end");
  assert.is(exit, 2);
  assert.match(said, /started by the supervisor/);
});

test.run();
