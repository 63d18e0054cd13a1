import type { GainGrid, Highlight, Mode } from "../pipeline/types.js";

/** Sound that goes in. */
export type SoundIn = {
  readonly kind: "sound";
  /** Time of the first sample on the clock that sound and pictures share, milliseconds (any origin, not rounded). */
  readonly ptsMs: number;
  /** Planar, 1 to 8 channels of equal length, at most 10 s, about -1..1; more than two channels are mixed down to two. */
  readonly channels: readonly Float32Array[];
  /** Default 48000. */
  readonly sampleRate?: number;
};

/** A picture that goes in. Pictures may come at any rate, constant or not; the model looks at 25 a second. */
export type PictureIn = {
  readonly kind: "picture";
  /** When it was taken, on the clock of the sound, milliseconds. */
  readonly ptsMs: number;
  readonly width: number;
  readonly height: number;
  /** I420: Y, then U and V at half the size, without padding between the rows (or in the layout of `Picture`). Copied. */
  readonly data: Uint8Array;
  /** true: luma 0..255; false (default): studio range 16..235. */
  readonly fullRange?: boolean;
  /** Degrees clockwise that make it upright. Default 0. */
  readonly rotation?: number;
};

export type MediaIn = SoundIn | PictureIn;

/** Separated sound at 48 kHz, in contiguous blocks. `kept` lies at the input's own times: nothing is shifted. */
export type SoundOut = {
  readonly kind: "sound";
  readonly ptsMs: number;
  /** Position of the first sample, counted from the first sound. */
  readonly atSample: number;
  readonly kept: readonly Float32Array[];
  /** Input - kept, where `removed` was asked for. */
  readonly removed: readonly Float32Array[] | null;
  /** How the sound left at the end of this block, and why if not `separated` (a code of docs/codes.md). */
  readonly mode: Mode;
  readonly reason: string | null;
};

/** The gains of one model step as the model and the rules for several faces gave them, before strength and limit. */
export type GainsOut = { readonly kind: "gains"; readonly ptsMs: number; readonly gains: GainGrid };

/** Who is seen, and whose voice is heard how much; one a step. */
export type HighlightOut = { readonly kind: "highlight"; readonly ptsMs: number } & Highlight;

export type MediaOut = SoundOut | GainsOut | HighlightOut;

/**
 * Sound and pictures of two arrays (or of anything that can be iterated), merged by time as `separate` wants them. Each must be in order
 * of time by itself.
 */
export function* interleave(sounds: Iterable<SoundIn>, pictures: Iterable<PictureIn>): Generator<MediaIn> {
  const waiting = pictures[Symbol.iterator]();
  let picture = waiting.next();
  for (const sound of sounds) {
    while (!picture.done && picture.value.ptsMs <= sound.ptsMs) {
      yield picture.value;
      picture = waiting.next();
    }
    yield sound;
  }
  for (; !picture.done; picture = waiting.next()) yield picture.value;
}
