import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../../bench/support/clip.js";
import { until } from "../../bench/support/numbers.js";
import { publish } from "../../bench/support/publisher.js";
import { isAlive, processTree } from "../../bench/support/resources.js";
import { compare } from "../../bench/support/session.js";
import { oddSteps, Taker } from "../../bench/support/taker.js";
import { Stage } from "./stage.js";

const run = promisify(execFile);
const test = suite<{ stage: Stage }>("the whole service");
test.before(async (t) => {
  t.stage = await Stage.open();
});
test.after.each((t) => t.stage.clear());
test.after((t) => t.stage.close());

test("the demonstration plays: picture untouched, sound there, state and metrics right", async ({ stage }) => {
  const shipped = existsSync(join(ROOT, "models", "live", "card.json"));
  const product = await stage.product({
    args: ["--demo"],
    models: shipped ? join(ROOT, "models") : stage.models,
  });
  const input = stage.add(await Taker.open(product.inFlv("demo")), (x) => x.close());
  const output = stage.add(await Taker.open(product.outFlv("demo")), (x) => x.close());
  await until("five seconds of the programme", () => output.pictures.length >= 150 && output.sounds.length >= 230);
  await until("mode separated", () => product.statuses.at(-1)?.status.mode === "separated");

  const c = await compare(input, output);
  assert.equal([c.video.lost, c.video.changed, c.sameConfig], [0, 0, true]);
  assert.equal(oddSteps(output.sounds), []);
  const loudest = c.output.planes[0]!.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  assert.ok(loudest > 0.01, "the sound is not silent");

  const [health, ready, metrics] = await Promise.all(["/healthz", "/readyz", "/metrics"].map((p) => product.get(p)));
  assert.is(health!.status, 200);
  assert.equal(await ready!.json(), { ready: true, waitingFor: [] });
  const text = await metrics!.text();
  for (const line of [
    'sightline_channel_up{channel="demo"} 1',
    'sightline_channel_source{channel="demo",state="live"} 1',
    'sightline_process_up{process="gateway"} 1',
    'sightline_process_up{process="inference"} 1',
    "sightline_gateway_publishers 1",
  ])
    assert.ok(text.includes(line), line);
  assert.match(text, /^sightline_channel_video_units_out_total\{channel="demo"\} [1-9]/m);
  assert.match(text, /^sightline_channel_declared_latency_seconds\{channel="demo"\} 0\.\d/m);

  const state = await product.state();
  assert.equal(
    state.processes.map((p) => [p.name, p.state, p.restarts]),
    ["gateway", "inference", "channel:demo", "demo-publisher"].map((name) => [name, "running", 0]),
  );
  const status = state.channels[0]!.status!;
  assert.is(status.source, "live");
  assert.equal(status.video && [status.video.codec, status.video.width, status.video.height], ["H.264", 1280, 720]);
  assert.equal(status.audio, { codec: "AAC", sampleRate: 48_000, channels: 2 });
  const parts = Object.values(status.latencyParts).reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(parts - status.declaredLatencyMs) < 1, "D is the sum of its parts");
});

test("ffmpeg plays the cleaned programme over RTMP and HTTP-FLV and decodes it without an error", async ({ stage }) => {
  const product = await stage.product({ channels: { one: { key: "key-1" } } });
  stage.add(publish(stage.clip, product.publishUrl("key-1"), 40), (x) => x.stop());
  await until("the first report of a live source", () => product.statuses.some((s) => s.status.source === "live"));
  const play = async (url: string): Promise<string> => {
    const args = ["-v", "error", "-xerror", "-i", url, "-t", "3", "-f", "framemd5", "-"];
    return (await run("ffmpeg", args, { timeout: 30_000 })).stdout;
  };
  for (const text of await Promise.all([play(product.outRtmp("one")), play(product.outFlv("one"))])) {
    const frames = text.split("\n").filter((line) => /^\d/.test(line));
    assert.ok(frames.filter((line) => line.startsWith("0")).length >= 80, "pictures");
    assert.ok(frames.filter((line) => line.startsWith("1")).length >= 120, "sound");
  }
});

test("SIGTERM in mid-stream ends every process within three seconds", async ({ stage }) => {
  const product = await stage.product({ channels: { one: { key: "key-1" }, two: { key: "key-2" } } });
  stage.add(publish(stage.clip, product.publishUrl("key-1"), 40), (x) => x.stop());
  const output = stage.add(await Taker.open(product.outFlv("one")), (x) => x.close());
  await until("pictures at the player", () => output.pictures.length > 10);
  const tree = processTree(product.process.pid!);
  // Supervisor, gateway, inference, two channels at least; a compiler of the TypeScript loader may be among them.
  assert.ok(tree.length >= 5, String(tree.length));
  const { ms, left, code } = await product.terminate();
  assert.equal([left, code], [[], 0]);
  assert.ok(ms < 3000, `${ms} ms`);
});

test("children end when the supervisor is killed and can end nothing any more", async ({ stage }) => {
  const product = await stage.product({ channels: { one: { key: "key-1" } } });
  stage.add(publish(stage.clip, product.publishUrl("key-1"), 40), (x) => x.stop());
  await until("the first report of a live source", () => product.statuses.some((s) => s.status.source === "live"));
  const pids = [...(await product.pids()).values()];
  process.kill(product.process.pid!, "SIGKILL");
  await until("the end of all of them", () => !pids.some(isAlive), 10_000);
});

test.run();
