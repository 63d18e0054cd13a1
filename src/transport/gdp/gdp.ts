/**
 * GStreamer Data Protocol 1.0 (gst-plugins-bad, gst/gdp/dataprotocol.c): how buffers travel with PTS, DTS, duration and flags
 * through a byte stream, and so through a binding that hands out bare bytes. Packet: 62-byte header, big-endian, then the payload.
 */
const HEADER_BYTES = 62;
const NONE = 0xffff_ffff_ffff_ffffn;
const DELTA_UNIT = 0x2000;
const DISCONT = 0x40;

/** Larger than an 8K I420 picture; a packet that announces more is malformed. */
export const MAX_GDP_PAYLOAD = 64 * 1024 * 1024;

/** Payload types this project meets. Events are 64 + GstEventType. */
const GDP_TYPE = { buffer: 1, caps: 2, streamStart: 10_318, segment: 17_998, gap: 41_030 } as const;

export type GdpBuffer = {
  readonly kind: "buffer";
  readonly payload: Buffer;
  /** Milliseconds; null when the sender did not know. */
  readonly ptsMs: number | null;
  readonly dtsMs: number | null;
  readonly durationMs: number | null;
  /** Cannot be decoded alone (set on every coded picture but key frames). */
  readonly delta: boolean;
  readonly discont: boolean;
};
export type GdpPacket =
  | GdpBuffer
  | { readonly kind: "caps"; readonly caps: string }
  | { readonly kind: "event"; readonly type: number; readonly payload: Buffer };

export class GdpError extends Error {
  readonly code = "SL_GDP_MALFORMED";
  override readonly name = "GdpError";
}

const toMs = (ns: bigint): number | null => (ns === NONE ? null : Number(ns) / 1e6);
const toNs = (ms: number | null): bigint => (ms === null ? NONE : BigInt(Math.round(ms * 1e6)));

/** Cuts a byte stream into packets; keeps at most one unfinished packet. */
export class GdpReader {
  #parts: Buffer[] = [];
  #size = 0;
  #need = HEADER_BYTES;

  /** Bytes held back until the rest of their packet comes; at most MAX_GDP_PAYLOAD + 62 plus one chunk. */
  get pendingBytes(): number {
    return this.#size;
  }

  /**
   * Payloads are views into `chunk` (or into the joined pieces), not copies.
   * @throws GdpError when the stream is malformed; the reader must not be used afterwards.
   */
  push(chunk: Buffer): GdpPacket[] {
    if (chunk.length > 0) this.#parts.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#need) return [];
    const all = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#size);
    const out: GdpPacket[] = [];
    let at = 0;
    for (;;) {
      const left = all.length - at;
      this.#need = HEADER_BYTES;
      if (left < HEADER_BYTES) break;
      const length = checkHeader(all, at);
      this.#need = HEADER_BYTES + length;
      if (left < this.#need) break;
      out.push(parsePacket(all, at, length));
      at += this.#need;
    }
    this.#parts = at < all.length ? [all.subarray(at)] : [];
    this.#size = all.length - at;
    return out;
  }
}

/** Payload length of the packet whose header begins at `at`. */
function checkHeader(bytes: Buffer, at: number): number {
  if (bytes[at] !== 1 || bytes[at + 1] !== 0)
    throw new GdpError(`version ${bytes[at]}.${bytes[at + 1]} instead of 1.0`);
  const length = bytes.readUInt32BE(at + 6);
  if (length > MAX_GDP_PAYLOAD)
    throw new GdpError(`payload of ${length} bytes is over the limit of ${MAX_GDP_PAYLOAD}`);
  return length;
}

function parsePacket(bytes: Buffer, at: number, length: number): GdpPacket {
  const type = bytes.readUInt16BE(at + 4);
  const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
  if (type === GDP_TYPE.caps) return { kind: "caps", caps: cString(payload) };
  if (type !== GDP_TYPE.buffer) return { kind: "event", type, payload };
  const flags = bytes.readUInt16BE(at + 42);
  return {
    kind: "buffer",
    payload,
    ptsMs: toMs(bytes.readBigUInt64BE(at + 10)),
    durationMs: toMs(bytes.readBigUInt64BE(at + 18)),
    dtsMs: toMs(bytes.readBigUInt64BE(at + 44)),
    delta: (flags & DELTA_UNIT) !== 0,
    discont: (flags & DISCONT) !== 0,
  };
}

function cString(payload: Buffer): string {
  const end = payload.indexOf(0);
  return payload.toString("utf8", 0, end < 0 ? payload.length : end);
}

/** Start of a segment event in milliseconds (running time = PTS less it); null for anything else. */
export function segmentStartMs(packet: GdpPacket): number | null {
  if (packet.kind !== "event" || packet.type !== GDP_TYPE.segment) return null;
  const start = /\bstart=\(guint64\)(\d{1,20})\b/.exec(cString(packet.payload))?.[1];
  return start === undefined ? null : Number(BigInt(start)) / 1e6;
}

type BufferFields = {
  ptsMs: number | null;
  dtsMs?: number | null;
  durationMs?: number | null;
  delta?: boolean;
  discont?: boolean;
};

/** One media buffer. Times must not be negative (a GStreamer clock time is unsigned). */
export function gdpBuffer(payload: Uint8Array, fields: BufferFields): Buffer {
  const flags = (fields.delta === true ? DELTA_UNIT : 0) | (fields.discont === true ? DISCONT : 0);
  return packet(
    GDP_TYPE.buffer,
    payload,
    flags,
    toNs(fields.ptsMs),
    toNs(fields.dtsMs ?? null),
    toNs(fields.durationMs ?? null),
  );
}

/** A new format; may come again in mid-stream (gdpdepay passes it on as a caps event). */
export function gdpCaps(caps: string): Buffer {
  return packet(GDP_TYPE.caps, Buffer.from(`${caps}\0`, "utf8"));
}

/** What must stand before the first caps and buffer: stream-start. `gdpSegment` follows after the caps. */
export function gdpStreamStart(id: string): Buffer {
  const text = `GstEventStreamStart, stream-id=(string)${id}, flags=(GstStreamFlags)GST_STREAM_FLAG_NONE, group-id=(uint)1;\0`;
  return packet(GDP_TYPE.streamStart, Buffer.from(text, "utf8"));
}

/** An open time segment from 0: running time = PTS. */
export function gdpSegment(): Buffer {
  const text =
    'GstEventSegment, segment=(GstSegment)"segment, flags=(GstSegmentFlags)GST_SEGMENT_FLAG_NONE, rate=(double)1, applied-rate=(double)1, ' +
    "format=(GstFormat)time, base=(guint64)0, offset=(guint64)0, start=(guint64)0, stop=(guint64)18446744073709551615, time=(guint64)0, " +
    'position=(guint64)0, duration=(guint64)18446744073709551615;";\0';
  return packet(GDP_TYPE.segment, Buffer.from(text, "utf8"));
}

/** Says that a stream has nothing from then on for so long, so that a muxer does not wait for it. */
export function gdpGap(ptsMs: number, durationMs: number): Buffer {
  const ns = (ms: number): string => `(guint64)${toNs(ms)}`;
  const text = `GstEventGap, timestamp=${ns(ptsMs)}, duration=${ns(durationMs)};\0`;
  return packet(GDP_TYPE.gap, Buffer.from(text, "utf8"));
}

function packet(type: number, payload: Uint8Array, flags = 0, pts = NONE, dts = NONE, duration = NONE): Buffer {
  if (payload.length > MAX_GDP_PAYLOAD)
    throw new GdpError(`payload of ${payload.length} bytes is over the limit of ${MAX_GDP_PAYLOAD}`);
  const out = Buffer.alloc(HEADER_BYTES + payload.length);
  out[0] = 1;
  out.writeUInt16BE(type, 4);
  out.writeUInt32BE(payload.length, 6);
  out.writeBigUInt64BE(pts, 10);
  out.writeBigUInt64BE(duration, 18);
  out.writeBigUInt64BE(NONE, 26);
  out.writeBigUInt64BE(NONE, 34);
  out.writeUInt16BE(flags, 42);
  out.writeBigUInt64BE(dts, 44);
  out.set(payload, HEADER_BYTES);
  return out;
}
