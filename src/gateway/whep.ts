import {
  GenericNack,
  MediaStreamTrack,
  type RTCDataChannel,
  type RTCRtpSender,
  type RtcpPacket,
  RtcpTransportLayerFeedback,
  RtpHeader,
  RtpPacket,
} from "werift";
import { readScript } from "../transport/flv/script.js";
import { type FlvTag, PICTURE, SCRIPT } from "../transport/flv/tag.js";
import { readVideo } from "../transport/flv/video.js";
import type { ViewerStem } from "../transport/ipc/messages.js";
import { EgressClock } from "../transport/webrtc/egress-clock.js";
import { type AvcConfig, NAL_SPS, nalType, readAvcC, splitAvc } from "../transport/webrtc/h264.js";
import { packetize } from "../transport/webrtc/h264-packetizer.js";
import type { Offer } from "../transport/webrtc/sdp.js";
import { isRefusal, type Refusal, type Viewer } from "./roles.js";
import type { PeerContext } from "./rtmp-peer.js";
import type { Subscription } from "./stream.js";
import type { WebRtcPeer } from "./webrtc-peer.js";

/** Label of the data channel; each message is the JSON of one note. */
const NOTES = "highlights";

/** Payloads of a picture, made once for all viewers. */
const payloadsOf = new WeakMap<Buffer, Buffer[]>();

/** What werift's sender writes into its reports, and does not show in its types. */
type Reporting = { ntpTimestamp: bigint };

/** A track that we send: numbers its packets, and says when they were due. */
class OutTrack {
  readonly track: MediaStreamTrack;
  readonly sender: RTCRtpSender;
  #sequence = Math.floor(Math.random() * 2 ** 15);
  #second = -1;
  #resent = 0;

  constructor(
    kind: "audio" | "video",
    peer: WebRtcPeer,
    private readonly context: PeerContext,
  ) {
    this.track = new MediaStreamTrack({ kind });
    this.sender = peer.addTrack(this.track);
    const handle = this.sender.handleRtcpPacket.bind(this.sender);
    this.sender.handleRtcpPacket = (packet: RtcpPacket) => {
      if (packet instanceof RtcpTransportLayerFeedback && packet.feedback instanceof GenericNack)
        packet.feedback.lost = this.#granted(packet.feedback.lost);
      handle(packet);
    };
  }

  /** The stack sends again whatever is asked for, as often as it is named: each once, and so many in a second. */
  #granted(lost: readonly number[]): number[] {
    const second = Math.floor(this.context.now() / 1000);
    if (second !== this.#second) [this.#second, this.#resent] = [second, 0];
    const asked = [...new Set(lost)];
    const granted = asked.slice(0, Math.max(0, this.context.limits.maxResentPerSecond - this.#resent));
    this.#resent += granted.length;
    if (granted.length < lost.length)
      this.context.counters.add("viewer_nacks_refused_total", lost.length - granted.length);
    return granted;
  }

  /** @param ntp the NTP time of `timestamp` for sender reports */
  send(payload: Buffer, timestamp: number, ntp: bigint, marker: boolean): void {
    const sequenceNumber = this.#sequence;
    this.#sequence = (sequenceNumber + 1) & 0xffff;
    this.track.writeRtp(new RtpPacket(new RtpHeader({ sequenceNumber, timestamp, marker, payloadType: 96 }), payload));
    (this.sender as unknown as Reporting).ntpTimestamp = ntp;
  }
}

/**
 * A WHEP viewer. Packets go to the network or are lost there, so a slow one costs nobody anything; what a full interface does not take is left out like
 * what a player behind TCP does not take. Pictures are
 * the access units of the cleaned programme as they are; it begins at a key frame.
 */
export class WhepViewer implements Viewer {
  readonly #clock = new EgressClock();
  readonly #picture: OutTrack | null;
  readonly #sound: OutTrack | null;
  readonly #notes: RTCDataChannel | null;
  #subscription: Subscription | null = null;
  #config: AvcConfig | null = null;
  #waitForKey = true;

  /** @param finish ends the whole session */
  constructor(
    private readonly peer: WebRtcPeer,
    offer: Offer,
    private readonly channel: string,
    private readonly stem: ViewerStem,
    private readonly context: PeerContext,
    private readonly finish: (reason: Refusal) => void,
  ) {
    this.#picture = offer.picture !== null ? new OutTrack("video", peer, context) : null;
    this.#sound = offer.sound ? new OutTrack("audio", peer, context) : null;
    if (this.#picture) this.#listen(this.#picture.sender);
    this.#notes = offer.data ? peer.addDataChannel(NOTES) : null;
  }

  get backlogBytes(): number {
    return this.peer.backlogBytes;
  }

  /** The connection is up: the programme begins at its next key frame. */
  connected(): void {
    if (this.#subscription !== null) return;
    const answer = this.context.hub.watch(this.channel, this.stem, this);
    if (isRefusal(answer)) {
      this.finish(answer);
      return;
    }
    this.#subscription = answer;
    answer.resume();
  }

  /** Lets go of the hub. Idempotent. */
  leave(): void {
    this.#subscription?.cancel();
  }

  drop(reason: Refusal): void {
    this.finish(reason);
  }

  /** Looks at the time limits; called a few times a second. */
  check(): void {
    const { sessionSilentMs } = this.context.limits;
    if (this.peer.connected && this.context.now() - this.peer.lastHeardMs > sessionSilentMs)
      this.finish({ code: "SL_WEBRTC_GONE", detail: `nothing was heard for ${sessionSilentMs} ms` });
  }

  write(tag: FlvTag): void {
    if (tag.type === SCRIPT) this.#note(tag);
    if (tag.type !== PICTURE || this.#picture === null) return;
    const packet = readVideo(tag.body);
    if (packet.kind === "sequence") this.#config = readAvcC(packet.avcC);
    if (packet.kind !== "frame" || this.#config === null) return;
    if (packet.key) this.#waitForKey = false;
    if (this.#waitForKey) return;
    const payloads = payloadsOf.get(tag.body) ?? toPayloads(packet.data, packet.key, this.#config);
    payloadsOf.set(tag.body, payloads);
    const shownMs = (tag.timestampMs + packet.ctsMs) % 2 ** 32;
    const timestamp = this.#clock.ticks(shownMs, this.context.now(), 90);
    const ntp = this.#clock.ntp(shownMs, Date.now());
    for (const [i, payload] of payloads.entries())
      this.#picture.send(payload, timestamp, ntp, i === payloads.length - 1);
    this.context.counters.add("viewer_packets_total", payloads.length);
  }

  opus(packet: Buffer, timeMs: number): void {
    if (this.#sound === null) return;
    if (this.backlogBytes >= this.context.limits.maxPlayerBacklogBytes) {
      this.context.counters.add("player_dropped_tags_total");
      return;
    }
    const timestamp = this.#clock.ticks(timeMs, this.context.now(), 48);
    this.#sound.send(packet, timestamp, this.#clock.ntp(timeMs, Date.now()), false);
    this.context.counters.add("viewer_packets_total");
  }

  /** The programme is over: the viewer stays for the next one. */
  end(): void {}

  #note(tag: FlvTag): void {
    if (this.#notes === null) return;
    const { name, values } = readScript(tag.body);
    if (name !== "onHighlight") return;
    const isFull = this.#notes.bufferedAmount > this.context.limits.maxDataBacklogBytes;
    if (this.#notes.readyState !== "open" || isFull) {
      this.context.counters.add("viewer_notes_dropped_total");
      return;
    }
    const rtpTimestamp = this.#clock.ticks(tag.timestampMs, this.context.now(), 90);
    try {
      this.#notes.send(JSON.stringify({ ...(values[0] as object), rtpTimestamp }));
    } catch {
      // An offer may say that it takes messages of one byte: that is the viewer's own loss, nobody else's.
      this.context.counters.add("viewer_notes_dropped_total");
    }
  }

  #listen(sender: RTCRtpSender): void {
    sender.onPictureLossIndication.subscribe(() => this.context.hub.wantKeyFrame(this.channel));
    sender.onGenericNack.subscribe((nack) => this.context.counters.add("viewer_nacks_total", nack.lost.length));
  }
}

/** Parameter sets go in front of each key frame, as players that join need them. */
function toPayloads(unit: Buffer, key: boolean, config: AvcConfig): Buffer[] {
  const nals = splitAvc(unit, config.lengthBytes);
  const hasSets = nals.some((nal) => nalType(nal) === NAL_SPS);
  return packetize(key && !hasSets ? [...config.sps, ...config.pps, ...nals] : nals);
}
