import { RtcpSrPacket, type RtpPacket } from "werift";
import { opusHeadTag, opusTag } from "../transport/flv/audio.js";
import type { LineTrack } from "../transport/ipc/messages.js";
import { LineMeter } from "../transport/webrtc/line-meter.js";
import { NackSchedule } from "../transport/webrtc/nack.js";
import { MAX_OPUS_BYTES, OPUS_PRE_SKIP, opusDurationMs, opusHead } from "../transport/webrtc/opus.js";
import { ReorderBuffer, type Reordered } from "../transport/webrtc/reorder.js";
import type { Offer } from "../transport/webrtc/sdp.js";
import { TrackClock, type TrackKind } from "../transport/webrtc/track-clock.js";
import type { CounterName } from "./report.js";
import type { Publication, PublisherPeer, Refusal } from "./roles.js";
import type { PeerContext } from "./rtmp-peer.js";
import type { WebRtcPeer } from "./webrtc-peer.js";
import { WhipFeedback } from "./whip-feedback.js";
import { flvTime, WhipPictures } from "./whip-pictures.js";

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

/** A WHIP publisher: its RTP becomes the tags that an RTMP publisher would have sent, with Opus in place of AAC (and VP8 of H.264). */
export class WhipPublisher implements PublisherPeer {
  #peer: WebRtcPeer | null = null;
  #publication: Publication | null = null;
  #feedback: WhipFeedback | null = null;
  #pictures: WhipPictures | null = null;
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
  /** Counts that were added to the gateway's already. */
  readonly #told = new Map<CounterName, number>();
  #soundBegun = false;
  #lastMediaMs: number;

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
    const feedback = new WhipFeedback(peer, {
      keyFrameRequestMs: this.context.limits.keyFrameRequestMs,
      onKeyFrameAsked: () => this.context.counters.add("webrtc_key_frames_wanted_total"),
    });
    this.#feedback = feedback;
    const pictures = new WhipPictures(picture ?? "H264", {
      place: (timestamp) => this.#clock.place("picture", timestamp, this.context.now()),
      onTag: (tag) => this.#publication?.push(tag),
      onKeyFrame: () => feedback.keyFrameCame(),
      onKeyFrameWanted: () => feedback.wantKeyFrame(),
      onReordered: () => {
        this.end({
          code: "SL_WEBRTC_REORDERED",
          detail: "the pictures' times go back; set the encoder to no B-frames",
        });
      },
    });
    this.#pictures = pictures;
    pictures.takeSets(parameterSets);
    peer.onTrack((track, receiver) => {
      const kind: TrackKind = track.kind === "video" ? "picture" : "sound";
      feedback.take(kind, track, receiver, (sequence) =>
        this.#guarded(() => feedback.arrived(sequence, this.context.now())),
      );
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
    this.#feedback?.wantKeyFrame();
    this.#feedback?.askForKeyFrame(this.context.now());
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
    this.#feedback?.tellArrivals(time);
    if (this.#feedback?.has("picture") && this.#pictures?.needsKey) this.#feedback.wantKeyFrame();
    this.#feedback?.askForKeyFrame(time);
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
    this.#publication?.line({
      sound: this.#feedback?.has("sound") ? track("sound") : null,
      picture: this.#feedback?.has("picture") ? track("picture") : null,
    });
  }

  #take(kind: TrackKind, packets: readonly Reordered<RtpPacket>[]): void {
    for (const item of packets) {
      if (kind === "sound") {
        if (item.kind === "packet") this.#sound(item.value);
      } else if (item.kind === "lost") {
        this.#pictures?.lost();
      } else {
        const { header, payload } = item.value;
        this.#pictures?.push({ timestamp: header.timestamp, marker: header.marker, payload });
        if (this.#pictures?.needsKey) this.wantKeyFrame();
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

  #askAgain(time: number): void {
    for (const kind of ["picture", "sound"] as const) this.#feedback?.askAgain(kind, this.#nack[kind], time);
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
    tell("whip_units_dropped_total", this.#pictures?.dropped ?? 0);
    tell("whip_clock_jumps_total", this.#clock.counters.clock_jumps + this.#clock.counters.clock_leaps);
  }
}

const tenths = (ms: number): number => Math.round(ms * 10) / 10;
