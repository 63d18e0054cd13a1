import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WindowCard } from "../card.js";
import { type LoadedWindow, sha256 } from "../cards.js";
import { OnnxEngine, type TensorMap } from "../engines/onnxruntime.js";
import { InferenceError } from "../inference.js";
import { floatTensors } from "../onnx/tensors.js";
import { CalibrationRanges, Differences } from "./calibrate.js";
import { type PaperGraph, type PaperOptions, paperGraph } from "./graph.js";
import { type PresetName, presets } from "./presets.js";
import { writePaperModel } from "./write.js";

/** What a model is given for one window, and of which clip that is. */
export type CalibrationWindow = { readonly clip: string; readonly tensors: TensorMap };

export type QuantiseOptions = {
  /** Largest difference that is taken, as in the card. Default 0.1. */
  readonly limit?: number;
  readonly threads: number;
  /** In the card; default: the folder's name and the float model's version. */
  readonly name?: string;
  readonly version?: string;
  readonly signal?: AbortSignal;
};

export type QuantisedModel = {
  readonly card: WindowCard;
  /** Mean milliseconds of a window of the check, in the float and in the new model. */
  readonly floatMs: number;
  readonly int8Ms: number;
};

export const DEFAULT_LIMIT = 0.1;
/** Of each four clips the second checks, the others calibrate. */
const CHECK_EVERY = 4;
const METHOD = "minimum and maximum";

const no = (what: string): InferenceError => new InferenceError("SL_MODEL_INVALID", what);

/** Throws SL_MODEL_INVALID for a model that has no trunk, or not in the form whose tensors are known. */
export function requireQuantisable({ folder, card }: Pick<LoadedWindow, "folder" | "card">): void {
  const { preset, form } = card.paper;
  const known = Object.hasOwn(presets, preset) ? presets[preset as PresetName] : null;
  if (!known) throw no(`${folder}: preset ${preset} is not known`);
  if (!known.parts.trunk) throw no(`${folder}: preset ${preset} has no trunk, so there is nothing for int8`);
  if (form !== "unfolded")
    throw no(
      `${folder}: its form is ${form}; int8 is made of unfolded models (import the checkpoint with --form unfolded)`,
    );
}

/** The card's network again, with the tensors of its file. */
function graphOf(card: WindowCard, tensors: (name: string) => Float32Array, options: PaperOptions): PaperGraph {
  const { preset, width, side, window, inputs, outputs } = card.paper;
  const classes = outputs.find((o) => o.name === "classes")?.shape[1];
  const source = (name: string): never => {
    throw no(`${card.name}: variable ${name} is not in a model's file`);
  };
  return paperGraph(preset as PresetName, source, {
    width,
    image: side,
    frames: window.frames,
    pixels: inputs.find((p) => p.name === "video")?.type === "float32" ? "float32" : "uint8",
    ...(classes !== undefined && { classes }),
    tensors,
    ...options,
  });
}

/**
 * Makes a model folder of an unfolded one whose trunk computes in integers. Three quarters of the clips give the ranges of the
 * activations; both models run over the others, and the difference goes into the card. `windows` is called twice and gives the same each
 * time, windows of a clip behind each other, at least two clips.
 *
 * Throws SL_MODEL_INVALID for a model that cannot be quantised, too few clips, or a difference above the limit; nothing is left then.
 */
export async function quantiseModel(
  model: LoadedWindow,
  windows: () => AsyncIterable<CalibrationWindow>,
  out: string,
  options: QuantiseOptions,
): Promise<QuantisedModel> {
  requireQuantisable(model);
  const { card, folder } = model;
  const { signal, threads, limit = DEFAULT_LIMIT } = options;
  const tensors = floatTensors(model.step, folder);
  const temporary = await mkdtemp(join(tmpdir(), "sightline-int8-"));
  const open = async (graph: PaperGraph): Promise<OnnxEngine> => {
    const file = join(temporary, "model.onnx");
    await writeFile(file, graph.pieces());
    return OnnxEngine.open(file, { threads }, folder);
  };
  /** Windows of the clips that check, or of the others. */
  async function* chosen(checking: boolean): AsyncGenerator<CalibrationWindow> {
    const clips: string[] = [];
    for await (const window of windows()) {
      signal?.throwIfAborted();
      if (!clips.includes(window.clip)) clips.push(window.clip);
      if ((clips.indexOf(window.clip) % CHECK_EVERY === 1) === checking) yield window;
    }
  }
  const engines: OnnxEngine[] = [];
  try {
    const ranges = new CalibrationRanges();
    const probing = await open(graphOf(card, tensors, { form: "unfolded", probes: true }));
    engines.push(probing);
    for await (const { clip, tensors: x } of chosen(false)) ranges.take(clip, await probing.run(x));
    await probing.close();
    if (ranges.windows === 0) throw no("no clip to calibrate with");

    const graph = graphOf(card, tensors, { form: "int8", ranges: ranges.found });
    const differences = new Differences();
    const float = await OnnxEngine.open(model.step, { threads }, folder);
    engines.push(float);
    const integer = await open(graph);
    engines.push(integer);
    for await (const { clip, tensors: x } of chosen(true)) {
      const begin = performance.now();
      const want = await float.run(x);
      const between = performance.now();
      const got = await integer.run(x);
      differences.floatMs += between - begin;
      differences.int8Ms += performance.now() - between;
      differences.take(clip, want, got);
    }
    if (differences.windows === 0) throw no("only one clip: calibration and check need two or more");
    const difference = differences.relative();
    const [worst, most] = Object.entries(difference).reduce((a, b) => (b[1] <= a[1] ? a : b));
    if (!(most <= limit))
      throw no(
        `${folder}: in int8 ${worst} differs by ${(100 * most).toFixed(1)} %, allowed are ${100 * limit} %; nothing was written`,
      );

    const { paper } = card;
    const made = await writePaperModel(
      out,
      graph,
      {
        preset: paper.preset as PresetName,
        width: paper.width,
        form: "int8",
        int8: {
          from: sha256(model.step),
          calibration: { windows: ranges.windows, clips: ranges.clips.size, method: METHOD },
          check: { windows: differences.windows, clips: differences.clips.size, difference },
        },
        guardSamples: paper.guardSamples,
        parameters: card.parameters,
        macs: card.macPerWindow,
        checkpoint: paper.checkpoint,
        training: card.training,
        name: options.name,
        version: options.version ?? card.version,
      },
      signal,
    );
    const each = (ms: number): number => ms / differences.windows;
    return { card: made, floatMs: each(differences.floatMs), int8Ms: each(differences.int8Ms) };
  } finally {
    for (const engine of engines) await engine.close();
    await rm(temporary, { recursive: true, force: true });
  }
}
