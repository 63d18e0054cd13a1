import { cp, readFile, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { filesOf, verifyModel } from "../model/cards.js";
import { writeFolder } from "../model/folder.js";
import { BUILT_IN_MODELS } from "../paths.js";
import { command, group, UsageError } from "./command.js";
import { infoCommand } from "./model-info.js";
import { quantizeCommand } from "./model-quantize.js";
import { stopOnSignals } from "./stop.js";

const importModel = command({
  meta: {
    name: "import",
    description:
      "Verifies a model folder and copies it where `model: NAME` finds it; or makes one of a TensorFlow checkpoint (--preset, --out)",
  },
  args: {
    path: { type: "positional", description: "folder with card.json, or PREFIX of PREFIX.index", required: true },
    name: { type: "string", description: "name to give it (default: the folder's)", valueHint: "NAME" },
    // No default, so that one that was given beside --preset is seen.
    models: { type: "string", description: `folder of models (default: ${BUILT_IN_MODELS})`, valueHint: "DIR" },
    preset: {
      type: "string",
      description: "network of the checkpoint: full, unet_pit, shift, cam ...",
      valueHint: "PRESET",
    },
    out: { type: "string", description: "with --preset: model folder to write", valueHint: "DIR" },
    form: { type: "string", description: "with --preset: folded or unfolded (default)", valueHint: "FORM" },
    durationMult: {
      type: "string",
      description:
        "with --preset: windows of 1, 2, 4 or 8 times 2.1 s in place of the preset's own (the network is convolutional)",
      valueHint: "M",
    },
    ignoreUnknown: { type: "boolean", description: "with --preset: leave unknown variables out" },
  },
  async run({ args }) {
    if (args.preset !== undefined) {
      if (args.models !== undefined) throw new UsageError("--models does not go with --preset; --out says where to");
      return importPaper({ ...args, preset: args.preset });
    }
    if ([args.out, args.form, args.durationMult].some((option) => option !== undefined) || args.ignoreUnknown)
      throw new UsageError("--out, --form, --duration-mult and --ignore-unknown go with --preset");
    const folder = resolve(args.path);
    const { card } = await verifyModel(folder);
    const name = args.name ?? basename(folder);
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name))
      throw new UsageError(`${JSON.stringify(name)} is not usable as a model's name`);
    const target = join(args.models ?? BUILT_IN_MODELS, name);
    await writeFolder(target, async (part) => {
      for (const file of ["card.json", ...filesOf(card)]) await cp(join(folder, file), join(part, file));
      await verifyModel(part); // what was copied is what was verified
    });
    console.log(`${card.name} ${card.version} is now model ${name} (${target})`);
  },
});

type PaperArgs = {
  path: string;
  preset: string;
  out?: string | undefined;
  name?: string | undefined;
  form?: string | undefined;
  durationMult?: string | undefined;
  ignoreUnknown?: boolean | undefined;
};

async function importPaper({
  path,
  preset: asked,
  out,
  name,
  form = "unfolded",
  durationMult,
  ignoreUnknown,
}: PaperArgs): Promise<void> {
  const { presetNames, widthText } = await import("../model/checkpoint/match.js");
  const { importCheckpoint } = await import("../model/checkpoint/import.js");
  const { framesOfMultiple } = await import("../model/paper/sizes.js");
  const preset = presetNames.find((p) => p === asked);
  if (!preset) throw new UsageError(`--preset ${asked}: allowed are ${presetNames.join(", ")}`);
  if (out === undefined) throw new UsageError("--preset needs --out, the model folder to write");
  if (form !== "folded" && form !== "unfolded") throw new UsageError(`--form ${form}: allowed are folded, unfolded`);
  if (durationMult !== undefined && !["1", "2", "4", "8"].includes(durationMult))
    throw new UsageError(`--duration-mult ${durationMult}: allowed are 1, 2, 4, 8`);
  const frames = durationMult === undefined ? {} : { frames: framesOfMultiple(Number(durationMult)) };
  const { stop, done } = stopOnSignals();
  try {
    const { card, match } = await importCheckpoint(path, preset, out, {
      form,
      signal: stop.signal,
      ...frames,
      ...(name !== undefined && { name }),
      ...(ignoreUnknown && { ignoreUnknown }),
    });
    const { step } = card.paper.checkpoint;
    console.log(`${card.name}: preset ${preset}${step === null ? "" : `, step ${step}`}, written to ${out}`);
    console.log(`  parameters  ${(card.parameters / 1e6).toFixed(2)} M, width ${widthText(match.width)}`);
    console.log(`  work        ${(card.macPerWindow / 1e9).toFixed(2)} G multiply-adds a window`);
    console.log(`  left out    ${match.ignored.length} variables of training`);
    if (match.unknown.length > 0) console.log(`  unknown     ${match.unknown.join(", ")} (left out)`);
  } finally {
    done();
  }
}

const build = command({
  meta: {
    name: "build",
    description:
      "Makes a model from trained weights: a live one (train/export_weights.py) or a network of the paper (train/paper)",
  },
  args: {
    weights: { type: "string", description: "safetensors file", valueHint: "FILE", required: true },
    out: { type: "string", description: "model folder to write", valueHint: "DIR", required: true },
    name: { type: "string", description: "name in the card (default: the folder's)", valueHint: "NAME" },
    release: { type: "string", description: "version in the card", valueHint: "VERSION", default: "1" },
  },
  async run({ args }) {
    const { buildLive } = await import("../model/live/build.js");
    const { buildPaper, isPaper } = await import("../model/paper/build.js");
    const { readWeights } = await import("../model/weights.js");
    const weights = readWeights(await readFile(args.weights), args.weights);
    const meta = { name: args.name ?? basename(resolve(args.out)), version: args.release };
    const card = isPaper(weights)
      ? await buildPaper(args.weights, args.out, meta)
      : await buildLive(weights, meta, args.out);
    console.log(`${card.name} ${card.version}: ${(card.parameters / 1e6).toFixed(2)} M parameters, ${args.out}`);
  },
});

const number = (option: string, text: string): number => {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new UsageError(`--${option} ${text}: is not a number`);
  return value;
};

const graph = command({
  meta: {
    name: "graph",
    description: "Writes a network of the paper in its training form as ONNX, all weights 0, for train/paper",
  },
  args: {
    preset: {
      type: "string",
      description: "full, unet_pit, shift, cam, action ...",
      valueHint: "PRESET",
      required: true,
    },
    out: { type: "string", description: "file to write", valueHint: "FILE", required: true },
    width: { type: "string", description: "factor of the channels: 1, 0.5 ... 0.03125", valueHint: "W", default: "1" },
    image: { type: "string", description: "side of the pictures", valueHint: "PX", default: "224" },
    frames: { type: "string", description: "pictures of a window (default: the preset's)", valueHint: "N" },
    classes: { type: "string", description: "classes of action to tell apart", valueHint: "N", default: "0" },
  },
  async run({ args }) {
    const { presetNames } = await import("../model/checkpoint/match.js");
    const { trainingGraph } = await import("../model/paper/training.js");
    const preset = presetNames.find((p) => p === args.preset);
    if (!preset) throw new UsageError(`--preset ${args.preset}: allowed are ${presetNames.join(", ")}`);
    const sizes = {
      width: number("width", args.width),
      image: number("image", args.image),
      classes: number("classes", args.classes),
      ...(args.frames !== undefined && { frames: number("frames", args.frames) }),
    };
    let bytes: Uint8Array;
    try {
      bytes = trainingGraph(preset, sizes);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new UsageError(`--width, --image, --frames, --classes: ${error.message}`);
    }
    await writeFile(args.out, bytes);
    console.log(`${args.out}: ${preset}, ${(bytes.length / 1e6).toFixed(1)} MB`);
  },
});

export const modelCommand = group({
  meta: { name: "model", description: "Shows, imports and builds models" },
  subCommands: { info: infoCommand, import: importModel, build, quantize: quantizeCommand, graph },
});
