import { readAudio } from "../transport/flv/audio.js";
import { scriptName } from "../transport/flv/script.js";
import { type FlvTag, PICTURE, SCRIPT, SOUND } from "../transport/flv/tag.js";
import { isEnhanced, readVideo } from "../transport/flv/video.js";

/**
 * One programme from its source to any number of takers.
 *
 * The stream keeps a log of the tags since the last key frame; a taker is a position in that log. A taker whose connection is
 * full stays behind and goes on when it has room; when the next key frame begins a new log, what it has not had is dropped and
 * it goes on there. So a joiner starts at once (at the key frame of the running group of pictures), a slow one loses whole
 * stretches and never sees broken pictures, and no one makes anything grow.
 */
export interface Sink {
  /** Bytes handed to the connection and not yet taken by the system. */
  readonly backlogBytes: number;
  write(tag: FlvTag): void;
  /** The programme is over. */
  end(): void;
}

/** A taker's place in a stream. */
export interface Subscription {
  /** The sink has room: at the start, and whenever its connection has drained. */
  resume(): void;
  /** No more tags for this sink. Idempotent. */
  cancel(): void;
}

/** `waits`: nothing that is held can be begun with; the next key frame can. */
export type Joined = Subscription & { readonly waits: boolean };

export type StreamLimits = { readonly maxGopBytes: number };

/** Bookkeeping of one log entry, added to its body's size so that a flood of empty tags is bounded too. */
const ENTRY_BYTES = 256;
/** Timestamps that fall back by more than this across an interruption begin a new programme. */
const BACKWARD_MS = 1000;
/** A picture that has not come for so long, while sound does, has stopped: joiners start with the sound. */
const NO_PICTURE_MS = 5000;

type Kind = "metadata" | "audioHeader" | "videoHeader" | "key" | "picture" | "sound" | "other";
type Entry = { readonly tag: FlvTag; readonly kind: Kind; readonly headersVersion: number };

type Taker = {
  readonly sink: Sink;
  readonly maxBacklogBytes: number;
  readonly dropped: (tags: number) => void;
  /** Number of the next tag in the stream's count; null = waits for the next key frame. */
  next: number | null;
  /** It has had no key frame since it began or went on: pictures that refer to one are nothing for it. */
  blind: boolean;
  /** It waits because it fell behind, so what passes meanwhile is lost to it. */
  fellBehind: boolean;
  /** Gets the headers before anything else, also while it waits. */
  headersDue: boolean;
  headersVersion: number;
};

export class LiveStream {
  /** Key frames that have passed. */
  keyFrames = 0;
  #live = false;
  #interrupted = false;
  #takers = new Set<Taker>();
  #log: Entry[] = [];
  #logBytes = 0;
  /** Count of the first entry in the log. */
  #first = 0;
  /** Count of the newest entry where a joiner can start, null when it has left the log. */
  #start: number | null = null;
  /** With pictures, only a key frame is a place to start; without, any sound is. */
  #hasVideo = false;
  #lastPictureMs = 0;
  #headers: { metadata?: FlvTag; videoHeader?: FlvTag; audioHeader?: FlvTag } = {};
  #headersVersion = 0;
  #lastTimeMs: number | null = null;
  #reordered = false;
  #reorderedInGop = false;
  #lastShownMs: number | null = null;

  constructor(private readonly limits: StreamLimits) {}

  get live(): boolean {
    return this.#live;
  }

  /** Pictures of the running programme are not in the order in which they are shown (B-frames). */
  get reordered(): boolean {
    return this.#reordered;
  }

  /** Time of the newest picture or sound; null: nothing has run, or it has ended for good. */
  get lastTimeMs(): number | null {
    return this.#lastTimeMs;
  }

  /** avcC of the running programme, null before it. */
  get avcC(): Buffer | null {
    return this.#headers.videoHeader?.body.subarray(5) ?? null;
  }

  /** Bytes held for joiners, with bookkeeping. */
  get heldBytes(): number {
    return this.#logBytes;
  }

  /**
   * Adds a taker; nothing is written before its first `resume` or the next tag.
   * @param from `gop`: at the newest key frame that is still held, else at the next one; `key`: headers now, tags from the next key frame
   * @param dropped is told how many tags the taker lost
   */
  add(sink: Sink, from: "gop" | "key", maxBacklogBytes: number, dropped: (tags: number) => void): Joined {
    const next = !this.#live ? this.#end : from === "gop" ? this.#start : null;
    const headersDue = this.#live && from === "key";
    const taker: Taker = {
      sink,
      maxBacklogBytes,
      dropped,
      next,
      headersDue,
      blind: true,
      fellBehind: false,
      headersVersion: -1,
    };
    this.#takers.add(taker);
    return {
      waits: next === null,
      resume: () => this.#pump(taker),
      cancel: () => void this.#takers.delete(taker),
    };
  }

  /**
   * Takes the next tag of the source; the first one makes the stream live.
   * @throws FlvError, AmfError for a tag whose own header is broken
   */
  push(tag: FlvTag): void {
    const kind = kindOf(tag);
    if (this.#interrupted && kind !== "metadata") this.#continue(tag.timestampMs);
    this.#live = true;
    // VP8 has no other order than that of showing.
    if (kind === "key") this.keyFrames++;
    if ((kind === "key" || kind === "picture") && !isEnhanced(tag.body)) this.#lookAtOrder(tag, kind === "key");
    if (tag.type === PICTURE) {
      if (!this.#hasVideo) this.#start = null;
      this.#hasVideo = true;
      this.#lastPictureMs = tag.timestampMs;
    } else if (kind === "sound" && this.#hasVideo && ((tag.timestampMs - this.#lastPictureMs) | 0) > NO_PICTURE_MS) {
      this.#hasVideo = false;
    }
    if (kind === "metadata" || kind === "audioHeader" || kind === "videoHeader") this.#newHeader(kind, tag);
    else if (tag.type !== SCRIPT) this.#lastTimeMs = tag.timestampMs;
    if (kind === "key" || (kind === "sound" && !this.#hasVideo)) this.#beginGop();
    this.#append({ tag, kind, headersVersion: this.#headersVersion });
    for (const taker of [...this.#takers]) this.#pump(taker);
  }

  /** The source is gone for good: ends every sink. Sinks that live on (a channel's) stay and get the next programme from its start. */
  stop(): void {
    this.#forget();
    this.#live = false;
    this.#interrupted = false;
    this.#lastTimeMs = null;
    this.#lastShownMs = null;
    this.#reordered = false;
    this.#reorderedInGop = false;
    this.#hasVideo = false;
    for (const taker of [...this.#takers]) {
      taker.next = this.#end;
      taker.fellBehind = false;
      taker.sink.end();
    }
  }

  /**
   * The source has sent nothing for a while: what is held is the end of a programme that is over, or too old to start with. Joiners
   * begin at the next key frame; those who are behind still get the rest.
   */
  rest(): void {
    this.#start = null;
    for (const taker of this.#takers) if (taker.next !== null && taker.next < this.#end) return;
    this.#dropLog();
  }

  /** The source broke off and may come back on the same timeline: takers wait for its next key frame. */
  interrupt(): void {
    if (!this.#live) return;
    this.#forget();
    this.#interrupted = true;
    // What comes next may be another picture: whether that has B-frames is seen anew.
    this.#reorderedInGop = false;
    this.#lastShownMs = null;
    for (const taker of this.#takers) taker.next = null;
  }

  get #end(): number {
    return this.#first + this.#log.length;
  }

  #forget(): void {
    this.#dropLog();
    this.#headers = {};
    this.#headersVersion++;
  }

  #dropLog(): void {
    this.#first = this.#end;
    this.#log = [];
    this.#logBytes = 0;
    this.#start = null;
  }

  #continue(timeMs: number): void {
    this.#interrupted = false;
    // Signed 32-bit difference: timestamps wrap.
    const step = this.#lastTimeMs === null ? 0 : (timeMs - this.#lastTimeMs) | 0;
    if (step >= -BACKWARD_MS) return;
    const headers = this.#headers;
    this.stop();
    this.#headers = headers;
  }

  /** Signed 24 bits from byte 2 on: time of showing less time of decoding (legacy form, which is all of H.264 that gets here). */
  #lookAtOrder(tag: FlvTag, key: boolean): void {
    // True from the first such picture to the end of a group without one: sources of a channel change.
    if (key) {
      this.#reordered = this.#reorderedInGop;
      this.#reorderedInGop = false;
    }
    const shownMs = tag.timestampMs + tag.body.readIntBE(2, 3);
    if (this.#lastShownMs !== null) {
      const step = (shownMs - this.#lastShownMs) | 0;
      if (step < 0 && step > -BACKWARD_MS) {
        this.#reordered = true;
        this.#reorderedInGop = true;
      }
    }
    this.#lastShownMs = shownMs;
  }

  #newHeader(kind: "metadata" | "audioHeader" | "videoHeader", tag: FlvTag): void {
    const before = this.#headers[kind];
    // Pictures behind another sequence header cannot be decoded with the old one: the held group is of no use to joiners any more.
    if (kind === "videoHeader" && before && !before.body.equals(tag.body)) this.#skipAll(() => this.#dropLog());
    this.#headers[kind] = tag;
    this.#headersVersion++;
  }

  #beginGop(): void {
    this.#skipAll(() => this.#dropLog());
    this.#start = this.#first;
    for (const taker of this.#takers) {
      if (taker.next !== null) continue;
      taker.next = this.#first;
      taker.fellBehind = false;
    }
  }

  /** Makes the log shorter by `cut`; takers that stood in the part that goes wait for a key frame. */
  #skipAll(cut: () => void): void {
    cut();
    for (const taker of this.#takers) {
      if (taker.next === null || taker.next >= this.#first) continue;
      taker.dropped(this.#end - taker.next);
      taker.next = null;
      taker.blind = true;
      taker.fellBehind = true;
    }
  }

  #append(entry: Entry): void {
    this.#log.push(entry);
    this.#logBytes += entry.tag.body.length + ENTRY_BYTES;
    for (const taker of this.#takers) if (taker.fellBehind) taker.dropped(1);
    // The newest tag always stays, even one that is larger than the limit: it is on its way to everybody.
    while (this.#logBytes > this.limits.maxGopBytes && this.#log.length > 1) {
      this.#skipAll(() => {
        this.#logBytes -= this.#log.shift()!.tag.body.length + ENTRY_BYTES;
        this.#first++;
      });
      if (this.#start !== null && this.#start < this.#first) this.#start = null;
    }
  }

  #pump(taker: Taker): void {
    if (taker.headersDue) {
      taker.headersDue = false;
      this.#writeHeaders(taker, this.#lastTimeMs ?? 0);
    }
    while (
      this.#takers.has(taker) &&
      taker.next !== null &&
      taker.next < this.#end &&
      taker.sink.backlogBytes < taker.maxBacklogBytes
    ) {
      const entry = this.#log[taker.next - this.#first]!;
      if (entry.kind === "key") taker.blind = false;
      if (entry.kind === "picture" && taker.blind) {
        taker.next++;
        taker.dropped(1);
        continue;
      }
      const isHeader = entry.headersVersion > taker.headersVersion && isHeaderKind(entry.kind);
      if (!isHeader && taker.headersVersion < entry.headersVersion) this.#writeHeaders(taker, entry.tag.timestampMs);
      if (isHeader) taker.headersVersion = entry.headersVersion;
      taker.next++;
      taker.sink.write(entry.tag);
    }
  }

  /** Metadata and sequence headers with the time of what follows them, so that no player takes an old time for the start. */
  #writeHeaders(taker: Taker, timestampMs: number): void {
    taker.headersVersion = this.#headersVersion;
    const { metadata, videoHeader, audioHeader } = this.#headers;
    for (const tag of [metadata, videoHeader, audioHeader]) if (tag) taker.sink.write({ ...tag, timestampMs });
  }
}

function isHeaderKind(kind: Kind): boolean {
  return kind === "metadata" || kind === "audioHeader" || kind === "videoHeader";
}

function kindOf(tag: FlvTag): Kind {
  if (tag.type === PICTURE) {
    const packet = readVideo(tag.body);
    if (packet.kind === "sequence") return "videoHeader";
    if (packet.kind === "frame" || packet.kind === "vp8") return packet.key ? "key" : "picture";
    return "other";
  }
  if (tag.type === SOUND) {
    const packet = readAudio(tag.body);
    if (packet.kind === "sequence" || packet.kind === "opusHead") return "audioHeader";
    return packet.kind === "frame" || packet.kind === "opus" ? "sound" : "other";
  }
  return scriptName(tag.body).name === "onMetaData" ? "metadata" : "other";
}
