/**
 * The declared latency D of a profile, from declared parts (milliseconds). Everything that leaves a channel is D later than it came.
 * D is the longest way a sample can go: it waits for the end of its step (H) and for the pictures, then for the model; the gains of
 * the newest G of a step come with the next one, and it is decided about when the look-ahead was seen and heard, too; the filter bank wants gains for half a frame beyond; the encoder has the last part.
 */
import type { AnyCard, StreamCard } from "../model/card.js";
import { BANK_SIZE } from "../pipeline/filter-bank.js";
import { SAMPLE_RATE } from "../pipeline/types.js";
import { AAC_ENCODERS } from "../transport/gst/launch.js";

export type Profile = "low" | "balanced" | "quality";

/** What is to be known of a model. `guardSamples`: its guard, and for windows what is cross-faded before it. */
export type ModelGeometry = Pick<StreamCard, "unitSamples" | "guardSamples" | "lookBackSamples"> & {
  readonly kind: AnyCard["kind"];
  /** Given: it gives its voices one by one, so that a look-ahead is possible. */
  readonly voices?: unknown;
};

/** Model units a step: fewer answer sooner, more leave the engine more time a call. A window model begins at its beginning every time. */
export const HOP_UNITS: Record<AnyCard["kind"], Record<Profile, number>> = {
  stream: { low: 1, balanced: 3, quality: 5 },
  window: { low: 6, balanced: 10, quality: 15 },
};

/**
 * Whose voice is whose is decided when so many more units were seen and heard, of a model that gives its voices one by one: what cannot be known
 * in the first second of a face is known after it (docs/decisions/18). Whole steps: a step is decided about when a later one was run.
 */
const LOOK_AHEAD_UNITS: Record<Profile, number> = { low: 0, balanced: 3, quality: 30 };

/** More finds out hardly more, and sound is held back for 7 s at the most (src/channel/separation.ts). It is what a file gets, which has no latency. */
export const MAX_LOOK_AHEAD_MS = 4000;

/**
 * In units; 0 where the model decides itself.
 *
 * @param ms in place of the profile's, 0 to MAX_LOOK_AHEAD_MS; whole steps are taken that are no less
 */
export function lookAheadOf(
  profile: Profile,
  { voices, unitSamples }: Pick<ModelGeometry, "voices" | "unitSamples">,
  ms?: number,
): number {
  if (voices === undefined) return 0;
  if (ms === undefined) return LOOK_AHEAD_UNITS[profile];
  if (!(ms >= 0 && ms <= MAX_LOOK_AHEAD_MS))
    throw new RangeError(`a look-ahead is 0 to ${MAX_LOOK_AHEAD_MS} ms, not ${ms}`);
  const hop = HOP_UNITS.stream[profile];
  return hop * Math.ceil((ms * SAMPLE_RATE) / 1000 / (hop * unitSamples));
}

/** Source to decoded sound and picture, mouth crops included (reserve for 1080p on two busy cores). */
const CAPTURE_DECODE_MS: Record<Profile, number> = { low: 30, balanced: 80, quality: 150 };
/** From the cut of a step to its gains, all faces. */
const INFERENCE_MS: Record<AnyCard["kind"], Record<Profile, number>> = {
  stream: { low: 35, balanced: 190, quality: 450 },
  window: { low: 180, balanced: 320, quality: 480 },
};
/** Network jitter that is absorbed, and pauses of this process. */
const JITTER_MS: Record<Profile, number> = { low: 20, balanced: 80, quality: 250 };
/** Gains must be known for half a frame beyond a sample; its sound, for a whole one, was there long before. */
const BANK_SAMPLES = BANK_SIZE / 2;
const AAC_FRAME_SAMPLES = 1024;
/** Rendering comes in blocks of about this length, and encoding takes a little. */
const RENDER_BLOCK_MS = 12;

export type LatencyPlan = {
  readonly declaredMs: number;
  readonly parts: Readonly<Record<string, number>>;
  readonly hopUnits: number;
  readonly lookAheadUnits: number;
  readonly captureDecodeMs: number;
  /** How long before its release sound must be rendered: a whole AAC frame must be full, and its sound lies `delay` before. */
  readonly encodeMs: number;
  /** A step whose gains are not there after this has missed its use. */
  readonly inferenceMs: number;
};

const ms = (samples: number): number => Math.round((samples / SAMPLE_RATE) * 10_000) / 10;

export type LatencyOptions = {
  /** `none`: the sound leaves as it is rendered (a track of a conference). Default `aac`. */
  readonly encoder?: "aac" | "none";
  /** As in `lookAheadOf`. */
  readonly lookAheadMs?: number | undefined;
};

export function latencyPlan(
  profile: Profile,
  model: Omit<ModelGeometry, "lookBackSamples">,
  { encoder = "aac", lookAheadMs }: LatencyOptions = {},
): LatencyPlan {
  const hopUnits = HOP_UNITS[model.kind][profile];
  const lookAheadUnits = lookAheadOf(profile, model, lookAheadMs);
  const aacSamples = Math.max(...AAC_ENCODERS.map((e) => e.delaySamples)) + AAC_FRAME_SAMPLES;
  const encodeMs = (encoder === "aac" ? ms(aacSamples) : 0) + RENDER_BLOCK_MS;
  const parts = {
    captureDecode: CAPTURE_DECODE_MS[profile],
    hop: ms(hopUnits * model.unitSamples),
    guard: ms(model.guardSamples),
    lookAhead: ms(lookAheadUnits * model.unitSamples),
    bank: ms(BANK_SAMPLES),
    inference: INFERENCE_MS[model.kind][profile],
    jitter: JITTER_MS[profile],
    encode: encodeMs,
  };
  const declaredMs = Math.round(Object.values(parts).reduce((a, b) => a + b, 0));
  return {
    declaredMs,
    parts,
    hopUnits,
    lookAheadUnits,
    captureDecodeMs: parts.captureDecode,
    encodeMs,
    inferenceMs: INFERENCE_MS[model.kind][profile],
  };
}

/** Pictures a second that the delay line has places for; what comes in bursts or is held back lies there for seconds longer. */
const MOST_PER_SECOND = 130;
const DELAY_RESERVE_MS = 3000;

/** Places of each kind (access units, sound frames, notes) in a delay line of `declaredMs`; it drops its oldest when there are more. */
export function delayPlaces(declaredMs: number): number {
  return Math.ceil(((declaredMs + DELAY_RESERVE_MS) / 1000) * MOST_PER_SECOND);
}
