import type { BundleEntry } from "./bundle.js";
import type { Fault } from "./wire.js";

/** One axis of a piece: from `start` on so many values; null: the whole axis. */
export type Extent = { readonly start: number; readonly length: number | null };
export type Slice = readonly Extent[];

/** A piece of a partitioned variable: its place in the whole, and where its values stand. */
export type Piece = {
  /** For messages, such as `[0:5, :]`. */
  readonly label: string;
  readonly starts: readonly number[];
  readonly shape: readonly number[];
  readonly entry: BundleEntry;
};

const MAX_PIECES = 1024;

/** First bytes of a signed number of 1 to 10 bytes: as many ones as there are bytes. */
const HEADER = [0, 0x80, 0xc000, 0xe000, 0xf000, 0xf800, 0xfc00, 0xfe00, 0xff00, 0xff80, 0xffc0];

/** TensorFlow's ordered code of a number that is not negative: count of bytes, then the bytes, big-endian. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let v = value; v > 0; v = Math.floor(v / 256)) bytes.unshift(v % 256);
  return [bytes.length, ...bytes];
}

/** The same of a signed number: 7 bits a byte, the first ones say how many there are. Takes -1 and what is not negative. */
function signed(value: number): number[] {
  if (value < 64) return [0x80 ^ (value & 255)];
  const bits = Math.floor(Math.log2(value)) + 1;
  const length = Math.ceil((bits + 1) / 7);
  const bytes: number[] = [];
  for (let v = value, i = 0; i < length; i++, v = Math.floor(v / 256)) bytes.unshift(v % 256);
  const header = HEADER[length]!;
  bytes[0]! ^= header >> 8;
  bytes[1]! ^= header & 255;
  return bytes;
}

/** Name (zero bytes and 255 escaped) and its end. */
function text(name: string): number[] {
  const out: number[] = [];
  for (const b of Buffer.from(name, "latin1")) out.push(...(b === 0 ? [0, 255] : b === 255 ? [255, 0] : [b]));
  return [...out, 0, 1];
}

/** Key under which the values of a piece stand (EncodeTensorNameSlice of TensorFlow), as hex. */
export function pieceKey(name: string, slice: Slice): string {
  const places = slice.flatMap(({ start, length }) => [...signed(start), ...signed(length ?? -1)]);
  return Buffer.from([...unsigned(0), ...text(name), ...unsigned(slice.length), ...places]).toString("hex");
}

const label = (slice: Slice): string =>
  `[${slice.map(({ start, length }) => (length === null ? ":" : `${start}:${start + length}`)).join(", ")}]`;
const shapeText = (shape: readonly number[]): string => `(${shape.join(", ")})`;
const sizeOf = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1);

/**
 * The pieces of a partitioned variable, each found by its key in `found` (which it is taken from: what is left there belongs to nobody).
 * They lie inside of the whole and do not overlap; whether they fill it, `missingValues` tells. `fault` names the variable.
 */
export function piecesOf(name: string, whole: BundleEntry, found: Map<string, BundleEntry>, fault: Fault): Piece[] {
  if (whole.slices.length > MAX_PIECES) throw fault(`${whole.slices.length} pieces; the limit is ${MAX_PIECES}`);
  if (whole.bytes > 0) throw fault(`has ${whole.bytes} bytes of its own beside its pieces`);
  const pieces: Piece[] = [];
  for (const slice of whole.slices) {
    const what = `piece ${label(slice)} of a whole of shape ${shapeText(whole.shape)}`;
    if (slice.length !== whole.shape.length) throw fault(`${what} has ${slice.length} axes`);
    const shape = slice.map(({ length }, i) => length ?? whole.shape[i]!);
    if (slice.some(({ start }, i) => start + shape[i]! > whole.shape[i]!)) throw fault(`${what} reaches beyond it`);
    const key = pieceKey(name, slice);
    const entry = found.get(key);
    if (!entry) throw fault(`${what} is not in the index`);
    found.delete(key);
    if (entry.type !== whole.type || !sameShape(entry.shape, shape))
      throw fault(
        `${what} is of type ${entry.type} and shape ${shapeText(entry.shape)}, expected ${whole.type} and ${shapeText(shape)}`,
      );
    const piece = { label: label(slice), starts: slice.map(({ start }) => start), shape, entry };
    const other = pieces.find((p) => overlap(p, piece));
    if (other) throw fault(`pieces ${other.label} and ${piece.label} overlap`);
    pieces.push(piece);
  }
  return pieces;
}

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i]);

function overlap(a: Piece, b: Piece): boolean {
  return a.starts.every((start, i) => start < b.starts[i]! + b.shape[i]! && b.starts[i]! < start + a.shape[i]!);
}

/** Values of the whole that no piece holds. */
export function missingValues(shape: readonly number[], pieces: readonly Piece[]): number {
  return sizeOf(shape) - pieces.reduce((sum, p) => sum + sizeOf(p.shape), 0);
}

/**
 * Puts values of a piece, from its value `first` on, to their places in the whole, row-major both.
 */
export function place(
  whole: Float32Array,
  shape: readonly number[],
  piece: Piece,
  values: Float32Array,
  first: number,
): void {
  // Trailing axes that the piece has whole lie together in both.
  let axis = shape.length;
  let run = 1;
  while (axis > 0) {
    axis -= 1;
    run *= piece.shape[axis]!;
    if (piece.shape[axis] !== shape[axis]) break;
  }
  for (let n = 0; n < values.length; ) {
    const at = first + n;
    const count = Math.min(run - (at % run), values.length - n);
    let rest = Math.floor(at / run);
    // Where the run begins: the outer axes by division, the axis at which it is cut by its start.
    let offset = 0;
    let step = sizeOf(shape.slice(axis + 1));
    offset += (piece.starts[axis] ?? 0) * step;
    for (let i = axis - 1; i >= 0; i--) {
      step *= shape[i + 1]!;
      offset += (piece.starts[i]! + (rest % piece.shape[i]!)) * step;
      rest = Math.floor(rest / piece.shape[i]!);
    }
    whole.set(values.subarray(n, n + count), offset + (at % run));
    n += count;
  }
}
