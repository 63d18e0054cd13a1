import type { ModelCard } from "../model/card.js";
import type { Controls } from "./controls.js";
import type { AudioBlock, GainGrid, Mode } from "./types.js";

/** What the separator must know of a model; a `ModelCard` fits. Lengths in samples at 48 kHz. */
export type SeparatorModel = Pick<ModelCard, "unitSamples" | "firstFrameOffset" | "guardSamples" | "lookBackSamples">;

export type SeparatorOptions = {
  readonly model: SeparatorModel;
  /** Sound channels in and out (the layout of AudioTimeline's blocks). */
  readonly channels: number;
  readonly controls?: Partial<Controls>;
  /** Sound that may wait between pushAudio and render. Default 8 s. */
  readonly ringSamples?: number;
};

/** Mono sound (mean of the channels) for a model step: `units * unitSamples` values from `atSample` on. */
export type StepSound = { readonly atSample: number; readonly units: number; readonly samples: Float32Array };

/** One piece of output. `kept` and `removed` lie at the input's positions and add up to the input. */
export type Rendered = {
  readonly kept: AudioBlock;
  /** Input - kept; null unless it was asked for. */
  readonly removed: AudioBlock | null;
};

/** How the sound leaves at the newest rendered sample, and since which sample. */
export type ModeState = { readonly mode: Mode; readonly reason: string | null; readonly sinceSample: number };

/** dBFS (0 = full-scale square, floor -120), about the last 300 ms. */
export type Levels = { readonly inDb: number; readonly outDb: number; readonly removedDb: number };

/** The public face of the class `Separator` (this file); it has no clock and does no I/O. */
export interface SeparatorApi {
  /** Sound must be contiguous from sample 0 on. Throws PipelineError SL_SOUND_NOT_RENDERED when the ring is full. */
  pushAudio(block: AudioBlock): void;
  /** No more sound comes: steps go on zero-padded until the gains cover the end, and the tail can be rendered. */
  finish(): void;
  /** The next model step, or null while its sound is not there yet. Steps begin at multiples of unitSamples * hopUnits. */
  nextStep(hopUnits: number): StepSound | null;
  /** Whole units of sound that end at `endSample` (the start of the next step), at most the model's look-back: a reset run. */
  lookBack(endSample: number): StepSound;
  acceptGains(grid: GainGrid): void;
  /** From `sample` on the sound leaves untouched, for this reason; several reasons may hold at once. */
  bypassFrom(sample: number, reason: string): void;
  /** From `sample` on this reason (or, without one, every reason) no longer holds. */
  separateFrom(sample: number, reason?: string): void;
  setControls(patch: Partial<Controls>): void;
  /** Everything up to `untilSample` that was not rendered yet and whose sound is there (see soundUntil); null when nothing is. */
  render(untilSample: number, options?: { readonly removed?: boolean }): Rendered | null;
  /** Samples pushed so far. */
  readonly pushedSamples: number;
  /** Samples rendered so far: the next block begins here. */
  readonly renderedSamples: number;
  /** render() can go this far, with gains or without (newest sound - bank latency). */
  readonly soundUntil: number;
  /** render() can go this far with known gains (or in bypass). */
  readonly gainsUntil: number;
  readonly mode: ModeState;
  readonly levels: Levels;
  readonly counters: Readonly<Record<string, number>>;
}
