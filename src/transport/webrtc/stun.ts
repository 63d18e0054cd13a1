import { createHmac, timingSafeEqual } from "node:crypto";

/** STUN (RFC 8489) as much as is needed to tell an authenticated binding request from anything else, before a stack sees it. */

const HEADER_BYTES = 20;
const COOKIE = 0x2112a442;
const BINDING_REQUEST = 0x0001;
const USERNAME = 0x0006;
const MESSAGE_INTEGRITY = 0x0008;
const INTEGRITY_BYTES = 20;

/** Of which protocol a datagram on a WebRTC port is (RFC 7983). */
export type DatagramKind = "stun" | "dtls" | "media" | "other";

export function datagramKind(data: Uint8Array): DatagramKind {
  const first = data[0];
  if (first === undefined) return "other";
  if (first < 4) return "stun";
  if (first >= 20 && first < 64) return "dtls";
  return first >= 128 && first < 192 ? "media" : "other";
}

/**
 * True for a binding request to `ufrag` whose MESSAGE-INTEGRITY was made with `password`: its sender has seen our session description.
 * Never throws.
 */
export function isAuthenticRequest(data: Buffer, credentials: (ufrag: string) => string | null): boolean {
  if (data.length < HEADER_BYTES || data.readUInt32BE(4) !== COOKIE) return false;
  if (data.readUInt16BE(0) !== BINDING_REQUEST || HEADER_BYTES + data.readUInt16BE(2) !== data.length) return false;
  let password: string | null = null;
  for (let at = HEADER_BYTES; at + 4 <= data.length; ) {
    const type = data.readUInt16BE(at);
    const length = data.readUInt16BE(at + 2);
    const end = at + 4 + length;
    if (end > data.length) return false;
    if (type === USERNAME) {
      const name = data.toString("utf8", at + 4, end);
      const colon = name.indexOf(":");
      password = colon < 0 ? null : credentials(name.slice(0, colon));
    } else if (type === MESSAGE_INTEGRITY) {
      if (length !== INTEGRITY_BYTES || password === null) return false;
      return timingSafeEqual(integrity(data.subarray(0, at), password), data.subarray(at + 4, end));
    }
    at = end + ((4 - (length & 3)) & 3);
  }
  return false;
}

/** HMAC-SHA1 over the message up to the attribute, with the length as if the attribute were its end (RFC 8489, 14.5). */
function integrity(before: Buffer, password: string): Buffer {
  const head = Buffer.from(before.subarray(0, HEADER_BYTES));
  head.writeUInt16BE(before.length - HEADER_BYTES + 4 + INTEGRITY_BYTES, 2);
  return createHmac("sha1", password).update(head).update(before.subarray(HEADER_BYTES)).digest();
}

/** A binding request, for tests and tools. */
export function bindingRequest(username: string, password: string, transactionId: Buffer, nominate: boolean): Buffer {
  const name = Buffer.from(username, "utf8");
  const attribute = (type: number, value: Buffer): Buffer => {
    const out = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
    out.writeUInt16BE(type, 0);
    out.writeUInt16BE(value.length, 2);
    value.copy(out, 4);
    return out;
  };
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt16BE(BINDING_REQUEST, 0);
  head.writeUInt32BE(COOKIE, 4);
  transactionId.copy(head, 8, 0, 12);
  const before = Buffer.concat([
    head,
    attribute(USERNAME, name),
    attribute(0x0024, Buffer.of(0x6e, 0, 0x1e, 0xff)), // PRIORITY
    attribute(0x802a, Buffer.alloc(8, 1)), // ICE-CONTROLLING
    ...(nominate ? [attribute(0x0025, Buffer.alloc(0))] : []),
  ]);
  before.writeUInt16BE(before.length - HEADER_BYTES + 4 + INTEGRITY_BYTES, 2);
  return Buffer.concat([before, attribute(MESSAGE_INTEGRITY, integrity(before, password))]);
}
