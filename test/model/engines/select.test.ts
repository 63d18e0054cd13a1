import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { TOLERANCE } from "../../../src/model/engines/compare.js";
import {
  type Engine,
  EngineError,
  type EngineMaker,
  type EngineName,
  type TensorMap,
  tensor,
} from "../../../src/model/engines/engine.js";
import type { GuardedEngine } from "../../../src/model/engines/guarded.js";
import { ENGINE_REASONS, ENGINES, type EngineReport } from "../../../src/model/engines/names.js";
import { cpu } from "../../../src/model/engines/onnxruntime.js";
import { openEngine, type SelectOptions } from "../../../src/model/engines/select.js";
import { tryEngine } from "../../../src/model/engines/trial.js";
import { InferenceError } from "../../../src/model/inference.js";
import { buildLive } from "../../../src/model/live/build.js";
import { GraphBuilder } from "../../../src/model/onnx/graph-builder.js";
import * as op from "../../../src/model/onnx/ops.js";
import { sourceFile } from "../../../src/paths.js";
import { buildFaceModels } from "../../../src/tools/assets.js";
import { noise, noiseLive } from "../noise.js";
import { root, withoutOnnxRuntime } from "./support.js";

const test = suite("choice of the engine");
const threads = 1;

/** A 3 x 3 convolution with `channels` inputs and 20 outputs over 12 x 12. */
function net(channels: number): { bytes: Uint8Array; trial: TensorMap } {
  const g = new GraphBuilder("conv");
  const x = g.input("x", "float32", [1, channels, 12, 12]);
  const w = g.weight("w", [20, channels, 3, 3], Float32Array.from(noise("w", 20 * channels * 9)));
  g.output("y", op.conv(g, x, w, null, { pads: [1, 1, 1, 1] }));
  const trial = { x: tensor(Float32Array.from(noise("x", channels * 144)), [1, channels, 12, 12]) };
  return { bytes: g.finish(), trial };
}
const { bytes, trial } = net(4);
const y = (outputs: TensorMap): Float32Array => outputs.y!.data as Float32Array;

type Behaviour = {
  missing?: "not-installed" | "no-device";
  /** What becomes of the CPU's outputs, by the number of the run. */
  change?: (value: number, run: number) => number;
  slowMs?: number;
  throwsFrom?: number;
};
const closed: string[] = [];

/** The CPU's engine under another name, made to misbehave. */
function pretend(name: EngineName, b: Behaviour = {}): EngineMaker {
  return {
    name,
    missing: async () => (b.missing ? new EngineError(name, b.missing, "pretended") : null),
    open: async (model, options) => {
      const inner = await cpu.open(model, options);
      let run = 0;
      return {
        name,
        label: `pretended ${name}`,
        inputNames: inner.inputNames,
        outputNames: inner.outputNames,
        async run(inputs) {
          run++;
          if (run >= (b.throwsFrom ?? Number.POSITIVE_INFINITY))
            throw new InferenceError("SL_INFERENCE_FAILED", "device lost");
          if (b.slowMs) await new Promise((resolve) => setTimeout(resolve, b.slowMs));
          const out = await inner.run(inputs);
          return {
            y: tensor(
              y(out).map((v) => b.change?.(v, run) ?? v),
              out.y!.dims,
            ),
          };
        },
        async close() {
          closed.push(name);
          await inner.close();
        },
      } satisfies Engine;
    },
  };
}

/** Opens with pretended engines; those left out lack their package. A trial runs here, with `runMs` as told. */
function choose(
  engines: Partial<Record<EngineName, Behaviour>>,
  more: Partial<SelectOptions> = {},
  runMs: Partial<Record<EngineName, number>> = {},
): Promise<GuardedEngine> {
  closed.length = 0;
  const maker = (name: EngineName): EngineMaker => pretend(name, engines[name] ?? { missing: "not-installed" });
  const makers = {
    tensorrt: maker("tensorrt"),
    cuda: maker("cuda"),
    webgpu: maker("webgpu"),
    tensorflow: maker("tensorflow"),
    wasm: maker("wasm"),
    cpu,
    ...more.makers,
  };
  const attempt: typeof tryEngine = async (name, model, inputs) => {
    const engine = await makers[name].open(model, { threads });
    const outputs = await engine.run(inputs);
    await engine.close();
    return { label: engine.label, warmUpMs: 1, runMs: runMs[name] ?? 0, outputs };
  };
  return openEngine(bytes, { engine: "auto", threads, trial, attempt, ...more, makers });
}
const reasons = (report: EngineReport): Record<string, string | null> =>
  Object.fromEntries(report.tries.map((t) => [t.name, t.reason]));

test("auto takes the first that gives the CPU's numbers and is faster, and says why not the others", async () => {
  const wrong = { change: (v: number) => v * (1 + 5 * TOLERANCE) };
  const engine = await choose({ tensorrt: { missing: "no-device" }, cuda: wrong, webgpu: {}, wasm: {} });
  const { report } = engine;
  assert.is(report.running, "webgpu");
  assert.is(report.code, null);
  const { wasm, tensorflow, ...others } = reasons(report);
  assert.equal(others, { tensorrt: "no-device", cuda: "differs", webgpu: null, cpu: "not-needed" });
  assert.equal([tensorflow, wasm], ["not-needed", "not-needed"]);
  const of = (name: string) => report.tries.find((t) => t.name === name)!;
  assert.ok(of("cuda").error! > TOLERANCE && of("webgpu").error === 0 && of("webgpu").warmUpMs !== null);
  assert.ok(of("cpu").runMs! > 0);
  await engine.close();
});

test("auto stays on the CPU when the others are slower or missing: no fault", async () => {
  const engine = await choose({ webgpu: {} }, {}, { webgpu: 1e9 });
  assert.is(engine.report.running, "cpu");
  assert.is(engine.report.code, null);
  assert.is(reasons(engine.report).webgpu, "slower");
  assert.equal(closed, ["webgpu"], "the trial's");
  await engine.close();
});

test("a named engine is taken although it is slower; one that cannot be used is replaced visibly, or refused", async () => {
  const slow = await choose({ webgpu: {} }, { engine: "webgpu" }, { webgpu: 1e9 });
  assert.is(slow.report.running, "webgpu");
  assert.is(reasons(slow.report).cuda, "not-asked");
  const absent = await choose({}, { engine: "cuda" });
  assert.is(absent.report.running, "cpu");
  assert.is(absent.report.code, "SL_ENGINE_FALLBACK");
  assert.is(reasons(absent.report).cuda, "not-installed");
  const wrong = { webgpu: { change: (v: number) => -v } };
  await choose(wrong, { engine: "webgpu", strict: true }).then(
    () => assert.unreachable(),
    (e) => {
      assert.is(e.code, "SL_ENGINE_UNAVAILABLE");
      assert.is(e.reason, "differs");
    },
  );
  for (const e of [slow, absent]) await e.close();
});

test("one that passes its trial and fails here is not taken", async () => {
  // Its second engine, the one of this process, gives something else than its first.
  let opened = 0;
  const fickle: EngineMaker = {
    ...pretend("cuda"),
    open: (...args) => pretend("cuda", { throwsFrom: opened++ === 0 ? 2 : 1 }).open(...args),
  };
  const engine = await choose({}, { makers: { cuda: fickle } as never });
  assert.is(engine.report.running, "cpu");
  assert.is(reasons(engine.report).cuda, "failed");
  await engine.close();
});

test("an engine that fails, or gives what is not finite, hands over to the CPU and nothing is lost", async () => {
  const want = y(await (await cpu.open(bytes, { threads })).run(trial));
  // The warm-up here is its first run.
  for (const b of [{ throwsFrom: 3 }, { change: (v: number, run: number) => (run > 2 ? Number.NaN : v) }]) {
    const told: EngineReport[] = [];
    const engine = await choose({ cuda: b }, { onFallback: (r) => told.push(r) });
    assert.equal(y(await engine.run(trial)), want);
    assert.is(told.length, 0);
    assert.equal(y(await engine.run(trial)), want, "the very run that failed");
    assert.equal(y(await engine.run(trial)), want);
    assert.is(told.length, 1);
    assert.is(engine.report, told[0]);
    assert.is(engine.report.running, "cpu");
    assert.is(engine.report.code, "SL_ENGINE_FALLBACK");
    const { cuda, cpu: own } = reasons(engine.report);
    assert.equal([cuda, own], ["failed", null]);
    assert.ok(closed.includes("cuda"));
    await engine.close();
  }
});

test("inputs that the CPU refuses as well are no fault of the engine", async () => {
  const engine = await choose({ cuda: {} });
  await engine.run({}).then(
    () => assert.unreachable(),
    (e) => assert.is(e.code, "SL_INFERENCE_FAILED"),
  );
  assert.is(engine.report.running, "cuda");
  assert.is(engine.report.code, null);
  await engine.close();
});

test("where the CPU's engine does not load the quicker of the last resorts is taken, unless another was insisted on", async () => {
  const broken: EngineMaker = {
    ...cpu,
    open: async () => {
      throw new EngineError("cpu", "does-not-load", "libonnxruntime.so.1: cannot open shared object file");
    },
  };
  const both = { tensorflow: {}, wasm: {} };
  const engine = await choose(both, { makers: { cpu: broken } as never }, { tensorflow: 9, wasm: 3 });
  assert.is(engine.report.running, "wasm");
  assert.is(engine.report.code, null);
  assert.is(reasons(engine.report).tensorflow, "slower");
  assert.is(reasons(engine.report).cpu, "does-not-load");
  assert.is(engine.report.tries.at(-1)!.error, null, "not compared");
  await engine.run(trial);
  await engine.close();
  for (const asked of ["cpu", "cuda"] as const)
    await choose({ wasm: {} }, { engine: asked, strict: true, makers: { cpu: broken } as never }).then(
      () => assert.unreachable(`${asked} was replaced`),
      (e) => assert.is(e.code, "SL_ENGINE_UNAVAILABLE"),
    );
});

test("a damaged file is the model's fault, whatever engine is asked for", async () => {
  for (const engine of ["auto", "webgpu", "cpu"] as const)
    await openEngine(new Uint8Array(50), { engine, threads, trial }).then(
      () => assert.unreachable(),
      (e) => assert.is(e.code, "SL_MODEL_INVALID"),
    );
});

test("a real trial in its own process: WebAssembly agrees; one that dies or takes too long is told apart", async () => {
  const engine = await openEngine(bytes, { engine: "wasm", threads, trial, strict: true, limitMs: 60_000 });
  assert.is(engine.report.running, "wasm");
  const own = engine.report.tries.find((t) => t.name === "wasm")!;
  assert.ok(own.error! <= 1e-5 && own.warmUpMs! > 0 && own.runMs! > 0);
  await engine.close();
  const reasonOf = (limitMs: number): Promise<string> =>
    tryEngine("wasm", bytes, trial, { threads, limitMs }).then(
      () => "none",
      (e) => e.reason,
    );
  assert.is(await reasonOf(1), "timed-out");
  const before = process.env.NODE_OPTIONS;
  process.env.NODE_OPTIONS = "--require /nowhere/at-all.cjs";
  try {
    assert.is(await reasonOf(60_000), "crashed");
  } finally {
    if (before === undefined) delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = before;
  }
});

/** Runs with Vulkan as this file describes it; the trial's process inherits it. */
async function withVulkan<T>(driver: string, run: () => Promise<T>): Promise<T> {
  process.env.VK_DRIVER_FILES = driver;
  process.env.VK_ICD_FILENAMES = driver;
  try {
    return await run();
  } finally {
    delete process.env.VK_DRIVER_FILES;
    delete process.env.VK_ICD_FILENAMES;
  }
}

if (process.platform === "linux")
  test("WebGPU without any driver: the CPU, visibly; strict: an error", async () => {
    const options = { engine: "webgpu", threads, trial } as const;
    const engine = await withVulkan("/nowhere.json", () => openEngine(bytes, options));
    assert.is(engine.report.running, "cpu");
    assert.is(engine.report.code, "SL_ENGINE_FALLBACK");
    assert.ok(["does-not-load", "crashed"].includes(reasons(engine.report).webgpu!));
    await engine.close();
  });

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (existsSync(SWIFTSHADER) && existsSync("/usr/lib/x86_64-linux-gnu/libvulkan.so.1"))
  test("WebGPU really runs on software Vulkan, and its wrong kernel for 15 channels is found out", async () => {
    const attempt = (channels: number) => {
      const { bytes: model, trial: inputs } = net(channels);
      return withVulkan(SWIFTSHADER, () => tryEngine("webgpu", model, inputs, { threads, limitMs: 60_000 })).then(
        async ({ outputs }) => {
          const want = y(await (await cpu.open(model, { threads })).run(inputs));
          return Math.max(...want.map((v, i) => Math.abs(v - y(outputs)[i]!))) / Math.max(...want.map(Math.abs));
        },
      );
    };
    assert.ok((await attempt(16)) <= 1e-5);
    const { bytes: model, trial: inputs } = net(15);
    if ((await attempt(15)) <= TOLERANCE) return; // mended in a newer onnxruntime
    const options = { engine: "webgpu", threads, trial: inputs, limitMs: 60_000 } as const;
    const engine = await withVulkan(SWIFTSHADER, () => openEngine(model, options));
    assert.is(engine.report.running, "cpu");
    assert.is(reasons(engine.report).webgpu, "differs");
    await engine.close();
  });
else console.log("skipped: WebGPU on software Vulkan (no SwiftShader)");

test("where onnxruntime-node is not installed a whole streaming model runs: steps, faces and voices", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-last-resort-"));
  try {
    await buildLive(noiseLive(), { name: "tiny", version: "1" }, join(folder, "model"));
    const [front] = await buildFaceModels(join(folder, "faces"));
    const of = (name: string): string => JSON.stringify(pathToFileURL(sourceFile(name)).href);
    // A file, because the processes of the trials take over our options.
    writeFileSync(
      join(folder, "run.mjs"),
      `const { OnnxFaceDetector } = await import(${of("model/faces/detector")});
      const { LocalInference } = await import(${of("model/inference/local")});
      const faces = await OnnxFaceDetector.open(${JSON.stringify(front)}, { threads: 1 });
      const model = await LocalInference.open(${JSON.stringify(join(folder, "model"))}, { threads: 1, faces, engine: "auto", strict: true });
      const seen = await model.detectFaces(new Uint8Array(128 * 128 * 3), 128);
      const memory = await model.remember("a", new Float32Array(48000).fill(0.1));
      console.log(JSON.stringify({ running: model.engines.running, seen: seen.length, memory: memory.length }));
      await model.close();`,
    );
    const child = spawnSync(process.execPath, [...process.execArgv, ...withoutOnnxRuntime, join(folder, "run.mjs")], {
      encoding: "utf8",
      timeout: 120_000,
    });
    assert.is(child.status, 0, child.stderr);
    const { running, seen, memory } = JSON.parse(child.stdout) as Record<string, unknown>;
    assert.ok(running === "wasm" || running === "tensorflow", String(running));
    assert.equal([seen, Number(memory) > 0], [0, true]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("every reason stands in the reference with its meaning, and no other", () => {
  const page = readFileSync(`${root}docs/reference/engines.md`, "utf8");
  const rows = page.slice(page.indexOf("| reason |")).matchAll(/^\| `([a-z-]+)` \| (.+) \|$/gm);
  assert.equal(Object.fromEntries([...rows].map((m) => [m[1], m[2]])), ENGINE_REASONS);
  for (const name of ENGINES) assert.match(page, new RegExp(`\\b${name}\\b`));
});

test.run();
