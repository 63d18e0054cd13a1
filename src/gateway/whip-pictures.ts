import type { FlvTag } from "../transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag, vp8FrameTag } from "../transport/flv/video.js";
import { joinAvc, NAL_DELIMITER, NAL_PPS, NAL_SPS, nalType, writeAvcC } from "../transport/webrtc/h264.js";
import { type AccessUnit, H264Depacketizer, type RtpPayload } from "../transport/webrtc/h264-depacketizer.js";
import type { PictureCodec } from "../transport/webrtc/sdp.js";
import { Vp8Depacketizer, type Vp8Frame } from "../transport/webrtc/vp8-depacketizer.js";

/** Times begin here, so that a picture which the sender reports move back stays above zero. */
const BEGIN_MS = 1000;
/** Steps back in the times of one group of pictures that say the encoder makes B-frames. */
const MAX_STEPS_BACK = 3;
/** Parameter sets: more of them no encoder sends. */
const MAX_SETS = 8;
/** Each has tens of bytes; avcC has 16 bits for its length. */
const MAX_SET_BYTES = 4096;

export type PictureEvents = {
  /** Time of a picture on the publisher's line, milliseconds. @param timestamp RTP, 90 kHz, 32 bits */
  place(timestamp: number): number;
  onTag(tag: FlvTag): void;
  onKeyFrame(): void;
  /** Nobody can begin with what came. */
  onKeyFrameWanted(): void;
  /** The pictures' times go back again and again: the encoder makes B-frames. Nothing more is told then. */
  onReordered(): void;
};

/** A time on the publisher's line, milliseconds, as a tag tells it: whole, 32 bits. */
export const flvTime = (atMs: number): number => Math.max(0, Math.round(atMs + BEGIN_MS)) % 2 ** 32;

/** A WHIP publisher's pictures: RTP payloads in order become the tags that an RTMP publisher would have sent. */
export class WhipPictures {
  readonly #units: H264Depacketizer | Vp8Depacketizer;
  readonly #events: PictureEvents;
  #sets: { sps: readonly Buffer[]; pps: readonly Buffer[] } = { sps: [], pps: [] };
  #avcC: Buffer | null = null;
  #last: { readonly timestamp: number; readonly atMs: number } | null = null;
  #stepsBack = 0;
  /** A key frame was published: what refers to one may follow. */
  #begun = false;
  /** Pictures that nobody could begin with. */
  #useless = 0;

  constructor(codec: PictureCodec, events: PictureEvents) {
    this.#units = codec === "VP8" ? new Vp8Depacketizer() : new H264Depacketizer();
    this.#events = events;
  }

  get needsKey(): boolean {
    return this.#units.needsKey;
  }

  get dropped(): number {
    return this.#units.counters.units_dropped + this.#useless;
  }

  lost(): void {
    this.#units.lost();
  }

  push(payload: RtpPayload): void {
    for (const unit of this.#units.push(payload)) this.#unit(unit);
  }

  /** Those among the NAL units, also of an offer. */
  takeSets(nals: readonly Buffer[]): void {
    const of = (type: number): Buffer[] =>
      nals.filter((nal) => nalType(nal) === type && nal.length >= 4 && nal.length <= MAX_SET_BYTES).slice(0, MAX_SETS);
    const [sps, pps] = [of(NAL_SPS), of(NAL_PPS)];
    if (sps.length === 0 && pps.length === 0) return;
    this.#sets = { sps: sps.length > 0 ? sps : this.#sets.sps, pps: pps.length > 0 ? pps : this.#sets.pps };
    if (this.#sets.sps.length === 0 || this.#sets.pps.length === 0) return;
    const avcC = writeAvcC(this.#sets.sps, this.#sets.pps);
    if (this.#avcC?.equals(avcC)) return;
    this.#avcC = avcC;
    this.#events.onTag(avcSequenceTag(avcC, flvTime(this.#last?.atMs ?? 0)));
  }

  #unit(unit: AccessUnit | Vp8Frame): void {
    const { timestamp, key } = unit;
    if ("frame" in unit) {
      this.#tell(timestamp, key, (timeMs) => vp8FrameTag(unit.frame, key, timeMs));
      return;
    }
    this.takeSets(unit.nals);
    const pictures = unit.nals.filter((nal) => ![NAL_SPS, NAL_PPS, NAL_DELIMITER].includes(nalType(nal)));
    if (pictures.length === 0) return;
    if (this.#avcC === null || !(key || this.#begun)) {
      // The next key frame may bring its parameter sets.
      this.#useless++;
      this.#events.onKeyFrameWanted();
      return;
    }
    this.#begun = true;
    this.#tell(timestamp, key, (timeMs) => avcFrameTag(joinAvc(pictures), key, timeMs, 0));
  }

  #tell(timestamp: number, key: boolean, tag: (timeMs: number) => FlvTag): void {
    const last = this.#last;
    // Within a group of pictures: a clock that was set back, now and then, is no B-frame.
    if (key) this.#stepsBack = 0;
    if (last !== null && ((timestamp - last.timestamp) | 0) < 0 && ++this.#stepsBack >= MAX_STEPS_BACK) {
      this.#events.onReordered();
      return;
    }
    // Times of decoding must rise; a correction by a sender report may have stepped back.
    const atMs = Math.max(this.#events.place(timestamp), (last?.atMs ?? -BEGIN_MS) + 1);
    this.#last = { timestamp, atMs };
    this.#events.onTag(tag(flvTime(atMs)));
    if (key) this.#events.onKeyFrame();
  }
}
