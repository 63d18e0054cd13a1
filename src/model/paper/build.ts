import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { z } from "zod";
import type { WindowCard } from "../card.js";
import { InferenceError } from "../inference.js";
import { readWeights, tensorOf, type WeightFile } from "../weights.js";
import { paperGraph } from "./graph.js";
import { type PresetName, presets } from "./presets.js";
import { paperVariables, sizeOfVariable } from "./variables.js";
import { writePaperModel } from "./write.js";

const whole = z.int().positive();
const json = <T extends z.ZodType>(schema: T) =>
  z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: "custom", message: "is not JSON" });
        return z.NEVER;
      }
    })
    .pipe(schema);

/** What train/paper/weights.py writes beside the tensors: which network they belong to, and how they were trained. */
const notesOf = z.object({
  paper: json(
    z.object({
      preset: z.enum(Object.keys(presets) as [PresetName, ...PresetName[]]),
      width: z.number().positive(),
      image: whole,
      frames: whole,
      classes: z.int().nonnegative().default(0),
      step: z.int().nonnegative(),
    }),
  ),
  training: json(z.record(z.string(), z.unknown())).default({}),
});

export type BuildPaperOptions = {
  /** In the card; default: the folder's name and "1". */
  readonly name?: string;
  readonly version?: string;
  /** Default "unfolded": onnxruntime computes it faster. */
  readonly form?: "folded" | "unfolded";
};

/** Whether a weight file is of a network of the paper (`sightline model build` makes live models, too). */
export const isPaper = (weights: WeightFile): boolean => Object.hasOwn(weights.notes, "paper");

/**
 * Makes a model folder of weights that train/paper trained: safetensors under TensorFlow's names, in TensorFlow's layout, moving
 * statistics included. Throws SL_MODEL_INVALID for tensors or notes that are missing or wrong, RangeError for sizes that the network
 * does not take.
 */
export async function buildPaper(file: string, out: string, options: BuildPaperOptions = {}): Promise<WindowCard> {
  const bytes = await readFile(file);
  const weights = readWeights(bytes, file);
  const notes = notesOf.safeParse(weights.notes);
  if (!notes.success)
    throw new InferenceError(
      "SL_MODEL_INVALID",
      `${file}: notes: ${z.prettifyError(notes.error).replaceAll("\n", " ")}`,
    );
  const { preset, step, ...sizes } = notes.data.paper;
  const variables = paperVariables(preset, { ...sizes, slots: false });
  const shapes = new Map(variables.map((v) => [v.name, v.shape]));
  const source = (name: string): Float32Array => tensorOf(weights.tensors, name, shapes.get(name) ?? []);
  const form = options.form ?? "unfolded";
  const trained = variables.filter((v) => v.trainable);
  return writePaperModel(out, paperGraph(preset, source, { ...sizes, form }), {
    preset,
    width: sizes.width,
    form,
    parameters: trained.reduce((sum, v) => sum + sizeOfVariable(v), 0),
    // The network's operations are the same in every form; the folded one counts no helper convolutions.
    macs: paperGraph(preset, source, sizes).macs,
    checkpoint: { name: basename(file), step, indexSha256: createHash("sha256").update(bytes).digest("hex") },
    training: notes.data.training,
    ...options,
  });
}
