import { type FileHandle, open } from "node:fs/promises";
import { SAMPLE_RATE } from "../pipeline/types.js";

/**
 * Makes an MP4's sound begin where it should (ISO/IEC 14496-12, 8.6.6): an AAC encoder's first samples are its run-in, mp4mux does
 * not say so, and players would play everything late by it. Only for files with the moov box behind the media, as mp4mux writes them.
 */
export type SoundTrim = {
  /** Samples at 48 kHz to leave out at the beginning: the encoder's delay. */
  readonly delaySamples: number;
  /** Samples to play after them. */
  readonly samples: number;
};

const MAX_END = 256 * 1024 * 1024;

/** @throws Error when the file is not built as mp4mux builds it */
export async function trimSound(path: string, trim: SoundTrim): Promise<void> {
  const file = await open(path, "r+");
  try {
    const fileSize = (await file.stat()).size;
    const { at, size } = await findMoov(file, fileSize);
    // moov and what follows it (mp4mux puts a uuid box with the tags there) move by the size of the edit list.
    const end = Buffer.alloc(fileSize - at);
    await file.read(end, 0, end.length, at);
    const fixed = Buffer.concat([trimmedMoov(end.subarray(0, size), trim), end.subarray(size)]);
    await file.write(fixed, 0, fixed.length, at);
    await file.truncate(at + fixed.length);
  } finally {
    await file.close();
  }
}

async function findMoov(file: FileHandle, fileSize: number): Promise<{ at: number; size: number }> {
  const head = Buffer.alloc(16);
  let found: { at: number; size: number } | null = null;
  for (let at = 0; at + 8 <= fileSize; ) {
    await file.read(head, 0, 16, at);
    let size = head.readUInt32BE(0);
    if (size === 1) size = Number(head.readBigUInt64BE(8));
    if (size === 0) size = fileSize - at;
    if (size < 8) break;
    const type = head.toString("latin1", 4, 8);
    // Media behind it would move, and the chunk offsets no longer hold.
    if (found !== null && type === "mdat") throw new Error("media lie behind the moov box");
    if (type === "moov") found = { at, size };
    at += size;
  }
  if (found === null) throw new Error("no moov box");
  if (fileSize - found.at > MAX_END) throw new Error(`${fileSize - found.at} bytes from the moov box on`);
  return found;
}

type Box = { readonly type: string; readonly from: number; readonly to: number };

function boxesIn(bytes: Buffer, from: number, to: number): Box[] {
  const found: Box[] = [];
  for (let at = from; at + 8 <= to; ) {
    const size = bytes.readUInt32BE(at);
    if (size < 8 || at + size > to) throw new Error(`a box at ${at} of ${size} bytes`);
    found.push({ type: bytes.toString("latin1", at + 4, at + 8), from: at, to: at + size });
    at += size;
  }
  return found;
}

function child(bytes: Buffer, parent: Box, ...path: string[]): Box | null {
  let box: Box | null = parent;
  for (const type of path) {
    if (box === null) return null;
    box = boxesIn(bytes, box.from + 8, box.to).find((b) => b.type === type) ?? null;
  }
  return box;
}

/** The moov box with an edit list for its sound track. */
export function trimmedMoov(moov: Buffer, { delaySamples, samples }: SoundTrim): Buffer {
  const whole: Box = { type: "moov", from: 0, to: moov.length };
  const header = child(moov, whole, "mvhd");
  if (header === null) throw new Error("no mvhd box");
  // Version 1 has two times of 8 bytes before the scale, version 0 of 4.
  const movieScale = moov.readUInt32BE(header.from + 12 + (moov[header.from + 8] === 1 ? 16 : 8));
  for (const trak of boxesIn(moov, 8, moov.length).filter((b) => b.type === "trak")) {
    const handler = child(moov, trak, "mdia", "hdlr");
    if (handler === null || moov.toString("latin1", handler.from + 16, handler.from + 20) !== "soun") continue;
    const media = child(moov, trak, "mdia", "mdhd");
    if (media === null) throw new Error("no mdhd box");
    const mediaScale = moov.readUInt32BE(media.from + 12 + (moov[media.from + 8] === 1 ? 16 : 8));
    const played = Math.round((samples * movieScale) / SAMPLE_RATE);
    const edits = [
      ...gapBefore(moov, trak),
      { duration: played, mediaTime: Math.round((delaySamples * mediaScale) / SAMPLE_RATE) },
    ];
    return withEdits(moov, trak, edits);
  }
  throw new Error("no sound track");
}

type Edit = { readonly duration: number; readonly mediaTime: number };

/** Empty edits of the list that is there: the sound begins later than the picture. */
function gapBefore(moov: Buffer, trak: Box): Edit[] {
  const list = child(moov, trak, "edts", "elst");
  if (list === null) return [];
  const gaps: Edit[] = [];
  const wide = moov[list.from + 8] === 1;
  const count = moov.readUInt32BE(list.from + 12);
  for (let i = 0, at = list.from + 16; i < count && at + 12 <= list.to; i++, at += wide ? 20 : 12) {
    const duration = wide ? Number(moov.readBigUInt64BE(at)) : moov.readUInt32BE(at);
    const mediaTime = wide ? Number(moov.readBigInt64BE(at + 8)) : moov.readInt32BE(at + 4);
    if (mediaTime !== -1) break;
    gaps.push({ duration, mediaTime });
  }
  return gaps;
}

function withEdits(moov: Buffer, trak: Box, edits: readonly Edit[]): Buffer {
  const edts = Buffer.alloc(8 + 16 + 20 * edits.length);
  edts.writeUInt32BE(edts.length, 0);
  edts.write("edts", 4, "latin1");
  edts.writeUInt32BE(edts.length - 8, 8);
  edts.write("elst", 12, "latin1");
  edts[16] = 1;
  edts.writeUInt32BE(edits.length, 20);
  edits.forEach(({ duration, mediaTime }, i) => {
    const at = 24 + 20 * i;
    edts.writeBigUInt64BE(BigInt(duration), at);
    edts.writeBigInt64BE(BigInt(mediaTime), at + 8);
    edts.writeUInt16BE(1, at + 16);
  });
  const old = child(moov, trak, "edts");
  const header = child(moov, trak, "tkhd");
  if (header === null) throw new Error("no tkhd box");
  const from = old?.from ?? header.to;
  const to = old?.to ?? header.to;
  const out = Buffer.concat([moov.subarray(0, from), edts, moov.subarray(to)]);
  const grown = edts.length - (to - from);
  out.writeUInt32BE(moov.length + grown, 0);
  out.writeUInt32BE(trak.to - trak.from + grown, trak.from);
  return out;
}
