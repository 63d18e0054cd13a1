import { gdpBuffer, gdpCaps, gdpGap, gdpSegment, gdpStreamStart } from "../../transport/gdp/gdp.js";
import type { GstSource } from "../../transport/gst/pipeline.js";
import { rawAacCaps } from "../source/flv-units.js";
import type { AacUnit, VideoUnit } from "../units.js";
import { sameConfig } from "./flv-muxer.js";

const LEAST_GAP_MS = 500;

/** One track of a muxer's pipeline: units as GDP packets, with the format in front where it is new. */
export class MuxerTrack {
  readonly #source: GstSource;
  #config: Buffer | null = null;
  /** What the muxer knows of this track reaches to here. */
  #untilMs = 0;

  constructor(source: GstSource) {
    this.#source = source;
  }

  /** Nothing was sent in this run of the pipeline. */
  get isFresh(): boolean {
    return this.#config === null;
  }

  get levelBytes(): number {
    return this.#source.levelBytes;
  }

  /** The pipeline begins anew. */
  restart(): void {
    this.#config = null;
  }

  /** False: it was not taken. */
  push(unit: VideoUnit | AacUnit): boolean {
    const source = this.#source;
    if (!sameConfig(this.#config, unit.config)) {
      if (this.isFresh && !source.push(gdpStreamStart(unit.kind))) return false;
      if (!source.push(gdpCaps(capsOf(unit)))) return false;
      if (this.isFresh && !source.push(gdpSegment())) return false;
      this.#config = unit.config;
    }
    const times =
      unit.kind === "video"
        ? { ptsMs: Math.max(0, unit.ptsMs), dtsMs: Math.max(0, unit.dtsMs), delta: !unit.key }
        : { ptsMs: Math.max(0, unit.ptsMs) };
    if (!source.push(gdpBuffer(unit.data, times))) return false;
    this.#untilMs = decodedAtMs(unit);
    return true;
  }

  /** Says that nothing comes up to there, so that a microphone or a camera that stops does not stop the other. Of a fresh track it cannot be said. */
  gapUntil(untilMs: number): void {
    const missingMs = untilMs - this.#untilMs;
    if (this.isFresh || missingMs < LEAST_GAP_MS) return;
    if (this.#source.push(gdpGap(Math.max(0, this.#untilMs), missingMs))) this.#untilMs = untilMs;
  }
}

export const decodedAtMs = (unit: VideoUnit | AacUnit): number => (unit.kind === "video" ? unit.dtsMs : unit.ptsMs);

function capsOf(unit: VideoUnit | AacUnit): string {
  if (unit.kind === "aac") return rawAacCaps(unit.config);
  return `video/x-h264, stream-format=(string)avc, alignment=(string)au, codec_data=(buffer)${unit.config.toString("hex")}`;
}
