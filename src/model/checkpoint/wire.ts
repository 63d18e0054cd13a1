/** Makes the error of a reader: what is wrong, in words. */
export type Fault = (what: string) => Error;

/** Reads numbers and pieces off bytes and never beyond them. */
export class ByteReader {
  constructor(
    readonly bytes: Uint8Array,
    private readonly fault: Fault,
    public at = 0,
  ) {}

  get left(): number {
    return this.bytes.length - this.at;
  }

  /**
   * Base-128 number, 0 ... 2^53 - 1 (a larger or, in protobuf, negative one is a fault). Only the shortest form is taken: with the
   * longer ones (`85 00` for 5) a flipped bit could leave a value as it was.
   */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      if (this.left < 1) throw this.fault("ends inside a number");
      const byte = this.bytes[this.at++]!;
      value += (byte & 127) * scale;
      if (value > Number.MAX_SAFE_INTEGER) break;
      if (byte < 128) {
        if (byte === 0 && i > 0) throw this.fault("a number is not in its shortest form");
        return value;
      }
      scale *= 128;
    }
    throw this.fault("a number is negative or above 2^53");
  }

  /** 32 bits, little endian. */
  fixed32(): number {
    const b = this.take(4);
    return (b[0]! | (b[1]! << 8) | (b[2]! << 16) | (b[3]! << 24)) >>> 0;
  }

  /** The next `size` bytes, not copied. */
  take(size: number): Uint8Array {
    if (size > this.left) throw this.fault(`${size} bytes announced, ${this.left} left`);
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }
}

/** A field's content: a number (varint, fixed32) or bytes (string, message; fixed64 as its 8 bytes). */
export type Field = number | Uint8Array;

/** The fields of one protobuf message, in their order; unknown ones too. Groups are a fault (no longer written by anyone). */
export function* fieldsOf(message: Uint8Array, fault: Fault): Generator<readonly [number, Field]> {
  const reader = new ByteReader(message, fault);
  while (reader.left > 0) {
    const tag = reader.varint();
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (field === 0) throw fault("a field has the number 0");
    if (wire === 0) yield [field, reader.varint()];
    else if (wire === 1) yield [field, reader.take(8)];
    else if (wire === 2) yield [field, reader.take(reader.varint())];
    else if (wire === 5) yield [field, reader.fixed32()];
    else throw fault(`field ${field} is of the unknown wire type ${wire}`);
  }
}

export function numberOf(value: Field, what: string, fault: Fault): number {
  if (typeof value !== "number") throw fault(`${what} is not a number`);
  return value;
}

export function bytesOf(value: Field, what: string, fault: Fault): Uint8Array {
  if (typeof value === "number") throw fault(`${what} is not a message`);
  return value;
}
