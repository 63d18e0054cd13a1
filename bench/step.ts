import { cpus } from "node:os";
import { OnnxEngine, type TensorMap, tensor } from "../src/model/engines/onnxruntime.js";
import { type LiveConfig, liveConfig, UNIT } from "../src/model/live/config.js";
import { stepGraph } from "../src/model/live/graph.js";
import type { WeightTensor } from "../src/model/weights.js";
import { liveShapes, noiseWeight } from "../test/model/noise.js";

/**
 * Cost of the live model on this machine: milliseconds of one step by its number of units (40 ms each), one thread.
 *
 *     npx tsx bench/step.ts [kind:width:blocks[:side] ...]         default lite:320:2:80 band:64:6:80
 */
function config(text: string): LiveConfig {
  const [kind, width, blocks, side = "64"] = text.split(":");
  return liveConfig.parse({
    side: Number(side),
    widths: [24, 48, 96, 128],
    hidden: 256,
    separator: { kind, width: Number(width), blocks: Number(blocks), ...(kind === "band" ? { hidden: 160 } : {}) },
    attribution: { hidden: 96, dim: 64, bands: 40, lags: 4, eyes: kind === "band" ? 2 : 1 },
    vdim: 128,
    vhidden: 96,
    edim: 64,
  });
}

function percentile(sorted: readonly number[], p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!;
}

async function measure(
  engine: OnnxEngine,
  c: LiveConfig,
  states: TensorMap,
  units: number,
  runs: number,
): Promise<{ times: number[]; cpuMs: number }> {
  const inputs: TensorMap = {
    samples: tensor(
      Float32Array.from({ length: units * UNIT }, () => Math.random() * 0.2 - 0.1),
      [1, units * UNIT],
    ),
    crops: tensor(
      Uint8Array.from({ length: units * c.side ** 2 }, () => Math.random() * 255),
      [1, units, c.side, c.side],
    ),
    has_picture: tensor(Float32Array.of(1), [1, 1]),
    memory: tensor(new Float32Array(c.edim), [1, c.edim]),
    has_memory: tensor(Float32Array.of(0), [1, 1]),
  };
  let now = states;
  const times: number[] = [];
  let before = process.cpuUsage();
  for (let i = -3; i < runs; i++) {
    if (i === 0) before = process.cpuUsage();
    const begin = performance.now();
    const y = await engine.run({ ...now, ...inputs });
    if (i >= 0) times.push(performance.now() - begin);
    now = Object.fromEntries(Object.keys(states).map((name) => [name, y[`${name}_next`]!]));
  }
  const used = process.cpuUsage(before);
  return { times: times.sort((a, b) => a - b), cpuMs: (used.user + used.system) / 1000 / runs };
}

const models = process.argv.slice(2);
console.log(
  `${await OnnxEngine.version()}, Node ${process.version}, ${cpus()[0]?.model ?? "?"} (${cpus().length} cores), 1 thread, weights random`,
);
console.log(
  "model            | parameters  GMAC/s  file MB  load ms | units  sound ms  p50 ms  p95 ms  p99 ms  cpu ms  ms/unit  share of a core",
);
for (const model of models.length > 0 ? models : ["lite:320:2:80", "band:64:6:80"]) {
  const c = config(model);
  const weights = new Map<string, WeightTensor>(
    Object.entries(liveShapes(c)).map(([name, shape]) => [name, noiseWeight(name, shape)]),
  );
  const graph = stepGraph(c, weights);
  const begin = performance.now();
  const engine = await OnnxEngine.open(graph.bytes, { threads: 1 });
  const load = performance.now() - begin;
  const states: TensorMap = Object.fromEntries(
    graph.states.map((s) => [
      s.name,
      tensor(new Float32Array(s.shape.reduce((a, b) => a * b, 1)).fill(s.init), s.shape),
    ]),
  );
  const head = `${model.padEnd(16)} | ${(graph.parameters / 1e6).toFixed(2).padStart(8)} M ${((graph.work.perUnit * 25) / 1e9).toFixed(2).padStart(7)} ${(graph.bytes.length / 1e6).toFixed(1).padStart(8)} ${load.toFixed(0).padStart(8)} |`;
  for (const [units, runs] of [
    [1, 150],
    [2, 100],
    [3, 80],
    [4, 60],
    [8, 30],
    [52, 6],
  ] as const) {
    const { times, cpuMs } = await measure(engine, c, states, units, runs);
    const p50 = percentile(times, 0.5);
    const cells = [units, units * 40, p50, percentile(times, 0.95), percentile(times, 0.99), cpuMs, p50 / units].map(
      (v) => (Number.isInteger(v) ? String(v) : v.toFixed(2)).padStart(8),
    );
    console.log(`${head} ${cells.join("")} ${((100 * cpuMs) / (units * 40)).toFixed(1).padStart(8)} %`);
  }
  await engine.close();
}
