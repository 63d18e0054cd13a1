import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../bench/support/numbers.js";
import type { Product } from "../../bench/support/product.js";
import { publish } from "../../bench/support/publisher.js";
import { compare } from "../../bench/support/session.js";
import { largestStep } from "../../bench/support/sound.js";
import { oddSteps, Taker } from "../../bench/support/taker.js";
import { Stage } from "./stage.js";

const test = suite<{ stage: Stage }>("kill -9 in mid-stream");
test.before(async (t) => {
  t.stage = await Stage.open();
});
test.after.each((t) => t.stage.clear());
test.after((t) => t.stage.close());

type Scene = { product: Product; input: Taker; output: Taker };

async function live(stage: Stage): Promise<Scene> {
  const product = await stage.product({ channels: { one: { key: "key-1" } } });
  const input = stage.add(Taker.openForEver(product.inFlv("one")), (x) => x.close());
  const output = stage.add(Taker.openForEver(product.outFlv("one")), (x) => x.close());
  await until("both players waiting", async () => (await product.state()).gateway.players === 2);
  stage.add(publish(stage.clip, product.publishUrl("key-1"), 60), (x) => x.stop());
  await until("mode separated", () => product.statuses.at(-1)?.status.mode === "separated");
  await until("two seconds at the player", () => output.pictures.length > 60);
  return { product, input, output };
}

async function kill(product: Product, name: string): Promise<number> {
  process.kill(await product.pid(name), "SIGKILL");
  return product.statuses.length;
}

/** Waits for a report after the first `from` ones. */
function report(product: Product, from: number, mode: string, source: string): Promise<{ reason: string | null }> {
  return until(
    `a report with mode ${mode}, source ${source}`,
    () => product.statuses.slice(from).find(({ status: s }) => s.mode === mode && s.source === source)?.status,
  );
}

test("inference: bypass with its reason, separated again by itself; no picture lost, no gap and no click", async ({
  stage,
}) => {
  const { product, input, output } = await live(stage);
  const from = await kill(product, "inference");
  const killedAt = input.pictures.at(-1)!.ptsMs;
  assert.is((await report(product, from, "bypass", "live")).reason, "SL_INFERENCE_DOWN");
  const bypassed = product.statuses.length;
  await report(product, bypassed, "separated", "live");
  const count = output.pictures.length;
  await until("two seconds more", () => output.pictures.length > count + 60);

  const c = await compare(input, output);
  assert.equal([c.video.lost, c.video.changed], [0, 0]);
  assert.equal(oddSteps(output.sounds), []);
  assert.equal(output.ends, []);
  const to = output.sounds.at(-1)!.ptsMs - c.pictureShiftMs;
  const stepIn = largestStep(c.input, killedAt - 1000, to);
  const stepOut = largestStep(c.output, killedAt - 1000 + c.pictureShiftMs, to + c.pictureShiftMs);
  // A tenth for the noise of coding AAC a second time.
  assert.ok(stepOut <= 1.1 * stepIn, `largest step ${stepOut}, in the input ${stepIn}`);
  assert.is((await product.state()).processes.find((p) => p.name === "inference")!.restarts, 1);
});

test("channel: on air again with a key frame for the players that stayed; publisher and the rest untouched", async ({
  stage,
}) => {
  const { product, input, output } = await live(stage);
  const before = await product.pids();
  const from = await kill(product, "channel:one");
  const pictures = output.pictures.length;
  const lastMs = input.pictures.at(-1)!.ptsMs;
  await report(product, from, "separated", "live");
  // What the gateway still had comes first; then the new process' first picture, which is of after the kill.
  const fresh = await until("pictures again", () =>
    output.pictures.slice(pictures).find((p) => p.ptsMs > lastMs + 1000 && p.key),
  );
  await until("sound with them", () => output.sounds.some((s) => s.ptsMs > fresh.ptsMs));
  assert.equal(input.ends, [], "the publisher stayed");
  const after = await product.pids();
  for (const [name, pid] of before) assert.is(after.get(name) === pid, name !== "channel:one", name);
});

test("gateway: the channel stays up and says stalled; publishers and players are let in again at once", async ({
  stage,
}) => {
  const { product, input, output } = await live(stage);
  const before = await product.pids();
  const from = await kill(product, "gateway");
  const stalled = await until("a report that says stalled", () =>
    product.statuses.slice(from).find((s) => s.status.source === "stalled"),
  );
  assert.is(stalled.status.reason, "SL_GATEWAY_DOWN");
  await until("gateway up", async () => (await product.get("/readyz")).status === 200);
  const pictures = input.pictures.length;
  stage.add(publish(stage.clip, product.publishUrl("key-1"), 60), (x) => x.stop());
  await until("pictures in", () => input.pictures.length > pictures + 30);
  const seen = output.pictures.length;
  await until("pictures out", () => output.pictures.length > seen + 30);
  await report(product, product.statuses.length, "separated", "live");
  const after = await product.pids();
  for (const [name, pid] of before) assert.is(after.get(name) === pid, name !== "gateway", name);
});

test.run();
