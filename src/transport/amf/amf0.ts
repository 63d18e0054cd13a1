/**
 * AMF0 (Action Message Format, file format specification of 2007): the value encoding of RTMP commands and FLV script data.
 * Reading is bounded in depth and in number of values; strings and objects cost no more than a small multiple of their input bytes.
 */

/** An AMF0 object. Objects that were read have no prototype, so a key such as `__proto__` is only a key. */
export type AmfObject = { [name: string]: AmfValue };
export type AmfValue = number | boolean | string | null | undefined | Date | AmfObject | EcmaArray | AmfValue[];

/** An AMF0 associative array (marker 8), what `onMetaData` and the project's `onHighlight` use. */
export class EcmaArray {
  constructor(readonly entries: AmfObject) {}
}

/** The bytes are not AMF0, or go over a limit; on writing: the value cannot be expressed. */
export class AmfError extends Error {
  readonly code = "SL_AMF_MALFORMED";
  override readonly name = "AmfError";
}

/** Nesting deeper than this is an error in both directions. */
export const MAX_AMF_DEPTH = 16;
/** More values than this in one `readAmf0` are an error (an `onMetaData` with a key-frame index has a few thousand). */
export const MAX_AMF_VALUES = 65_536;

/** Markers, AMF0 section 2.1. */
const NUMBER = 0;
const BOOLEAN = 1;
const STRING = 2;
const OBJECT = 3;
const NULL = 5;
const UNDEFINED = 6;
const ECMA_ARRAY = 8;
const OBJECT_END = 9;
const STRICT_ARRAY = 10;
const DATE = 11;
const LONG_STRING = 12;
const UNSUPPORTED = 13;
const XML = 15;
const TYPED_OBJECT = 16;

/**
 * Reads values one after another until the end of `bytes`.
 * References (marker 7), movie clips, record sets and the AVM+ switch (marker 17) are refused: no live peer needs them.
 * @throws AmfError
 */
export function readAmf0(bytes: Buffer): AmfValue[] {
  const reader = new AmfReader(bytes);
  const out: AmfValue[] = [];
  while (!reader.done) out.push(reader.read());
  return out;
}

/** Reads single values from the front of `bytes`; `offset` is the position behind the last one. */
export class AmfReader {
  #offset: number;
  #valuesLeft = MAX_AMF_VALUES;

  constructor(
    private readonly bytes: Buffer,
    offset = 0,
  ) {
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get done(): boolean {
    return this.#offset >= this.bytes.length;
  }

  /** @throws AmfError */
  read(): AmfValue {
    return this.#value(0);
  }

  #value(depth: number): AmfValue {
    if (depth > MAX_AMF_DEPTH) throw new AmfError(`nested deeper than ${MAX_AMF_DEPTH}`);
    if (--this.#valuesLeft < 0) throw new AmfError(`more than ${MAX_AMF_VALUES} values`);
    const marker = this.bytes[this.#take(1)]!;
    switch (marker) {
      case NUMBER:
        return this.bytes.readDoubleBE(this.#take(8));
      case BOOLEAN:
        return this.bytes[this.#take(1)] !== 0;
      case STRING:
        return this.#string(this.bytes.readUInt16BE(this.#take(2)));
      case OBJECT:
        return this.#entries(depth);
      case NULL:
        return null;
      case UNDEFINED:
      case UNSUPPORTED:
        return undefined;
      case ECMA_ARRAY:
        // The count is only a hint (several writers put 0); the end marker decides.
        this.#take(4);
        return new EcmaArray(this.#entries(depth));
      case STRICT_ARRAY:
        return this.#array(depth);
      case DATE: {
        const at = this.#take(10);
        return new Date(this.bytes.readDoubleBE(at));
      }
      case LONG_STRING:
      case XML:
        return this.#string(this.bytes.readUInt32BE(this.#take(4)));
      case TYPED_OBJECT:
        this.#string(this.bytes.readUInt16BE(this.#take(2)));
        return this.#entries(depth);
      default:
        throw new AmfError(`marker ${marker} at byte ${this.#offset - 1}`);
    }
  }

  #entries(depth: number): AmfObject {
    const out: AmfObject = Object.create(null);
    for (;;) {
      const length = this.bytes.readUInt16BE(this.#take(2));
      if (length === 0 && this.bytes[this.#offset] === OBJECT_END) {
        this.#offset++;
        return out;
      }
      const name = this.#string(length);
      out[name] = this.#value(depth + 1);
    }
  }

  #array(depth: number): AmfValue[] {
    const count = this.bytes.readUInt32BE(this.#take(4));
    // Each value is at least one byte: a longer count is a lie and must not become an allocation.
    if (count > this.bytes.length - this.#offset) throw new AmfError(`an array of ${count} values in too few bytes`);
    const out: AmfValue[] = [];
    for (let i = 0; i < count; i++) out.push(this.#value(depth + 1));
    return out;
  }

  #string(length: number): string {
    const at = this.#take(length);
    return this.bytes.toString("utf8", at, at + length);
  }

  /** Moves on by `n` bytes and gives the position before it. */
  #take(n: number): number {
    const at = this.#offset;
    if (n > this.bytes.length - at) throw new AmfError(`ends within a value at byte ${at}`);
    this.#offset = at + n;
    return at;
  }
}

/**
 * Writes values one after another.
 * @throws AmfError for nesting over MAX_AMF_DEPTH (cycles too) or a key over 65535 bytes.
 */
export function writeAmf0(...values: readonly AmfValue[]): Buffer {
  const parts: Buffer[] = [];
  for (const value of values) write(parts, value, 0);
  return Buffer.concat(parts);
}

function write(parts: Buffer[], value: AmfValue, depth: number): void {
  if (depth > MAX_AMF_DEPTH) throw new AmfError(`nested deeper than ${MAX_AMF_DEPTH}`);
  if (value === null) parts.push(Buffer.of(NULL));
  else if (value === undefined) parts.push(Buffer.of(UNDEFINED));
  else if (typeof value === "number") parts.push(double(NUMBER, value));
  else if (typeof value === "boolean") parts.push(Buffer.of(BOOLEAN, value ? 1 : 0));
  else if (typeof value === "string") writeString(parts, value);
  else if (value instanceof Date) parts.push(double(DATE, value.getTime()), Buffer.of(0, 0));
  else if (Array.isArray(value)) {
    parts.push(counted(STRICT_ARRAY, value.length));
    for (const item of value) write(parts, item, depth + 1);
  } else if (value instanceof EcmaArray) {
    parts.push(counted(ECMA_ARRAY, Object.keys(value.entries).length));
    writeEntries(parts, value.entries, depth);
  } else {
    parts.push(Buffer.of(OBJECT));
    writeEntries(parts, value, depth);
  }
}

function writeEntries(parts: Buffer[], entries: AmfObject, depth: number): void {
  for (const [name, value] of Object.entries(entries)) {
    const key = Buffer.from(name, "utf8");
    if (key.length > 0xffff) throw new AmfError(`a key of ${key.length} bytes`);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(key.length);
    parts.push(length, key);
    write(parts, value, depth + 1);
  }
  parts.push(Buffer.of(0, 0, OBJECT_END));
}

function writeString(parts: Buffer[], text: string): void {
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length > 0xffff) {
    parts.push(counted(LONG_STRING, bytes.length), bytes);
    return;
  }
  const head = Buffer.of(STRING, 0, 0);
  head.writeUInt16BE(bytes.length, 1);
  parts.push(head, bytes);
}

function double(marker: number, value: number): Buffer {
  const out = Buffer.alloc(9);
  out[0] = marker;
  out.writeDoubleBE(value, 1);
  return out;
}

function counted(marker: number, count: number): Buffer {
  const out = Buffer.alloc(5);
  out[0] = marker;
  out.writeUInt32BE(count, 1);
  return out;
}
