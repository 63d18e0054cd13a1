import { cpus, loadavg } from "node:os";
import { HOP_UNITS, latencyPlan, type Profile } from "../../src/channel/latency.js";
import type { StreamCard } from "../../src/model/card.js";
import { readCard } from "../../src/model/cards.js";
import { LocalInference } from "../../src/model/inference/local.js";
import type { Inference } from "../../src/model/inference.js";
import { SAMPLE_RATE } from "../../src/pipeline/types.js";
import { random } from "../val/metrics.js";
import { median } from "./condition.js";
import { type WindowCost, windowCost } from "./window-cost.js";

/** Times are those of this machine under the load that it had. */
export type Cost = (StreamCost | WindowCost) & { readonly machine: string };

/** Of a model that is called step by step, for one face. */
export type StreamCost = {
  readonly kind: "stream";
  readonly parameters: number;
  /** Multiply-adds per second of feed. */
  readonly macPerSecond: number;
  readonly guardMs: number;
  readonly profiles: Readonly<Record<Profile, ProfileCost>>;
};
export type ProfileCost = {
  readonly hopMs: number;
  readonly guardAndHopMs: number;
  readonly lookAheadMs: number;
  /** All that a sample waits for in a channel (src/channel/latency.ts). */
  readonly declaredMs: number;
  /** Median of the engine's time for one hop, one thread. */
  readonly engineMs: number;
  /** Engine time as a share of the hop: of one core. */
  readonly coreShare: number;
};

const RUNS = 40;
const ms = (samples: number): number => (1000 * samples) / SAMPLE_RATE;

/** When nothing else of this run is at work. @throws InferenceError SL_MODEL_INVALID */
export async function measureCost(folder: string): Promise<Cost> {
  const { kind } = await readCard(folder);
  const cost = kind === "window" ? await windowCost(folder) : await streamCost(folder);
  const load = loadavg()
    .map((x) => x.toFixed(1))
    .join(" ");
  return {
    ...cost,
    machine: `${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, load ${load}, Node ${process.version}`,
  };
}

/** With one thread. */
async function streamCost(folder: string): Promise<StreamCost> {
  const inference = await LocalInference.open(folder, { threads: 1 });
  try {
    const { card } = inference;
    const profiles: Partial<Record<Profile, ProfileCost>> = {};
    for (const profile of Object.keys(HOP_UNITS.stream) as Profile[]) {
      const units = HOP_UNITS.stream[profile];
      const hopMs = ms(units * card.unitSamples);
      const engineMs = median(await stepTimes(inference, card, units));
      const { declaredMs, lookAheadUnits } = latencyPlan(profile, card);
      profiles[profile] = {
        hopMs,
        guardAndHopMs: hopMs + ms(card.guardSamples),
        lookAheadMs: ms(lookAheadUnits * card.unitSamples),
        declaredMs,
        engineMs,
        coreShare: engineMs / hopMs,
      };
    }
    return {
      kind: "stream",
      parameters: card.parameters,
      macPerSecond: card.macPerSecond,
      guardMs: ms(card.guardSamples),
      profiles: profiles as Record<Profile, ProfileCost>,
    };
  } finally {
    await inference.close();
  }
}

async function stepTimes(inference: Inference, card: StreamCard, units: number): Promise<number[]> {
  const draw = random(units);
  const length = units * card.unitSamples;
  const samples = Float32Array.from({ length }, () => 0.2 * (draw() - 0.5));
  const crops = Uint8Array.from({ length: units * card.picture.side ** 2 }, () => 256 * draw());
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const step = {
      session: "cost",
      track: units,
      reset: i === 0,
      atSample: i * length,
      units,
      soundOf: null,
      personOf: null,
      memory: null,
    };
    const { engineMs } = await inference.step({ ...step, samples, crops, hasPicture: true });
    // The first ones grow the engine's buffers.
    if (i >= 3) times.push(engineMs);
  }
  inference.forget("cost");
  return times;
}
