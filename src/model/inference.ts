import type { GainGrid } from "../pipeline/types.js";
import type { Voices } from "../pipeline/voices.js";
import type { StreamCard, WindowCard } from "./card.js";

/**
 * One step of a streaming model for one followed face. `samples` and `crops` hold `units` units; with `reset` the state starts
 * from the card's initial values (a look-back run: give the last `lookBackSamples`).
 */
export type StepRequest = {
  readonly session: string;
  readonly track: number;
  readonly reset: boolean;
  /** Not with reset: the track that has heard the sound up to `atSample`; this new one begins with its states of the sound. Null: none. */
  readonly soundOf: number | null;
  /** With `soundOf`: the track that this person was seen as before; the states of the person are taken from there. Null: somebody new. */
  readonly personOf: number | null;
  readonly atSample: number;
  readonly units: number;
  /** Mono 48 kHz, `units * unitSamples` values. */
  readonly samples: Float32Array;
  /** `units * side * side` grey values 0..255; ignored when hasPicture is false. */
  readonly crops: Uint8Array;
  readonly hasPicture: boolean;
  readonly memory: Float32Array | null;
  /** Whether the voices are wanted one by one, too; only of a model whose card has `voices`. Default: no. */
  readonly voices?: boolean;
};

export type StepResult = {
  readonly gains: GainGrid;
  /** How sure the model is whose voice it lets through, 0..1, at the end of the step; null: it does not say. */
  readonly confidence: number | null;
  /** On the cells of `gains`; null: not asked for. */
  readonly voices: Voices | null;
  /** Milliseconds spent in the engine. */
  readonly engineMs: number;
};

export type Detection = {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly score: number;
  /** Right eye, left eye, nose, mouth, right ear, left ear: x, y pairs. Fractions of the picture, like the box. */
  readonly keypoints: readonly number[];
};

/** Raised when a step cannot be answered: the state is lost (engine restarted) or the caller asked something impossible. */
export class InferenceError extends Error {
  constructor(
    readonly code:
      | "SL_INFERENCE_DOWN"
      | "SL_INFERENCE_STATE_LOST"
      | "SL_INFERENCE_LATE"
      | "SL_MODEL_INVALID"
      | "SL_ENGINE_UNAVAILABLE"
      | "SL_INFERENCE_FAILED",
    message: string,
  ) {
    super(message);
    this.name = "InferenceError";
  }
}

/** Sound from which a voice memory can be made: 0.5 to 60 s of 48 kHz. */
export const VOICE_SAMPLES = { min: 24_000, max: 60 * 48_000 } as const;

/** The two implementations: in this process (files, tests) and in the inference child (live). */
export interface Inference {
  readonly card: StreamCard;
  step(request: StepRequest): Promise<StepResult>;
  /**
   * Some seconds of one voice (mono 48 kHz, as long as VOICE_SAMPLES says) -> `memorySize` numbers for the `memory` of steps; keeps nothing. `session`
   * says whose request it is. Throws SL_INFERENCE_FAILED when the sound is too short, too long or not finite, or the model has no
   * voice encoder.
   */
  remember(session: string, samples: Float32Array): Promise<Float32Array>;
  /** RGB square of side x side (`FACE_DETECTOR.side`), the picture letterboxed or a part of it; fractions of that square come back. */
  detectFaces(rgb: Uint8Array, side: number): Promise<readonly Detection[]>;
  /** Forgets the state of one track (or all of a session). */
  forget(session: string, track?: number): void;
  close(): Promise<void>;
}

/** One window for a model that is called with whole ones. It keeps nothing between two of them. */
export type WindowRequest = {
  /** Whose window it is: of one session one may wait. */
  readonly session: string;
  /** Where it begins at 48 kHz. */
  readonly atSample: number;
  /** `frames` RGB squares (side, side, 3) one after another, as many as the card says. */
  readonly pictures: Uint8Array;
  /** Both channels at 21 kHz, as many samples as the card says; mono sound is given twice. */
  readonly left: Float32Array;
  readonly right: Float32Array;
};

/** Evidence that the sound comes from there, row by row over what the network sees of the picture; above 0: it does. */
export type SourceMap = { readonly height: number; readonly width: number; readonly data: Float32Array };

export type WindowAnswer = {
  /** On-screen gains of the whole window. */
  readonly gains: GainGrid;
  /** Above 0: sound and pictures belong together. */
  readonly logit: number;
  /** Mean over the window. */
  readonly map: SourceMap;
  /** Milliseconds spent in the engine. */
  readonly engineMs: number;
};

/** As `Inference`, of a model that is called with whole windows: in this process, and in the inference child. */
export interface WindowInference {
  readonly card: WindowCard;
  /** Throws InferenceError; RangeError when the sizes are not the card's. */
  window(request: WindowRequest): Promise<WindowAnswer>;
  close(): Promise<void>;
}

export type AnyInference = Inference | WindowInference;

export const isWindowed = (inference: AnyInference): inference is WindowInference => inference.card.kind === "window";
