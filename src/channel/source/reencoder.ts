import { type GdpPacket, gdpBuffer, segmentStartMs } from "../../transport/gdp/gdp.js";
import { capsBuffer, parseCaps } from "../../transport/gst/caps.js";
import { H264_ENCODERS, pictureReencoder } from "../../transport/gst/launch.js";
import { GstError, type GstFault } from "../../transport/gst/pipeline.js";
import { Unwrapper32 } from "../../transport/webrtc/sequence.js";
import { keyFrameSize } from "../../transport/webrtc/vp8-depacketizer.js";
import { CodecStage } from "../codec-stage.js";
import { pictureSize } from "../format-info.js";
import type { VideoUnit, Vp8Unit } from "../units.js";

export type ReencoderEvents = {
  readonly onUnit: (unit: VideoUnit) => void;
  readonly onFault: (fault: GstFault) => void;
  /** Nothing can be decoded before the next key frame, and a browser makes one only when it is asked. */
  readonly onKeyFrameWanted: () => void;
};

const BACKLOG_BYTES = 8 * 1024 * 1024;
/** Frames on their way at most: more are with a pipeline that hangs. */
const MAX_ON_THE_WAY = 256;
const ASK_EVERY_MS = 500;
/** Pictures that wait for the encoder's configuration at most. */
const MAX_HELD = 16;
/** Times are those of the frames; but x264 keeps one picture back when it is not told a rate. */
const NOMINAL_RATE = "framerate=(fraction)30/1";

/**
 * VP8 to H.264 without B-frames, once for everything behind it: RTMP, SRT, files and the dashboard's players cannot carry VP8. Times stay
 * (the encoder never sees them: it counts from the first frame of its run). An encoder that cannot keep up leaves out pictures, never
 * coded frames, so nothing is damaged by that. Never throws.
 */
export class PictureReencoder {
  readonly counters = { pictures_reencoded: 0, reencoder_units_dropped: 0, reencoder_faults: 0 };
  readonly #events: ReencoderEvents;
  #stage: CodecStage | null = null;
  /** Of the running pipeline: its first frame's time, its segment's start, and the frames that it holds. */
  #originMs: number | null = null;
  #segmentMs = 0;
  #onTheWay: { readonly atMs: number; readonly pushedMs: number }[] = [];
  #unwrap = new Unwrapper32();
  #lastMs = Number.NEGATIVE_INFINITY;
  #config: Buffer | null = null;
  #size: { readonly width: number; readonly height: number } | null = null;
  /** Pictures of this run that came before its configuration. */
  #held: GdpPacket[] = [];
  /** What comes out now is of a size that is no longer sent. */
  #passed = false;
  #waitForKey = true;
  #askedMs = Number.NEGATIVE_INFINITY;

  constructor(events: ReencoderEvents) {
    this.#events = events;
  }

  push(unit: Vp8Unit): void {
    const atMs = this.#unwrap.next(unit.ptsMs);
    // The times went back: they are another run of the source.
    if (atMs <= this.#lastMs) this.#beginAgain();
    const size = unit.key ? keyFrameSize(unit.data) : null;
    const isUsable = size !== null || !(unit.key || this.#waitForKey);
    const stage = isUsable ? this.#open() : this.#stage;
    if (!isUsable || stage === null || this.#onTheWay.length >= MAX_ON_THE_WAY) {
      this.#drop();
      return;
    }
    this.#size = size ?? this.#size;
    this.#originMs ??= atMs;
    this.#lastMs = atMs;
    // Who asked for a key frame wants one at the other end, too.
    if (unit.key && !this.#waitForKey) stage.forceKeyFrame();
    this.#waitForKey = !stage.push(
      `video/x-vp8, ${NOMINAL_RATE}${this.#size === null ? "" : `, width=(int)${this.#size.width}, height=(int)${this.#size.height}`}`,
      gdpBuffer(unit.data, { ptsMs: atMs - this.#originMs, delta: !unit.key }),
    );
    if (this.#waitForKey) this.#drop();
    else this.#onTheWay.push({ atMs, pushedMs: performance.now() });
  }

  /** Another publisher: what is still on its way is dropped. */
  restart(): void {
    this.#unwrap = new Unwrapper32();
    this.#beginAgain();
  }

  close(): void {
    this.#stage?.close();
    this.#stage = null;
  }

  #beginAgain(): void {
    if (this.#originMs !== null) this.#stage?.restart();
    this.#forget();
  }

  #forget(): void {
    this.#originMs = null;
    this.#segmentMs = 0;
    this.#onTheWay = [];
    this.#held = [];
    this.#config = null;
    this.#passed = false;
    this.#lastMs = Number.NEGATIVE_INFINITY;
    this.#waitForKey = true;
  }

  #drop(): void {
    this.counters.reencoder_units_dropped += 1;
    this.#waitForKey = true;
    const nowMs = performance.now();
    if (nowMs - this.#askedMs < ASK_EVERY_MS) return;
    this.#askedMs = nowMs;
    this.#events.onKeyFrameWanted();
  }

  #receive(packet: GdpPacket): void {
    this.#segmentMs = segmentStartMs(packet) ?? this.#segmentMs;
    if (packet.kind === "caps") {
      const config = capsBuffer(parseCaps(packet.caps), "codec_data");
      if (config !== null && !this.#fits(config)) {
        // Of a size that is no longer sent: its pictures are neither held for the next configuration nor sent out with it.
        this.#config = null;
        this.#held = [];
        this.#passed = true;
        return;
      }
      this.#passed = false;
      if (config !== null && this.#config?.equals(config) !== true) this.#config = config;
      if (this.#config !== null) for (const held of this.#held.splice(0)) this.#receive(held);
    }
    if (packet.kind !== "buffer" || packet.ptsMs === null || this.#originMs === null) return;
    if (this.#passed) {
      this.counters.reencoder_units_dropped += 1;
      return;
    }
    if (this.#config === null) {
      if (this.#held.length < MAX_HELD) this.#held.push(packet);
      else this.#drop();
      return;
    }
    const atMs = Math.round(packet.ptsMs - this.#segmentMs) + this.#originMs;
    let pushedMs = performance.now();
    while (this.#onTheWay.length > 0 && this.#onTheWay[0]!.atMs <= atMs) pushedMs = this.#onTheWay.shift()!.pushedMs;
    this.counters.pictures_reencoded += 1;
    // Back to FLV's 32 bits, as the source's other times are.
    const timeMs = ((atMs % 2 ** 32) + 2 ** 32) % 2 ** 32;
    this.#events.onUnit({
      kind: "video",
      ptsMs: timeMs,
      dtsMs: timeMs,
      key: !packet.delta,
      data: packet.payload,
      config: this.#config,
      reencoded: { from: "VP8", tookMs: performance.now() - pushedMs },
    });
  }

  /** Whether a configuration is of the size that goes in (4:2:0 makes odd sizes even). */
  #fits(config: Buffer): boolean {
    const size = pictureSize(config);
    const wanted = this.#size;
    if (size === null || wanted === null) return false;
    return Math.abs(size.width - wanted.width) < 2 && Math.abs(size.height - wanted.height) < 2;
  }

  /** Made when the first VP8 frame comes: most channels never need it. Null: no encoder is installed (told as a fault). */
  #open(): CodecStage | null {
    if (this.#stage !== null) return this.#stage;
    let missing = "";
    for (const encoder of H264_ENCODERS) {
      try {
        this.#stage = new CodecStage(
          pictureReencoder(encoder),
          "reencoder",
          BACKLOG_BYTES,
          (packet) => this.#receive(packet),
          { onFault: (fault) => this.#onFault(fault) },
        );
        return this.#stage;
      } catch (error) {
        if (!(error instanceof GstError)) throw error;
        missing = error.message;
      }
    }
    if (this.counters.reencoder_faults === 0) this.#onFault({ element: "reencoder", message: missing });
    return null;
  }

  #onFault(fault: GstFault): void {
    this.counters.reencoder_faults += 1;
    this.#forget();
    this.#events.onFault(fault);
  }
}
