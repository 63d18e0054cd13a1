/**
 * What passes through a channel still encoded. Times are milliseconds (not rounded) on the channel's media timeline, which is
 * continuous over restarts of the source (epoch.ts). At the sources the same types carry the source's own timestamps.
 */
import type { SoundCodec } from "../transport/gst/launch.js";

/** One H.264 access unit, NAL units with length prefixes, untouched from the source (or the re-encoder) to every output. */
export type VideoUnit = {
  readonly kind: "video";
  readonly ptsMs: number;
  readonly dtsMs: number;
  readonly key: boolean;
  readonly data: Buffer;
  /** avcC in force (ISO/IEC 14496-15). The same object until it changes. */
  readonly config: Buffer;
  /** The source sent another codec; `tookMs`: from its arrival here to this unit. Absent: as the source sent it. */
  readonly reencoded?: { readonly from: "VP8"; readonly tookMs: number };
};

/** One VP8 frame from the source (RFC 6386), on its way to the re-encoder. `ptsMs`: FLV's 32 bits. */
export type Vp8Unit = {
  readonly kind: "vp8";
  readonly ptsMs: number;
  readonly key: boolean;
  readonly data: Buffer;
};

/** How encoded sound is to be read; the same object until it changes. */
export type SoundFormat = {
  readonly codec: SoundCodec;
  /** GStreamer caps, with codec_data. */
  readonly caps: string;
};

/** One frame of encoded sound from the source. */
export type SoundUnit = {
  readonly kind: "sound";
  readonly ptsMs: number;
  readonly data: Buffer;
  readonly format: SoundFormat;
};

export type SourceUnit = VideoUnit | SoundUnit;

/** One frame of the cleaned sound as raw AAC. */
export type AacUnit = {
  readonly kind: "aac";
  readonly ptsMs: number;
  readonly data: Buffer;
  /** AudioSpecificConfig; the same object until it changes. */
  readonly config: Buffer;
};

/** Metadata beside the programme (AMF0 script data where the output can carry it). */
export type NoteUnit = {
  readonly kind: "note";
  readonly ptsMs: number;
  readonly name: string;
  readonly value: Record<string, unknown>;
};

/** What outputs are given, in order of release. */
export type OutputUnit = VideoUnit | AacUnit | NoteUnit;

/** The time by which a unit is ordered and released. */
export const releaseKeyMs = (unit: OutputUnit): number => (unit.kind === "video" ? unit.dtsMs : unit.ptsMs);
