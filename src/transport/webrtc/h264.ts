/** H.264 as NAL units and as avc access units (ISO/IEC 14496-15: length prefixes, parameter sets beside). */

export const NAL_SLICE_IDR = 5;
export const NAL_SPS = 7;
export const NAL_PPS = 8;
export const NAL_DELIMITER = 9;

export const nalType = (nal: Uint8Array): number => nal[0]! & 31;

/** NAL units of an avc access unit; a length that goes beyond the end cuts the list there. No bytes are copied. */
export function splitAvc(unit: Buffer, lengthBytes: number): Buffer[] {
  const out: Buffer[] = [];
  for (let at = 0; at + lengthBytes <= unit.length; ) {
    const length = unit.readUIntBE(at, lengthBytes);
    at += lengthBytes;
    if (length === 0) continue;
    if (at + length > unit.length) break;
    out.push(unit.subarray(at, at + length));
    at += length;
  }
  return out;
}

/** NAL units with 4-byte length prefixes. */
export function joinAvc(nals: readonly Buffer[]): Buffer {
  const out = Buffer.allocUnsafe(nals.reduce((sum, nal) => sum + 4 + nal.length, 0));
  let at = 0;
  for (const nal of nals) {
    out.writeUInt32BE(nal.length, at);
    nal.copy(out, at + 4);
    at += 4 + nal.length;
  }
  return out;
}

export type AvcConfig = {
  readonly lengthBytes: number;
  readonly sps: readonly Buffer[];
  readonly pps: readonly Buffer[];
};

/** Takes an AVCDecoderConfigurationRecord apart; null when it is cut off. */
export function readAvcC(avcC: Buffer): AvcConfig | null {
  if (avcC.length < 7) return null;
  const sps: Buffer[] = [];
  const pps: Buffer[] = [];
  let at = 6;
  const take = (list: Buffer[], count: number): boolean => {
    for (let i = 0; i < count; i++) {
      if (at + 2 > avcC.length) return false;
      const length = avcC.readUInt16BE(at);
      at += 2;
      if (length === 0 || at + length > avcC.length) return false;
      list.push(avcC.subarray(at, at + length));
      at += length;
    }
    return true;
  };
  if (!take(sps, avcC[5]! & 31) || at >= avcC.length) return null;
  const count = avcC[at]!;
  at += 1;
  return take(pps, count) ? { lengthBytes: (avcC[4]! & 3) + 1, sps, pps } : null;
}

const HIGH = 100;

/** AVCDecoderConfigurationRecord with 4-byte lengths. @param sps 1..31, each at least 4 bytes @param pps 1..255 */
export function writeAvcC(sps: readonly Buffer[], pps: readonly Buffer[]): Buffer {
  const first = sps[0]!;
  const parts: Buffer[] = [Buffer.of(1, first[1]!, first[2]!, first[3]!, 0xff, 0xe0 | sps.length)];
  const add = (nal: Buffer): void => {
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16BE(nal.length);
    parts.push(length, nal);
  };
  for (const nal of sps) add(nal);
  parts.push(Buffer.of(pps.length));
  for (const nal of pps) add(nal);
  // 4:2:0, 8 bits: WebRTC knows nothing else in the high profile.
  if (first[1] === HIGH) parts.push(Buffer.of(0xfd, 0xf8, 0xf8, 0));
  return Buffer.concat(parts);
}
