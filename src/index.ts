/**
 * The library: everything between sound and pictures in and sound out, on arrays, without clock, files or sockets (`openModel` alone
 * reads a model's files). Loads nothing native before `openModel`. docs/library.md has the guide.
 */
export { CODES, type Code } from "./codes.js";
export { LibraryError } from "./library/errors.js";
export {
  type GainsOut,
  type HighlightOut,
  interleave,
  type MediaIn,
  type MediaOut,
  type PictureIn,
  type SoundIn,
  type SoundOut,
} from "./library/media.js";
export { type OpenModelOptions, openModel } from "./library/model.js";
export { type SeparateStreamOptions, separate, separateAll } from "./library/separate.js";
export { SeparationSession, type SessionOptions } from "./library/session.js";
export type { StreamCard } from "./model/card.js";
export {
  type Detection,
  type Inference,
  InferenceError,
  type StepRequest,
  type StepResult,
} from "./model/inference.js";
export { MissingPackageError } from "./optional.js";
export { BandEnergy, type GridLayout } from "./pipeline/band-energy.js";
export { type Controls, DEFAULT_CONTROLS, GainControls } from "./pipeline/controls.js";
export { PipelineError } from "./pipeline/errors.js";
export {
  type AttributionInput,
  type AttributionPolicy,
  type Decision,
  type FaceGains,
  FacePolicy,
  PolicyReason,
} from "./pipeline/face-policy.js";
export { RealFft } from "./pipeline/fft.js";
export {
  BANK_BIN_HZ,
  BANK_BINS,
  BANK_HOP,
  BANK_LATENCY,
  BANK_SIZE,
  FilterBank,
  type GainsAt,
} from "./pipeline/filter-bank.js";
export { GainMap } from "./pipeline/gain-map.js";
export {
  GainRenderer,
  type Levels,
  type Rendered,
  type RendererModel,
  type RendererOptions,
  type StepSound,
} from "./pipeline/gain-renderer.js";
export {
  CROSS_FADE_SAMPLES,
  GainTimeline,
  HOLD_SAMPLES,
  type ModeState,
  type ShapeGains,
} from "./pipeline/gain-timeline.js";
export { boundedQueue } from "./pipeline/operators/bounded-queue.js";
export { type PaceOptions, pace } from "./pipeline/operators/pace.js";
export { type DropPolicy, type SeamCounter, seamCounter } from "./pipeline/operators/seam.js";
export { RAMP_SAMPLES } from "./pipeline/ramp.js";
export { AudioTimeline, type TimedAudio, type TimelineEvent, type TimelineOutput } from "./pipeline/timeline.js";
export {
  type AudioBlock,
  type Box,
  type Face,
  type GainGrid,
  type Highlight,
  type Keep,
  type Mode,
  type Picture,
  SAMPLE_RATE,
} from "./pipeline/types.js";
