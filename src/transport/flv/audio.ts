import { FlvError, type FlvTag, SOUND } from "./tag.js";

/** Bodies of sound tags (FLV 10.1, E.4.2; enhanced RTMP v2 for Opus). Only AAC and Opus are taken apart. */

const AAC = 10;
/** AAC, 44 kHz, 16 bit, stereo: the fixed first byte which E.4.2.1 demands for AAC whatever the real format is. */
const AAC_FLAGS = 0xaf;
/** A packet type and a FourCC follow (enhanced RTMP v2, ExAudioTagHeader). */
const ENHANCED = 9;
const OPUS = "Opus";
const SEQUENCE_START = 0;
const CODED_FRAMES = 1;

export type AudioPacket =
  /** AudioSpecificConfig (ISO/IEC 14496-3). */
  | { readonly kind: "sequence"; readonly config: Buffer }
  /** One raw AAC frame. */
  | { readonly kind: "frame"; readonly data: Buffer }
  /** Identification header of Opus (RFC 7845, 5.1). */
  | { readonly kind: "opusHead"; readonly head: Buffer }
  /** One Opus packet. */
  | { readonly kind: "opus"; readonly data: Buffer }
  | { readonly kind: "none" }
  | { readonly kind: "unsupported"; readonly codec: string };

const NAMES: Record<number, string> = {
  0: "PCM",
  1: "ADPCM",
  2: "MP3",
  3: "PCM",
  7: "A-law",
  8: "mu-law",
  11: "Speex",
  14: "MP3",
};

/** @throws FlvError when the body is shorter than its own header. */
export function readAudio(body: Buffer): AudioPacket {
  if (body.length === 0) return { kind: "none" };
  const codec = body[0]! >> 4;
  if (codec === ENHANCED) return readEnhanced(body);
  if (codec !== AAC) return { kind: "unsupported", codec: NAMES[codec] ?? `codec ${codec}` };
  if (body.length < 2) throw new FlvError("an AAC packet of 1 byte");
  if (body[1] === 0) return { kind: "sequence", config: body.subarray(2) };
  if (body[1] === 1) return { kind: "frame", data: body.subarray(2) };
  return { kind: "none" };
}

function readEnhanced(body: Buffer): AudioPacket {
  const fourCc = body.toString("latin1", 1, 5);
  if (fourCc !== OPUS) return { kind: "unsupported", codec: fourCc.replace(/[^\x20-\x7e]/g, "?") };
  const packetType = body[0]! & 15;
  if (packetType === SEQUENCE_START) return { kind: "opusHead", head: body.subarray(5) };
  return packetType === CODED_FRAMES ? { kind: "opus", data: body.subarray(5) } : { kind: "none" };
}

/** Sound tag with Opus' identification header. */
export function opusHeadTag(head: Uint8Array, timestampMs: number): FlvTag {
  return opus(SEQUENCE_START, head, timestampMs);
}

/** Sound tag of one Opus packet. */
export function opusTag(packet: Uint8Array, timestampMs: number): FlvTag {
  return opus(CODED_FRAMES, packet, timestampMs);
}

function opus(packetType: number, data: Uint8Array, timestampMs: number): FlvTag {
  const body = Buffer.allocUnsafe(5 + data.length);
  body[0] = (ENHANCED << 4) | packetType;
  body.write(OPUS, 1, "latin1");
  body.set(data, 5);
  return { type: SOUND, timestampMs, body };
}

/** Sound tag with the AudioSpecificConfig. */
export function aacSequenceTag(config: Uint8Array, timestampMs: number): FlvTag {
  return sound(0, config, timestampMs);
}

/** Sound tag of one raw AAC frame. */
export function aacFrameTag(frame: Uint8Array, timestampMs: number): FlvTag {
  return sound(1, frame, timestampMs);
}

function sound(packetType: number, data: Uint8Array, timestampMs: number): FlvTag {
  const body = Buffer.allocUnsafe(2 + data.length);
  body[0] = AAC_FLAGS;
  body[1] = packetType;
  body.set(data, 2);
  return { type: SOUND, timestampMs, body };
}
