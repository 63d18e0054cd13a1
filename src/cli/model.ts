import { cp, mkdir, readFile, rename, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { defineCommand } from "citty";
import { findModel, listModels, loadModel, modelInfo } from "../model/cards.js";
import { BUILT_IN_MODELS } from "../supervisor/paths.js";
import { command, UsageError } from "./command.js";

const models = { type: "string", description: "folder of models", valueHint: "DIR", default: BUILT_IN_MODELS } as const;

const info = command({
  meta: { name: "info", description: "What a model declares; its files are verified. Without a name: all models" },
  args: {
    model: { type: "positional", description: "name, or path with a slash", required: false },
    models,
    json: { type: "boolean", description: "as JSON" },
  },
  async run({ args }) {
    const names = args.model === undefined ? await listModels(args.models) : [args.model];
    if (names.length === 0) console.error(`no models in ${args.models}`);
    for (const name of names) {
      const { folder, card, sizes, guardMs, unitMs } = await modelInfo(await findModel(name, args.models));
      if (args.json) {
        console.log(JSON.stringify({ folder, sizes, guardMs, unitMs, card }));
        continue;
      }
      const bytes = Object.entries(sizes).map(([file, size]) => `${file} ${(size / 1e6).toFixed(2)} MB`);
      console.log(`${card.name} ${card.version} (${card.kind}), ${folder}`);
      console.log(`  files       ${bytes.join(", ")}; checksums right`);
      console.log(`  parameters  ${(card.parameters / 1e6).toFixed(2)} M`);
      console.log(`  work        ${(card.macPerSecond / 1e9).toFixed(2)} G multiply-adds per second of sound`);
      console.log(
        `  picture     ${card.picture.kind} ${card.picture.side}x${card.picture.side} ${card.picture.colour}`,
      );
      console.log(
        `  step        ${unitMs.toFixed(0)} ms, guard ${guardMs.toFixed(0)} ms, look-back ${((1000 * card.lookBackSamples) / card.sampleRate).toFixed(0)} ms`,
      );
    }
  },
});

const importModel = command({
  meta: { name: "import", description: "Verifies a model folder and copies it where `model: NAME` finds it" },
  args: {
    folder: { type: "positional", description: "folder with card.json", required: true },
    name: { type: "string", description: "name to give it (default: the folder's)", valueHint: "NAME" },
    models,
  },
  async run({ args }) {
    const { folder, card } = await loadModel(resolve(args.folder));
    const name = args.name ?? basename(folder);
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name))
      throw new UsageError(`${JSON.stringify(name)} is not usable as a model's name`);
    const target = join(args.models, name);
    const part = join(args.models, `.${name}.part`);
    await mkdir(args.models, { recursive: true });
    await rm(part, { recursive: true, force: true });
    await mkdir(part);
    for (const file of ["card.json", card.files.step, ...(card.files.voice ? [card.files.voice] : [])])
      await cp(join(folder, file), join(part, file));
    await loadModel(part); // what was copied is what was verified
    await rm(target, { recursive: true, force: true });
    await rename(part, target);
    console.log(`${card.name} ${card.version} is now model ${name} (${target})`);
  },
});

const build = command({
  meta: { name: "build", description: "Makes a live model from trained weights (train/export_weights.py)" },
  args: {
    weights: { type: "string", description: "safetensors file", valueHint: "FILE", required: true },
    out: { type: "string", description: "model folder to write", valueHint: "DIR", required: true },
    name: { type: "string", description: "name in the card (default: the folder's)", valueHint: "NAME" },
    release: { type: "string", description: "version in the card", valueHint: "VERSION", default: "1" },
  },
  async run({ args }) {
    const { buildLive } = await import("../model/live/build.js");
    const { readWeights } = await import("../model/weights.js");
    const weights = readWeights(await readFile(args.weights), args.weights);
    const card = await buildLive(
      weights,
      { name: args.name ?? basename(resolve(args.out)), version: args.release },
      args.out,
    );
    console.log(`${card.name} ${card.version}: ${(card.parameters / 1e6).toFixed(2)} M parameters, ${args.out}`);
  },
});

export const modelCommand = defineCommand({
  meta: { name: "model", description: "Shows, imports and builds models" },
  subCommands: { info, import: importModel, build },
});
