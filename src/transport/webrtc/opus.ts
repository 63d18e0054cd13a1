/** Opus as packets (RFC 6716, 7845). */

/** Six frames of 20 ms at the highest rate (RFC 6716, 3.4: 1275 bytes a frame, 120 ms a packet). */
export const MAX_OPUS_BYTES = 6 * 1275 + 7;
/** Samples at 48 kHz that decoders put out before the sound begins (libopus' look-ahead). */
export const OPUS_PRE_SKIP = 312;

/** Identification header (RFC 7845, 5.1), mapping family 0. @param channels 1 or 2 */
export function opusHead(channels: number, preSkip: number): Buffer {
  const out = Buffer.alloc(19);
  out.write("OpusHead", 0, "latin1");
  out[8] = 1;
  out[9] = channels;
  out.writeUInt16LE(preSkip, 10);
  out.writeUInt32LE(48_000, 12);
  return out;
}

/** Channels of an identification header; null for one that is cut off or has more than two. */
export function opusChannels(head: Buffer): number | null {
  if (head.length < 19 || head.toString("latin1", 0, 8) !== "OpusHead" || head[8]! >> 4 !== 0) return null;
  const channels = head[9]!;
  return head[18] === 0 && (channels === 1 || channels === 2) ? channels : null;
}

const FRAME_MS = [10, 20, 40, 60] as const;

/** Length of a packet's sound in milliseconds by its first bytes (RFC 6716, 3.1); null when it is malformed or longer than 120 ms. */
export function opusDurationMs(packet: Uint8Array): number | null {
  const toc = packet[0];
  if (toc === undefined) return null;
  const config = toc >> 3;
  const frameMs = config < 12 ? FRAME_MS[config & 3]! : config < 16 ? (config & 1 ? 20 : 10) : 2.5 * 2 ** (config & 3);
  const code = toc & 3;
  const frames = code === 0 ? 1 : code < 3 ? 2 : (packet[1] ?? 0) & 63;
  const durationMs = frames * frameMs;
  return durationMs > 0 && durationMs <= 120 ? durationMs : null;
}
