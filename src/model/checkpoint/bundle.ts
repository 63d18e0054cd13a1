import type { Extent, Slice } from "./slices.js";
import { bytesOf, type Fault, fieldsOf, numberOf } from "./wire.js";

/** Version of the format that is understood (kTensorBundleVersion of TensorFlow). */
const VERSION = 1;
const MAX_SHARDS = 256;
const MAX_RANK = 8;
const MAX_DIM = 2 ** 40;

/** What stands of a tensor in the index. */
export type BundleEntry = {
  /** Number of TensorFlow's DataType. */
  readonly type: number;
  readonly shape: readonly number[];
  readonly shard: number;
  readonly offset: number;
  readonly bytes: number;
  /** Masked CRC-32C of the bytes. */
  readonly crc: number;
  /** Not empty: a partitioned variable; its values stand under other keys. */
  readonly slices: readonly Slice[];
};

/** BundleHeaderProto -> number of shards. Refuses big-endian files and versions that ask for a newer reader. */
export function readHeader(message: Uint8Array, fault: Fault): number {
  let shards = 0;
  for (const [field, value] of fieldsOf(message, fault)) {
    if (field === 1) shards = numberOf(value, "num_shards", fault);
    else if (field === 2) {
      if (numberOf(value, "endianness", fault) !== 0) throw fault("the values are big-endian, which is not read");
    } else if (field === 3) checkVersion(bytesOf(value, "version", fault), fault);
  }
  if (shards < 1 || shards > MAX_SHARDS) throw fault(`${shards} shards; allowed are 1 to ${MAX_SHARDS}`);
  return shards;
}

function checkVersion(message: Uint8Array, fault: Fault): void {
  for (const [field, value] of fieldsOf(message, fault)) {
    if (field === 2 && numberOf(value, "min_consumer", fault) > VERSION)
      throw fault(`asks for a reader of version ${value}; this one is of version ${VERSION}`);
    const bad = field !== 3 ? [] : typeof value === "number" ? [value] : [...value];
    if (bad.includes(VERSION)) throw fault(`forbids readers of version ${VERSION}`);
  }
}

/** BundleEntryProto. Fields equal to 0 are absent in the file. */
export function readEntry(message: Uint8Array, fault: Fault): BundleEntry {
  const entry = { type: 0, shape: [] as number[], shard: 0, offset: 0, bytes: 0, crc: 0, slices: [] as Slice[] };
  let shapes = 0;
  for (const [field, value] of fieldsOf(message, fault)) {
    if (field === 1) entry.type = numberOf(value, "dtype", fault);
    else if (field === 2) {
      if (++shapes > 1) throw fault("two shapes");
      entry.shape = readShape(bytesOf(value, "shape", fault), fault);
    } else if (field === 3) entry.shard = numberOf(value, "shard_id", fault);
    else if (field === 4) entry.offset = numberOf(value, "offset", fault);
    else if (field === 5) entry.bytes = numberOf(value, "size", fault);
    else if (field === 6) entry.crc = numberOf(value, "crc32c", fault);
    else if (field === 7) entry.slices.push(readSlice(bytesOf(value, "slice", fault), fault));
  }
  return entry;
}

/** TensorSliceProto: an extent for each axis; one without a length is the whole axis. */
function readSlice(message: Uint8Array, fault: Fault): Slice {
  const slice: Extent[] = [];
  for (const [field, value] of fieldsOf(message, fault)) {
    if (field !== 1) continue;
    let start = 0;
    let length: number | null = null;
    for (const [f, v] of fieldsOf(bytesOf(value, "extent", fault), fault)) {
      if (f === 1) start = numberOf(v, "a slice's start", fault);
      else if (f === 2) length = numberOf(v, "a slice's length", fault);
    }
    if (length === null && start !== 0) throw fault("a slice of a whole axis does not begin at 0");
    slice.push({ start, length });
    if (slice.length > MAX_RANK) throw fault(`a slice of more than ${MAX_RANK} axes`);
  }
  return slice;
}

/** TensorShapeProto: sizes, outermost first. */
function readShape(message: Uint8Array, fault: Fault): number[] {
  const shape: number[] = [];
  for (const [field, value] of fieldsOf(message, fault)) {
    if (field === 3 && value !== 0) throw fault("the shape's rank is unknown");
    if (field !== 2) continue;
    let size = 0;
    for (const [f, v] of fieldsOf(bytesOf(value, "dim", fault), fault))
      if (f === 1) size = numberOf(v, "a size of the shape", fault);
    if (size > MAX_DIM) throw fault(`a size of ${size} in the shape; the limit is 2^40`);
    shape.push(size);
    if (shape.length > MAX_RANK) throw fault(`more than ${MAX_RANK} axes`);
  }
  return shape;
}
