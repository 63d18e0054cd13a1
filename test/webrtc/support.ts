import { createSocket, type Socket } from "node:dgram";
import { join } from "node:path";
import {
  MediaStreamTrack,
  type RTCDataChannel,
  RTCPeerConnection,
  type RTCRtpSender,
  RtcpSrPacket,
  type RtpPacket,
  useH264,
  useNACK,
  useOPUS,
  usePLI,
  useTransportWideCC,
  useTWCC,
  useVP8,
} from "werift";
import { type AccessUnit, H264Depacketizer } from "../../src/transport/webrtc/h264-depacketizer.js";
import { TrackClock } from "../../src/transport/webrtc/track-clock.js";
import { ffmpeg } from "../gst/clip.js";

/** A clip that WebRTC can carry: H.264 without B-frames and Opus; white flash and beep at each whole second. */
export function webRtcClip(folder: string, options: { seconds?: number; bFrames?: number } = {}): string {
  const { seconds = 8, bFrames = 0 } = options;
  const path = join(folder, `webrtc-${seconds}-${bFrames}.mkv`);
  const lit = "lt(mod(T,1),2.5/30)";
  ffmpeg(
    ...["-f", "lavfi", "-i"],
    `testsrc2=s=320x180:r=30,geq=lum='if(${lit},235,lum(X,Y)*0.3)':cb='if(${lit},128,cb(X,Y))':cr='if(${lit},128,cr(X,Y))'`,
    ...["-f", "lavfi", "-i", "aevalsrc='if(lt(mod(t,1),0.05),0.6*sin(2*PI*1000*t),0)':s=48000"],
    ...["-t", String(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-bf", String(bFrames)],
    ...["-pix_fmt", "yuv420p", "-c:a", "libopus", "-b:a", "96k", "-ac", "2", path],
  );
  return path;
}

export async function udpSocket(onPacket: (packet: Buffer) => void): Promise<{ socket: Socket; port: number }> {
  const socket = createSocket({ type: "udp4", recvBufferSize: 4 * 1024 * 1024 });
  socket.on("message", onPacket);
  await new Promise<void>((done) => socket.bind(0, "127.0.0.1", done));
  return { socket, port: socket.address().port };
}

type PictureCodec = "H264" | "VP8";

function connection(codec: PictureCodec = "H264", soundNack = false, transportWide = false): RTCPeerConnection {
  const feedback = { rtcpFeedback: [useNACK(), usePLI(), ...(transportWide ? [useTWCC()] : [])] };
  return new RTCPeerConnection({
    iceServers: [],
    iceUseIpv6: false,
    bundlePolicy: "max-bundle",
    iceAdditionalHostAddresses: ["127.0.0.1"],
    codecs: {
      video: [codec === "H264" ? useH264(feedback) : useVP8(feedback)],
      audio: [useOPUS(soundNack ? { rtcpFeedback: [useNACK()] } : {})],
    },
    ...(transportWide ? { headerExtensions: { video: [useTransportWideCC()], audio: [] } } : {}),
  });
}

/** Posts an offer; the answer, and where the session lives. */
export async function post(
  url: string,
  sdp: string,
  headers: Record<string, string> = {},
): Promise<{ response: Response; location: string; etag: string; sdp: string }> {
  const response = await fetch(url, {
    method: "POST",
    body: sdp,
    headers: { "Content-Type": "application/sdp", ...headers },
  });
  const text = await response.text();
  const location = response.headers.get("location");
  return {
    response,
    location: location === null ? "" : new URL(location, url).href,
    etag: response.headers.get("etag") ?? "",
    sdp: text,
  };
}

/** A line between a peer and the gateway (LossyRelay): the peer is told its address in place of the gateway's. */
type Line = { rewrite(sdp: string): string };

async function negotiate(
  pc: RTCPeerConnection,
  url: string,
  headers: Record<string, string> = {},
  line?: Line,
  altered: (sdp: string) => string = (sdp) => sdp,
) {
  await pc.setLocalDescription(await pc.createOffer());
  const session = await post(url, altered(pc.localDescription!.sdp), headers);
  if (session.response.status !== 201) throw new Error(`${session.response.status}: ${session.sdp}`);
  await pc.setRemoteDescription({ type: "answer", sdp: line ? line.rewrite(session.sdp) : session.sdp });
  return session;
}

const UNIX_TO_NTP_MS = 2_208_988_800_000;

export type PublisherTracks = {
  readonly picture?: boolean;
  readonly sound?: boolean;
  readonly codec?: PictureCodec;
  readonly soundNack?: boolean;
  /** Numbers its pictures' packets for the gateway's reports of their arrival. */
  readonly transportWide?: boolean;
};

/** A WHIP publisher over werift; RTP packets (of ffmpeg, say) are given to `picture` and `sound`. */
export class WhipClient {
  readonly pc: RTCPeerConnection;
  readonly picture = new MediaStreamTrack({ kind: "video" });
  readonly sound = new MediaStreamTrack({ kind: "audio" });
  readonly senders: RTCRtpSender[] = [];
  keyFramesWanted = 0;
  session: Awaited<ReturnType<typeof post>> | null = null;
  #beganMs: number | null = null;
  readonly #first: { picture?: number; sound?: number } = {};

  constructor(tracks: PublisherTracks = {}) {
    this.pc = connection(tracks.codec, tracks.soundNack, tracks.transportWide);
    for (const track of [tracks.picture === false ? null : this.picture, tracks.sound === false ? null : this.sound]) {
      if (track === null) continue;
      const { sender } = this.pc.addTransceiver(track, { direction: "sendonly" });
      sender.onPictureLossIndication.subscribe(() => {
        this.keyFramesWanted += 1;
      });
      this.senders.push(sender);
    }
  }

  /**
   * One RTP packet of a track, as ffmpeg gave it. Sender reports say when it was captured, as those of OBS and browsers do: werift by itself
   * says when it was sent, which on a busy machine is later. Both tracks begin at one moment.
   */
  send(kind: "picture" | "sound", packet: Buffer): void {
    const ticks = packet.readUInt32BE(4);
    this.#beganMs ??= Date.now();
    this.#first[kind] ??= ticks;
    this[kind].writeRtp(packet);
    const ms = UNIX_TO_NTP_MS + this.#beganMs + ((ticks - this.#first[kind]!) | 0) / (kind === "picture" ? 90 : 48);
    const ntp = (BigInt(Math.floor(ms / 1000)) << 32n) | BigInt(Math.floor((ms % 1000) * (2 ** 32 / 1000)));
    const sender = this.senders[kind === "picture" ? 0 : 1] as unknown as { ntpTimestamp: bigint };
    sender.ntpTimestamp = ntp;
  }

  get connected(): boolean {
    return this.pc.connectionState === "connected";
  }

  /** @throws Error when the answer is not 201 */
  async publish(url: string, headers: Record<string, string> = {}, line?: Line): Promise<void> {
    this.session = await negotiate(this.pc, url, headers, line);
  }

  close(): Promise<void> {
    return this.pc.close();
  }
}

/**
 * A connected publisher. As real clients do, it tries again: with both ends in one process that is just starting and gets no time, werift's
 * DTLS handshake can stall on its own retransmissions.
 */
export async function connectedPublisher(
  url: string,
  line?: Line,
  codec: PictureCodec = "H264",
  soundNack = false,
): Promise<WhipClient> {
  for (let attempt = 1; ; attempt++) {
    const client = new WhipClient({ codec, soundNack });
    await client.publish(url, {}, line);
    const end = performance.now() + 6000;
    while (!client.connected && performance.now() < end) await new Promise((done) => setTimeout(done, 20));
    if (client.connected) return client;
    await fetch(client.session!.location, { method: "DELETE" });
    await client.close();
    if (attempt === 4) throw new Error(`no connection to ${url} in ${attempt} attempts`);
  }
}

export type Report = { readonly ticks: number; readonly wallMs: number };

/** What a WHEP viewer over werift gets. */
export class WhepClient {
  readonly pc = connection();
  readonly units: (AccessUnit & { readonly atMs: number })[] = [];
  readonly sounds: {
    readonly atMs: number;
    readonly timestamp: number;
    readonly data: Buffer;
  }[] = [];
  /** Sender reports: a timestamp and the time on the sender's clock, milliseconds, that it stands for. */
  readonly reports = { picture: [] as Report[], sound: [] as Report[] };
  readonly notes: Record<string, unknown>[] = [];
  readonly sequence: number[] = [];
  notesChannel: RTCDataChannel | null = null;
  session: Awaited<ReturnType<typeof post>> | null = null;
  readonly #clock = new TrackClock();
  readonly #depacketizer = new H264Depacketizer();

  constructor(options: { data?: boolean } = {}) {
    for (const kind of ["video", "audio"] as const) this.pc.addTransceiver(kind, { direction: "recvonly" });
    if (options.data) this.pc.createDataChannel("wanted");
    this.pc.ontrack = ({ track, transceiver }) => {
      const kind = track.kind === "video" ? "picture" : "sound";
      track.onReceiveRtp.subscribe((packet) => this.#receive(kind, packet));
      transceiver.receiver.onRtcp.subscribe((packet) => {
        if (!(packet instanceof RtcpSrPacket)) return;
        const { ntpTimestamp, rtpTimestamp } = packet.senderInfo;
        this.#clock.report(kind, ntpTimestamp, rtpTimestamp);
        this.reports[kind].push({ ticks: rtpTimestamp, wallMs: Number((ntpTimestamp * 1000n) >> 16n) / 65536 });
      });
    };
    this.pc.ondatachannel = ({ channel }) => {
      this.notesChannel = channel;
      channel.onMessage.subscribe((data) => this.notes.push(JSON.parse(data.toString()) as Record<string, unknown>));
    };
  }

  get connected(): boolean {
    return this.pc.connectionState === "connected";
  }

  /** @param altered what becomes of the offer on its way */
  async view(url: string, altered?: (sdp: string) => string): Promise<void> {
    this.session = await negotiate(this.pc, url, {}, undefined, altered);
  }

  /** Takes what a publisher offers itself, with nothing between; gives the answer. */
  async answer(offer: string): Promise<string> {
    await this.pc.setRemoteDescription({ type: "offer", sdp: offer });
    await this.pc.setLocalDescription(await this.pc.createAnswer());
    return this.pc.localDescription!.sdp;
  }

  /** Has the other side make a key frame. */
  async askForKeyFrame(): Promise<void> {
    const { receiver } = this.pc.getTransceivers().find(({ kind }) => kind === "video")!;
    for (const track of receiver.tracks) if (track.ssrc !== undefined) await receiver.sendRtcpPLI(track.ssrc);
  }

  close(): Promise<void> {
    return this.pc.close();
  }

  #receive(kind: "picture" | "sound", { header, payload }: RtpPacket): void {
    const atMs = this.#clock.place(kind, header.timestamp, performance.now());
    if (kind === "sound") {
      this.sounds.push({ atMs, timestamp: header.timestamp, data: Buffer.from(payload) });
      return;
    }
    this.sequence.push(header.sequenceNumber);
    const { timestamp, marker } = header;
    for (const unit of this.#depacketizer.push({ timestamp, marker, payload: Buffer.from(payload) }))
      this.units.push({ ...unit, atMs });
  }
}

/** Bodies of slices, to compare what came out with what went in. */
export const slices = (units: readonly AccessUnit[]): Buffer[] =>
  units.flatMap((unit) => unit.nals.filter((nal) => [1, 5].includes(nal[0]! & 31)));
