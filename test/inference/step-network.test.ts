import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type TensorMap, tensor } from "../../src/model/engines/engine.js";
import { StepNetwork } from "../../src/model/inference/step-network.js";
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
