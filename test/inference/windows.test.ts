import { rm } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readLiveCard } from "../../src/model/cards.js";
import { InferenceServer } from "../../src/model/inference/child.js";
import { LocalWindows } from "../../src/model/inference/local-windows.js";
import { RemoteWindows } from "../../src/model/inference/remote-windows.js";
import { decodeAnswer, decodeWindow, encodeWindow } from "../../src/model/inference/window-frames.js";
import type { WindowRequest } from "../../src/model/inference.js";
import { encodeFrame } from "../../src/transport/ipc/frame.js";
import { stereoNoise, windowModel } from "../channel/window-stage.js";
import { clipFolder } from "../gst/clip.js";
import { CountingInference, code, connected, socketPath, stepOf, until, within } from "./stage.js";

type Context = {
  folder: ReturnType<typeof clipFolder>;
  model: LocalWindows;
  path: string;
  server: InferenceServer;
  faults: string[];
  remote: RemoteWindows;
};
const test = suite<Context>("windows over a socket");
test.before(async (t) => {
  t.folder = clipFolder();
  t.model = await LocalWindows.open(await windowModel(t.folder.path), { threads: 1 });
});
test.before.each(async (t) => {
  t.path = socketPath();
  t.faults = [];
  t.server = new InferenceServer(t.model, { onFault: (message) => t.faults.push(message) });
  await t.server.listen(t.path);
  t.remote = new RemoteWindows({ socket: t.path, card: t.model.card });
  assert.ok(await t.remote.whenConnected(5000));
});
test.after.each(async (t) => {
  await t.remote.close();
  await within(5000, t.server.close(), "close");
  await rm(t.path, { force: true });
});
test.after(async (t) => {
  await t.model.close();
  t.folder.remove();
});

function request({ card }: LocalWindows, more: Partial<WindowRequest> = {}): WindowRequest {
  const { side, window } = card.paper;
  const [left, right] = stereoNoise(window.samples);
  const pictures = Uint8Array.from({ length: window.frames * 3 * side * side }, (_, i) => (i * 7) % 256);
  return { session: "a", atSample: 4800, pictures, left: left!, right: right!, ...more };
}

test("a window over the socket has the answer that it has in this process, to the bit", async ({
  model,
  remote,
  server,
}) => {
  const asked = request(model);
  const [there, here] = [await remote.window(asked), await model.window(asked)];
  assert.equal({ ...there, engineMs: 0 }, { ...here, engineMs: 0 });
  assert.is(there.gains.frames, model.card.paper.window.spectrum);
  assert.ok(there.gains.data.every((g) => g >= 0 && g <= 1));
  assert.is(server.counters.windows, 1);
  assert.ok(server.stepMs!.p50 > 0);
});

test("of one session the newest waits, the one before is late; another session's is not touched", async ({
  model,
  remote,
  server,
}) => {
  // Until it is let go, the model answers nobody.
  let letGo: () => void = () => {};
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const answer = model.window.bind(model);
  model.window = async (asked) => gate.then(() => answer(asked));
  const running = remote.window(request(model, { session: "other" }));
  await until("it runs", () => server.counters.connections > 0 && server.waiting === 0);
  const first = remote.window(request(model));
  await until("the first one waits", () => server.waiting === 1);
  const second = remote.window(request(model));
  assert.is(await code(first), "SL_INFERENCE_LATE");
  letGo();
  model.window = answer;
  assert.is((await running).gains.bins, 1025);
  assert.is((await second).gains.bins, 1025);
  assert.is(server.counters.jobs_replaced, 1);
});

test("a step is refused, and so is a window by a model that takes steps; the connection stays", async ({
  model,
  remote,
  server,
  path,
}) => {
  const steps = new CountingInference();
  const own = socketPath();
  const other = new InferenceServer(steps, {});
  await other.listen(own);
  const socket = await connected(own);
  const { header, payload } = encodeWindow(request(model), 5, 1000);
  const answer = new Promise<string>((resolve) => {
    let text = "";
    socket.on("data", (d) => {
      text += d.toString("latin1");
      if (text.includes('"error"')) resolve(text);
    });
  });
  socket.write(encodeFrame(header, payload));
  assert.match(await within(5000, answer, "the refusal"), "no whole windows");
  socket.destroy();
  await other.close();
  await rm(own, { force: true });

  const raw = createConnection(path);
  const refused = new Promise<string>((resolve) => {
    let text = "";
    raw.on("data", (d) => {
      text += d.toString("latin1");
      if (text.includes('"error"')) resolve(text);
    });
  });
  const { encodeStep } = await import("../../src/model/inference/protocol.js");
  const step = encodeStep(stepOf(0), 9, 1000);
  raw.write(encodeFrame(step.header, step.payload));
  assert.match(await within(5000, refused, "the refusal"), "takes whole windows, no steps");
  raw.destroy();
  assert.is((await remote.window(request(model))).gains.bins, 1025);
  assert.is(server.counters.connections_malformed, 0);
});

test("sizes that do not fit are said so, or end the connection; no process dies of it", async ({
  model,
  remote,
  server,
  path,
}) => {
  const short = request(model, { left: new Float32Array(100) });
  assert.match(await code(remote.window(short)), "RangeError");
  const few = request(model, { pictures: new Uint8Array(10) });
  assert.match(await code(remote.window(few)), "RangeError");
  const bad = request(model);
  bad.left[7] = Number.NaN;
  assert.is(await code(remote.window(bad)), "SL_INFERENCE_FAILED");

  const raw = createConnection(path);
  const closed = new Promise<void>((resolve) => raw.once("close", () => resolve()));
  raw.resume();
  const { header } = encodeWindow(request(model), 1, 1000);
  raw.write(encodeFrame(header, new Uint8Array(12)));
  await within(5000, closed, "the end of the connection");
  assert.is(server.counters.connections_malformed, 1);
  assert.throws(() => decodeWindow(header, Buffer.alloc(3)), /came with 3 bytes/);
  const said = {
    t: "window",
    id: 1,
    atSample: 0,
    hopSamples: 768,
    frames: 2,
    bins: 3,
    binHz: 10,
    logit: 0,
    engineMs: 1,
  } as const;
  assert.throws(() => decodeAnswer({ ...said, map: { height: 1, width: 1 } }, Buffer.alloc(4)), /came with 4 bytes/);
});

test("a model that separates nothing, or sees nothing, is refused by name", async ({ folder }) => {
  for (const [preset, lacks] of [
    ["shift", /separates nothing/],
    ["unet_pit", /sees no pictures/],
  ] as const) {
    const model = await windowModel(folder.path, preset);
    let said = "";
    await LocalWindows.open(model, { threads: 1 }).catch((e: Error) => {
      said = e.message;
    });
    assert.match(said, lacks);
    await readLiveCard(model).then(
      () => assert.unreachable(),
      (e: { code: string }) => assert.is(e.code, "SL_MODEL_INVALID"),
    );
  }
  assert.is((await readLiveCard(join(folder.path, "model-full"))).kind, "window");
});

test.run();
