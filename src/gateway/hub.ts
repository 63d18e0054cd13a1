import { createHash, timingSafeEqual } from "node:crypto";
import type { Code } from "../codes.js";
import { readAudio } from "../transport/flv/audio.js";
import { scriptName } from "../transport/flv/script.js";
import { type FlvTag, SCRIPT, SOUND } from "../transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag, isEnhanced, readVideo } from "../transport/flv/video.js";
import { type RefusedPublisher, VIEWER_STEMS, type ViewerStem } from "../transport/ipc/messages.js";
import type { Limits } from "./limits.js";
import type { CounterName, Counters, Log } from "./report.js";
import type { Attachment, ChannelPeer, Publication, PublisherPeer, Refusal, Side, Viewer } from "./roles.js";
import { LiveStream, type Sink, type Subscription } from "./stream.js";

type Publisher = { readonly peer: PublisherPeer; readonly publication: Publication; readonly keyDigest: Buffer };
type Channel = {
  readonly name: string;
  readonly in: LiveStream;
  readonly out: LiveStream;
  publisher: Publisher | null;
  attached: { readonly peer: ChannelPeer; readonly subscription: Subscription } | null;
  /** When the channel process sent its newest tag; null: it rests. */
  outMs: number | null;
  /** The same, whether it rests or not. */
  leftMs: number;
  readonly viewers: Map<Viewer, ViewerStem>;
  /** The newest request for a key frame on behalf of a viewer: when, and how many had come out by then. */
  asked: { readonly atMs: number; readonly keyFrames: number } | null;
};

/**
 * A key frame comes out as late as the channel's latency says, and a browser that waits for one asks five times a second: for so long, or
 * until one comes out, all have asked for the same. Milliseconds.
 */
const KEY_FRAME_COMES_MS = 1500;

/**
 * Who publishes, plays and processes which channel: the gateway without its sockets. Each channel has two streams, `in` (as
 * published) and `out` (as its channel process sends it back).
 */
export class Hub {
  #refused: (Omit<RefusedPublisher, "ageMs"> & { readonly atMs: number }) | null = null;
  #channels = new Map<string, Channel>();
  /** Digests, so that the time of a comparison tells neither length nor content of a key. */
  #keys: { readonly digest: Buffer; readonly channel: string }[] = [];
  #players = 0;

  constructor(
    private readonly limits: Limits,
    private readonly counters: Counters,
    private readonly log: Log,
    /** Milliseconds of a monotonic clock. */
    private readonly now: () => number,
  ) {}

  /**
   * Call a few times a second. The end of a cleaned programme is seen here: its source may be of any kind, what waits in the channel's
   * delay line comes after the source's end, and players stay for the next programme.
   */
  check(): void {
    const time = this.now();
    for (const channel of this.#channels.values()) {
      if (channel.outMs === null || time - channel.outMs < this.limits.restMs) continue;
      channel.outMs = null;
      channel.out.rest();
    }
  }

  get viewers(): number {
    let count = 0;
    for (const channel of this.#channels.values()) count += channel.viewers.size;
    return count;
  }

  get players(): number {
    return this.#players;
  }

  get publishers(): { channel: string; peer: string }[] {
    const out: { channel: string; peer: string }[] = [];
    for (const channel of this.#channels.values()) {
      if (channel.publisher) out.push({ channel: channel.name, peer: channel.publisher.peer.label });
    }
    return out;
  }

  /** Sets channels and keys; what is no longer there is ended, what stays is not touched. */
  configure(streamKeys: Readonly<Record<string, string>>, channels: readonly string[]): void {
    for (const [name, channel] of this.#channels) {
      if (channels.includes(name)) continue;
      this.#channels.delete(name);
      const removed: Refusal = { code: "SL_STREAM_UNKNOWN", detail: "the channel was removed" };
      this.#dropPublisher(channel, removed);
      for (const viewer of [...channel.viewers.keys()]) viewer.drop(removed);
      channel.in.stop();
      channel.out.stop();
      channel.attached?.peer.replaced();
    }
    for (const name of channels) {
      if (this.#channels.has(name)) continue;
      this.#channels.set(name, {
        name,
        in: new LiveStream(this.limits),
        out: new LiveStream(this.limits),
        publisher: null,
        attached: null,
        outMs: null,
        leftMs: 0,
        viewers: new Map(),
        asked: null,
      });
    }
    this.#keys = Object.entries(streamKeys).map(([key, channel]) => ({ digest: digest(key), channel }));
    for (const channel of this.#channels.values()) {
      const held = channel.publisher?.keyDigest;
      if (held === undefined || this.#keys.some((k) => k.channel === channel.name && k.digest.equals(held))) continue;
      this.#dropPublisher(channel, { code: "SL_KEY_UNKNOWN", detail: "the stream key was changed" });
    }
  }

  /** Why a publisher with this key would be refused now, counted and told; null: it would be let in. */
  publishRefusal(key: string, peer: PublisherPeer): Refusal | null {
    const channel = this.#channelOf(key);
    if (!channel)
      return this.#refusePublisher(
        "publishers_refused_key_unknown_total",
        peer,
        "SL_KEY_UNKNOWN",
        "the stream key is not known",
      );
    if (channel.publisher) {
      const detail = `${channel.publisher.peer.label} is publishing`;
      const refusal = this.#refusePublisher("publishers_refused_key_in_use_total", peer, "SL_KEY_IN_USE", detail);
      channel.attached?.peer.refused(refusal);
      return refusal;
    }
    if (this.publishers.length >= this.limits.maxPublishers)
      return this.#refusePublisher("publishers_refused_limit_total", peer, "SL_GATEWAY_FULL", "too many publishers");
    return null;
  }

  publish(key: string, peer: PublisherPeer): Publication | Refusal {
    const refusal = this.publishRefusal(key, peer);
    if (refusal !== null) return refusal;
    const channel = this.#channelOf(key)!;
    const publication: Publication = {
      channel: channel.name,
      push: (tag) => {
        if (channel.publisher?.publication === publication) this.#fromPublisher(channel, tag);
      },
      line: (report) => {
        if (channel.publisher?.publication === publication) channel.attached?.peer.line(report);
      },
      end: () => {
        if (channel.publisher?.publication === publication) this.#endPublisher(channel, "the publisher has left");
      },
    };
    channel.publisher = { peer, publication, keyDigest: digest(key) };
    channel.asked = null;
    this.counters.add("publishers_total");
    this.log("info", "publisher is live", { channel: channel.name, peer: peer.label });
    channel.attached?.peer.publisher("live", peer.label);
    return publication;
  }

  /**
   * Adds a player. Unknown channels are refused; a known one that is not live lets the player wait.
   * Call `resume` of the result when the player is ready for the first tag, `cancel` when the player is gone.
   */
  play(side: Side, name: string, sink: Sink): Subscription | Refusal {
    const channel = this.#channels.get(name);
    const refusal: Refusal | null = !channel
      ? { code: "SL_STREAM_UNKNOWN", detail: "no such channel" }
      : this.#players >= this.limits.maxPlayers
        ? { code: "SL_GATEWAY_FULL", detail: "too many players" }
        : null;
    if (!channel || refusal) {
      this.counters.add("players_refused_total");
      return refusal!;
    }
    this.#players++;
    this.counters.add("players_total");
    const dropped = (tags: number) => this.counters.add("player_dropped_tags_total", tags);
    const subscription = channel[side].add(sink, "gop", this.limits.maxPlayerBacklogBytes, dropped);
    // A browser's next key frame of its own may be minutes away.
    if (subscription.waits) channel.publisher?.peer.wantKeyFrame?.();
    let active = true;
    return {
      resume: () => subscription.resume(),
      cancel: () => {
        if (!active) return;
        active = false;
        this.#players--;
        subscription.cancel();
      },
    };
  }

  /**
   * What a viewer of this channel needs to know before it joins.
   * @returns the stream's avcC (null while nothing is live), or why it cannot be viewed
   */
  viewable(name: string): { readonly avcC: Buffer | null } | Refusal {
    const channel = this.#channels.get(name);
    if (!channel) return { code: "SL_STREAM_UNKNOWN", detail: "no such channel" };
    if (channel.out.reordered)
      return { code: "SL_WEBRTC_REORDERED", detail: "the programme has B-frames; the publisher must be set to none" };
    return { avcC: channel.out.avcC };
  }

  /** Adds a WHEP viewer at the next key frame, which the publisher is asked for. Use as `play`; bounded by the caller. */
  watch(name: string, stem: ViewerStem, viewer: Viewer): Subscription | Refusal {
    const channel = this.#channels.get(name);
    if (!channel) return { code: "SL_STREAM_UNKNOWN", detail: "no such channel" };
    const dropped = (tags: number) => this.counters.add("player_dropped_tags_total", tags);
    const subscription = channel.out.add(viewer, "key", this.limits.maxPlayerBacklogBytes, dropped);
    channel.viewers.set(viewer, stem);
    this.#tellWanted(channel);
    this.#askForViewers(channel);
    return {
      resume: () => subscription.resume(),
      cancel: () => {
        subscription.cancel();
        if (channel.viewers.delete(viewer)) this.#tellWanted(channel);
      },
    };
  }

  /** A viewer cannot decode any more. */
  wantKeyFrame(name: string): void {
    const channel = this.#channels.get(name);
    if (channel) this.#askForViewers(channel);
  }

  #askForViewers(channel: Channel): void {
    const { asked, out } = channel;
    if (asked !== null && asked.keyFrames === out.keyFrames && this.now() - asked.atMs < KEY_FRAME_COMES_MS) return;
    if (channel.publisher === null) return;
    channel.asked = { atMs: this.now(), keyFrames: out.keyFrames };
    channel.publisher.peer.wantKeyFrame?.();
  }

  #tellWanted(channel: Channel): void {
    const stems = new Set(channel.viewers.values());
    channel.attached?.peer.wanted(VIEWER_STEMS.filter((stem) => stems.has(stem)));
  }

  /** Joins a channel process to its channel; a second connection takes over (a restarted child whose old socket lingers). */
  attach(name: string, peer: ChannelPeer): Attachment | Refusal {
    const channel = this.#channels.get(name);
    if (!channel) return { code: "SL_STREAM_UNKNOWN", detail: `no channel ${JSON.stringify(name.slice(0, 64))}` };
    if (channel.attached) {
      const before = channel.attached;
      this.#detach(channel, before.peer);
      before.peer.replaced();
    }
    this.counters.add("channels_attached_total");
    const { lastTimeMs } = channel.out;
    if (lastTimeMs !== null) peer.timeline(lastTimeMs + this.now() - channel.leftMs);
    peer.publisher(channel.publisher ? "live" : "gone", channel.publisher?.peer.label ?? "");
    const dropped = (tags: number) => this.counters.add("channel_dropped_tags_total", tags);
    const subscription = channel.in.add(peer, "key", this.limits.maxChannelBacklogBytes, dropped);
    channel.attached = { peer, subscription };
    subscription.resume();
    if (channel.viewers.size > 0) this.#tellWanted(channel);
    // A browser makes key frames only when it is asked.
    channel.publisher?.peer.wantKeyFrame?.();
    const isCurrent = () => channel.attached?.peer === peer;
    return {
      push: (tag) => {
        if (!isCurrent()) return;
        channel.outMs = this.now();
        channel.leftMs = channel.outMs;
        channel.out.push(tag);
        if (channel.out.reordered) this.#dropViewersOfReordered(channel);
      },
      opus: (stem, packet, timeMs) => {
        if (!isCurrent()) return;
        for (const [viewer, wanted] of channel.viewers) if (wanted === stem) viewer.opus(packet, timeMs);
      },
      wantKeyFrame: () => {
        if (isCurrent()) channel.publisher?.peer.wantKeyFrame?.();
      },
      resume: () => subscription.resume(),
      detach: () => this.#detach(channel, peer),
    };
  }

  #dropViewersOfReordered(channel: Channel): void {
    for (const viewer of [...channel.viewers.keys()])
      viewer.drop({
        code: "SL_WEBRTC_REORDERED",
        detail: "the programme has B-frames; the publisher must be set to none",
      });
  }

  /** Ends everything that is live; configured channels stay. */
  close(): void {
    const names = [...this.#channels.keys()];
    this.configure({}, []);
    this.configure({}, names);
  }

  #channelOf(key: string): Channel | undefined {
    const given = digest(key);
    let found: string | null = null;
    // No early exit: the time must not tell which key came near.
    for (const entry of this.#keys) if (timingSafeEqual(entry.digest, given)) found = entry.channel;
    return found === null ? undefined : this.#channels.get(found);
  }

  /** The publisher that was sent away last, null: none yet. */
  get refused(): RefusedPublisher | null {
    if (this.#refused === null) return null;
    const { atMs, ...refused } = this.#refused;
    return { ...refused, ageMs: Math.round(performance.now() - atMs) };
  }

  /** A publisher asks for a place where nobody publishes. */
  refusePath(peer: PublisherPeer, detail: string): Refusal {
    return this.#refusePublisher("publishers_refused_path_total", peer, "SL_STREAM_UNKNOWN", detail);
  }

  #refusePublisher(counter: CounterName, peer: PublisherPeer, code: Code, detail: string): Refusal {
    this.counters.add(counter);
    // A backup encoder that tries on is no news, and must not hide who is.
    if (code !== "SL_KEY_IN_USE") this.#refused = { code, detail, peer: peer.label, atMs: performance.now() };
    this.log("warn", "publisher refused", { code, detail, peer: peer.label });
    return { code, detail };
  }

  #fromPublisher(channel: Channel, tag: FlvTag): void {
    this.counters.add("tags_in_total");
    this.counters.add("bytes_in_total", tag.body.length);
    if (tag.type === SCRIPT) {
      channel.in.push({ ...tag, body: scriptName(tag.body).body });
      return;
    }
    if (tag.type === SOUND) {
      const packet = readAudio(tag.body);
      if (packet.kind === "unsupported") {
        this.#refuseCodec(channel, "publishers_refused_audio_codec_total", "SL_AUDIO_CODEC_UNSUPPORTED", packet.codec);
      } else if (packet.kind !== "none") channel.in.push(tag);
      return;
    }
    const packet = readVideo(tag.body);
    if (packet.kind === "unsupported") {
      this.#refuseCodec(channel, "publishers_refused_video_codec_total", "SL_VIDEO_CODEC_UNSUPPORTED", packet.codec);
    } else if (packet.kind === "vp8") channel.in.push(tag);
    else if (packet.kind !== "none") channel.in.push(isEnhanced(tag.body) ? legacy(packet, tag) : tag);
  }

  #refuseCodec(channel: Channel, counter: CounterName, code: Code, codec: string): void {
    const refusal = this.#refusePublisher(counter, channel.publisher!.peer, code, codec);
    this.#dropPublisher(channel, refusal);
    // After "gone": the reason is the last word, and what the channel shows until the next publisher comes.
    channel.attached?.peer.refused(refusal);
  }

  #dropPublisher(channel: Channel, reason: Refusal): void {
    const publisher = channel.publisher;
    if (!publisher) return;
    this.#endPublisher(channel, reason.detail);
    publisher.peer.drop(reason);
  }

  #endPublisher(channel: Channel, why: string): void {
    const peer = channel.publisher!.peer.label;
    channel.publisher = null;
    this.log("info", "publisher is gone", { channel: channel.name, peer, why });
    channel.in.stop();
    channel.attached?.peer.publisher("gone", peer);
  }

  #detach(channel: Channel, peer: ChannelPeer): void {
    if (channel.attached?.peer !== peer) return;
    channel.attached.subscription.cancel();
    channel.attached = null;
    channel.out.interrupt();
  }
}

/** Enhanced H.264 in the legacy form, which every reader knows. */
function legacy(packet: Extract<ReturnType<typeof readVideo>, { kind: "sequence" | "frame" }>, tag: FlvTag): FlvTag {
  if (packet.kind === "sequence") return avcSequenceTag(packet.avcC, tag.timestampMs);
  return avcFrameTag(packet.data, packet.key, tag.timestampMs, packet.ctsMs);
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key, "utf8").digest();
}
