/** H.264 into RTP payloads (RFC 6184, packetization mode 1). */

const STAP_A = 24;
const FU_A = 28;
/** With headers of SRTP, UDP and IPv6 this stays below 1280 bytes, the least that every network carries whole. */
export const MAX_PAYLOAD_BYTES = 1180;

/**
 * Payloads of one access unit, in order; the packet of the last one carries the marker bit. NAL units are not touched: small ones share
 * a packet (STAP-A), large ones are cut (FU-A).
 * @param nals each at least 1 byte
 */
export function packetize(nals: readonly Buffer[], maxBytes = MAX_PAYLOAD_BYTES): Buffer[] {
  const out: Buffer[] = [];
  let group: Buffer[] = [];
  let groupBytes = 1;
  const flush = (): void => {
    if (group.length === 1) out.push(group[0]!);
    else if (group.length > 1) out.push(aggregate(group, groupBytes));
    group = [];
    groupBytes = 1;
  };
  for (const nal of nals) {
    if (nal.length > maxBytes) {
      flush();
      fragment(nal, maxBytes, out);
      continue;
    }
    if (groupBytes + 2 + nal.length > maxBytes) flush();
    group.push(nal);
    groupBytes += 2 + nal.length;
  }
  flush();
  return out;
}

function aggregate(nals: readonly Buffer[], bytes: number): Buffer {
  const out = Buffer.allocUnsafe(bytes);
  // F: any, NRI: the highest (RFC 6184, 5.7).
  const first = nals.reduce(
    (byte, nal) => ((byte | (nal[0]! & 0x80)) & ~0x60) | Math.max(byte & 0x60, nal[0]! & 0x60),
    0,
  );
  out[0] = first | STAP_A;
  let at = 1;
  for (const nal of nals) {
    out.writeUInt16BE(nal.length, at);
    nal.copy(out, at + 2);
    at += 2 + nal.length;
  }
  return out;
}

function fragment(nal: Buffer, maxBytes: number, out: Buffer[]): void {
  const indicator = (nal[0]! & 0xe0) | FU_A;
  const type = nal[0]! & 31;
  const room = maxBytes - 2;
  for (let at = 1; at < nal.length; at += room) {
    const piece = nal.subarray(at, at + room);
    const isStart = at === 1 ? 0x80 : 0;
    const isEnd = at + room >= nal.length ? 0x40 : 0;
    const payload = Buffer.allocUnsafe(2 + piece.length);
    payload[0] = indicator;
    payload[1] = isStart | isEnd | type;
    piece.copy(payload, 2);
    out.push(payload);
  }
}
