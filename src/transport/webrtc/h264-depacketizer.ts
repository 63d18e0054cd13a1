import { NAL_PPS, NAL_SLICE_IDR, NAL_SPS, nalType } from "./h264.js";

/** H.264 out of RTP (RFC 6184, packetization mode 1: single NAL units, STAP-A, FU-A). */

const STAP_A = 24;
const FU_A = 28;
/** More than any encoder makes of one picture; a stranger cannot make more wait here. */
export const MAX_ACCESS_UNIT_BYTES = 4 * 1024 * 1024;
export const MAX_NALS = 512;
/** One picture of 4 MiB in packets of 1 KiB. */
const MAX_FRAGMENTS = 8192;

export type AccessUnit = {
  /** RTP timestamp, 90 kHz, 32 bits. */
  readonly timestamp: number;
  readonly key: boolean;
  readonly nals: readonly Buffer[];
};

export type RtpPayload = { readonly timestamp: number; readonly marker: boolean; readonly payload: Buffer };

/**
 * Gathers access units from packets in order. A unit of which something is missing is left out, and with it everything up to the next
 * key frame: pictures that refer to a missing one are damage. Begins at a key frame.
 */
export class H264Depacketizer {
  readonly counters = { malformed: 0, units_dropped: 0 };
  #nals: Buffer[] = [];
  #bytes = 0;
  #timestamp = 0;
  #fragments: Buffer[] | null = null;
  #damaged = false;
  /** Packets in front of the next one are missing: of its unit, of the one before, or of both. */
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

  /** Access units that are complete with this packet: none, one, or two when a marker bit was missing. */
  push({ timestamp, marker, payload }: RtpPayload): AccessUnit[] {
    const out: AccessUnit[] = [];
    const begun = this.#nals.length > 0 || this.#fragments !== null;
    if (this.#lossAhead) this.#damaged = true;
    if (begun && timestamp !== this.#timestamp) this.#end(out);
    this.#timestamp = timestamp;
    if (this.#lossAhead) {
      this.#lossAhead = false;
      this.#damaged = true;
      this.#fragments = null;
    }
    this.#read(payload);
    if (marker) this.#end(out);
    return out;
  }

  #read(payload: Buffer): void {
    // Padding only: keeps a connection alive.
    if (payload.length === 0) return;
    const type = nalType(payload);
    if (type >= 1 && type < STAP_A) this.#add(payload);
    else if (type === STAP_A) this.#readAggregate(payload);
    else if (type === FU_A) this.#readFragment(payload);
    else this.#malformed();
  }

  #readAggregate(payload: Buffer): void {
    let at = 1;
    while (at + 2 <= payload.length) {
      const length = payload.readUInt16BE(at);
      at += 2;
      if (length === 0 || at + length > payload.length) break;
      const nal = payload.subarray(at, at + length);
      const type = nalType(nal);
      if (type === 0 || type >= STAP_A) break;
      this.#add(nal);
      at += length;
    }
    if (at !== payload.length) this.#malformed();
  }

  #readFragment(payload: Buffer): void {
    if (payload.length < 3) {
      this.#malformed();
      return;
    }
    const [indicator, header] = [payload[0]!, payload[1]!];
    const type = header & 31;
    const isStart = (header & 0x80) !== 0;
    const isEnd = (header & 0x40) !== 0;
    if (type === 0 || type >= STAP_A || (isStart && isEnd) || isStart !== (this.#fragments === null)) {
      this.#malformed();
      return;
    }
    if (isStart) this.#fragments = [Buffer.of((indicator & 0xe0) | type)];
    const fragments = this.#fragments!;
    fragments.push(payload.subarray(2));
    this.#bytes += payload.length;
    const isTooLarge = this.#bytes > MAX_ACCESS_UNIT_BYTES || fragments.length > MAX_FRAGMENTS;
    if (isTooLarge) this.#malformed();
    if (isTooLarge || !isEnd) return;
    this.#fragments = null;
    this.#bytes -= fragments.reduce((sum, part) => sum + part.length, 1);
    this.#add(Buffer.concat(fragments));
  }

  #add(nal: Buffer): void {
    // A NAL unit in the middle of another one's fragments: its end was lost.
    if (this.#fragments !== null) this.#malformed();
    this.#bytes += nal.length;
    if (this.#bytes > MAX_ACCESS_UNIT_BYTES || this.#nals.length >= MAX_NALS) this.#malformed();
    else this.#nals.push(nal);
  }

  #malformed(): void {
    this.counters.malformed += 1;
    this.#damaged = true;
    this.#fragments = null;
  }

  #end(out: AccessUnit[]): void {
    const nals = this.#nals;
    const isWhole = !this.#damaged && this.#fragments === null && nals.length > 0;
    const hadSomething = nals.length > 0 || this.#fragments !== null || this.#damaged;
    this.#nals = [];
    this.#bytes = 0;
    this.#fragments = null;
    this.#damaged = false;
    if (!isWhole) {
      if (!hadSomething) return;
      this.counters.units_dropped += 1;
      this.#waitForKey = true;
      return;
    }
    const key = nals.some((nal) => nalType(nal) === NAL_SLICE_IDR);
    if (key) this.#waitForKey = false;
    else if (nals.every((nal) => nalType(nal) === NAL_SPS || nalType(nal) === NAL_PPS)) {
      // Parameter sets with a marker of their own, in front of the picture: as much as a unit without a picture.
      out.push({ timestamp: this.#timestamp, key: false, nals });
      return;
    }
    if (this.#waitForKey) this.counters.units_dropped += 1;
    else out.push({ timestamp: this.#timestamp, key, nals });
  }
}
