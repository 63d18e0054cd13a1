import { setTimeout as wait } from "node:timers/promises";
import { Subject } from "rxjs";
import * as assert from "uvu/assert";
import { latencyPlan, MAX_LOOK_AHEAD_MS } from "../../src/channel/latency.js";
import { MediaClock } from "../../src/channel/media-clock.js";
import { Separation, stepsOf } from "../../src/channel/separation.js";
import { StageTimes } from "../../src/channel/stats.js";
import type { StepOutcome } from "../../src/channel/step-runner.js";
import { channelConfig } from "../../src/config/schema.js";
import type { Inference } from "../../src/model/inference.js";
import { seamCounter } from "../../src/pipeline/operators/seam.js";
import { SAMPLE_RATE } from "../../src/pipeline/types.js";
import { noise } from "../model/noise.js";
import { runnerSuite, UNIT } from "./step-stage.js";

const test = runnerSuite("separation");
const BLOCK = 960;

for (const [what, lookAheadMs, units] of [
  ["the look-ahead of its profile", undefined, 30],
  ["the longest look-ahead", MAX_LOOK_AHEAD_MS, 100],
] as const)
  test(`${what}: a source that stops is decided about with what is known, all of its sound leaves, with every step in order`, ({
    model,
  }) => stopped(model, lookAheadMs, units));

async function stopped(model: Inference, lookAheadMs: number | undefined, lookAheadUnits: number): Promise<void> {
  const config = channelConfig.parse({ key: "k", profile: "quality", lookAheadMs });
  const plan = latencyPlan(config.profile, model.card, config);
  assert.is(plan.lookAheadUnits, lookAheadUnits);
  const clock = new MediaClock(false, plan.declaredMs);
  let rendered = 0;
  const separation = new Separation({
    name: "test",
    config,
    geometry: model.card,
    plan,
    clock,
    inference: model,
    noModel: "SL_MODEL_INVALID",
    stages: new StageTimes(),
    log: () => {},
    needsRemoved: () => false,
    onRendered: ({ kept }) => {
      assert.is(kept.atSample, rendered);
      rendered += kept.channels[0]!.length;
    },
  });
  const changes = new Subject<void>();
  const outcomes: StepOutcome[] = [];
  stepsOf(separation, { ...seamCounter(), joined: 0 })(changes).subscribe((outcome) => outcomes.push(outcome));
  const sound = Float32Array.from(noise("speech", lookAheadUnits * UNIT + SAMPLE_RATE), (v) => v * 0.2);
  for (let at = 0; at < sound.length; at += BLOCK) {
    const nowMs = performance.now();
    const unit = clock.place({ kind: "sound" as const, ptsMs: (1000 * at) / SAMPLE_RATE, data: null }, nowMs);
    separation.takeSound({ ptsMs: unit.ptsMs, channels: [sound.subarray(at, at + BLOCK)] });
    changes.next();
    await wait(1);
  }
  await wait(50);
  const steps = Math.floor(sound.length / UNIT / plan.hopUnits);
  const atOnce = outcomes.length;
  assert.is(atOnce, steps - plan.lookAheadUnits / plan.hopUnits, "the newest wait for what would come");
  const until = performance.now() + plan.declaredMs + 5000;
  while (outcomes.length < steps && performance.now() < until) {
    changes.next();
    await wait(10);
  }
  assert.equal(
    outcomes.map((o) => o.layout.atSample - model.card.firstFrameOffset),
    outcomes.map((_, i) => i * plan.hopUnits * UNIT),
  );
  assert.is(outcomes.length, steps);
  assert.is(separation.counters.steps_late, 0, "each was decided about before its sound left");
  while (rendered < sound.length - SAMPLE_RATE / 10 && performance.now() < until) {
    changes.next();
    await wait(10);
  }
  assert.ok(rendered >= sound.length - SAMPLE_RATE / 10, `${rendered}`);
  separation.close();
}

test.run();
