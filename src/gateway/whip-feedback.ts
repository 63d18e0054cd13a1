import { GenericNack, type MediaStreamTrack, type RTCRtpReceiver, RtcpTransportLayerFeedback } from "werift";
import { ArrivalReports } from "../transport/webrtc/arrival-reports.js";
import type { NackSchedule } from "../transport/webrtc/nack.js";
import type { TrackKind } from "../transport/webrtc/track-clock.js";
import type { WebRtcPeer } from "./webrtc-peer.js";

/** Between two reports of arrivals. A browser that sends little is to hear of it soon all the same. */
const ARRIVALS_EVERY_MS = 50;

type Media = { readonly track: MediaStreamTrack; readonly receiver: RTCRtpReceiver };

export type FeedbackOptions = {
  /** Least time between two requests for a key frame. */
  readonly keyFrameRequestMs: number;
  readonly onKeyFrameAsked: () => void;
};

/** What a WHIP publisher is told of what came: what is missing (NACK), when packets came (transport-wide), that a key frame is wanted (PLI). */
export class WhipFeedback {
  readonly #media: Partial<Record<TrackKind, Media>> = {};
  readonly #arrivals = new ArrivalReports();
  #arrivalsToldMs = Number.NEGATIVE_INFINITY;
  #keyFrameDue = false;
  #keyFrameAskedMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly peer: WebRtcPeer,
    private readonly options: FeedbackOptions,
  ) {}

  /** Takes a track's reports over from the stack. @param onArrival a packet of either track came, by its transport-wide number */
  take(
    kind: TrackKind,
    track: MediaStreamTrack,
    receiver: RTCRtpReceiver,
    onArrival: (sequence: number) => void,
  ): void {
    this.#media[kind] = { track, receiver };
    withoutNack(receiver);
    withArrivals(receiver, onArrival);
  }

  has(kind: TrackKind): boolean {
    return this.#media[kind] !== undefined;
  }

  arrived(sequence: number, time: number): void {
    this.#arrivals.arrived(sequence, time);
    if (time - this.#arrivalsToldMs >= ARRIVALS_EVERY_MS) this.tellArrivals(time);
  }

  /** Both tracks have one count of packets: what is not told of counts as lost. */
  tellArrivals(time: number): void {
    const { track, receiver } = this.#media.picture ?? this.#media.sound ?? {};
    if (track?.ssrc === undefined || receiver === undefined || !this.peer.connected) return;
    const packet = this.#arrivals.take(receiver.rtcpSsrc, track.ssrc);
    if (packet === null) return;
    this.#arrivalsToldMs = time;
    send(receiver, { serialize: () => packet } as unknown as RtcpTransportLayerFeedback);
  }

  askAgain(kind: TrackKind, schedule: NackSchedule | null, time: number): void {
    if (schedule === null || !this.peer.connected) return;
    const lost = schedule.due(time);
    const media = this.#media[kind];
    if (lost.length === 0 || media?.track.ssrc === undefined || !media.receiver.nackEnabled) return;
    const { receiver, track } = media;
    const feedback = new GenericNack({ senderSsrc: receiver.rtcpSsrc, mediaSourceSsrc: track.ssrc!, lost });
    send(receiver, new RtcpTransportLayerFeedback({ feedback }));
  }

  /** Asked for with the next `askForKeyFrame` that may ask. */
  wantKeyFrame(): void {
    this.#keyFrameDue = true;
  }

  /** Whoever waited for one has it: a request that was held back would only cost the publisher another. */
  keyFrameCame(): void {
    this.#keyFrameDue = false;
  }

  askForKeyFrame(time: number): void {
    const { picture } = this.#media;
    if (!this.#keyFrameDue || picture === undefined || !this.peer.connected) return;
    if (time - this.#keyFrameAskedMs < this.options.keyFrameRequestMs) return;
    const { receiver, track } = picture;
    if (track.ssrc === undefined) return;
    this.#keyFrameAskedMs = time;
    this.#keyFrameDue = false;
    this.options.onKeyFrameAsked();
    void receiver.sendRtcpPLI(track.ssrc);
  }
}

/** What cannot be sent is like what is lost. */
function send(receiver: RTCRtpReceiver, packet: RtcpTransportLayerFeedback): void {
  void receiver.dtlsTransport.sendRtcp([packet]).catch(() => {});
}

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
