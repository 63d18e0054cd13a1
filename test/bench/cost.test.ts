import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { measureCost } from "../../bench/quality/cost.js";
import { costTable, modelTable, summarise } from "../../bench/quality/table.js";
import { readCard } from "../../src/model/cards.js";
import { buildLive } from "../../src/model/live/build.js";
import { windowModel } from "../channel/window-stage.js";
import { clipFolder } from "../gst/clip.js";
import { noiseLive } from "../model/noise.js";

const models = clipFolder();
const test = suite("cost in the quality bench");
test.after(() => models.remove());

/** What a channel declares for the window model, in milliseconds: hop, guard of 300 and cross-fade of 64, latency. */
const DECLARED = [
  ["low", 240, 604, 922],
  ["balanced", 400, 764, 1332],
  ["quality", 600, 964, 1932],
] as const;

test("the cost of a window model: at each profile's hop, on one thread and on two; beside a stream model's", async () => {
  const folder = await windowModel(models.path);
  const [card, cost] = [await readCard(folder), await measureCost(folder)];
  assert.ok(card.kind === "window" && cost.kind === "window");
  assert.equal([cost.parameters, cost.macPerWindow, cost.guardMs], [card.parameters, card.macPerWindow, 364]);
  for (const [name, hopMs, guardAndHopMs, declaredMs] of DECLARED) {
    const p = cost.profiles[name];
    assert.equal([p.hopMs, p.guardAndHopMs, p.declaredMs], [hopMs, guardAndHopMs, declaredMs], name);
    assert.ok(Math.abs(p.macPerSecond * (hopMs / 1000) - card.macPerWindow) < 1, name);
    for (const threads of [1, 2] as const) {
      assert.ok(cost.engineMs[threads] > 0 && cost.windowMs[threads] > cost.engineMs[threads]);
      // The same processor time for every hop.
      const cpuMs = p.coreShare[threads] * hopMs;
      assert.ok(cpuMs > 0 && Math.abs(cpuMs - cost.profiles.low.coreShare[threads] * 240) < 1e-6, `${name}: ${cpuMs}`);
    }
  }
  const table = costTable(cost).join("\n");
  assert.match(table, /guard 364 ms/);
  for (const [name, ...times] of DECLARED)
    assert.ok(table.includes(`| \`${name}\` | ${times.map((t) => `${t} ms`).join(" | ")} |`), table);

  await buildLive(noiseLive(), { name: "tiny", version: "1" }, join(models.path, "stream"));
  const stream = await measureCost(join(models.path, "stream"));
  assert.equal(costTable(stream), []);
  const rows = [stream, cost].map((c, i) => ({ name: `model ${i}`, summary: summarise([], c) }));
  assert.equal(
    rows.map((r) => r.summary.map((f) => f.head)),
    [
      [
        "engine a hop, `low`, one thread",
        "engine a hop, `balanced`, one thread",
        "share of one core, `balanced`, one face",
        "multiply-adds per second of feed",
        "look-ahead, `balanced`",
        "look-ahead, `quality`",
        "guard + hop, `low`",
        "guard + hop, `balanced`",
        "declared latency, `balanced`",
        "declared latency, `quality`",
      ],
      [
        "a window, one thread",
        "a window, two threads",
        "share of one core, `balanced`, one face",
        "multiply-adds per second of feed, `balanced`",
        "guard + hop, `low`",
        "guard + hop, `balanced`",
        "declared latency, `balanced`",
        "declared latency, `quality`",
      ],
    ],
  );
  assert.match(modelTable(rows).at(-1)!, /\| 604\.0 ms \| 764\.0 ms \|/);
});

test.run();
