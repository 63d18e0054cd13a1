import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../bench/support/numbers.js";
import { publish } from "../../bench/support/publisher.js";
import { compareVideo, oddSteps, Taker } from "../../bench/support/taker.js";
import { Stage } from "./stage.js";

const test = suite<{ stage: Stage }>("a changed configuration file");
test.before(async (t) => {
  t.stage = await Stage.open();
});
test.after.each((t) => t.stage.clear());
test.after((t) => t.stage.close());

test("restarts only the changed channel, whose players stay; live settings restart none; a faulty file changes nothing", async ({
  stage,
}) => {
  const product = await stage.product({ channels: { a: { key: "key-a" }, b: { key: "key-b" } } });
  const input = stage.add(await Taker.open(product.inFlv("a")), (x) => x.close());
  const output = stage.add(await Taker.open(product.outFlv("a")), (x) => x.close());
  const restarted = stage.add(await Taker.open(product.outFlv("b")), (x) => x.close());
  for (const name of ["a", "b"]) stage.add(publish(stage.clip, product.publishUrl(`key-${name}`), 55), (x) => x.stop());
  const newest = (name: string) => product.statuses.findLast((s) => s.status.name === name)?.status;
  await until("both separated", () => newest("a")?.mode === "separated" && newest("b")?.mode === "separated");
  await until("pictures of b", () => restarted.pictures.length > 60);
  const before = await product.pids();
  const declared = newest("b")!.declaredLatencyMs;

  product.reconfigure({
    channels: { a: { key: "key-a", strengthPercent: 40 }, b: { key: "key-b", profile: "low" } },
  });
  await until("a's new strength", () => newest("a")?.strengthPercent === 40);
  await until("b's new latency", () => (newest("b")?.declaredLatencyMs ?? declared) < declared);
  const seen = restarted.pictures.length;
  await until("b on air again", () => newest("b")?.source === "live" && newest("b")?.mode === "separated");
  await until("pictures of b again", () => restarted.pictures.length > seen + 60);
  assert.equal(restarted.ends, [], "b's player stayed");
  const times = restarted.pictures.map((picture) => picture.dtsMs);
  assert.equal(
    times.filter((ms, i) => i > 0 && ms <= times[i - 1]!),
    [],
    "b's times go on",
  );
  const after = await product.pids();
  for (const [name, pid] of before) assert.is(after.get(name) === pid, name !== "channel:b", name);

  writeFileSync(join(product.folder, "sightline.yml"), "channels:\n  a: { key: key-a, profil: low }\n");
  const faulty = await until("the fault in the state", async () => (await product.state()).configError);
  assert.match(faulty, "channels.a.profil");
  assert.equal([...(await product.pids())], [...after]);
  product.reconfigure({ channels: { a: { key: "key-a" }, b: { key: "key-b", profile: "low" } } });
  await until("good again", async () => (await product.state()).configError === null);
  await until("a's strength of the file", () => newest("a")?.strengthPercent === 100);

  const video = compareVideo(input.pictures, output.pictures);
  assert.equal([video.lost, video.changed], [0, 0], "channel a did not notice");
  assert.equal(oddSteps(output.sounds), []);
});

test.run();
