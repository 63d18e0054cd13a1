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

const state = tensor.extend({
  /**
   * What becomes of it when the picture changes. `sound`: of what was heard; another face goes on with it. `person`: found out about the
   * person seen; it comes back with that person. Without it the state begins with `init` for every face.
   */
  of: z.enum(["sound", "person"]).optional(),
});

const units = z.strictObject({ before: z.int().nonnegative().max(250), after: z.int().nonnegative().max(250) });

/**
 * How far a voice is let through: 0 from a score of `shut` down, 1 from `open` up. The score of a unit is `always` + `lips` * l + `fit` * f, l and f the
 * means of both around it; and of somebody whose voice is remembered (pipeline/voice-memory.ts), as far as it is, + `known` + `voice` * likeness to it, but
 * not while that voice is heard beside.
 */
const voiceGate = z
  .strictObject({
    score: z.strictObject({
      always: z.number(),
      lips: z.number(),
      fit: z.number(),
      known: z.number(),
      voice: z.number(),
    }),
    shut: z.number(),
    open: z.number(),
    /** Units around one that count (of those after it, as many as are known). */
    around: z.strictObject({ lips: units, fit: units, voice: units }),
    /** So many units before its score lets a voice through it is let through, as far as they are known then: the begin of a word. */
    early: z.int().nonnegative().max(50),
  })
  .refine(({ shut, open }) => shut < open, { error: "shut must be below open" });

/** What is remembered of a person's voice; amounts in units of 1 surely heard. */
const voiceMemory = z
  .strictObject({
    /** Numbers of a vector. */
    size: z.int().positive().max(256),
    /** After so much a memory counts half; from so much on voices that are unlike it hardly change it; more than so much is not kept. */
    half: z.number().positive(),
    settled: z.number().nonnegative(),
    most: z.number().positive(),
    /** Somebody speaks, surely enough to learn from, as far as `lips` * l + `fit` * f is from `from` to `to`; less sure than `least` nothing is learnt. */
    spoken: z.strictObject({ lips: z.number(), fit: z.number(), from: z.number(), to: z.number() }),
    least: z.number().min(0).max(1),
    /** Likeness from which on a voice begins to agree, and fully does; and what a voice that doesn't still counts. */
    alike: z.strictObject({ from: z.number(), to: z.number() }),
    against: z.number().min(0).max(1),
    /**
     * A memory of the wrong voice: while one that does not agree is believed and one that does is heard beside it, the memory fades; 1 surely heard
     * takes 1 / `doubt` of it.
     */
    doubt: z.number().min(1),
  })
  .refine(({ alike, spoken }) => alike.from < alike.to && spoken.from < spoken.to, { error: "from must be below to" });

export const streamCard = z.strictObject({
  format: z.literal("sightline-model/1"),
  name: z.string(),
  version: z.string(),
  /** State in and out, called with only the new hop. (A model that is called with a whole window has a `windowCard`.) */
  kind: z.literal("stream"),
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
  /**
   * The network also gives its voices one by one, without a decision between them: outputs `voices` (n, frames, bins), masks 0..1; `belief`
   * (n, units), how far each is believed to be the wanted one; `fit` (n, units), how well it fits the lips in that unit; `lips` (1, units), logit
   * of lips that speak; with `memory` also `speaker` (n, units, size), vectors that say who speaks. What the pipeline makes of them: pipeline/voices.ts.
   */
  voices: z.strictObject({ count: z.int().min(2).max(8), gate: voiceGate, memory: voiceMemory.optional() }).optional(),
  states: z.array(state),
  /**
   * `step`: the network of a step. With `sound` it is in two parts: that one takes `samples` and the states that are `of` the sound, is run once for
   * all faces, and what it gives beside those states is taken by `step`, with all other inputs and states.
   */
  files: z.strictObject({ sound: z.string().optional(), step: z.string(), voice: z.string().optional() }),
  /** sha256 of every file, hex. A model whose file does not match never runs. */
  sha256: z.record(z.string(), z.string()),
  parameters: z.int().nonnegative(),
  macPerSecond: z.number().nonnegative(),
  training: z.record(z.string(), z.unknown()).default({}),
});

export type StreamCard = z.infer<typeof streamCard>;

/** Of windows whose card does not say it: 0.3 s. */
export const WINDOW_GUARD_SAMPLES = 14_400;

const whole = z.int().positive();
const port = z.strictObject({ name: z.string(), type: z.string(), shape: z.array(whole) });

/** A model that is called with a whole window of sound and pictures: a network of Owens & Efros 2018. */
export const windowCard = z.strictObject({
  format: z.literal("sightline-model/1"),
  name: z.string(),
  version: z.string(),
  kind: z.literal("window"),
  paper: z.strictObject({
    /** Name of the release: `full`, `unet_pit`, `shift`, `cam` ... */
    preset: z.string(),
    /** Factor of every inner channel count; 1 as published. */
    width: z.number().positive().max(1),
    /** How the network is written down; `unfolded` runs faster on onnxruntime's CPU engine; `int8` also has its trunk in integers. */
    form: z.enum(["folded", "unfolded", "int8"]),
    /** Of form `int8`: how it was made of the float model, and how far its outputs are from that one's. */
    int8: z
      .strictObject({
        /** SHA-256 of the float model's file. */
        from: z.string(),
        /** Windows that gave the ranges of the activations, and how they gave them. */
        calibration: z.strictObject({ windows: whole, clips: whole, method: z.string() }),
        /** Windows of other clips, and the root mean square of the difference over that of each output. */
        check: z.strictObject({ windows: whole, clips: whole, difference: z.record(z.string(), z.number()) }),
      })
      .optional(),
    /** Side of the square pictures given to the network. */
    side: whole,
    /** Pictures, samples and frames of spectrum in a window; a network without u-net has no spectrum: 0. */
    window: z.strictObject({ frames: whole, samples: whole, spectrum: z.int().nonnegative() }),
    /** Live: the newest part of a window, in samples at 48 kHz, whose gains are not used, for what the network sees of it ends too soon. */
    guardSamples: z.int().nonnegative().default(WINDOW_GUARD_SAMPLES),
    constants: z.strictObject({
      sampleRate: z.number().positive(),
      frameRate: z.number().positive(),
      /** Short-time Fourier transform in samples; bins of the spectra that go in and come out. */
      stft: z.strictObject({ window: whole, step: whole, size: whole, bins: whole }),
      /** Lowest level of a spectrum. */
      floorDb: z.number(),
      /** Root mean square to which each channel of a window is brought. */
      rms: z.number().positive(),
    }),
    inputs: z.array(port),
    outputs: z.array(port),
    /** Where the weights come from: file name (of the prefix), training steps (null: not in the file), SHA-256 of its index, or of a safetensors file. */
    checkpoint: z.strictObject({ name: z.string(), step: z.int().nullable(), indexSha256: z.string() }),
  }),
  files: z.strictObject({ step: z.string() }),
  sha256: z.record(z.string(), z.string()),
  /** Trained by gradient. */
  parameters: z.int().nonnegative(),
  /** Multiply-adds of the convolutions of one window. */
  macPerWindow: z.number().nonnegative(),
  training: z.record(z.string(), z.unknown()).default({}),
});

export type WindowCard = z.infer<typeof windowCard>;

export const anyCard = z.discriminatedUnion("kind", [streamCard, windowCard]);
export type AnyCard = z.infer<typeof anyCard>;
