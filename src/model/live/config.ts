import { z } from "zod";

/** Lengths of the live model's clock, in samples at 48 kHz (docs/architecture.md, "The live model's clock"). */
export const UNIT = 1920;
export const HOP = 384;
export const FRAMES = UNIT / HOP;
export const WINDOW = 1536;
/** Kept from one step to the next so that every frame has its whole window. */
export const KEPT = WINDOW - HOP;
/** 0..8000 Hz in steps of 31.25 Hz. */
export const BINS = 257;
/** Bands inside of the separator: 257 halved three times. */
export const BANDS = 33;
/** Frames of look-ahead. With the 16 ms of half a window it makes five frames of one unit wait for the same picture. */
export const AHEAD = 9;
/** Pictures of look-ahead of the picture front end. */
export const PICTURES_AHEAD = 2;
export const FIRST_FRAME_OFFSET = WINDOW / 2 - KEPT - AHEAD * HOP;
export const GUARD = UNIT - FIRST_FRAME_OFFSET - (FRAMES - 1) * HOP;

/** Sizes of a live model; `train/export_weights.py` writes them into the weight file as JSON under the note `config`. */
export const liveConfig = z.strictObject({
  /** Side of the grey mouth crops, a multiple of 16. */
  side: z.int().min(16).max(128).multipleOf(16),
  /** Channels of the picture front end's four convolutions. */
  widths: z.tuple([z.int().positive(), z.int().positive(), z.int().positive(), z.int().positive()]),
  hidden: z.int().positive(),
  /** Channels of the separator (even) and number of its blocks. */
  width: z.int().positive().multipleOf(2),
  blocks: z.int().min(1).max(16),
  hop: z.literal(HOP / 3),
  ahead: z.literal(AHEAD),
  /** Picture feature, picture condition, voice memory. */
  vdim: z.int().positive(),
  vhidden: z.int().positive(),
  edim: z.int().positive(),
  /** Hidden size of the voice encoder. */
  voiceHidden: z.int().positive().default(128),
});
export type LiveConfig = z.infer<typeof liveConfig>;
