import { cpus } from "node:os";
import { OnnxEngine, type TensorMap, tensor } from "../src/model/engines/onnxruntime.js";
import { StepNetwork } from "../src/model/inference/step-network.js";
import { initialStates } from "../src/model/initial-states.js";
import { loadedFrom, makeLive } from "../src/model/live/build.js";
import { type LiveConfig, liveConfig, UNIT } from "../src/model/live/config.js";
import type { WeightTensor } from "../src/model/weights.js";
import { liveShapes, noiseWeight } from "../test/model/noise.js";

/**
 * Cost of the live model on this machine: milliseconds of one step by its number of units (40 ms each) and of faces, one thread.
 *
 *     npx tsx bench/step.ts [kind:width:blocks[:side] ...]         default lite:320:2:80 band:64:10:80
 */
function config(text: string): LiveConfig {
  const [kind, width, blocks, side = "64"] = text.split(":");
  return liveConfig.parse({
    side: Number(side),
    widths: [24, 48, 96, 128],
    hidden: 256,
    separator: { kind, width: Number(width), blocks: Number(blocks), ...(kind === "band" ? { hidden: 160 } : {}) },
    attribution: {
      hidden: 96,
      dim: 64,
      bands: 40,
      lags: 4,
      ...(kind === "band" ? { eyes: 2, speaker: 64 } : { eyes: 1 }),
    },
    vdim: 128,
    vhidden: 96,
    edim: 64,
  });
}

function percentile(sorted: readonly number[], p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!;
}

async function measure(
  network: StepNetwork,
  c: LiveConfig,
  initial: TensorMap,
  units: number,
  faces: number,
  runs: number,
): Promise<{ times: number[]; cpuMs: number }> {
  const samples = (): TensorMap[string] =>
    tensor(
      Float32Array.from({ length: units * UNIT }, () => Math.random() * 0.2 - 0.1),
      [1, units * UNIT],
    );
  const inputs: TensorMap = {
    crops: tensor(
      Uint8Array.from({ length: units * c.side ** 2 }, () => Math.random() * 255),
      [1, units, c.side, c.side],
    ),
    has_picture: tensor(Float32Array.of(1), [1, 1]),
    memory: tensor(new Float32Array(c.edim), [1, c.edim]),
    has_memory: tensor(Float32Array.of(0), [1, 1]),
  };
  const now = Array.from({ length: faces }, () => initial);
  const times: number[] = [];
  let before = process.cpuUsage();
  for (let i = -3; i < runs; i++) {
    if (i === 0) before = process.cpuUsage();
    const sound = samples();
    const begin = performance.now();
    for (const [face, states] of now.entries()) {
      const y = await network.run(states, { ...inputs, samples: sound });
      now[face] = Object.fromEntries(Object.keys(initial).map((name) => [name, y[`${name}_next`]!]));
    }
    if (i >= 0) times.push(performance.now() - begin);
  }
  const used = process.cpuUsage(before);
  return { times: times.sort((a, b) => a - b), cpuMs: (used.user + used.system) / 1000 / runs };
}

const models = process.argv.slice(2);
console.log(
  `${await OnnxEngine.version()}, Node ${process.version}, ${cpus()[0]?.model ?? "?"} (${cpus().length} cores), 1 thread, weights random`,
);
console.log(
  "model            | parameters  GMAC/s  file MB  load ms | units   faces sound ms  p50 ms  p95 ms  p99 ms  cpu ms  share of a core",
);
for (const model of models.length > 0 ? models : ["lite:320:2:80", "band:64:10:80"]) {
  const c = config(model);
  const weights = new Map<string, WeightTensor>(
    Object.entries(liveShapes(c)).map(([name, shape]) => [name, noiseWeight(name, shape)]),
  );
  const built = makeLive({ tensors: weights, notes: { config: JSON.stringify(c) } }, { name: model, version: "1" });
  const { card, files } = built;
  const { "voice.onnx": _, ...parts } = files;
  const megabytes = Object.values(parts).reduce((n, bytes) => n + bytes.length, 0) / 1e6;
  const begin = performance.now();
  const network = await StepNetwork.open(loadedFrom(built, model), { threads: 1 });
  const load = performance.now() - begin;
  const head = `${model.padEnd(16)} | ${(card.parameters / 1e6).toFixed(2).padStart(8)} M ${(card.macPerSecond / 1e9).toFixed(2).padStart(7)} ${megabytes.toFixed(1).padStart(8)} ${load.toFixed(0).padStart(8)} |`;
  for (const [units, faces, runs] of [
    [1, 1, 150],
    [1, 4, 60],
    [3, 1, 80],
    [3, 2, 60],
    [3, 4, 40],
    [5, 1, 50],
    [52, 1, 6],
  ] as const) {
    const { times, cpuMs } = await measure(network, c, initialStates(card.states), units, faces, runs);
    const p50 = percentile(times, 0.5);
    const cells = [units, faces, units * 40, p50, percentile(times, 0.95), percentile(times, 0.99), cpuMs].map((v) =>
      (Number.isInteger(v) ? String(v) : v.toFixed(2)).padStart(8),
    );
    console.log(`${head} ${cells.join("")} ${((100 * cpuMs) / (units * 40)).toFixed(1).padStart(8)} %`);
  }
  await network.close();
}
