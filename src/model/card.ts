import { z } from "zod";

/**
 * `models/NAME/card.json`: everything the pipeline must know to serve a model. No constant of a model lives in the pipeline.
 * All lengths are in samples of the 48 kHz timeline.
 */
const tensor = z.strictObject({
  name: z.string(),
  shape: z.array(z.int().positive()),
  /** Value every element starts with. */
  init: z.number().default(0),
});

export const modelCard = z.strictObject({
  format: z.literal("sightline-model/1"),
  name: z.string(),
  version: z.string(),
  /** `stream`: state in and out, called with only the new hop. `window`: called with a whole window. */
  kind: z.enum(["stream", "window"]),
  /** Sound given to the model: mono, 48 kHz unless it says otherwise. */
  sampleRate: z.literal(48_000),
  /** Smallest step; every step is a multiple of it. One picture belongs to one step unit. */
  unitSamples: z.int().positive(),
  picture: z.strictObject({ kind: z.literal("mouth-crop"), side: z.int().positive(), colour: z.literal("grey") }),
  /** Gains that come out: `unitSamples / hopSamples` frames a unit. */
  grid: z.strictObject({ hopSamples: z.int().positive(), bins: z.int().positive(), binHz: z.number().positive() }),
  /**
   * The first gain frame of a step that begins at sample s is centred on s + firstFrameOffset (negative: look-ahead).
   * The guard G = distance of the newest gain frame's centre from the end of the step.
   */
  firstFrameOffset: z.int(),
  guardSamples: z.int().nonnegative(),
  /** How much of the past re-makes the state after a restart. */
  lookBackSamples: z.int().positive(),
  memorySize: z.int().positive(),
  /** How gains come from the two masks (wanted voice, rest): `on` = the first alone, `ratio` = first / (first + second). */
  gain: z.enum(["on", "ratio"]).default("on"),
  states: z.array(tensor),
  files: z.strictObject({ step: z.string(), voice: z.string().optional() }),
  /** sha256 of every file, hex. A model whose file does not match never runs. */
  sha256: z.record(z.string(), z.string()),
  parameters: z.int().nonnegative(),
  macPerSecond: z.number().nonnegative(),
  training: z.record(z.string(), z.unknown()).default({}),
});

export type ModelCard = z.infer<typeof modelCard>;
