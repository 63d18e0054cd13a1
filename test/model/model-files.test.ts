import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StreamCard } from "../../src/model/card.js";
import { filesOf, findModel, identityOf, listModels, loadStream, modelInfo, sha256 } from "../../src/model/cards.js";
import { InferenceError } from "../../src/model/inference.js";
import { buildLive, makeLive } from "../../src/model/live/build.js";
import { noiseLive, tinyBand, tinyLite } from "./noise.js";

const test = suite<{ models: string; folder: string; card: StreamCard }>("model folders");

test.before(async (t) => {
  t.models = await mkdtemp(join(tmpdir(), "sightline-models-"));
  t.folder = join(t.models, "tiny");
});
test.after((t) => rm(t.models, { recursive: true, force: true }));
test.before.each(async (t) => {
  t.card = await buildLive(noiseLive(), { name: "tiny", version: "1", training: { data: "none" } }, t.folder);
});

async function refused(job: Promise<unknown>, what: RegExp): Promise<void> {
  const e: unknown = await job.then(
    () => null,
    (x: unknown) => x,
  );
  assert.instance(e, InferenceError);
  assert.is((e as InferenceError).code, "SL_MODEL_INVALID");
  assert.match((e as Error).message, what);
}

async function editCard(folder: string, edit: (card: Record<string, unknown>) => void): Promise<void> {
  const path = join(folder, "card.json");
  const card = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  edit(card);
  await writeFile(path, JSON.stringify(card));
}

test("what is built is found, verified and described", async (t) => {
  assert.equal(await listModels(t.models), ["tiny"]);
  assert.is(await findModel("tiny", t.models), t.folder);
  assert.is(await findModel(`${t.folder}/`, "/nowhere").then((f) => join(f)), t.folder);
  const { card } = await loadStream(t.folder);
  assert.equal(card, t.card);
  assert.is(card.gain, "on");
  assert.is(card.training.data, "none");
  const info = await modelInfo(t.folder);
  assert.is(info.guardMs, 100);
  assert.equal(Object.keys(info.sizes), ["model.onnx", "voice.onnx"]);
});

test("the card's clock is the one of the architecture page, for both kinds", () => {
  const clock = (c: typeof tinyLite): unknown => {
    const { card } = makeLive(noiseLive(c), { name: "a", version: "1" });
    const { hopSamples, bins, binHz } = card.grid;
    return [card.unitSamples, card.firstFrameOffset, card.guardSamples, hopSamples, bins, binHz];
  };
  assert.equal(clock(tinyBand), [1920, -3840, 4800, 960, 321, 25]);
  assert.equal(clock(tinyLite), [1920, -3840, 4800, 960, 321, 25]);
});

test("the lite separator's memory of levels begins at the floor, all else at zero", () => {
  const { card } = makeLive(noiseLive(tinyLite), { name: "a", version: "1" });
  assert.equal(
    card.states.filter((s) => s.init !== 0).map((s) => [s.name, s.shape, s.init]),
    [["levels", [1, 177], -9.2]],
  );
});

test("states are of the sound, of the person or of the lips; a network that is told the picture has nothing to hand on", () => {
  const lips = ["seen_past", "seen_past2", "lips_mean", "lips_before"];
  const parts = ["taps0", "taps1", "k1", "k2"];
  const one = ["seen", "crop", "lips_lately", ...lips, ...parts.map((p) => `student_${p}`)];
  const two = [...one, ...lips.map((name) => `second_${name}`), ...parts.map((p) => `student_second_${p}`)];
  for (const [eyes, anew] of [
    [1, one],
    [2, two],
  ] as const) {
    const attribution = { ...tinyBand.attribution!, eyes };
    const { states } = makeLive(noiseLive({ ...tinyBand, attribution }), { name: "a", version: "1" }).card;
    const names = (of: "sound" | "person" | undefined): string[] =>
      states.filter((s) => s.of === of).map((s) => s.name);
    assert.equal(names("person"), ["evidence"]);
    assert.equal(names(undefined).sort(), [...anew].sort());
    assert.ok(names("sound").includes("voices_before"));
  }
  const told = makeLive(noiseLive(tinyLite), { name: "a", version: "1" }).card;
  assert.ok(told.states.every((s) => s.of === undefined));
});

test("building twice gives the same bytes", () => {
  const make = (): StreamCard["sha256"] => makeLive(noiseLive(), { name: "a", version: "1" }).card.sha256;
  assert.equal(make(), make());
});

test("a file with one other byte is refused, named with both sums", async (t) => {
  const path = join(t.folder, "model.onnx");
  const bytes = await readFile(path);
  bytes[bytes.length >> 1]! ^= 1;
  await writeFile(path, bytes);
  await refused(loadStream(t.folder), /tiny\/model\.onnx: its SHA-256 is [0-9a-f]{64}, the card says [0-9a-f]{64}/);
});

test("a model of two parts: each file is checked, and any other byte of either makes another identity", async (t) => {
  const folder = join(t.models, "parts");
  const card = await buildLive(noiseLive(tinyBand), { name: "parts", version: "1" }, folder);
  assert.equal(filesOf(card), ["sound.onnx", "model.onnx", "voice.onnx"]);
  const own = identityOf(card);
  assert.match(own, /^[0-9a-f]{64}$/);
  for (const name of filesOf(card)) {
    const path = join(folder, name);
    const bytes = await readFile(path);
    const changed = Buffer.from(bytes);
    changed[changed.length >> 1]! ^= 1;
    await writeFile(path, changed);
    await refused(loadStream(folder), new RegExp(`parts/${name}: its SHA-256 is`));
    await rm(path);
    await refused(loadStream(folder), new RegExp(`${name}: there is no such file`));
    await writeFile(path, bytes);
    const other = { ...card, sha256: { ...card.sha256, [name]: sha256(changed) } };
    assert.is.not(identityOf(other), own, name);
  }
  assert.is(identityOf((await loadStream(folder)).card), own);
  const { voices } = card;
  const bolder = { ...card, voices: { ...voices!, gate: { ...voices!.gate, open: voices!.gate.open + 1 } } };
  assert.is.not(identityOf(bolder), own, "another gate is another model");
  await rm(folder, { recursive: true });
});

test("a missing file, a missing folder and an odd name are refused with what is there", async (t) => {
  await rm(join(t.folder, "voice.onnx"));
  await refused(loadStream(t.folder), /voice\.onnx: there is no such file/);
  await refused(findModel("other", t.models), /other: holds no card\.json; models here: tiny/);
  await refused(findModel("a b", t.models), /neither a model's name nor a path/);
  await refused(loadStream(join(t.models, "other")), /card\.json: there is no such file/);
});

test("a card that contradicts itself or leads out of its folder is refused", async (t) => {
  const faults: [(c: Record<string, unknown>) => void, RegExp][] = [
    [(c) => Object.assign(c, { guardSamples: 1 }), /guardSamples is 1, but .* 4800/],
    [(c) => Object.assign(c, { unitSamples: 1000 }), /not a multiple of grid/],
    [(c) => Object.assign(c, { lookBackSamples: 1921 }), /lookBackSamples/],
    [(c) => Object.assign(c, { files: { step: "../model.onnx" } }), /not a plain file name/],
    [(c) => Object.assign(c, { sha256: {} }), /no SHA-256 of model\.onnx/],
    [(c) => Object.assign(c, { kind: "magic" }), /kind/],
    [(c) => Object.assign(c, { more: 1 }), /more/],
  ];
  const path = join(t.folder, "card.json");
  const good = await readFile(path);
  for (const [edit, what] of faults) {
    await editCard(t.folder, edit);
    await refused(loadStream(t.folder), what);
    await writeFile(path, good);
  }
  await writeFile(path, "{");
  await refused(loadStream(t.folder), /card\.json: is not JSON/);
});

test("weights that lack a tensor or their sizes cannot become a model", () => {
  const whole = noiseLive();
  const less = new Map(whole.tensors);
  less.delete("sep.rnns.1.lstm.weight_hh_l0");
  const meta = { name: "x", version: "1" };
  assert.throws(() => makeLive({ ...whole, tensors: less }, meta), /lack tensor sep\.rnns\.1\.lstm\.weight_hh_l0/);
  assert.throws(() => makeLive({ ...whole, notes: {} }, meta), /notes of the weight file: .*config/);
  assert.throws(() => makeLive({ ...whole, notes: { config: '{"hop":160}' } }, meta), /notes of the weight file/);
  const clock = (separator: object): (() => unknown) => {
    const config = { ...tinyLite, separator: { ...tinyLite.separator, ...separator } };
    return () => makeLive({ ...noiseLive(tinyLite), notes: { config: JSON.stringify(config) } }, meta);
  };
  assert.throws(clock({ ahead: 3 }), /two pictures/);
  assert.throws(clock({ ahead: 5 }), /two pictures/);
  assert.throws(clock({ hop: 300 }), /not a multiple of the hop/);
  assert.throws(clock({ hop: 128 }), /two pictures/);
  assert.throws(clock({ nfft: 650 }), /notes of the weight file/);
});

test.run();
