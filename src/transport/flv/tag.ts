import { Assembler } from "./assembler.js";

/**
 * FLV file and stream format (Adobe Flash Video File Format 10.1, annex E.2 to E.4.1):
 * header of 9 bytes | u32 0 | { tag header of 11 bytes | body | u32 size of the tag } ...
 */

/** Kinds of tags, E.4.1; the same numbers are RTMP's message types. */
export const SOUND = 8;
export const PICTURE = 9;
export const SCRIPT = 18;
export type TagType = typeof SOUND | typeof PICTURE | typeof SCRIPT;

export type FlvTag = {
  readonly type: TagType;
  /** Unsigned 32 bits, wraps after 49.7 days; the decoding time (DTS) of pictures. */
  readonly timestampMs: number;
  readonly body: Buffer;
};

/** The size field of a tag has 24 bits. */
export const MAX_TAG_BYTES = 0xff_ffff;
const FILE_HEADER_BYTES = 9;
const TAG_HEADER_BYTES = 11;
const TRAILER_BYTES = 4;

/** The bytes are not FLV, or go over a limit; the position in the stream is lost. */
export class FlvError extends Error {
  readonly code = "SL_FLV_MALFORMED";
  override readonly name = "FlvError";
}

/** The 13 bytes in front of the first tag. */
export function flvHeader(has: { audio: boolean; video: boolean } = { audio: true, video: true }): Buffer {
  const flags = (has.audio ? 4 : 0) | (has.video ? 1 : 0);
  return Buffer.of(0x46, 0x4c, 0x56, 1, flags, 0, 0, 0, FILE_HEADER_BYTES, 0, 0, 0, 0);
}

/** A tag as three pieces for a gathering write; the body is not copied. */
export function flvTagParts(tag: FlvTag): [Buffer, Buffer, Buffer] {
  const size = tag.body.length;
  if (size > MAX_TAG_BYTES) throw new FlvError(`a tag body of ${size} bytes`);
  const time = tag.timestampMs >>> 0;
  const head = Buffer.allocUnsafe(TAG_HEADER_BYTES);
  head[0] = tag.type;
  head.writeUIntBE(size, 1, 3);
  head.writeUIntBE(time & 0xff_ffff, 4, 3);
  head[7] = time >>> 24;
  head.writeUIntBE(0, 8, 3);
  const trailer = Buffer.allocUnsafe(TRAILER_BYTES);
  trailer.writeUInt32BE(TAG_HEADER_BYTES + size);
  return [head, tag.body, trailer];
}

/** A tag in one piece. */
export function flvTag(tag: FlvTag): Buffer {
  return Buffer.concat(flvTagParts(tag));
}

/** Cuts a byte stream into tags; holds at most one unfinished tag, and of it only what came. */
export class FlvReader {
  #state: "file" | "skip" | "head" | "body" = "file";
  #head = new Assembler(FILE_HEADER_BYTES);
  #body = new Assembler(0);
  #skip = 0;
  #type: TagType = SOUND;
  #timestampMs = 0;

  /** @param maxTagBytes a longer body is an error */
  constructor(private readonly maxTagBytes = MAX_TAG_BYTES) {}

  /** @throws FlvError when the stream is malformed; the reader must not be used afterwards. */
  push(chunk: Buffer): FlvTag[] {
    const out: FlvTag[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === "skip") {
        const count = Math.min(this.#skip, chunk.length - at);
        at += count;
        this.#skip -= count;
        if (this.#skip === 0) this.#expectHead();
        continue;
      }
      if (this.#state === "body") {
        at += this.#body.append(chunk, at, chunk.length);
        if (this.#body.complete) this.#finish(out);
        continue;
      }
      at += this.#head.append(chunk, at, chunk.length);
      if (!this.#head.complete) continue;
      if (this.#state === "file") this.#fileHeader(this.#head.data);
      else this.#tagHeader(this.#head.data, out);
    }
    return out;
  }

  #fileHeader(head: Buffer): void {
    if (head.toString("latin1", 0, 3) !== "FLV" || head[3] !== 1) throw new FlvError("no FLV version 1 header");
    const offset = head.readUInt32BE(5);
    if (offset < FILE_HEADER_BYTES || offset > 4096) throw new FlvError(`data offset ${offset}`);
    this.#skipBytes(offset - FILE_HEADER_BYTES + TRAILER_BYTES);
  }

  #tagHeader(head: Buffer, out: FlvTag[]): void {
    // Bit 5 marks an encrypted tag, bits 6 and 7 are reserved: all of them make an unknown type here.
    const type = head[0]!;
    if (type !== SOUND && type !== PICTURE && type !== SCRIPT) throw new FlvError(`tag type ${type}`);
    const size = head.readUIntBE(1, 3);
    if (size > this.maxTagBytes) throw new FlvError(`a tag body of ${size} bytes`);
    this.#type = type;
    this.#timestampMs = head.readUIntBE(4, 3) + head[7]! * 0x100_0000;
    this.#body = new Assembler(size);
    this.#state = "body";
    if (size === 0) this.#finish(out);
  }

  #finish(out: FlvTag[]): void {
    out.push({ type: this.#type, timestampMs: this.#timestampMs, body: this.#body.data });
    this.#body = new Assembler(0);
    // The size behind a tag is not checked: several writers get it wrong, and nothing here walks backwards.
    this.#skipBytes(TRAILER_BYTES);
  }

  #skipBytes(count: number): void {
    this.#skip = count;
    this.#state = "skip";
  }

  #expectHead(): void {
    this.#head = new Assembler(TAG_HEADER_BYTES);
    this.#state = "head";
  }
}
