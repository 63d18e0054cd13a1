import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { InferenceServer } from "../../src/model/inference/child.js";
import { encodeStep } from "../../src/model/inference/protocol.js";
import { RemoteInference, type RemoteOptions } from "../../src/model/inference/remote.js";
import { encodeFrame } from "../../src/transport/ipc/frame.js";
import { CountingInference, cardOf, code, connected, socketPath, stepOf, until, within } from "./stage.js";

type Context = {
  path: string;
  model: CountingInference;
  server: InferenceServer;
  faults: string[];
  open: (more?: Partial<RemoteOptions>) => Promise<RemoteInference>;
  remotes: RemoteInference[];
};
const test = suite<Context>("inference over a socket");

test.before.each(async (t) => {
  t.path = socketPath();
  t.model = new CountingInference();
  t.faults = [];
  t.remotes = [];
  t.server = new InferenceServer(t.model, { onFault: (message) => t.faults.push(message) });
  await t.server.listen(t.path);
  t.open = async (more = {}) => {
    const remote = new RemoteInference({ socket: t.path, card: t.model.card, ...more });
    t.remotes.push(remote);
    assert.ok(await remote.whenConnected(5000));
    return remote;
  };
});
test.after.each(async (t) => {
  t.model.release();
  for (const remote of t.remotes) await remote.close();
  await within(5000, t.server.close(), "close");
  await rm(t.path, { force: true });
});

test("steps and detections are answered, each to whom it asked", async (t) => {
  const [one, two] = [await t.open(), await t.open()];
  const answers = await Promise.all([
    one.step(stepOf(0, { track: 1 })),
    one.step(stepOf(0, { track: 2 })),
    two.step(stepOf(0, { track: 3 })),
  ]);
  assert.equal(
    answers.map((a) => a.gains.data[0]),
    [1, 2, 3],
  );
  const rgb = new Uint8Array(3 * 8 * 8).fill(51);
  assert.ok(Math.abs((await two.detectFaces(rgb, 8))[0]!.x - 0.2) < 1e-6);
  assert.is(t.model.most, 1);
});

test("one job at a time, the earliest deadline first", async (t) => {
  const [calm, urgent] = [await t.open({ stepDeadlineMs: 20_000 }), await t.open({ stepDeadlineMs: 5000 })];
  t.model.hold();
  const first = calm.step(stepOf(0, { track: 1 }));
  await until("first is running", () => t.model.running === 1);
  const rest = [calm.step(stepOf(0, { track: 2 })), calm.step(stepOf(0, { track: 3 }))];
  await until("two wait", () => t.server.waiting === 2);
  rest.push(urgent.step(stepOf(0, { track: 4 })));
  await until("three wait", () => t.server.waiting === 3);
  t.model.release();
  await Promise.all([first, ...rest]);
  assert.equal(
    t.model.order.map((o) => o.split("@")[0]),
    ["a:1", "a:4", "a:2", "a:3"],
  );
  assert.is(t.model.most, 1);
});

test("of one track at most one waits: the latest wins, the replaced one is late", async (t) => {
  const remote = await t.open();
  t.model.hold();
  const running = remote.step(stepOf(0));
  await until("running", () => t.model.running === 1);
  const [second, third, fourth] = [
    remote.step(stepOf(1)),
    remote.step(stepOf(2)),
    remote.step(stepOf(5, { reset: true })),
  ];
  assert.is(await within(5000, code(second), "second"), "SL_INFERENCE_LATE");
  assert.is(await within(5000, code(third), "third"), "SL_INFERENCE_LATE");
  t.model.release();
  assert.is((await running).gains.atSample, 0);
  assert.is((await fourth).gains.atSample, 5 * 1920);
  assert.is(t.server.counters.jobs_replaced, 2);
  // The state is that of the step that ran last: going on from it is possible.
  assert.is((await remote.step(stepOf(6))).gains.atSample, 6 * 1920);
});

test("what is too late when its turn comes is not run", async (t) => {
  const [one, two] = [await t.open(), await t.open({ stepDeadlineMs: 1 })];
  t.model.hold();
  const running = one.step(stepOf(0));
  await until("running", () => t.model.running === 1);
  const late = code(two.step(stepOf(0)));
  await until("one waits", () => t.server.waiting === 1);
  // Its deadline is one millisecond after its arrival.
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.model.release();
  await running;
  assert.is(await late, "SL_INFERENCE_LATE");
  assert.is(t.server.counters.jobs_late, 1);
  assert.is(t.model.order.length, 1);
});

test("states end with the connection, also that of a step under way, and only those", async (t) => {
  const [one, two] = [await t.open(), await t.open()];
  await one.step(stepOf(0));
  await one.step(stepOf(0, { track: 2, session: "b" }));
  await two.step(stepOf(0));
  assert.is(t.model.states.size, 3);
  t.model.hold();
  const cut = code(one.step(stepOf(0, { track: 9 })));
  await until("running", () => t.model.running === 1);
  await one.close();
  assert.is(await cut, "SL_INFERENCE_DOWN");
  t.model.release();
  await until("states are gone", () => t.model.states.size === 1);
  assert.is((await two.step(stepOf(1))).gains.atSample, 1920);
});

test("a forgotten track must be reset; other tracks go on", async (t) => {
  const remote = await t.open();
  await remote.step(stepOf(0));
  await remote.step(stepOf(0, { track: 2 }));
  remote.forget("a", 1);
  assert.is(await code(remote.step(stepOf(1))), "SL_INFERENCE_STATE_LOST");
  assert.is((await remote.step(stepOf(1, { track: 2 }))).gains.atSample, 1920);
  remote.forget("a");
  assert.is(await code(remote.step(stepOf(2, { track: 2 }))), "SL_INFERENCE_STATE_LOST");
  await remote.step(stepOf(3, { reset: true }));
  assert.is(t.model.states.size, 1);
});

test("malformed frames and requests close their connection, and nobody else's", async (t) => {
  const remote = await t.open();
  const step = encodeStep(stepOf(0), 1, 100);
  const bad: Buffer[] = [
    Buffer.from("GET / HTTP/1.1\r\n\r\n"),
    Buffer.from([0, 0, 0, 1, 0]),
    Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0]),
    encodeFrame({ t: "nothing" }),
    encodeFrame(step.header, step.payload.subarray(1)),
    encodeFrame({ ...step.header, samples: 1e12 }, step.payload),
    encodeFrame({ t: "detect", id: 1, side: 8, deadlineMs: 10 }, Buffer.alloc(5)),
  ];
  for (const bytes of bad) {
    const socket = await connected(t.path);
    socket.on("error", () => {});
    socket.resume();
    socket.write(bytes);
    await within(5000, once(socket, "close"), `closed after ${bytes.toString("latin1").slice(0, 40)}`);
  }
  assert.is(t.server.counters.connections_malformed, bad.length);
  assert.is(t.faults.length, bad.length);
  assert.is((await remote.step(stepOf(0))).gains.atSample, 0);
});

test("seeded rubbish never harms the server", async (t) => {
  const remote = await t.open();
  const good = [
    encodeFrame(encodeStep(stepOf(0), 1, 100).header, encodeStep(stepOf(0), 1, 100).payload),
    encodeFrame({ t: "forget", session: "a" }),
    encodeFrame({ t: "detect", id: 1, side: 2, deadlineMs: 10 }, Buffer.alloc(12)),
  ];
  let seed = 12345;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (let round = 0; round < 60; round++) {
    const bytes = Buffer.from(good[random(3)]!);
    for (let k = 0; k <= random(6); k++) bytes[random(Math.min(bytes.length, 200))] = random(256);
    const socket = await connected(t.path);
    socket.on("error", () => {});
    socket.resume();
    socket.end(bytes);
    await within(5000, once(socket, "close"), `round ${round}`);
  }
  assert.is((await remote.step(stepOf(0))).gains.atSample, 0);
  await until("all states but ours are gone", () => t.model.states.size === 1);
});

test("a request without an answer is given up, its track must be reset, and its late answer is ignored", async (t) => {
  const remote = await t.open({ timeoutMs: 80 });
  await remote.step(stepOf(0));
  t.model.hold();
  assert.is(await within(5000, code(remote.step(stepOf(1))), "time-out"), "SL_INFERENCE_LATE");
  assert.is(await code(remote.step(stepOf(2))), "SL_INFERENCE_STATE_LOST");
  t.model.release();
  await until("idle", () => t.model.running === 0);
  assert.is((await remote.step(stepOf(9, { reset: true }))).gains.atSample, 9 * 1920);
  assert.is(remote.counters.timeouts, 1);
});

test("requests are bounded: too many at once are refused as late", async (t) => {
  const remote = await t.open();
  t.model.hold();
  const all = Array.from({ length: 80 }, (_, i) => code(remote.step(stepOf(0, { track: i }))));
  await until("one is running", () => t.model.running === 1);
  t.model.release();
  const codes = await within(10_000, Promise.all(all), "answers");
  assert.is(codes.filter((c) => c === "taken").length, 64);
  assert.is(codes.filter((c) => c === "SL_INFERENCE_LATE").length, 16);
});

test("another model than the card's is refused by name", async (t) => {
  const remote = await t.open({ card: cardOf("1".repeat(64)) });
  assert.is(await code(remote.step(stepOf(0))), "SL_MODEL_INVALID");
});

test("a server that answers nonsense is left and tried again", async (t) => {
  const path = socketPath();
  let accepted = 0;
  const odd = createServer((socket) => {
    accepted++;
    socket.on("error", () => {});
    socket.write(accepted % 2 ? "nonsense that is no frame at all" : encodeFrame({ t: "hello" }));
  });
  await new Promise<void>((resolve) => odd.listen(path, resolve));
  const remote = new RemoteInference({ socket: path, card: t.model.card, firstRetryMs: 5, lastRetryMs: 20 });
  await until("three attempts", () => accepted >= 3);
  assert.is(remote.connected, false);
  assert.is(await code(remote.step(stepOf(0))), "SL_INFERENCE_DOWN");
  await remote.close();
  await new Promise((resolve) => odd.close(resolve));
});

test("after close everything is refused, and closing twice is harmless", async (t) => {
  const remote = await t.open();
  t.model.hold();
  const waiting = code(remote.step(stepOf(0)));
  await remote.close();
  await remote.close();
  assert.is(await waiting, "SL_INFERENCE_DOWN");
  assert.is(await code(remote.detectFaces(new Uint8Array(3), 1)), "SL_INFERENCE_DOWN");
  remote.forget("a");
  assert.is(await remote.whenConnected(10), false);
});

test.run();
