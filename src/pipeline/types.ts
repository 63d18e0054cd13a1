/**
 * What moves through a channel. Inside a channel time is one number only: the sample index `n` at 48 kHz, anchored at the
 * first audio PTS (docs/architecture.md, "Timeline"). PTS and time bases exist at the two edges, nowhere else.
 */

/** Samples per second of the channel's clock and of all sound inside it. */
export const SAMPLE_RATE = 48_000;

/** A piece of sound. Planar; every channel has the same length; value range about -1..1 (not clipped). */
export type AudioBlock = {
  /** Index of the first sample on the channel's timeline. */
  readonly atSample: number;
  readonly channels: readonly Float32Array[];
};

/** A decoded picture, planar 4:2:0 as GStreamer lays out I420 (strides rounded up to 4 bytes). Never used for output. */
export type Picture = {
  readonly atSample: number;
  readonly width: number;
  readonly height: number;
  /** I420 planes one after another: Y stride = round4(width), U and V stride = round4(round2(width) / 2), rounded-up heights. */
  readonly data: Uint8Array;
  /** true: luma 0..255; false: studio range 16..235. */
  readonly fullRange: boolean;
};

/** A box in fractions (0..1) of the picture's width and height. */
export type Box = { readonly x: number; readonly y: number; readonly width: number; readonly height: number };

/**
 * Gains of one model step on the model's own grid: `frames` x `bins`, row-major, each in [0, 1]; 1 = leave the sound as it is.
 * Frame i is centred on sample `atSample + i * hopSamples`, bin b on b * binHz.
 */
export type GainGrid = {
  readonly atSample: number;
  readonly hopSamples: number;
  readonly frames: number;
  readonly bins: number;
  readonly binHz: number;
  readonly data: Float32Array;
};

/** Which stem a channel lets through. */
export type Keep = "on-screen" | "off-screen" | "mix";

/** How a channel's sound leaves right now. */
export type Mode = "separated" | "late" | "bypass" | "muted";

/** A face followed over time. */
export type Face = {
  readonly id: number;
  readonly box: Box;
  /** Detector's score of the newest detection, 0..1. */
  readonly score: number;
  /** Share of the sound's energy that is this face's voice now, 0..1 (the highlight). */
  readonly speaking: number;
};

/** What downstream is told about the picture; one a step. */
export type Highlight = {
  /** Where in the programme the faces are to be seen: the picture of the step's last unit. */
  readonly atSample: number;
  readonly mode: Mode;
  readonly reason: string | null;
  readonly faces: readonly Face[];
};
