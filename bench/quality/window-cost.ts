import { HOP_UNITS, latencyPlan, type ModelGeometry, type Profile } from "../../src/channel/latency.js";
import { geometryOf } from "../../src/channel/model-stage.js";
import type { WindowCard } from "../../src/model/card.js";
import { LocalWindows } from "../../src/model/inference/local-windows.js";
import { SAMPLE_RATE } from "../../src/pipeline/types.js";
import { random } from "../val/metrics.js";
import { median } from "./condition.js";

/** With one thread and with two. */
type ByThreads = Readonly<Record<1 | 2, number>>;

/** Of a model that is called with whole windows. It looks at the picture as a whole: the same for any number of faces. */
export type WindowCost = {
  readonly kind: "window";
  readonly parameters: number;
  readonly macPerWindow: number;
  /** With what is cross-faded before it, as a channel has it. */
  readonly guardMs: number;
  /** Median of the time from sound and pictures of a window to its gains, and of the engine's share of it. */
  readonly windowMs: ByThreads;
  readonly engineMs: ByThreads;
  readonly profiles: Readonly<Record<Profile, WindowProfileCost>>;
};
export type WindowProfileCost = {
  readonly hopMs: number;
  readonly guardAndHopMs: number;
  /** All that a sample waits for in a channel (src/channel/latency.ts). */
  readonly declaredMs: number;
  /** Multiply-adds per second of feed. */
  readonly macPerSecond: number;
  /** Processor time of a window, all threads, as a share of the hop: of one core. */
  readonly coreShare: ByThreads;
};

/** A large network takes seconds a window: then fewer runs have to do. */
const RUNS = { most: 22, least: 5, withinMs: 20_000 };
/** The first ones grow the engine's buffers. */
const WARM_UP = 2;
const ms = (samples: number): number => (1000 * samples) / SAMPLE_RATE;

/** @throws InferenceError SL_MODEL_INVALID, also for a network that hears only or that cannot separate */
export async function windowCost(folder: string): Promise<WindowCost> {
  const one = await measure(folder, 1);
  const two = await measure(folder, 2);
  const { card, geometry } = one;
  const guardMs = ms(geometry.guardSamples);
  const profile = (name: Profile): WindowProfileCost => {
    const hopMs = ms(HOP_UNITS.window[name] * geometry.unitSamples);
    return {
      hopMs,
      guardAndHopMs: hopMs + guardMs,
      declaredMs: latencyPlan(name, geometry).declaredMs,
      macPerSecond: (1000 * card.macPerWindow) / hopMs,
      coreShare: { 1: one.cpuMs / hopMs, 2: two.cpuMs / hopMs },
    };
  };
  return {
    kind: "window",
    parameters: card.parameters,
    macPerWindow: card.macPerWindow,
    guardMs,
    windowMs: { 1: one.wallMs, 2: two.wallMs },
    engineMs: { 1: one.engineMs, 2: two.engineMs },
    profiles: { low: profile("low"), balanced: profile("balanced"), quality: profile("quality") },
  };
}

type Measured = {
  readonly card: WindowCard;
  readonly geometry: ModelGeometry;
  readonly wallMs: number;
  readonly engineMs: number;
  readonly cpuMs: number;
};

/** Windows one after another, as the inference process runs them; the same noise in each. */
async function measure(folder: string, threads: keyof ByThreads): Promise<Measured> {
  const model = await LocalWindows.open(folder, { threads, engine: "cpu" });
  try {
    const { side, window } = model.card.paper;
    const draw = random(1);
    const noise = (): Float32Array => Float32Array.from({ length: window.samples }, () => 0.2 * (draw() - 0.5));
    const pictures = Uint8Array.from({ length: window.frames * 3 * side * side }, () => 256 * draw());
    const request = { session: "cost", atSample: 0, pictures, left: noise(), right: noise() };
    const times: { wallMs: number; engineMs: number; cpuMs: number }[] = [];
    const begin = performance.now();
    for (let i = 0; i < RUNS.most && (i < RUNS.least || performance.now() - begin < RUNS.withinMs); i++) {
      const [from, used] = [performance.now(), process.cpuUsage()];
      const { engineMs } = await model.window(request);
      const { user, system } = process.cpuUsage(used);
      if (i >= WARM_UP) times.push({ wallMs: performance.now() - from, engineMs, cpuMs: (user + system) / 1000 });
    }
    const of = (what: "wallMs" | "engineMs" | "cpuMs"): number => median(times.map((t) => t[what]));
    return {
      card: model.card,
      geometry: geometryOf(model),
      wallMs: of("wallMs"),
      engineMs: of("engineMs"),
      cpuMs: of("cpuMs"),
    };
  } finally {
    await model.close();
  }
}
