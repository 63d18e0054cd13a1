import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { InferenceServer } from "../../src/model/inference/child.js";
import { LocalInference } from "../../src/model/inference/local.js";
import { RemoteInference } from "../../src/model/inference/remote.js";
import { InferenceError } from "../../src/model/inference.js";
import { loadedFrom, makeLive } from "../../src/model/live/build.js";
import { noise, noiseLive, tinyLite } from "./noise.js";

type Context = { folder: string; local: LocalInference; server: InferenceServer; remote: RemoteInference };
const test = suite<Context>("voice memory over the socket");

test.before(async (t) => {
  t.folder = await mkdtemp(join(tmpdir(), "sightline-remember-"));
  const model = loadedFrom(makeLive(noiseLive(tinyLite), { name: "tiny", version: "1" }), "tiny");
  t.local = await LocalInference.open(model, { threads: 1 });
  t.server = new InferenceServer(t.local);
  const socket = join(t.folder, "i.sock");
  await t.server.listen(socket);
  t.remote = new RemoteInference({ socket, card: model.card });
  assert.ok(await t.remote.whenConnected(5000));
});
test.after(async (t) => {
  await t.remote?.close();
  await t.server?.close();
  await t.local?.close();
  await rm(t.folder, { recursive: true, force: true });
});

const voice = (name: string, n = 48_000): Float32Array => Float32Array.from(noise(name, n), (v) => v * 0.1);

async function code(job: Promise<unknown>): Promise<string> {
  return job.then(
    () => "taken",
    (e: unknown) => (e instanceof InferenceError ? e.code : String(e)),
  );
}

test("gives the very numbers of the model in this process, other ones for another voice", async (t) => {
  const near = await t.local.remember("a", voice("one"));
  assert.equal(await t.remote.remember("a", voice("one")), near);
  assert.not.equal(await t.remote.remember("a", voice("two")), near);
  assert.is(near.length, tinyLite.edim);
});

test("sound that is a view into a larger buffer, and the longest allowed, go through", async (t) => {
  const want = await t.local.remember("a", voice("one"));
  const room = new Float32Array(48_007);
  room.set(voice("one"), 7);
  assert.equal(await t.remote.remember("a", room.subarray(7)), want);
  assert.is((await t.remote.remember("a", voice("long", 60 * 48_000))).length, tinyLite.edim);
});

test("too short, too long or broken sound is refused and the connection stays", async (t) => {
  assert.is(await code(t.remote.remember("a", voice("x", 23_999))), "SL_INFERENCE_FAILED");
  assert.is(await code(t.remote.remember("a", new Float32Array(60 * 48_000 + 1))), "SL_INFERENCE_FAILED");
  const broken = voice("x");
  broken[5] = Number.NaN;
  assert.is(await code(t.remote.remember("a", broken)), "SL_INFERENCE_FAILED");
  assert.ok(t.remote.connected);
  assert.is(t.remote.counters.connects, 1);
});

test("of one session the newest waiting voice wins, and sessions do not push each other out", async (t) => {
  const asked = ["one", "two", "three"].map((name) => code(t.remote.remember("a", voice(name))));
  const other = code(t.remote.remember("b", voice("one")));
  const [first, second, third] = await Promise.all(asked);
  assert.is(third, "taken");
  assert.is(await other, "taken");
  // How many were still waiting when the next one came depends on the socket.
  for (const older of [first, second]) assert.ok(older === "taken" || older === "SL_INFERENCE_LATE", older);
  assert.is([first, second].filter((c) => c === "SL_INFERENCE_LATE").length, t.server.counters.jobs_replaced);
});

test.run();
