import { FlvError, type FlvTag, PICTURE } from "./tag.js";

/**
 * Bodies of picture tags: legacy (FLV 10.1, E.4.3: frame type, codec id, AVC packet) and enhanced RTMP (Veovera, v1/v2: bit 0x80,
 * packet type, FourCC). Only H.264 and VP8 (enhanced RTMP v2, `vp08`) are taken apart; other codecs are named so that they can be refused
 * with a reason.
 */

const KEY_FRAME = 1;
const INTER_FRAME = 2;
const COMMAND_FRAME = 5;
const AVC = 7;
const ENHANCED_BIT = 0x80;

export type VideoPacket =
  /** AVCDecoderConfigurationRecord (avcC, ISO/IEC 14496-15). */
  | { readonly kind: "sequence"; readonly avcC: Buffer }
  /** One access unit, NAL units with length prefixes. PTS = timestamp of the tag + `ctsMs` (signed 24 bits). */
  | { readonly kind: "frame"; readonly key: boolean; readonly ctsMs: number; readonly data: Buffer }
  /** One VP8 frame (RFC 6386); PTS = DTS = timestamp of the tag. VP8 needs no sequence header. */
  | { readonly kind: "vp8"; readonly key: boolean; readonly data: Buffer }
  /** End of sequence, a seek command, or metadata: nothing to decode. */
  | { readonly kind: "none" }
  /** Neither H.264 nor VP8: a FourCC (`hvc1`, `av01`, ...) or `codec N` for a legacy id. */
  | { readonly kind: "unsupported"; readonly codec: string };

/** Names of the legacy codec ids that a person might send; 12 and 13 are unofficial but in wide use. */
const LEGACY: Record<number, string> = { 2: "H.263", 4: "VP6", 5: "VP6 alpha", 12: "HEVC", 13: "AV1" };

/** @throws FlvError when the body is shorter than its own header. */
export function readVideo(body: Buffer): VideoPacket {
  if (body.length === 0) return { kind: "none" };
  const first = body[0]!;
  if (first & ENHANCED_BIT) return readEnhanced(body, (first >> 4) & 7, first & 15);
  const frameType = first >> 4;
  if (frameType === COMMAND_FRAME) return { kind: "none" };
  const codec = first & 15;
  if (codec !== AVC) return { kind: "unsupported", codec: LEGACY[codec] ?? `codec ${codec}` };
  if (body.length < 5) throw new FlvError(`an AVC packet of ${body.length} bytes`);
  const packetType = body[1]!;
  if (packetType === 0) return { kind: "sequence", avcC: body.subarray(5) };
  if (packetType !== 1) return { kind: "none" };
  return { kind: "frame", key: frameType === KEY_FRAME, ctsMs: body.readIntBE(2, 3), data: body.subarray(5) };
}

/** Packet types of the enhanced header. */
const SEQUENCE_START = 0;
const CODED_FRAMES = 1;
const CODED_FRAMES_X = 3;
const MULTITRACK = 6;
const MOD_EX = 7;
const VP8 = "vp08";

function readEnhanced(body: Buffer, frameType: number, packetType: number): VideoPacket {
  if (packetType === MULTITRACK || packetType === MOD_EX) return { kind: "unsupported", codec: "enhanced multitrack" };
  if (body.length < 5) throw new FlvError(`an enhanced video header of ${body.length} bytes`);
  const fourCc = body.toString("latin1", 1, 5);
  if (fourCc === VP8) return readVp8(body, frameType, packetType);
  if (fourCc !== "avc1") return { kind: "unsupported", codec: printable(fourCc) };
  if (frameType === COMMAND_FRAME) return { kind: "none" };
  const key = frameType === KEY_FRAME;
  if (packetType === SEQUENCE_START) return { kind: "sequence", avcC: body.subarray(5) };
  if (packetType === CODED_FRAMES_X) return { kind: "frame", key, ctsMs: 0, data: body.subarray(5) };
  if (packetType !== CODED_FRAMES) return { kind: "none" };
  if (body.length < 8) throw new FlvError(`an enhanced video packet of ${body.length} bytes`);
  return { kind: "frame", key, ctsMs: body.readIntBE(5, 3), data: body.subarray(8) };
}

/** Frames of VP8 have no composition time, so both forms of coded frames are the same. Its optional configuration says nothing new. */
function readVp8(body: Buffer, frameType: number, packetType: number): VideoPacket {
  const isFrame = packetType === CODED_FRAMES || packetType === CODED_FRAMES_X;
  if (!isFrame || frameType === COMMAND_FRAME || body.length === 5) return { kind: "none" };
  return { kind: "vp8", key: frameType === KEY_FRAME, data: body.subarray(5) };
}

/** A stranger's four bytes, made fit for a log line. */
function printable(fourCc: string): string {
  return fourCc.replace(/[^\x20-\x7e]/g, "?");
}

/** Whether the body has the enhanced header, which older demultiplexers (GStreamer 1.22 among them) do not know. */
export function isEnhanced(body: Buffer): boolean {
  return body.length > 0 && (body[0]! & ENHANCED_BIT) !== 0;
}

/** Picture tag with the sequence header (avcC). */
export function avcSequenceTag(avcC: Uint8Array, timestampMs: number): FlvTag {
  return picture(KEY_FRAME, 0, 0, avcC, timestampMs);
}

/**
 * Picture tag of one access unit (length-prefixed NAL units).
 * @param timestampMs decoding time; @param ctsMs presentation minus decoding time, -8388608..8388607
 */
export function avcFrameTag(unit: Uint8Array, key: boolean, timestampMs: number, ctsMs: number): FlvTag {
  return picture(key ? KEY_FRAME : INTER_FRAME, 1, ctsMs, unit, timestampMs);
}

/** Picture tag of one VP8 frame, in the enhanced form: there is no other. */
export function vp8FrameTag(frame: Uint8Array, key: boolean, timestampMs: number): FlvTag {
  const body = Buffer.allocUnsafe(5 + frame.length);
  body[0] = ENHANCED_BIT | ((key ? KEY_FRAME : INTER_FRAME) << 4) | CODED_FRAMES;
  body.write(VP8, 1, "latin1");
  body.set(frame, 5);
  return { type: PICTURE, timestampMs, body };
}

function picture(frameType: number, packetType: number, ctsMs: number, data: Uint8Array, timestampMs: number): FlvTag {
  const body = Buffer.allocUnsafe(5 + data.length);
  body[0] = (frameType << 4) | AVC;
  body[1] = packetType;
  body.writeIntBE(ctsMs, 2, 3);
  body.set(data, 5);
  return { type: PICTURE, timestampMs, body };
}
