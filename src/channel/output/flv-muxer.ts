import type { AmfValue } from "../../transport/amf/amf0.js";
import { aacFrameTag, aacSequenceTag } from "../../transport/flv/audio.js";
import { scriptTag } from "../../transport/flv/script.js";
import type { FlvTag } from "../../transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag } from "../../transport/flv/video.js";
import { type OutputUnit, releaseKeyMs } from "../units.js";

/**
 * Units to FLV tags for one connection or file: the headers in front of the first frame and again when they change, whole
 * milliseconds, timestamps that never go back within a track. The access unit and the AAC frame are copied as they are.
 */
export class FlvMuxer {
  #video: { config: Buffer | null; lastMs: number } = { config: null, lastMs: 0 };
  #audio: { config: Buffer | null; lastMs: number } = { config: null, lastMs: 0 };

  tags(unit: OutputUnit): FlvTag[] {
    const atMs = Math.max(0, Math.round(releaseKeyMs(unit)));
    switch (unit.kind) {
      case "video": {
        const out: FlvTag[] = [];
        const track = this.#video;
        track.lastMs = Math.max(track.lastMs, atMs);
        if (!sameConfig(track.config, unit.config)) {
          track.config = unit.config;
          out.push(avcSequenceTag(unit.config, wrapped(track.lastMs)));
        }
        const offsetMs = Math.round(unit.ptsMs) - track.lastMs;
        out.push(avcFrameTag(unit.data, unit.key, wrapped(track.lastMs), within24Bits(offsetMs)));
        return out;
      }
      case "aac": {
        const out: FlvTag[] = [];
        const track = this.#audio;
        track.lastMs = Math.max(track.lastMs, atMs);
        if (!sameConfig(track.config, unit.config)) {
          track.config = unit.config;
          out.push(aacSequenceTag(unit.config, wrapped(track.lastMs)));
        }
        out.push(aacFrameTag(unit.data, wrapped(track.lastMs)));
        return out;
      }
      case "note":
        return [scriptTag(unit.name, wrapped(atMs), unit.value as AmfValue)];
    }
  }
}

/** A channel's own timeline goes on for as long as its process; FLV's begins again at 0 after 49.7 days. */
const wrapped = (ms: number): number => ms % 2 ** 32;

/** Composition offsets beyond this (2.3 hours) come from damaged or hostile sources only. */
const within24Bits = (ms: number): number => Math.max(-0x80_0000, Math.min(0x7f_ffff, ms));

/** By content: a publisher that comes back with the same header is no change. */
export const sameConfig = (a: Buffer | null, b: Buffer): boolean => a === b || a?.equals(b) === true;
