import { readAudio } from "../../transport/flv/audio.js";
import { FlvError, type FlvTag, PICTURE, SOUND } from "../../transport/flv/tag.js";
import { readVideo } from "../../transport/flv/video.js";
import { opusChannels } from "../../transport/webrtc/opus.js";
import type { SoundFormat, SourceUnit, Vp8Unit } from "../units.js";

/** Turns FLV tags into units: PTS = timestamp + composition offset, the access unit itself is not touched. One object a publisher. */
export class FlvUnits {
  /** Tags that could not be used, by why. */
  readonly counters = { tags_malformed: 0, tags_before_header: 0, tags_unsupported: 0 };
  #avcC: Buffer | null = null;
  #sound: { config: Buffer; format: SoundFormat } | null = null;

  /** Null for headers and for what is not used (script data, unknown codecs). Never throws. */
  read(tag: FlvTag): SourceUnit | Vp8Unit | null {
    try {
      if (tag.type === PICTURE) return this.#picture(tag);
      if (tag.type === SOUND) return this.#soundUnit(tag);
      return null;
    } catch (error) {
      if (!(error instanceof FlvError)) throw error;
      this.counters.tags_malformed += 1;
      return null;
    }
  }

  #picture(tag: FlvTag): SourceUnit | Vp8Unit | null {
    const packet = readVideo(tag.body);
    if (packet.kind === "vp8") return { kind: "vp8", ptsMs: tag.timestampMs, key: packet.key, data: packet.data };
    if (packet.kind === "sequence") {
      // Publishers repeat the header; the object changes only when its content does.
      if (this.#avcC === null || !this.#avcC.equals(packet.avcC)) this.#avcC = Buffer.from(packet.avcC);
      return null;
    }
    if (packet.kind === "unsupported") this.counters.tags_unsupported += 1;
    if (packet.kind !== "frame") return null;
    if (this.#avcC === null) {
      this.counters.tags_before_header += 1;
      return null;
    }
    const dtsMs = tag.timestampMs;
    return {
      kind: "video",
      ptsMs: dtsMs + packet.ctsMs,
      dtsMs,
      key: packet.key,
      data: packet.data,
      config: this.#avcC,
    };
  }

  #soundUnit(tag: FlvTag): SourceUnit | null {
    const packet = readAudio(tag.body);
    if (packet.kind === "sequence") {
      if (packet.config.length >= 2 && !this.#sound?.config.equals(packet.config)) {
        this.#sound = { config: Buffer.from(packet.config), format: { codec: "AAC", caps: rawAacCaps(packet.config) } };
      }
      return null;
    }
    if (packet.kind === "opusHead") {
      const channels = opusChannels(packet.head);
      if (channels === null) this.counters.tags_unsupported += 1;
      else if (!this.#sound?.config.equals(packet.head))
        this.#sound = { config: Buffer.from(packet.head), format: { codec: "Opus", caps: opusCaps(channels) } };
      return null;
    }
    if (packet.kind === "unsupported") this.counters.tags_unsupported += 1;
    if ((packet.kind !== "frame" && packet.kind !== "opus") || packet.data.length === 0) return null;
    if (this.#sound === null || (this.#sound.format.codec === "Opus") !== (packet.kind === "opus")) {
      this.counters.tags_before_header += 1;
      return null;
    }
    return { kind: "sound", ptsMs: tag.timestampMs, data: packet.data, format: this.#sound.format };
  }
}

/** Caps of raw AAC frames with this AudioSpecificConfig. */
export const rawAacCaps = (config: Uint8Array): string =>
  `audio/mpeg, mpegversion=(int)4, framed=(boolean)true, stream-format=(string)raw, codec_data=(buffer)${Buffer.from(config).toString("hex")}`;

/** Caps of Opus packets, mapping family 0. */
export const opusCaps = (channels: number): string =>
  `audio/x-opus, rate=(int)48000, channels=(int)${channels}, channel-mapping-family=(int)0, stream-count=(int)1, coupled-count=(int)${channels - 1}`;
