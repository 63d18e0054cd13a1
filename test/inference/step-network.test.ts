import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ENGINES,
  EngineError,
  type EngineMaker,
  type EngineName,
  type TensorMap,
  tensor,
} from "../../src/model/engines/engine.js";
import type { EngineReport } from "../../src/model/engines/names.js";
import { cpu } from "../../src/model/engines/onnxruntime.js";
import type { tryEngine } from "../../src/model/engines/trial.js";
import { StepNetwork } from "../../src/model/inference/step-network.js";
import { InferenceError } from "../../src/model/inference.js";
import { initialStates } from "../../src/model/initial-states.js";
import { loadedFrom, makeLive } from "../../src/model/live/build.js";
import { noise, noiseLive, tinyBand, tinyLite } from "../model/noise.js";

const UNIT = 1920;
const SIDE = tinyBand.side;
const model = loadedFrom(makeLive(noiseLive(tinyBand), { name: "tiny", version: "1" }), "tiny");
const { states } = model.card;
const begin = initialStates(states);

const test = suite<{ network: StepNetwork }>("network of a step");
test.before.each(async (t) => {
  t.network = await StepNetwork.open(model, { threads: 1 });
});
test.after.each((t) => t.network.close());

/** Inputs of a step of two units: what is said in `sound`, and a face. */
function inputs(sound: string, face: number): TensorMap {
  const one = tensor(Float32Array.of(1), [1, 1]);
  return {
    samples: tensor(
      Float32Array.from(noise(sound, 2 * UNIT), (v) => 0.2 * v),
      [1, 2 * UNIT],
    ),
    crops: tensor(
      Uint8Array.from(noise(`face${face}`, 2 * SIDE ** 2), (v) => 128 + 90 * v),
      [1, 2, SIDE, SIDE],
    ),
    has_picture: one,
    memory: tensor(new Float32Array(tinyBand.edim), [1, tinyBand.edim]),
    has_memory: one,
  };
}

const after = (outputs: TensorMap): TensorMap =>
  Object.fromEntries(states.map(({ name }) => [name, outputs[`${name}_next`]!]));

/** All outputs of one face over some pieces of sound, by a network of its own. */
async function alone(face: number, sounds: readonly string[]): Promise<TensorMap[]> {
  const network = await StepNetwork.open(model, { threads: 1 });
  const out: TensorMap[] = [];
  for (let now = begin; out.length < sounds.length; now = after(out.at(-1)!))
    out.push(await network.run(now, inputs(sounds[out.length]!, face)));
  await network.close();
  return out;
}

const numbers = (outputs: TensorMap): Record<string, unknown> =>
  Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, [data, dims]]));

test("what all faces hear is run once, and gives each what it has alone, to the bit", async ({ network }) => {
  const sounds = ["one", "two", "three"];
  const faces = [1, 2, 3];
  const now = faces.map(() => begin);
  const expected = await Promise.all(faces.map((face) => alone(face, sounds)));
  const before = network.soundRuns;
  for (const [k, sound] of sounds.entries())
    for (const [i, face] of faces.entries()) {
      const outputs = await network.run(now[i]!, inputs(sound, face));
      assert.equal(numbers(outputs), numbers(expected[i]![k]!), `face ${face} at ${sound}`);
      now[i] = after(outputs);
    }
  assert.is(network.soundRuns - before, sounds.length);
});

test("a face that has heard something else, or hears something else now, is given nothing of the others'", async ({
  network,
}) => {
  const here = await network.run(begin, inputs("here", 1));
  const there = await network.run(begin, inputs("there", 1));
  const runs = network.soundRuns;
  // The same sound now, after another past; then another sound after the same past.
  const same = await network.run(after(here), inputs("now", 1));
  const past = await network.run(after(there), inputs("now", 1));
  const other = await network.run(after(here), inputs("elsewhere", 1));
  assert.is(network.soundRuns - runs, 3);
  for (const [outputs, sounds] of [
    [same, ["here", "now"]],
    [past, ["there", "now"]],
    [other, ["here", "elsewhere"]],
  ] as const)
    assert.equal(numbers(outputs), numbers((await alone(1, sounds))[1]!), sounds.join());
});

test("programmes that take turns keep what each has heard; very many only cost runs", async ({ network }) => {
  const many = 70;
  const name = (k: number): string => `programme ${k}`;
  const face = async (k: number, who: number): Promise<TensorMap> => network.run(begin, inputs(name(k), who));
  for (const k of [0, 1, 2]) await face(k, 1);
  let runs = network.soundRuns;
  for (const k of [0, 1, 2]) await face(k, 2);
  assert.is(network.soundRuns, runs, "heard already");
  for (let k = 3; k < many; k++) await face(k, 1);
  runs = network.soundRuns;
  const late = await face(0, 3);
  assert.is(network.soundRuns, runs + 1, "forgotten, and run again");
  assert.equal(numbers(late), numbers((await alone(3, [name(0)]))[0]!));
});

/** An engine of another name made of the CPU's, which fails from its `failsFrom`-th run on. */
function pretended(name: EngineName, failsFrom = Number.POSITIVE_INFINITY): EngineMaker {
  return {
    name,
    missing: async () => null,
    async open(source, options, what) {
      const inner = await cpu.open(source, options, what);
      let runs = 0;
      return {
        name,
        label: `pretended ${name}`,
        inputNames: inner.inputNames,
        outputNames: inner.outputNames,
        run: (given) =>
          ++runs < failsFrom
            ? inner.run(given)
            : Promise.reject(new InferenceError("SL_INFERENCE_FAILED", "device lost")),
        close: () => inner.close(),
      };
    },
  };
}

/** Opens the model with engines that are there for one part of it or for both; `hangs`: an engine's trial takes too long. */
async function withEngines(given: {
  readonly of: Partial<Record<EngineName, readonly ("sound" | "step")[]>>;
  readonly failsFrom?: number;
  readonly hangs?: EngineName;
}): Promise<{ network: StepNetwork; told: EngineReport[]; tried: string[] }> {
  const told: EngineReport[] = [];
  const tried: string[] = [];
  const nothing = (name: EngineName): EngineMaker => ({
    ...pretended(name),
    missing: async () => new EngineError(name, "not-installed", "pretended"),
  });
  const makers = Object.fromEntries(
    ENGINES.map((name) => [name, given.of[name] ? pretended(name, given.failsFrom) : nothing(name)]),
  ) as Record<EngineName, EngineMaker>;
  const attempt: typeof tryEngine = async (name, bytes, trial) => {
    const part = bytes === model.sound ? "sound" : "step";
    tried.push(`${name} ${part}`);
    if (name === given.hangs) throw new EngineError(name, "timed-out", "pretended");
    const engine = await cpu.open(bytes, { threads: 1 });
    const outputs = await engine.run(trial);
    await engine.close();
    return { label: name, warmUpMs: 1, runMs: given.of[name]!.includes(part) ? 0 : 1e9, outputs };
  };
  const onFallback = (report: EngineReport): void => void told.push(report);
  const options = { threads: 1, engine: "auto" as const, makers: { ...makers, cpu }, attempt, onFallback };
  return { network: await StepNetwork.open(model, options), told, tried };
}

test("parts on two engines: the report names the one that is not the CPU, and both when one hands over", async () => {
  for (const part of ["sound", "step"] as const) {
    const { network, told } = await withEngines({ of: { webgpu: [part] }, failsFrom: 4 });
    assert.is(network.report.running, "webgpu", `only ${part} runs on it`);
    assert.is(network.report.code, null);
    assert.match(network.report.label, /^pretended webgpu and onnxruntime/);
    assert.equal(
      network.report.tries.filter((t) => t.reason === null).map((t) => t.name),
      ["webgpu", "cpu"],
    );
    const want = await alone(1, ["one", "two", "three", "four"]);
    let now = begin;
    for (const [k, sound] of ["one", "two", "three", "four"].entries()) {
      const outputs = await network.run(now, inputs(sound, 1));
      assert.equal(numbers(outputs), numbers(want[k]!), `nothing is lost at ${sound}`);
      now = after(outputs);
    }
    assert.equal([told.length, told[0]?.running, told[0]?.code], [1, "cpu", "SL_ENGINE_FALLBACK"]);
    assert.is(network.report.tries.find((t) => t.name === "webgpu")!.reason, "failed");
    await network.close();
  }
  // Both run on it, one fails: the other one may still take the process down.
  const { network, told } = await withEngines({ of: { cuda: ["sound", "step"] }, failsFrom: 4 });
  const { report } = network;
  assert.equal([report.running, report.label], ["cuda", "pretended cuda"]);
  let [now, first] = [begin, 0];
  for (let k = 0; told.length < 1; k++) {
    now = after(await network.run(now, inputs(`${k}`, 1)));
    first = k;
  }
  assert.ok(first < 4);
  assert.equal([told[0]!.running, told[0]!.code], ["cuda", "SL_ENGINE_FALLBACK"]);
  await network.close();
});

test("an engine that hung with the first part is not waited for with the second", async () => {
  const { network, tried } = await withEngines({ of: { cuda: ["sound", "step"], webgpu: [] }, hangs: "cuda" });
  assert.equal(tried, ["cuda sound", "webgpu sound", "webgpu step"]);
  assert.is(network.report.running, "cpu");
  assert.is(network.report.tries.find((t) => t.name === "cuda")!.reason, "timed-out");
  await network.close();
});

test("a network that is told of the face is one part; parts that do not fit the card are refused by name", async () => {
  const told = loadedFrom(makeLive(noiseLive(tinyLite), { name: "told", version: "1" }), "told");
  assert.is(told.sound, null);
  const network = await StepNetwork.open(told, { threads: 1 });
  const first = await network.run(initialStates(told.card.states), inputs("one", 1));
  assert.is(first.gain!.dims[0], 1);
  assert.is(network.soundRuns, 0);
  await network.close();
  const refused = (from: typeof model): Promise<string> =>
    StepNetwork.open(from, { threads: 1 }).then(
      () => "taken",
      (e: Error & { code: string }) => `${e.code} ${e.message}`,
    );
  assert.match(await refused({ ...model, sound: model.step }), /^SL_MODEL_INVALID tiny\/sound\.onnx: /);
  assert.match(await refused({ ...model, step: model.sound! }), /^SL_MODEL_INVALID tiny\/model\.onnx: /);
  const { states: all, ...rest } = model.card;
  const card = { ...rest, states: all.filter((s) => s.name !== "evidence") };
  assert.match(await refused({ ...model, card }), /^SL_MODEL_INVALID tiny\/model\.onnx: .*evidence/);
});

test.run();
