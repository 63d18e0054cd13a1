import { capsBuffer, capsInt, parseCaps } from "../transport/gst/caps.js";
import type { SoundFormat } from "./units.js";

/** ISO/IEC 14496-3, table 1.18: sampling frequency index. */
const AAC_RATES = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];
/** Table 1.19: channels of a channel configuration. */
const AAC_CHANNELS = [0, 1, 2, 3, 4, 5, 6, 8];

export type SoundInfo = { readonly codec: string; readonly sampleRate: number; readonly channels: number };

/** What the source sends, for people; zeros where its headers do not say. */
export function soundInfo(format: SoundFormat): SoundInfo {
  const caps = parseCaps(format.caps);
  const config = capsBuffer(caps, "codec_data");
  const fromConfig = format.codec === "AAC" && config !== null && config.length >= 2 ? aacInfo(config) : null;
  return {
    codec: format.codec,
    sampleRate: capsInt(caps, "rate") ?? fromConfig?.sampleRate ?? 0,
    channels: capsInt(caps, "channels") ?? fromConfig?.channels ?? 0,
  };
}

/** AudioSpecificConfig: 5 bits object type, 4 bits rate index, 4 bits channel configuration (rates written out are not read). */
function aacInfo(config: Buffer): { sampleRate: number; channels: number } {
  const bits = config.readUInt16BE(0);
  return { sampleRate: AAC_RATES[(bits >> 7) & 15] ?? 0, channels: AAC_CHANNELS[(bits >> 3) & 15] ?? 0 };
}

/** Picture size of an avcC's first sequence parameter set (ITU-T H.264, 7.3.2.1.1), cropping applied; null when it cannot be read. */
export function pictureSize(avcC: Buffer): { width: number; height: number } | null {
  if (avcC.length < 9 || (avcC[5]! & 31) === 0) return null;
  const length = avcC.readUInt16BE(6);
  if (length < 4 || 8 + length > avcC.length) return null;
  try {
    return readSps(new BitReader(avcC.subarray(9, 8 + length)));
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

const HIGH_PROFILES = new Set([100, 110, 122, 244, 44, 83, 86, 118, 128]);

function readSps(bits: BitReader): { width: number; height: number } | null {
  const profile = bits.read(8);
  bits.read(16); // constraint flags, level
  bits.ue(); // id
  let chroma = 1;
  if (HIGH_PROFILES.has(profile)) {
    chroma = bits.ue();
    if (chroma === 3) bits.read(1);
    bits.ue(); // luma depth
    bits.ue(); // chroma depth
    bits.read(1);
    const lists = bits.read(1) === 0 ? 0 : chroma === 3 ? 12 : 8;
    for (let i = 0; i < lists; i++) if (bits.flag()) skipScalingList(bits, i < 6 ? 16 : 64);
  }
  bits.ue(); // log2_max_frame_num
  const orderType = bits.ue();
  if (orderType === 0) bits.ue();
  else if (orderType === 1) {
    bits.read(1);
    bits.ue();
    bits.ue();
    const cycle = bits.ue();
    if (cycle > 255) return null;
    for (let i = 0; i < cycle; i++) bits.ue();
  }
  bits.ue(); // reference frames
  bits.read(1);
  const widthInBlocks = bits.ue() + 1;
  const mapHeight = bits.ue() + 1;
  const framesOnly = bits.read(1);
  if (framesOnly === 0) bits.read(1);
  bits.read(1);
  const fieldFactor = 2 - framesOnly;
  let width = 16 * widthInBlocks;
  let height = 16 * mapHeight * fieldFactor;
  if (bits.flag()) {
    const [left, right, top, bottom] = [bits.ue(), bits.ue(), bits.ue(), bits.ue()];
    const unitX = chroma === 1 || chroma === 2 ? 2 : 1;
    const unitY = (chroma === 1 ? 2 : 1) * fieldFactor;
    width -= unitX * (left! + right!);
    height -= unitY * (top! + bottom!);
  }
  return width > 0 && height > 0 ? { width, height } : null;
}

function skipScalingList(bits: BitReader, size: number): void {
  let last = 8;
  for (let i = 0, next = 8; i < size && next !== 0; i++) {
    next = (last + bits.se() + 256) % 256;
    if (next !== 0) last = next;
  }
}

/** Bits of a raw byte sequence payload: emulation prevention bytes (00 00 03) are left out. */
class BitReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(nal: Buffer) {
    const out: number[] = [];
    for (let i = 0; i < nal.length; i++) {
      if (i >= 2 && nal[i] === 3 && nal[i - 1] === 0 && nal[i - 2] === 0) continue;
      out.push(nal[i]!);
    }
    this.#bytes = Buffer.from(out);
  }

  /** @throws RangeError at the end */
  read(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++, this.#at++) {
      const byte = this.#bytes[this.#at >> 3];
      if (byte === undefined) throw new RangeError("the parameter set is too short");
      value = value * 2 + ((byte >> (7 - (this.#at & 7))) & 1);
    }
    return value;
  }

  flag(): boolean {
    return this.read(1) === 1;
  }

  /** Exp-Golomb code, 9.1. */
  ue(): number {
    let zeros = 0;
    while (this.read(1) === 0) if (++zeros > 31) throw new RangeError("not an Exp-Golomb code");
    return 2 ** zeros - 1 + this.read(zeros);
  }

  se(): number {
    const value = this.ue();
    return value % 2 === 1 ? (value + 1) / 2 : -value / 2;
  }
}
