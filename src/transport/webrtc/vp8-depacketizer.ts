import { MAX_ACCESS_UNIT_BYTES, type RtpPayload } from "./h264-depacketizer.js";

/** VP8 out of RTP (RFC 7741) and what its frame header says (RFC 6386, 9.1). */

/** One frame of MAX_ACCESS_UNIT_BYTES in packets of 1 KiB. */
const MAX_PACKETS = 8192;
/** Samples of a picture: 4096 x 2304. A key frame of 20 bytes may say 16383 x 16383 and would make the decoder take 400 MB. */
const MAX_PIXELS = 4096 * 2304;

export type Vp8Frame = {
  /** RTP timestamp, 90 kHz, 32 bits. */
  readonly timestamp: number;
  readonly key: boolean;
  readonly frame: Buffer;
};

/**
 * Length of the payload descriptor (RFC 7741, 4.2) and whether its packet begins a frame (S bit, partition 0).
 * @returns null when the descriptor is cut off or nothing follows it
 */
export function readDescriptor(payload: Buffer): { readonly bytes: number; readonly begins: boolean } | null {
  const first = payload[0] ?? 0;
  let at = 1;
  if ((first & 0x80) !== 0) {
    const extensions = payload[at++] ?? 0;
    if ((extensions & 0x80) !== 0) at += ((payload[at] ?? 0) & 0x80) !== 0 ? 2 : 1; // I: picture ID of 7 or 15 bits
    if ((extensions & 0x40) !== 0) at += 1; // L: TL0PICIDX
    if ((extensions & 0x30) !== 0) at += 1; // T or K: TID, Y, KEYIDX
  }
  return at >= payload.length ? null : { bytes: at, begins: (first & 0x10) !== 0 && (first & 7) === 0 };
}

/** Picture size of a key frame; null for any other frame, and for a key frame that cannot be one (RFC 6386, 9.1). */
export function keyFrameSize(frame: Buffer): { readonly width: number; readonly height: number } | null {
  if (frame.length < 10 || !isKey(frame) || frame.readUIntBE(3, 3) !== 0x9d012a) return null;
  const [width, height] = [frame.readUInt16LE(6) & 0x3fff, frame.readUInt16LE(8) & 0x3fff];
  return width * height === 0 || width * height > MAX_PIXELS ? null : { width, height };
}

const isKey = (frame: Buffer): boolean => (frame[0]! & 1) === 0;

/**
 * Gathers frames from packets in order, by the rules of `H264Depacketizer`: a frame of which something is missing is left out, and with it
 * everything up to the next key frame. Begins at a key frame.
 */
export class Vp8Depacketizer {
  readonly counters = { malformed: 0, units_dropped: 0 };
  #parts: Buffer[] = [];
  #bytes = 0;
  #timestamp = 0;
  #damaged = false;
  /** Packets in front of the next one are missing: of its frame, of the one before, or of both. */
  #lossAhead = false;
  #waitForKey = true;

  /** Nothing comes out before the next key frame. */
  get needsKey(): boolean {
    return this.#waitForKey;
  }

  /** Packets in front of the next one are missing. */
  lost(): void {
    this.#lossAhead = true;
  }

  /** Frames that are complete with this packet: none, one, or two when a marker bit was missing. */
  push({ timestamp, marker, payload }: RtpPayload): Vp8Frame[] {
    const out: Vp8Frame[] = [];
    const isBegun = this.#parts.length > 0 || this.#damaged;
    const isLoss = this.#lossAhead;
    this.#lossAhead = false;
    if (isLoss) this.#damaged = true;
    if (isBegun && timestamp !== this.#timestamp) this.#end(out);
    this.#timestamp = timestamp;
    if (isLoss) {
      this.#waitForKey = true;
      // Where the next packet begins a frame, what is missing belongs to frames before it.
      this.#damaged = this.#parts.length > 0 || readDescriptor(payload)?.begins !== true;
    }
    // An empty one is padding only: a browser probes its line with it.
    if (payload.length > 0) this.#read(payload);
    if (marker) this.#end(out);
    return out;
  }

  #read(payload: Buffer): void {
    const descriptor = readDescriptor(payload);
    const isFirst = this.#parts.length === 0;
    // A damaged frame's beginning may be among what was lost.
    if (descriptor === null || (descriptor.begins !== isFirst && !this.#damaged)) {
      this.#malformed();
      return;
    }
    this.#bytes += payload.length;
    if (this.#bytes > MAX_ACCESS_UNIT_BYTES || this.#parts.length >= MAX_PACKETS) this.#malformed();
    else this.#parts.push(payload.subarray(descriptor.bytes));
  }

  #malformed(): void {
    this.counters.malformed += 1;
    this.#damaged = true;
  }

  #end(out: Vp8Frame[]): void {
    const parts = this.#parts;
    const isDamaged = this.#damaged;
    this.#parts = [];
    this.#bytes = 0;
    this.#damaged = false;
    if (parts.length === 0 && !isDamaged) return;
    const frame = isDamaged ? null : parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    if (frame !== null && isKey(frame)) {
      if (keyFrameSize(frame) !== null) this.#waitForKey = false;
      else {
        this.counters.malformed += 1;
        this.#waitForKey = true;
      }
    } else if (frame === null) this.#waitForKey = true;
    if (frame === null || this.#waitForKey) this.counters.units_dropped += 1;
    else out.push({ timestamp: this.#timestamp, key: isKey(frame), frame });
  }
}
