/** SCTP (RFC 9260, 6525, 3758) and DTLS (RFC 6347) as much as is needed to keep from a stack what would hang or fill it. */

const HEADER_BYTES = 12;
const CHUNK_HEADER_BYTES = 4;
const DATA = 0;
const INIT = 1;
const INIT_ACK = 2;
const SACK = 3;
const FORWARD_TSN = 192;
/** Least bytes behind the header of each chunk that is passed on; all others make their packet unusable. */
const LEAST_BYTES: Readonly<Record<number, number>> = {
  [DATA]: 12,
  [INIT]: 16,
  [INIT_ACK]: 16,
  [SACK]: 12,
  [FORWARD_TSN]: 4,
  4: 0, // HEARTBEAT
  5: 0, // HEARTBEAT ACK
  6: 0, // ABORT
  7: 4, // SHUTDOWN
  8: 0, // SHUTDOWN ACK
  9: 0, // ERROR
  10: 0, // COOKIE ECHO
  11: 0, // COOKIE ACK
  14: 0, // SHUTDOWN COMPLETE
  130: 0, // RE-CONFIG
};
/** Chunks whose body is a list of parameters, and where it begins. */
const PARAMETERS_AT: Readonly<Record<number, number>> = { [INIT]: 16, [INIT_ACK]: 16, 4: 0, 5: 0, 6: 0, 9: 0, 130: 0 };
/** A receiver of ours has never so much outstanding; a gap block may name 65,535 numbers in four bytes. */
const MAX_ACKNOWLEDGED = 4096;

/** What a packet carries for us. */
export type SctpFacts = {
  /** Streams that its data and its skips are of. */
  readonly streams: readonly number[];
  readonly dataChunks: number;
};

/**
 * Walks through a packet. Null when a length in it is impossible, when it holds a chunk that no peer of ours needs, or acknowledges more than can have
 * been sent: the stack loops for ever on a length of 0, and throws where nobody catches on what is too short. Never throws.
 */
export function readSctp(packet: Buffer): SctpFacts | null {
  if (packet.length < HEADER_BYTES + CHUNK_HEADER_BYTES) return null;
  const streams: number[] = [];
  let dataChunks = 0;
  for (let at = HEADER_BYTES; at < packet.length; ) {
    // Padding behind the last chunk may be short of four bytes, a chunk never is.
    if (at + CHUNK_HEADER_BYTES > packet.length) return null;
    const type = packet[at]!;
    const length = packet.readUInt16BE(at + 2);
    const least = LEAST_BYTES[type];
    if (least === undefined || length < CHUNK_HEADER_BYTES + least || at + length > packet.length) return null;
    const body = packet.subarray(at + CHUNK_HEADER_BYTES, at + length);
    const from = PARAMETERS_AT[type];
    if (from !== undefined && !hasGoodParameters(body.subarray(from))) return null;
    if (type === SACK && !isGoodSack(body)) return null;
    if (type === DATA) {
      dataChunks++;
      streams.push(body.readUInt16BE(4));
    }
    if (type === FORWARD_TSN) {
      if (body.length % 4 !== 0) return null;
      for (let skip = 4; skip < body.length; skip += 4) streams.push(body.readUInt16BE(skip));
    }
    at += padded(length);
  }
  return { streams, dataChunks };
}

function hasGoodParameters(list: Buffer): boolean {
  for (let at = 0; at < list.length; ) {
    if (at + 4 > list.length) return false;
    const length = list.readUInt16BE(at + 2);
    if (length < 4 || at + length > list.length) return false;
    at += padded(length);
  }
  return true;
}

function isGoodSack(body: Buffer): boolean {
  const gaps = body.readUInt16BE(8);
  if (body.length !== 12 + 4 * (gaps + body.readUInt16BE(10))) return false;
  let named = 0;
  for (let i = 0; i < gaps; i++) {
    const [first, last] = [body.readUInt16BE(12 + 4 * i), body.readUInt16BE(14 + 4 * i)];
    if (last < first) return false;
    named += last - first + 1;
  }
  return named <= MAX_ACKNOWLEDGED;
}

const padded = (length: number): number => (length + 3) & ~3;

const RECORD_HEADER_BYTES = 13;
const HANDSHAKE = 22;

/** Bytes of unencrypted handshake in a DTLS datagram: anybody can send them at any time, and the stack keeps pieces of messages. */
export function handshakeBytes(datagram: Buffer): number {
  let sum = 0;
  for (let at = 0; at + RECORD_HEADER_BYTES <= datagram.length; ) {
    const length = datagram.readUInt16BE(at + 11);
    if (datagram[at] === HANDSHAKE && datagram.readUInt16BE(at + 3) === 0) sum += length;
    at += RECORD_HEADER_BYTES + length;
  }
  return sum;
}
