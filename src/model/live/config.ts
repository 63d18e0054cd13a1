import { z } from "zod";

/** Samples at 48 kHz of one unit: one mouth crop, and what one step gives at least. */
export const UNIT = 1920;
/** Pictures of look-ahead of the picture front end. */
export const PICTURES_AHEAD = 2;
/** The network's rate of sound is a third of the timeline's. */
const RATE_RATIO = 3;

const streamed = {
  blocks: z.int().min(1).max(16),
  nfft: z.int().min(64).max(4096).multipleOf(64).default(640),
  hop: z.int().positive().default(320),
  ahead: z.int().positive().default(4),
};

/**
 * `nfft`, `hop`: the spectrum's window and step in samples at 16 kHz, as they were trained; `ahead`: frames of look-ahead.
 * `lite`: one recurrent stack over the whole spectrum; `width` = its size. `band`: a recurrent network along time in each of 30 bands
 * and one over a summary of all; `width` = numbers of a band, `hidden` = of the summary.
 */
const separatorConfig = z
  .discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("lite"),
      width: z.int().positive(),
      ...streamed,
    }),
    z.strictObject({
      kind: z.literal("band"),
      width: z.int().positive(),
      hidden: z.int().positive(),
      ...streamed,
    }),
  ])
  .superRefine((s, context) => {
    const wrong = clockFault(clockOf(s));
    if (wrong !== null) context.addIssue({ code: "custom", message: wrong });
  });

/** `hidden`: size of its layers; `dim`: of the vectors that lips and voices are compared by; `bands`: mel bands of a voice;
 * `lags`: pictures that its sound may be early or late by; `eyes`: picture front ends, each with a head of its own; `speaker`: size of the
 * vectors that say who speaks, 0: there are none. */
const attributionConfig = z.strictObject({
  hidden: z.int().positive(),
  dim: z.int().positive(),
  bands: z.int().min(8).max(128),
  lags: z.int().min(1).max(12),
  eyes: z.int().min(1).max(2).default(1),
  speaker: z.int().nonnegative().max(256).default(0),
});
export type AttributionConfig = z.infer<typeof attributionConfig>;

/** Sizes of a live model; `train/export_weights.py` writes them into the weight file as JSON under the note `config`. */
export const liveConfig = z
  .strictObject({
    /** Side of the grey mouth crops, a multiple of 16. */
    side: z.int().min(16).max(128).multipleOf(16),
    /** Channels of the picture front end's four convolutions. */
    widths: z.tuple([z.int().positive(), z.int().positive(), z.int().positive(), z.int().positive()]),
    hidden: z.int().positive(),
    separator: separatorConfig,
    /** Picture feature, picture condition, voice memory. */
    vdim: z.int().positive(),
    vhidden: z.int().positive(),
    edim: z.int().positive(),
    /** Hidden size of the voice encoder. */
    voiceHidden: z.int().positive().default(128),
    /** Present: the separator is told nothing, and its two voices are told apart afterwards. Absent: it is told picture and memory. */
    attribution: attributionConfig.optional(),
  })
  .refine((c) => c.attribution === undefined || clockOf(c.separator).frames === 2, {
    path: ["attribution"],
    message: "wants a separator with two gain frames a picture (hop 320)",
  })
  .refine((c) => c.attribution !== undefined || c.separator.kind !== "band", {
    path: ["attribution"],
    message: "is needed with a separator of kind `band`, which can be told nothing",
  });
export type LiveConfig = z.infer<typeof liveConfig>;
export type SeparatorConfig = LiveConfig["separator"];
export type BandConfig = Extract<SeparatorConfig, { kind: "band" }>;
export type LiteConfig = Extract<SeparatorConfig, { kind: "lite" }>;

/** What follows from a separator's configuration, in samples at 48 kHz (docs/architecture.md, "The live model's clock"). */
export type Clock = {
  readonly window: number;
  readonly hop: number;
  /** Gain frames of one unit. */
  readonly frames: number;
  /** Kept from one step to the next so that every frame has its whole window. */
  readonly kept: number;
  readonly bins: number;
  readonly binHz: number;
  /** First gain of a step that begins at sample s: s + this. */
  readonly firstFrameOffset: number;
  /** From the newest gain to the end of its step. */
  readonly guard: number;
};

export function clockOf(s: { readonly nfft: number; readonly hop: number; readonly ahead: number }): Clock {
  const [window, hop] = [s.nfft * RATE_RATIO, s.hop * RATE_RATIO];
  const kept = window - hop;
  const firstFrameOffset = window / 2 - kept - s.ahead * hop;
  return {
    window,
    hop,
    frames: UNIT / hop,
    kept,
    bins: s.nfft / 2 + 1,
    binHz: 48_000 / window,
    firstFrameOffset,
    guard: hop - firstFrameOffset,
  };
}

/**
 * All gains of a unit are made with the condition of one picture, the one that is known then: they must lie within the unit of that
 * picture, two units before. Gives what is wrong, or null.
 */
function clockFault({ window, hop, frames, firstFrameOffset }: Clock): string | null {
  if (!Number.isInteger(frames)) return `a unit of ${UNIT} samples is not a multiple of the hop ${hop}`;
  if (window % hop !== 0) return `the window ${window} is not a multiple of the hop ${hop}`;
  const late = firstFrameOffset + PICTURES_AHEAD * UNIT;
  return late >= 0 && late < hop
    ? null
    : `the sound waits ${-firstFrameOffset} samples, the picture ${PICTURES_AHEAD * UNIT}: a unit's gains would need two pictures`;
}
