import { z } from "zod";
import type { AnyCard } from "../card.js";
import { identityOf } from "../cards.js";
import { type Detection, InferenceError, type StepRequest, type StepResult } from "../inference.js";

/**
 * Between a channel and the inference child: frames of transport/ipc/frame.ts over a Unix socket. The child says `hello` first; after
 * that the client asks and each request gets one answer with its id, in any order. Numbers in payloads are little endian.
 *
 *   step    payload: samples (float32), memory (float32), crops (uint8)      -> gains payload: float32 | error
 *           with `voices` the answer's payload goes on with masks, belief, fit, lips (float32)
 *   window  payload: left, right (float32), pictures (uint8)                 -> window payload: gains, map (float32) | error
 *   remember  payload: samples (float32)                                     -> memory payload: float32 | error
 *   detect  payload: RGB                                                     -> faces | error
 *   forget  no payload, no answer
 */
export const MAX_SESSION_NAME = 200;

const id = z.int().nonnegative();
const count = z.int().nonnegative().max(16_000_000);
/** How long after arrival the answer is of use; the child serves the earliest deadline first and skips what is too late. */
const deadlineMs = z.number().positive().max(60_000);
const session = z.string().min(1).max(MAX_SESSION_NAME);
const track = z.int();

const stepHeader = z.strictObject({
  t: z.literal("step"),
  id,
  session,
  track,
  reset: z.boolean(),
  soundOf: track.nullable(),
  personOf: track.nullable(),
  atSample: z.int(),
  units: z.int().positive().max(4096),
  hasPicture: z.boolean(),
  voices: z.boolean(),
  /** Numbers of each kind in the payload. */
  samples: count,
  memory: count,
  crops: count,
  deadlineMs,
});
const windowHeader = z.strictObject({
  t: z.literal("window"),
  id,
  session,
  atSample: z.int(),
  /** Of each channel. */
  samples: count,
  pictures: z.int().nonnegative().max(32_000_000),
  deadlineMs,
});
const rememberHeader = z.strictObject({ t: z.literal("remember"), id, session, deadlineMs });
const detectHeader = z.strictObject({ t: z.literal("detect"), id, side: z.int().min(1).max(1024), deadlineMs });
const forgetHeader = z.strictObject({ t: z.literal("forget"), session, track: track.optional() });
export const toChild = z.discriminatedUnion("t", [
  stepHeader,
  windowHeader,
  rememberHeader,
  detectHeader,
  forgetHeader,
]);
export type ToChild = z.infer<typeof toChild>;
export type StepHeader = z.infer<typeof stepHeader>;
export type WindowHeader = z.infer<typeof windowHeader>;

const code = z.enum([
  "SL_INFERENCE_DOWN",
  "SL_INFERENCE_STATE_LOST",
  "SL_INFERENCE_LATE",
  "SL_MODEL_INVALID",
  "SL_ENGINE_UNAVAILABLE",
  "SL_INFERENCE_FAILED",
]);
const unit = z.number();
const detection = z.strictObject({
  x: unit,
  y: unit,
  width: unit,
  height: unit,
  score: unit,
  keypoints: z.array(unit).length(12),
});
const grid = {
  atSample: z.int(),
  hopSamples: z.int().positive(),
  frames: z.int().positive(),
  bins: z.int().positive(),
  binHz: z.number().positive(),
};
export const fromChild = z.discriminatedUnion("t", [
  /** The model that runs there: name, version and SHA-256 of its step network, which must be those of the client's card. */
  z.strictObject({ t: z.literal("hello"), name: z.string(), version: z.string(), sha256: z.string() }),
  z.strictObject({
    t: z.literal("gains"),
    id,
    ...grid,
    confidence: z.number().min(0).max(1).nullable(),
    /** How many are given one by one (0: none), in how many units, and numbers of a vector that says who speaks (0: there are none). */
    voices: z.int().nonnegative().max(8),
    units: z.int().positive().max(4096),
    speaker: z.int().nonnegative().max(256),
    engineMs: z.number(),
  }),
  z.strictObject({
    t: z.literal("window"),
    id,
    ...grid,
    logit: z.number(),
    map: z.strictObject({ height: z.int().positive(), width: z.int().positive() }),
    engineMs: z.number(),
  }),
  z.strictObject({ t: z.literal("memory"), id }),
  z.strictObject({ t: z.literal("faces"), id, faces: z.array(detection).max(64) }),
  z.strictObject({ t: z.literal("error"), id, code, message: z.string() }),
]);
export type FromChild = z.infer<typeof fromChild>;

export function helloOf(card: AnyCard): Extract<FromChild, { t: "hello" }> {
  return { t: "hello", name: card.name, version: card.version, sha256: identityOf(card) };
}

/** A frame that is well-formed but is not of this protocol; the connection must be closed. */
export class ProtocolError extends Error {
  readonly code = "SL_IPC_MALFORMED";
  override readonly name = "ProtocolError";
}

export function encodeStep(
  request: StepRequest,
  requestId: number,
  deadline: number,
): { header: StepHeader; payload: Buffer } {
  const { samples, crops, memory, hasPicture, voices = false } = request;
  const header: StepHeader = {
    t: "step",
    id: requestId,
    session: request.session,
    track: request.track,
    reset: request.reset,
    soundOf: request.soundOf,
    personOf: request.personOf,
    atSample: request.atSample,
    units: request.units,
    hasPicture,
    voices,
    samples: samples.length,
    memory: memory?.length ?? 0,
    crops: hasPicture ? crops.length : 0,
    deadlineMs: deadline,
  };
  const parts = [bytesOf(samples)];
  if (memory) parts.push(bytesOf(memory));
  if (hasPicture) parts.push(crops);
  return { header, payload: Buffer.concat(parts) };
}

/** @throws ProtocolError when header and payload do not fit */
export function decodeStep(header: StepHeader, payload: Buffer): StepRequest {
  const { samples, memory, crops } = header;
  const cropsAt = 4 * (samples + memory);
  if (payload.length !== cropsAt + crops) {
    throw new ProtocolError(
      `a step of ${samples} + ${memory} numbers and ${crops} bytes came with ${payload.length} bytes`,
    );
  }
  return {
    session: header.session,
    track: header.track,
    reset: header.reset,
    soundOf: header.soundOf,
    personOf: header.personOf,
    atSample: header.atSample,
    units: header.units,
    hasPicture: header.hasPicture,
    voices: header.voices,
    samples: floatsOf(payload, 0, samples),
    memory: memory === 0 ? null : floatsOf(payload, 4 * samples, memory),
    // A copy: the engine wants an array that begins at its buffer's begin, and the frame's buffer may be shared with others.
    crops: new Uint8Array(payload.subarray(cropsAt)),
  };
}

export function encodeGains(
  { gains, confidence, voices, engineMs }: StepResult,
  requestId: number,
): { header: FromChild; payload: Uint8Array } {
  const { data, ...grid } = gains;
  const count = voices?.count ?? 0;
  const units = voices?.lips.length ?? 1;
  const speaker = voices === null ? 0 : voices.speaker.length / count / units;
  const parts = voices === null ? [data] : [data, voices.masks, voices.belief, voices.fit, voices.lips, voices.speaker];
  return {
    header: { t: "gains", id: requestId, ...grid, confidence, voices: count, units, speaker, engineMs },
    payload: Buffer.concat(parts.map(bytesOf)),
  };
}

/** @throws ProtocolError when header and payload do not fit */
export function decodeGains(header: Extract<FromChild, { t: "gains" }>, payload: Buffer): StepResult {
  const { frames, bins, atSample, hopSamples, binHz, confidence, engineMs, voices: count, units } = header;
  const cells = frames * bins;
  const each = count * units;
  const sizes = count === 0 ? [cells] : [cells, count * cells, each, each, units, each * header.speaker];
  if (payload.length !== 4 * sizes.reduce((a, b) => a + b, 0))
    throw new ProtocolError(`${frames} x ${bins} gains and ${count} voices came with ${payload.length} bytes`);
  let at = 0;
  const [data, masks, belief, fit, lips, speaker] = sizes.map((size) => {
    at += 4 * size;
    return floatsOf(payload, at - 4 * size, size);
  });
  return {
    gains: { atSample, hopSamples, frames, bins, binHz, data: data! },
    confidence,
    voices: count === 0 ? null : { count, masks: masks!, belief: belief!, fit: fit!, lips: lips!, speaker: speaker! },
    engineMs,
  };
}

/** Bare numbers as a payload: a voice's sound, its memory. */
export const bytesOf = (a: Float32Array): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** @throws ProtocolError when the payload is not whole numbers or none at all */
export function decodeFloats(payload: Buffer): Float32Array {
  if (payload.length === 0 || payload.length % 4 !== 0)
    throw new ProtocolError(`${payload.length} bytes are not float32`);
  return floatsOf(payload, 0, payload.length / 4);
}

export function errorHeader(error: unknown, requestId: number): FromChild {
  const known = error instanceof InferenceError;
  const message = error instanceof Error ? error.message : String(error);
  return {
    t: "error",
    id: requestId,
    code: known ? error.code : "SL_INFERENCE_FAILED",
    message: message.slice(0, 500),
  };
}

/** JSON has no NaN: a detection with one is no detection. */
export const finiteFaces = (faces: readonly Detection[]): Detection[] =>
  faces.filter((f) => [f.x, f.y, f.width, f.height, f.score, ...f.keypoints].every(Number.isFinite));

/** A copy: payloads are not aligned to four bytes. */
export function floatsOf(payload: Buffer, at: number, length: number): Float32Array {
  const out = new Float32Array(length);
  bytesOf(out).set(payload.subarray(at, at + 4 * length));
  return out;
}
