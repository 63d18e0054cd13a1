import { readFile } from "node:fs/promises";
import { FlvReader, type FlvTag, PICTURE, SCRIPT, SOUND } from "../transport/flv/tag.js";

/** A clip in memory, cut so that it can be played round after round. */
export type LoopClip = {
  /** Script data and sequence headers, to be sent once in front; timestamps 0. */
  readonly head: readonly FlvTag[];
  /** One round of sound and pictures in decoding order; timestamps from 0 to below `roundMs`. */
  readonly round: readonly FlvTag[];
  /** Length of a round in milliseconds. */
  readonly roundMs: number;
};

/** The file is no FLV clip that can be looped. */
export class ClipError extends Error {
  readonly code = "SL_DEMO_CLIP";
  override readonly name = "ClipError";
}

/** A longer file is not a demonstration clip and is not read into memory. */
export const MAX_CLIP_BYTES = 64 * 1024 * 1024;

/** @throws ClipError, FlvError, or the file system's error */
export async function readClip(path: string): Promise<LoopClip> {
  const bytes = await readFile(path);
  if (bytes.length > MAX_CLIP_BYTES)
    throw new ClipError(`${path} has ${bytes.length} bytes, at most ${MAX_CLIP_BYTES} are read`);
  return loopClip(new FlvReader().push(bytes));
}

/** Splits the tags of an FLV file. @throws ClipError when there is too little to loop, or no key frame in front */
export function loopClip(tags: readonly FlvTag[]): LoopClip {
  const head = tags
    .filter((tag) => tag.type === SCRIPT || isSequenceHeader(tag))
    .map((tag) => ({ ...tag, timestampMs: 0 }));
  const media = tags.filter((tag) => tag.type !== SCRIPT && !isSequenceHeader(tag) && !isEndOfSequence(tag));
  const first = Math.min(...media.slice(0, 64).map((tag) => tag.timestampMs));
  const round = media.map((tag) => ({ ...tag, timestampMs: tag.timestampMs - first }));
  const firstPicture = round.find((tag) => tag.type === PICTURE);
  if (firstPicture === undefined || firstPicture.body[0]! >> 4 !== 1)
    throw new ClipError("the clip does not begin with a key frame");
  const roundMs = Math.round(Math.max(trackEndMs(round, PICTURE), trackEndMs(round, SOUND)));
  return { head, round, roundMs };
}

/** AVC and AAC packet type 0, Adobe FLV 10.1, E.4.2.1 and E.4.3.1. */
function isSequenceHeader(tag: FlvTag): boolean {
  if (tag.type === PICTURE) return (tag.body[0]! & 15) === 7 && tag.body[1] === 0;
  return tag.type === SOUND && tag.body[0]! >> 4 === 10 && tag.body[1] === 0;
}

function isEndOfSequence(tag: FlvTag): boolean {
  return tag.type === PICTURE && (tag.body[0]! & 15) === 7 && tag.body[1] === 2;
}

/** Where the next tag of this kind would begin, by the mean distance (timestamps are rounded to milliseconds). */
function trackEndMs(tags: readonly FlvTag[], type: FlvTag["type"]): number {
  const times = tags.filter((tag) => tag.type === type).map((tag) => tag.timestampMs);
  if (times.length < 2) throw new ClipError("the clip needs at least two pictures and two packets of sound");
  const first = times[0]!;
  const last = times[times.length - 1]!;
  return last + (last - first) / (times.length - 1);
}
