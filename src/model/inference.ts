import type { GainGrid } from "../pipeline/types.js";
import type { StreamCard } from "./card.js";

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
};

export type StepResult = {
  readonly gains: GainGrid;
  /** How sure the model is whose voice it lets through, 0..1, at the end of the step; null: it does not say. */
  readonly confidence: number | null;
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
