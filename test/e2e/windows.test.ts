import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../bench/support/numbers.js";
import { publish } from "../../bench/support/publisher.js";
import { compare } from "../../bench/support/session.js";
import { oddSteps, Taker } from "../../bench/support/taker.js";
import { windowModel } from "../channel/window-stage.js";
import { Stage } from "./stage.js";

const test = suite<{ stage: Stage; model: string }>("a channel with a network of the paper");
test.before(async (t) => {
  t.stage = await Stage.open();
  t.model = await windowModel(t.stage.folder);
});
test.after.each((t) => t.stage.clear());
test.after((t) => t.stage.close());

test("windows are separated in time, with the source's place, beside a channel with steps; both outlive the killed network", async ({
  stage,
  model,
}) => {
  const product = await stage.product({
    channels: { paper: { key: "paper-key", model, profile: "balanced" }, face: { key: "face-key" } },
  });
  const input = stage.add(await Taker.open(product.inFlv("paper")), (x) => x.close());
  const output = stage.add(await Taker.open(product.outFlv("paper")), (x) => x.close());
  stage.add(publish(stage.clip, product.publishUrl("paper-key"), 60), (x) => x.stop());
  stage.add(publish(stage.clip, product.publishUrl("face-key"), 60), (x) => x.stop());
  const status = async (name: string) => (await product.status(name))!;
  const separated = (name: string) => async (): Promise<boolean> => (await status(name)).mode === "separated";
  await until("windows at work", separated("paper"));
  await until("steps at work", separated("face"));
  await until("ten seconds of it", () => output.pictures.length > 300, 30_000);

  const paper = await status("paper");
  assert.is(paper.counters.steps_failed, 0);
  // How many are: bench/soak and bench/windows, on a machine with time for it.
  assert.ok(paper.counters.steps_in_time! > 0, JSON.stringify(paper.counters));
  assert.is(paper.faces.length, 1);
  const { x, y, width, height } = paper.faces[0]!.box;
  assert.ok(x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= 1 && y + height <= 1);
  assert.ok(paper.latencyParts.guard! > 300, "the guard of a window");

  const pids = await product.pids();
  const network = [...pids].filter(([name]) => name.startsWith("inference"));
  assert.is(network.length, 2, "each model has a process of its own");
  for (const [, pid] of network) process.kill(pid, "SIGKILL");
  await until("the sound passes untouched", async () => (await status("paper")).reason === "SL_INFERENCE_DOWN");
  await until("windows again", separated("paper"), 30_000);
  await until("steps again", separated("face"), 30_000);
  const c = await compare(input, output);
  assert.equal([c.video.lost, c.video.changed], [0, 0]);
  assert.equal(oddSteps(output.sounds), []);
});

test.run();
