import {
  GenericNack,
  type MediaStreamTrack,
  type RTCRtpReceiver,
  RtcpSrPacket,
  RtcpTransportLayerFeedback,
  type RtpPacket,
} from "werift";
import { opusHeadTag, opusTag } from "../transport/flv/audio.js";
import type { FlvTag } from "../transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag, vp8FrameTag } from "../transport/flv/video.js";
import type { LineTrack } from "../transport/ipc/messages.js";
import { ArrivalReports } from "../transport/webrtc/arrival-reports.js";
import { joinAvc, NAL_DELIMITER, NAL_PPS, NAL_SPS, nalType, writeAvcC } from "../transport/webrtc/h264.js";
import { type AccessUnit, H264Depacketizer } from "../transport/webrtc/h264-depacketizer.js";
import { LineMeter } from "../transport/webrtc/line-meter.js";
import { NackSchedule } from "../transport/webrtc/nack.js";
import { MAX_OPUS_BYTES, OPUS_PRE_SKIP, opusDurationMs, opusHead } from "../transport/webrtc/opus.js";
import { ReorderBuffer, type Reordered } from "../transport/webrtc/reorder.js";
import type { Offer } from "../transport/webrtc/sdp.js";
import { TrackClock, type TrackKind } from "../transport/webrtc/track-clock.js";
import { Vp8Depacketizer, type Vp8Frame } from "../transport/webrtc/vp8-depacketizer.js";
import type { CounterName } from "./report.js";
import type { Publication, PublisherPeer, Refusal } from "./roles.js";
import type { PeerContext } from "./rtmp-peer.js";
import type { WebRtcPeer } from "./webrtc-peer.js";

/**
 * How long a missing packet is waited for (`LineMeter`), which is how late everything behind it may come. Sound has no time for more: a
 * model that gets it later does not answer in time.
 */
const LINE = {
  picture: { ticksPerMs: 90, leastMs: 40, mostMs: 250, firstMs: 150 },
  sound: { ticksPerMs: 48, leastMs: 20, mostMs: 120, firstMs: 60 },
} as const;
const HELD = { picture: 1024, sound: 32 } as const;
/** Packets on a line with jitter overtake each other: what is missing for less is not asked for. */
const NACK = { graceMs: 15, maxMissing: 256 };
/** Times begin here, so that a picture which the sender reports move back stays above zero. */
const BEGIN_MS = 1000;
/** Between two reports of arrivals. A browser that sends little is to hear of it soon all the same. */
const ARRIVALS_EVERY_MS = 50;
/** Steps back in the times of one group of pictures that say the encoder makes B-frames. */
const MAX_STEPS_BACK = 3;
/** Parameter sets: more of them no encoder sends. */
const MAX_SETS = 8;
/** Each has tens of bytes; avcC has 16 bits for its length. */
const MAX_SET_BYTES = 4096;

type Media = { readonly track: MediaStreamTrack; readonly receiver: RTCRtpReceiver };

/** A WHIP publisher: its RTP becomes the tags that an RTMP publisher would have sent, with Opus in place of AAC (and VP8 of H.264). */
export class WhipPublisher implements PublisherPeer {
  #peer: WebRtcPeer | null = null;
  #publication: Publication | null = null;
  readonly #media: Partial<Record<TrackKind, Media>> = {};
  readonly #clock = new TrackClock();
  readonly #order: Record<TrackKind, ReorderBuffer<RtpPacket>> = {
    picture: new ReorderBuffer({ maxWaitMs: LINE.picture.firstMs, maxPackets: HELD.picture }),
    sound: new ReorderBuffer({ maxWaitMs: LINE.sound.firstMs, maxPackets: HELD.sound }),
  };
  readonly #line: Record<TrackKind, LineMeter> = {
    picture: new LineMeter(LINE.picture),
    sound: new LineMeter(LINE.sound),
  };
  /** Sound: where the publisher sends its packets again. */
  readonly #nack: { readonly picture: NackSchedule; sound: NackSchedule | null } = {
    picture: new NackSchedule({ ...NACK, maxWaitMs: LINE.picture.firstMs }),
    sound: null,
  };
  #units: H264Depacketizer | Vp8Depacketizer = new H264Depacketizer();
  /** Counts that were added to the gateway's already. */
  readonly #told = new Map<CounterName, number>();
  #sets: { sps: readonly Buffer[]; pps: readonly Buffer[] } = { sps: [], pps: [] };
  #avcC: Buffer | null = null;
  #lastPicture: { readonly timestamp: number; readonly atMs: number } | null = null;
  #stepsBack = 0;
  #soundBegun = false;
  #lastMediaMs: number;
  #keyFrameAskedMs = Number.NEGATIVE_INFINITY;
  readonly #arrivals = new ArrivalReports();
  #arrivalsToldMs = Number.NEGATIVE_INFINITY;
  #keyFrameDue = false;
  /** A key frame was published: what refers to one may follow. */
  #begun = false;
  /** Pictures that nobody could begin with. */
  #useless = 0;

  /** @param end ends the whole session, with the reason where it is not the publisher's own wish */
  constructor(
    readonly label: string,
    private readonly context: PeerContext,
    private readonly end: (reason: Refusal) => void,
  ) {
    this.#lastMediaMs = context.now();
  }

  /** Media goes to the publication from now on; called once, before the peer accepts the offer. */
  start(peer: WebRtcPeer, publication: Publication, { picture, soundNack, parameterSets }: Offer): void {
    this.#peer = peer;
    this.#publication = publication;
    if (soundNack) this.#nack.sound = new NackSchedule({ ...NACK, maxWaitMs: LINE.sound.firstMs });
    if (picture === "VP8") this.#units = new Vp8Depacketizer();
    this.#takeSets(parameterSets);
    peer.onTrack((track, receiver) => {
      const kind: TrackKind = track.kind === "video" ? "picture" : "sound";
      this.#media[kind] = { track, receiver };
      withoutNack(receiver);
      // Both kinds have one count of packets: what is not told of counts as lost.
      withArrivals(receiver, (sequence) => this.#guarded(() => this.#arrived(sequence)));
      track.onReceiveRtp.subscribe((packet) => this.#guarded(() => this.#receive(kind, packet)));
      receiver.onRtcp.subscribe((packet) => {
        if (!(packet instanceof RtcpSrPacket) || packet.ssrc !== track.ssrc) return;
        const { ntpTimestamp, rtpTimestamp } = packet.senderInfo;
        this.#guarded(() => this.#clock.report(kind, ntpTimestamp, rtpTimestamp));
      });
    });
  }

  /** The stack keeps what is thrown at it to itself: a fault of ours would be a publisher of whom nothing comes. */
  #guarded(what: () => void): void {
    try {
      what();
    } catch (error) {
      const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.context.counters.add("gateway_faults_total");
      this.context.log("error", "a packet could not be taken", { code: "SL_GATEWAY_FAULT", detail });
      this.end({ code: "SL_WEBRTC_FAILED", detail: "a fault of the gateway" });
    }
  }

  /** Lets go of the hub. Idempotent. */
  leave(): void {
    this.#publication?.end();
    this.#publication = null;
  }

  drop(reason: Refusal): void {
    this.#publication = null;
    this.end(reason);
  }

  wantKeyFrame(): void {
    this.#keyFrameDue = true;
    this.#askForKeyFrame();
  }

  /** Looks at the time limits; called a few times a second. */
  check(): void {
    const time = this.context.now();
    if (!this.#peer?.connected) {
      this.#lastMediaMs = time;
      return;
    }
    this.#adapt(time);
    for (const kind of ["picture", "sound"] as const) this.#take(kind, this.#order[kind].poll(time));
    this.#askAgain(time);
    this.#tellArrivals(time);
    if (this.#media.picture !== undefined && this.#units.needsKey) this.#keyFrameDue = true;
    this.#askForKeyFrame();
    this.#tellCounts();
    if (time - this.#lastMediaMs > this.context.limits.sessionSilentMs)
      this.end({ code: "SL_WEBRTC_GONE", detail: `no media for ${this.context.limits.sessionSilentMs} ms` });
  }

  #receive(kind: TrackKind, packet: RtpPacket): void {
    if (this.#publication === null) return;
    const time = this.context.now();
    this.#lastMediaMs = time;
    this.context.counters.add("whip_packets_total");
    const order = this.#order[kind];
    this.#line[kind].arrived(packet.header.timestamp, time);
    this.#clock.arrived(kind, packet.header.timestamp, time);
    this.#nack[kind]?.push(packet.header.sequenceNumber, time);
    this.#askAgain(time);
    this.#take(kind, order.poll(time));
    this.#take(kind, order.push(packet.header.sequenceNumber, packet, time));
  }

  /** The waits follow the line; tells the channel how it is. */
  #adapt(time: number): void {
    const track = (kind: TrackKind): LineTrack => {
      const nack = this.#nack[kind];
      const asking = nack === null ? null : { graceMs: NACK.graceMs, retryMs: nack.retryMs };
      const waitMs = this.#line[kind].waitMs(time, asking);
      this.#order[kind].maxWaitMs = waitMs;
      if (nack !== null) nack.maxWaitMs = waitMs;
      return { jitterMs: tenths(this.#line[kind].jitterMs), waitMs: tenths(waitMs) };
    };
    const { sound, picture } = this.#media;
    this.#publication?.line({
      sound: sound === undefined ? null : track("sound"),
      picture: picture === undefined ? null : track("picture"),
    });
  }

  #take(kind: TrackKind, packets: readonly Reordered<RtpPacket>[]): void {
    for (const item of packets) {
      if (kind === "sound") {
        if (item.kind === "packet") this.#sound(item.value);
      } else if (item.kind === "lost") {
        this.#units.lost();
      } else {
        const { header, payload } = item.value;
        for (const unit of this.#units.push({ timestamp: header.timestamp, marker: header.marker, payload }))
          this.#unit(unit);
        if (this.#units.needsKey) this.wantKeyFrame();
      }
    }
  }

  #sound({ header, payload }: RtpPacket): void {
    if (opusDurationMs(payload) === null || payload.length > MAX_OPUS_BYTES) {
      if (payload.length > 0) this.context.counters.add("whip_packets_malformed_total");
      return;
    }
    const atMs = this.#clock.place("sound", header.timestamp, this.context.now());
    const timestampMs = flvTime(atMs);
    if (!this.#soundBegun) this.#publication?.push(opusHeadTag(opusHead(2, OPUS_PRE_SKIP), timestampMs));
    this.#soundBegun = true;
    this.#publication?.push(opusTag(payload, timestampMs));
  }

  #unit(unit: AccessUnit | Vp8Frame): void {
    const { timestamp, key } = unit;
    if ("frame" in unit) {
      this.#pushPicture(timestamp, key, (timeMs) => vp8FrameTag(unit.frame, key, timeMs));
      return;
    }
    this.#takeSets(unit.nals);
    const pictures = unit.nals.filter((nal) => ![NAL_SPS, NAL_PPS, NAL_DELIMITER].includes(nalType(nal)));
    if (pictures.length === 0) return;
    if (this.#avcC === null || !(key || this.#begun)) {
      // Nobody can begin with it; the next key frame may bring its parameter sets.
      this.#useless++;
      this.#keyFrameDue = true;
      return;
    }
    this.#begun = true;
    this.#pushPicture(timestamp, key, (timeMs) => avcFrameTag(joinAvc(pictures), key, timeMs, 0));
  }

  #pushPicture(timestamp: number, key: boolean, tag: (timeMs: number) => FlvTag): void {
    const last = this.#lastPicture;
    // Within a group of pictures: a clock that was set back, now and then, is no B-frame.
    if (key) this.#stepsBack = 0;
    if (last !== null && ((timestamp - last.timestamp) | 0) < 0 && ++this.#stepsBack >= MAX_STEPS_BACK) {
      this.end({ code: "SL_WEBRTC_REORDERED", detail: "the pictures' times go back; set the encoder to no B-frames" });
      return;
    }
    // Times of decoding must rise; a correction by a sender report may have stepped back.
    const atMs = Math.max(this.#clock.place("picture", timestamp, this.context.now()), (last?.atMs ?? -BEGIN_MS) + 1);
    this.#lastPicture = { timestamp, atMs };
    this.#publication?.push(tag(flvTime(atMs)));
    // Whoever waited for one has it: a request that was held back would only cost the publisher another.
    if (key) this.#keyFrameDue = false;
  }

  #takeSets(nals: readonly Buffer[]): void {
    const of = (type: number): Buffer[] =>
      nals.filter((nal) => nalType(nal) === type && nal.length >= 4 && nal.length <= MAX_SET_BYTES).slice(0, MAX_SETS);
    const [sps, pps] = [of(NAL_SPS), of(NAL_PPS)];
    if (sps.length === 0 && pps.length === 0) return;
    this.#sets = { sps: sps.length > 0 ? sps : this.#sets.sps, pps: pps.length > 0 ? pps : this.#sets.pps };
    if (this.#sets.sps.length === 0 || this.#sets.pps.length === 0) return;
    const avcC = writeAvcC(this.#sets.sps, this.#sets.pps);
    if (this.#avcC?.equals(avcC)) return;
    this.#avcC = avcC;
    this.#publication?.push(avcSequenceTag(avcC, flvTime(this.#lastPicture?.atMs ?? 0)));
  }

  #arrived(sequence: number): void {
    const time = this.context.now();
    this.#arrivals.arrived(sequence, time);
    if (time - this.#arrivalsToldMs >= ARRIVALS_EVERY_MS) this.#tellArrivals(time);
  }

  #tellArrivals(time: number): void {
    const { picture, sound } = this.#media;
    const { track, receiver } = picture ?? sound ?? {};
    if (track?.ssrc === undefined || receiver === undefined || !this.#peer?.connected) return;
    const packet = this.#arrivals.take(receiver.rtcpSsrc, track.ssrc);
    if (packet === null) return;
    this.#arrivalsToldMs = time;
    // A report that cannot be sent is like one that is lost.
    void receiver.dtlsTransport
      .sendRtcp([{ serialize: () => packet } as unknown as RtcpTransportLayerFeedback])
      .catch(() => {});
  }

  #askAgain(time: number): void {
    if (!this.#peer?.connected) return;
    for (const kind of ["picture", "sound"] as const) {
      const lost = this.#nack[kind]?.due(time) ?? [];
      const media = this.#media[kind];
      if (lost.length === 0 || media?.track.ssrc === undefined || !media.receiver.nackEnabled) continue;
      const { receiver, track } = media;
      const feedback = new GenericNack({ senderSsrc: receiver.rtcpSsrc, mediaSourceSsrc: track.ssrc!, lost });
      // A request that cannot be sent is like one that is lost.
      void receiver.dtlsTransport.sendRtcp([new RtcpTransportLayerFeedback({ feedback })]).catch(() => {});
    }
  }

  #askForKeyFrame(): void {
    const time = this.context.now();
    const { picture } = this.#media;
    if (!this.#keyFrameDue || picture === undefined || !this.#peer?.connected) return;
    if (time - this.#keyFrameAskedMs < this.context.limits.keyFrameRequestMs) return;
    const { receiver, track } = picture;
    if (track.ssrc === undefined) return;
    this.#keyFrameAskedMs = time;
    this.#keyFrameDue = false;
    this.context.counters.add("webrtc_key_frames_wanted_total");
    void receiver.sendRtcpPLI(track.ssrc);
  }

  #tellCounts(): void {
    const tell = (name: CounterName, count: number): void => {
      this.context.counters.add(name, count - (this.#told.get(name) ?? 0));
      this.#told.set(name, count);
    };
    const { picture, sound } = this.#order;
    tell("whip_packets_lost_total", picture.counters.lost + sound.counters.lost);
    tell("whip_packets_late_total", picture.counters.late + sound.counters.late);
    tell("whip_nacks_total", this.#nack.picture.counters.asked);
    tell("whip_packets_recovered_total", this.#nack.picture.counters.answered);
    tell("whip_sound_nacks_total", this.#nack.sound?.counters.asked ?? 0);
    tell("whip_sound_packets_recovered_total", this.#nack.sound?.counters.answered ?? 0);
    tell("whip_units_dropped_total", this.#units.counters.units_dropped + this.#useless);
    tell("whip_clock_jumps_total", this.#clock.counters.clock_jumps + this.#clock.counters.clock_leaps);
  }
}

const tenths = (ms: number): number => Math.round(ms * 10) / 10;
const flvTime = (atMs: number): number => Math.max(0, Math.round(atMs + BEGIN_MS)) % 2 ** 32;

/**
 * werift 0.24.4 asks for packets by itself: every 5 ms, for 55 ms, and not at all for the next 65536 packets when one is missing where the
 * numbers wrap. `NackSchedule` does it instead.
 */
function withoutNack(receiver: RTCRtpReceiver): void {
  (receiver as unknown as { nack: { addPacket: () => void } }).nack.addPacket = () => {};
}

/**
 * werift 0.24.4's own reports give each report's first arrival from up to 64 ms before what they say it is from, count packets that are lost as
 * come, and come apart where the numbers wrap: a browser that is told so sends down to a sixth of what the line would carry. `ArrivalReports` does it instead.
 */
function withArrivals(receiver: RTCRtpReceiver, arrived: (sequence: number) => void): void {
  const own = { twccRunning: false, handleTWCC: (n: unknown) => typeof n === "number" && arrived(n) };
  (receiver as unknown as { receiverTWCC: typeof own }).receiverTWCC = own;
}
