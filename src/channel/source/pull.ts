import { fileURLToPath } from "node:url";
import { BackOff, RETRY } from "../../backoff.js";
import type { GdpBuffer, GdpPacket } from "../../transport/gdp/gdp.js";
import { capsBuffer, parseCaps } from "../../transport/gst/caps.js";
import { fileSource, rtmpSource, type SoundCodec, srtSource } from "../../transport/gst/launch.js";
import { type GstFault, GstPipeline } from "../../transport/gst/pipeline.js";
import { resolvedSrt } from "../../transport/srt-address.js";
import type { SoundFormat, SourceUnit } from "../units.js";
import { Replay } from "./replay.js";
import type { Source, SourceEvents } from "./source.js";

/** No unit for so long while connected. */
const STALL_MS = 2000;
/** A connection that gives nothing for so long is made anew. */
const GIVE_UP_MS = 8000;

/** Fetches from rtmp://, srt:// or file:// and starts anew when the source ends or fails. */
export class PullSource implements Source {
  readonly line = null;
  readonly wraps32 = false;
  readonly #events: SourceEvents;
  readonly #uri: string;
  /** Not null: the file is looped. */
  readonly #replay: Replay | null;
  readonly #isFile: boolean;
  readonly #backOff = new BackOff(RETRY);
  readonly #counts = { source_failures: 0, units_without_time: 0 };
  #pipeline: GstPipeline | null = null;
  #branches: readonly Branch[] = [];
  #watch: NodeJS.Timeout | null = null;
  #retry: NodeJS.Timeout | null = null;
  #lastUnitMs: number | null = null;
  #startedMs = 0;
  #isLive = false;
  #closed = false;
  /** From `start` to the first end or fault; whatever the pipeline says after it is about the same end. */
  #running = false;
  /** Calls of `start`. */
  #runs = 0;
  #builtFor = "";

  constructor(uri: string, events: SourceEvents) {
    this.#uri = uri;
    this.#events = events;
    this.#isFile = uri.startsWith("file:");
    const loop = this.#isFile && new URL(uri).searchParams.get("loop") === "1";
    this.#replay = loop ? new Replay((unit) => events.onUnit(unit)) : null;
  }

  get counters(): Readonly<Record<string, number>> {
    return this.#counts;
  }

  start(): void {
    if (this.#closed) return;
    this.#running = true;
    this.#events.onState("connecting", null);
    this.#startedMs = performance.now();
    this.#lastUnitMs = null;
    this.#isLive = false;
    this.#replay?.clear();
    const run = ++this.#runs;
    if (!this.#uri.startsWith("srt:")) this.#play(this.#uri);
    else
      resolvedSrt(this.#uri).then(
        (uri) => this.#running && run === this.#runs && this.#play(uri),
        (error: Error) => run === this.#runs && this.#fail("SL_SOURCE_FAILED", error.message),
      );
  }

  #play(uri: string): void {
    // The time for connecting begins now; to resolve a name may have taken seconds.
    this.#startedMs = performance.now();
    try {
      // Demuxers give their pads to a launch string only once: a pipeline that has worked is not used a second time.
      const isUsed = this.#branches.some((b) => b.seen);
      if (isUsed) this.#pipeline?.close();
      // One that never worked is used again, at the address that the name stands for now: the binding frees none.
      if (this.#pipeline === null || isUsed) this.#pipeline = this.#build(uri);
      else if (uri !== this.#builtFor) this.#pipeline.set("net", "uri", uri);
      this.#builtFor = uri;
      this.#events.onRestart();
      this.#pipeline.play();
    } catch (error) {
      this.#fail("SL_SOURCE_FAILED", error instanceof Error ? error.message : String(error));
      return;
    }
    this.#watch = setInterval(() => this.#look(), 250);
  }

  close(): void {
    this.#closed = true;
    this.#halt();
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#replay?.close();
    this.#pipeline?.close();
  }

  #build(uri: string): GstPipeline {
    const pipeline = new GstPipeline(launchOf(uri), {
      onFault: (fault: GstFault) => this.#fail("SL_SOURCE_FAILED", `${fault.element}: ${fault.message}`),
      onEnd: () => this.#ended(),
    });
    const branches: Branch[] = [];
    this.#branches = branches;
    const add = (
      name: string,
      read: (packet: GdpBuffer, codec: Buffer | null, caps: string) => SourceUnit | null,
    ): void => {
      const branch = new Branch(read);
      branches.push(branch);
      pipeline.sink(
        name,
        (packet) => this.#take(branch.push(packet)),
        // A stream that is not in the feed never ends, so the bus would never say so for the whole.
        () => {
          branch.ended = true;
          if (branches.every((b) => b.ended || !b.seen)) this.#ended();
        },
      );
    };
    add("video", readPicture);
    add("aac", soundReader("AAC"));
    if (!this.#uri.startsWith("rtmp:")) add("opus", soundReader("Opus"));
    return pipeline;
  }

  #take(unit: SourceUnit | "no-time" | null): void {
    if (unit === null) return;
    if (unit === "no-time") {
      this.#counts.units_without_time += 1;
      return;
    }
    this.#lastUnitMs = performance.now();
    if (!this.#isLive) {
      this.#isLive = true;
      this.#backOff.reset();
      this.#events.onState("live", null);
    }
    this.#replay?.record(unit);
    this.#events.onUnit(unit);
  }

  #look(): void {
    // A listener that nobody has called yet waits: closing its port in between would turn callers away.
    if (this.#lastUnitMs === null && isListener(this.#uri)) return;
    const idle = performance.now() - (this.#lastUnitMs ?? this.#startedMs);
    if (idle > GIVE_UP_MS) this.#fail("SL_SOURCE_SILENT", `nothing came for ${GIVE_UP_MS / 1000} s`);
    else if (idle > STALL_MS && this.#isLive) {
      this.#isLive = false;
      this.#events.onState("stalled", "SL_SOURCE_SILENT");
    }
  }

  #ended(): void {
    if (this.#closed || !this.#running) return;
    this.#halt();
    if (this.#replay?.ready) this.#replay.start();
    else if (this.#replay !== null) this.#retry = setTimeout(() => this.start(), 0);
    else if (this.#isFile) this.#events.onState("ended", "SL_SOURCE_ENDED");
    else this.#later("SL_SOURCE_GONE", "the source ended the stream");
  }

  #fail(code: string, detail: string): void {
    if (this.#closed || !this.#running) return;
    this.#counts.source_failures += 1;
    this.#halt();
    this.#later(code, detail);
  }

  #later(code: string, detail: string): void {
    this.#events.onState("back-off", code, detail);
    this.#retry = setTimeout(() => this.start(), this.#backOff.next());
  }

  #halt(): void {
    this.#running = false;
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = null;
    this.#pipeline?.stop();
  }
}

const isListener = (uri: string): boolean => uri.startsWith("srt:") && /[?&]mode=listener(&|$)/.test(uri);

/** @throws TypeError for a scheme that cannot be fetched from */
function launchOf(uri: string): string {
  const scheme = uri.slice(0, uri.indexOf(":"));
  if (scheme === "rtmp") return rtmpSource(uri);
  if (scheme === "srt") return srtSource(uri);
  if (scheme === "file") {
    const url = new URL(uri);
    url.search = "";
    return fileSource(fileURLToPath(url));
  }
  throw new TypeError(`cannot fetch from ${scheme}:`);
}

/** One demultiplexed stream: keeps the caps and the segment that apply to its buffers. */
class Branch {
  ended = false;
  seen = false;
  readonly #read: (packet: GdpBuffer, codec: Buffer | null, caps: string) => SourceUnit | null;
  #caps = "";
  #codecData: Buffer | null = null;
  #shiftMs: number | null = null;
  readonly #order = new DecodeOrder();

  constructor(read: (packet: GdpBuffer, codec: Buffer | null, caps: string) => SourceUnit | null) {
    this.#read = read;
  }

  push(packet: GdpPacket): SourceUnit | "no-time" | null {
    this.seen = true;
    if (packet.kind === "caps") {
      const codecData = capsBuffer(parseCaps(packet.caps), "codec_data");
      if (codecData === null || !this.#codecData?.equals(codecData)) this.#codecData = codecData;
      this.#caps = packet.caps;
      return null;
    }
    if (packet.kind === "event") {
      const segment = readSegment(packet.payload);
      // matroskademux sends a second segment right after the first, without a base, which would move what follows.
      if (segment !== null && (this.#shiftMs === null || segment.baseMs > 0))
        this.#shiftMs = segment.baseMs - segment.startMs;
      return null;
    }
    if (packet.ptsMs === null) return packet.payload.length > 0 ? "no-time" : null;
    const shiftMs = this.#shiftMs ?? 0;
    const dtsMs = packet.dtsMs ?? this.#order.dtsFor(packet.ptsMs);
    return this.#read(
      { ...packet, ptsMs: packet.ptsMs + shiftMs, dtsMs: dtsMs + shiftMs },
      this.#codecData,
      this.#caps,
    );
  }
}

/** H.264 reorders over at most this many pictures in practice (x264's limit for B-pyramids is 2, broadcast encoders use up to 4). */
const REORDER_PICTURES = 4;

/**
 * Decoding times for containers that have none (Matroska): the sorted presentation times, REORDER_PICTURES later; so they rise and
 * no picture is decoded after it is shown.
 */
class DecodeOrder {
  readonly #waiting: number[] = [];

  dtsFor(ptsMs: number): number {
    let at = this.#waiting.length;
    while (at > 0 && this.#waiting[at - 1]! > ptsMs) at -= 1;
    this.#waiting.splice(at, 0, ptsMs);
    const missing = REORDER_PICTURES + 1 - this.#waiting.length;
    return missing > 0 ? this.#waiting[0]! - missing : this.#waiting.shift()!;
  }
}

/** Running time = PTS - start + base: edit lists of files (encoder delay, B-frames) live in the segment, not in the PTS. */
function readSegment(payload: Buffer): { startMs: number; baseMs: number } | null {
  const text = payload.toString("latin1");
  if (!text.startsWith("GstEventSegment")) return null;
  const start = /start=\(guint64\)(\d+)/.exec(text);
  const base = /base=\(guint64\)(\d+)/.exec(text);
  return start === null || base === null ? null : { startMs: Number(start[1]) / 1e6, baseMs: Number(base[1]) / 1e6 };
}

function readPicture(packet: GdpBuffer, codec: Buffer | null): SourceUnit | null {
  if (codec === null || packet.ptsMs === null) return null;
  return {
    kind: "video",
    ptsMs: packet.ptsMs,
    dtsMs: packet.dtsMs ?? packet.ptsMs,
    key: !packet.delta,
    data: packet.payload,
    config: codec,
  };
}

function soundReader(codec: SoundCodec): (packet: GdpBuffer, data: Buffer | null, caps: string) => SourceUnit | null {
  let format: SoundFormat | null = null;
  return (packet, _data, caps) => {
    if (format?.caps !== caps) format = { codec, caps };
    return packet.ptsMs === null ? null : { kind: "sound", ptsMs: packet.ptsMs, data: packet.payload, format };
  };
}
