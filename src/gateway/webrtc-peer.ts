import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import {
  type MediaStreamTrack,
  type RTCDataChannel,
  RTCPeerConnection,
  type RTCRtpReceiver,
  type RTCRtpSender,
  useH264,
  useNACK,
  useOPUS,
  usePLI,
  useSdesMid,
  useTransportWideCC,
  useTWCC,
  useVP8,
} from "werift";
import type { WebRtcSettings } from "../transport/ipc/messages.js";
import { handshakeBytes, readSctp } from "../transport/webrtc/sctp.js";
import { announce, attributes, type Offer, withCredentials } from "../transport/webrtc/sdp.js";
import { datagramKind, isAuthenticRequest } from "../transport/webrtc/stun.js";
import type { PeerContext } from "./rtmp-peer.js";

/** What werift has and does not tell in its types: the sockets and pairs of an ICE transport. */
type StackSocket = {
  datagramReceived(data: Buffer, address: readonly [string, number]): void;
  readonly transport?: {
    readonly socket?: { on(event: "error", listener: () => void): void; getSendQueueSize?(): number };
  };
};

type Pair = { readonly protocol: StackSocket; readonly remoteAddr: readonly [string, number]; nominated: boolean };
type Ice = { readonly protocols: readonly StackSocket[]; readonly checkList: readonly Pair[]; nominated?: Pair };

/** What it keeps of data channels. */
type StackSctp = {
  handleData(packet: Buffer): Promise<void>;
  readonly inboundStreams: Readonly<Record<number, { readonly reassembly: readonly unknown[] }>>;
  readonly sackMisOrdered: ReadonlySet<number>;
  readonly outboundQueue: readonly unknown[];
  readonly onReceive: {
    allUnsubscribe(): void;
    subscribe(listener: (stream: number, protocol: number, data: Buffer) => void): unknown;
  };
};

type StackChannels = { datachannelReceive(stream: number, protocol: number, data: Buffer): Promise<void> };

export type PeerEvents = {
  readonly onConnected: () => void;
  /** The connection has failed or the peer has ended it. */
  readonly onEnded: () => void;
};

/** Credentials of our own that are still answered to: the running and the one before (an ICE restart under way). */
const KEPT_CREDENTIALS = 2;
const V6 = /:/;

/**
 * One WebRTC connection over werift, as an ICE lite agent: it only answers, so that no offer can make it send anything anywhere. Every
 * datagram passes a guard first, since the stack itself takes unauthenticated binding requests (which could turn a viewer's stream
 * on a third party) and media from any address.
 */
export class WebRtcPeer {
  readonly #pc: RTCPeerConnection;
  readonly #context: PeerContext;
  readonly #events: PeerEvents;
  readonly #hosts: readonly string[];
  #sockets: readonly StackSocket[] = [];
  readonly #guarded = new WeakSet<StackSocket>();
  readonly #passwords = new Map<string, string>();
  readonly #addresses = new Set<string>();
  #offer: Offer | null = null;
  #second = -1;
  #datagrams = 0;
  #dataMessages = 0;
  #badSctp = 0;
  #dataChunks = 0;
  #handshakeBytes = 0;
  readonly #dataStreams = new Set<number>();
  #guardedSctp: StackSctp | null = null;
  #lastHeardMs: number;
  #connected = false;
  #closed = false;
  #flooded = false;

  /** @param listenHost address of the HTTP listener, which says what to announce when nothing is configured */
  constructor(context: PeerContext, settings: WebRtcSettings, listenHost: string, events: PeerEvents) {
    this.#context = context;
    this.#events = events;
    this.#hosts = hostsToAnnounce(settings.hosts, listenHost);
    this.#lastHeardMs = context.now();
    const feedback = { rtcpFeedback: [useNACK(), usePLI(), useTWCC()] };
    this.#pc = new RTCPeerConnection({
      iceLite: true,
      bundlePolicy: "max-bundle",
      iceServers: [],
      iceUseIpv6: this.#hosts.some((host) => V6.test(host)),
      // At least one socket, also on a machine that has no network.
      iceAdditionalHostAddresses: ["127.0.0.1"],
      ...(settings.ports === null ? {} : { icePortRange: [settings.ports[0], settings.ports[1]] }),
      // The offer was narrowed to one of them.
      codecs: { video: [useH264(feedback), useVP8(feedback)], audio: [useOPUS()] },
      headerExtensions: { video: [useSdesMid(), useTransportWideCC()], audio: [useSdesMid()] },
    });
    this.#pc.connectionStateChange.subscribe((state) => {
      if (this.#closed) return;
      if (state === "connected" && !this.#connected) {
        this.#connected = true;
        events.onConnected();
      } else if (state === "failed" || state === "closed" || state === "disconnected") events.onEnded();
    });
    this.#pc.onDataChannel.subscribe((channel) => {
      channel.onMessage.subscribe(() => this.#onDataMessage());
    });
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** When an authenticated datagram came last, monotonic milliseconds. */
  get lastHeardMs(): number {
    return this.#lastHeardMs;
  }

  /** Bytes that the system has not taken yet: a full interface makes Node keep datagrams, without a bound of its own. */
  get backlogBytes(): number {
    let sum = 0;
    for (const socket of this.#sockets) sum += socket.transport?.socket?.getSendQueueSize?.() ?? 0;
    return sum;
  }

  /** Tracks as they are negotiated by `accept`; set before it. */
  onTrack(callback: (track: MediaStreamTrack, receiver: RTCRtpReceiver) => void): void {
    const seen = new WeakSet<MediaStreamTrack>();
    this.#pc.ontrack = ({ track, transceiver }) => {
      // An ICE restart tells them again.
      if (seen.has(track)) return;
      seen.add(track);
      callback(track, transceiver.receiver);
    };
  }

  /** A track to send, before `accept`. */
  addTrack(track: MediaStreamTrack): RTCRtpSender {
    return this.#pc.addTransceiver(track, { direction: "sendonly" }).sender;
  }

  /** A channel for notes, before `accept`: unordered, nothing is sent twice (a late note is of no use). */
  addDataChannel(label: string): RTCDataChannel {
    return this.#pc.createDataChannel(label, { ordered: false, maxRetransmits: 0 });
  }

  /** Takes the offer; returns the answer with our candidates. @throws Error from the stack when it cannot */
  async accept(offer: Offer): Promise<string> {
    this.#offer = offer;
    return (await this.#answer(offer.sdp)).sdp;
  }

  /** The peer begins a new ICE session on the running connection (RFC 9725, 4.3.3). */
  async restart(
    ufrag: string,
    pwd: string,
  ): Promise<{ ufrag: string; pwd: string; mid: string; candidates: string[] }> {
    const { sdp, candidates } = await this.#answer(withCredentials(this.#offer!.sdp, ufrag, pwd));
    // The stack leaves ICE alone while DTLS is up: without this it would answer checks and never send again.
    for (const transport of this.#pc.iceTransports) transport.start().catch(() => {});
    const [[ours], [password], [mid]] = [
      attributes(sdp, "ice-ufrag"),
      attributes(sdp, "ice-pwd"),
      attributes(sdp, "mid"),
    ];
    return { ufrag: ours!, pwd: password!, mid: mid!, candidates };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pc.close();
  }

  async #answer(sdp: string): Promise<{ sdp: string; candidates: string[] }> {
    await this.#pc.setRemoteDescription({ type: "offer", sdp });
    // The peer begins the DTLS handshake where it may: as an ICE lite agent we are connected before it is, and what the stack would send
    // then is lost and not sent again.
    if (this.#offer?.setup !== "passive") for (const transport of this.#pc.dtlsTransports) transport.role = "server";
    await this.#pc.setLocalDescription(await this.#pc.createAnswer());
    if (this.#closed) throw new Error("closed while it was set up");
    this.#guardSockets();
    this.#guardSctp();
    const answer = announce(this.#pc.localDescription!.sdp, this.#hosts);
    if (answer.candidates.length === 0) throw new Error(`no socket for ${this.#hosts.join(", ")}`);
    const [[ufrag], [pwd]] = [attributes(answer.sdp, "ice-ufrag"), attributes(answer.sdp, "ice-pwd")];
    this.#passwords.set(ufrag!, pwd!);
    if (this.#passwords.size > KEPT_CREDENTIALS) this.#passwords.delete(this.#passwords.keys().next().value!);
    return answer;
  }

  #guardSockets(): void {
    this.#sockets = this.#pc.iceTransports.flatMap(({ connection }) => (connection as unknown as Ice).protocols);
    for (const { connection } of this.#pc.iceTransports) {
      const ice = connection as unknown as Ice;
      for (const socket of ice.protocols) {
        if (this.#guarded.has(socket)) continue;
        this.#guarded.add(socket);
        const pass = socket.datagramReceived.bind(socket);
        socket.datagramReceived = (data, address) => {
          if (this.#lets(data, address)) {
            if (datagramKind(data) !== "stun") follow(ice, socket, address);
            pass(data, address);
          } else this.#context.counters.add("webrtc_datagrams_refused_total");
        };
        // A peer that is not reachable any more: without a listener that would end the process.
        socket.transport?.socket?.on("error", () => {});
      }
    }
  }

  /** What is decrypted is the peer's own, and the stack believes it: a length of 0 hangs it, other nonsense is thrown where nobody catches. */
  #guardSctp(): void {
    const transport = this.#pc.sctpTransport;
    const sctp = transport?.sctp as unknown as StackSctp | undefined;
    if (transport === undefined || sctp === undefined || sctp === this.#guardedSctp) return;
    this.#guardedSctp = sctp;
    transport.dtlsTransport.dataReceiver = (packet: Buffer) => this.#takeSctp(sctp, packet);
    // Nobody waits for what the stack makes of a message, and it throws on those of channels that are not there.
    const { datachannelReceive } = transport as unknown as StackChannels;
    sctp.onReceive.allUnsubscribe();
    sctp.onReceive.subscribe((...message) => void datachannelReceive(...message).catch(() => this.#refuseSctp()));
  }

  #refuseSctp(): void {
    const { limits, counters, now } = this.#context;
    this.#tick(now());
    counters.add("webrtc_sctp_refused_total");
    if (++this.#badSctp > limits.maxBadSctpPerSecond) this.#flood("too many SCTP packets that cannot be used");
  }

  #takeSctp(sctp: StackSctp, packet: Buffer): void {
    if (this.#closed) return;
    const { limits, now } = this.#context;
    this.#tick(now());
    const facts = readSctp(packet);
    if (facts === null) {
      this.#refuseSctp();
      return;
    }
    this.#dataChunks += facts.dataChunks;
    if (this.#dataChunks > limits.maxDataChunksPerSecond) {
      this.#flood("too much data");
      return;
    }
    for (const stream of facts.streams) this.#dataStreams.add(stream);
    if (this.#dataStreams.size > limits.maxDataStreams) {
      this.#flood("too many data channel streams");
      return;
    }
    const taken = sctp.handleData(packet).catch(() => this.#refuseSctp());
    if (facts.dataChunks === 0) return;
    void taken.then(() => {
      const waiting = Object.values(sctp.inboundStreams).reduce((sum, { reassembly }) => sum + reassembly.length, 0);
      const most = Math.max(waiting, sctp.sackMisOrdered.size, sctp.outboundQueue.length);
      if (most > limits.maxDataWaiting) this.#flood("data that is never whole, or answers that are never taken");
    });
  }

  #lets(data: Buffer, [host, port]: readonly [string, number]): boolean {
    if (this.#closed) return false;
    const { limits, now } = this.#context;
    this.#tick(now());
    if (data.length > limits.maxDatagramBytes || ++this.#datagrams > limits.maxDatagramsPerSecond) return false;
    const kind = datagramKind(data);
    const from = `${host} ${port}`;
    if (kind === "stun") {
      if (!isAuthenticRequest(data, (ufrag) => this.#passwords.get(ufrag) ?? null)) return false;
      if (!this.#addresses.has(from) && this.#addresses.size >= limits.maxPeerAddresses) return false;
      this.#addresses.add(from);
    } else if (kind === "other" || !this.#addresses.has(from)) return false;
    if (kind === "dtls") {
      const bytes = handshakeBytes(data);
      this.#handshakeBytes += bytes;
      if (bytes > 0 && this.#handshakeBytes > limits.maxHandshakeBytes) return false;
    }
    this.#lastHeardMs = now();
    return true;
  }

  #onDataMessage(): void {
    this.#context.counters.add("webrtc_data_messages_ignored_total");
    this.#tick(this.#context.now());
    if (++this.#dataMessages > this.#context.limits.maxDataMessagesPerSecond)
      this.#flood("too many data channel messages");
  }

  #flood(detail: string): void {
    if (this.#closed || this.#flooded) return;
    this.#flooded = true;
    this.#context.log("warn", "session ended", { code: "SL_WEBRTC_FLOOD", detail });
    this.#events.onEnded();
  }

  #tick(timeMs: number): void {
    const second = Math.floor(timeMs / 1000);
    if (second === this.#second) return;
    this.#second = second;
    this.#datagrams = 0;
    this.#dataMessages = 0;
    this.#badSctp = 0;
    this.#dataChunks = 0;
  }
}

/**
 * Makes the pair over which the peer sends the one over which it is sent to. A peer with several networks nominates more than one pair
 * (libwebrtc does towards ICE lite agents) and uses the best that works; werift stays with the first, which may lead nowhere. The address
 * has passed an authenticated check before.
 */
function follow(ice: Ice, socket: StackSocket, [host, port]: readonly [string, number]): void {
  const now = ice.nominated;
  const is = (pair: Pair): boolean =>
    pair.protocol === socket && pair.remoteAddr[0] === host && pair.remoteAddr[1] === port;
  if (now === undefined || is(now)) return;
  const pair = ice.checkList.find(is);
  if (pair === undefined) return;
  pair.nominated = true;
  ice.nominated = pair;
}

/** What peers are told: the configured addresses; else where the HTTP listener can be reached. */
function hostsToAnnounce(configured: readonly string[], listenHost: string): readonly string[] {
  if (configured.length > 0) return configured;
  if (listenHost === "localhost") return ["127.0.0.1"];
  if (isIP(listenHost) !== 0 && listenHost !== "0.0.0.0" && listenHost !== "::") return [listenHost];
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family, internal }) => family === "IPv4" && !internal)
    .map(({ address }) => address);
  return [...new Set([...own, "127.0.0.1"])];
}
