import { createHash } from "node:crypto";
import { half } from "../weights.js";
import { type BundleEntry, readEntry, readHeader } from "./bundle.js";
import { crc32c, maskedCrc } from "./crc32c.js";
import { typeBytes, typeName } from "./dtypes.js";
import {
  CHUNK_BYTES,
  closeAll,
  invalid,
  openFile,
  openShards,
  readFully,
  requireFilled,
  type Shard,
} from "./shards.js";
import { missingValues, type Piece, piecesOf, place } from "./slices.js";
import { hex, readTable } from "./sstable.js";
import type { Fault } from "./wire.js";

/** An index of 700 variables has 23 kB. */
const MAX_INDEX_BYTES = 4 << 20;
const INDEX = ".index";

/** A variable as the index describes it. */
export type Variable = {
  readonly name: string;
  /** `float32`, `int64`, ... as TensorFlow names them. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** Above 0: saved in so many pieces by a partitioner; they are put together when it is read. */
  readonly slices: number;
  /** Values that none of its pieces holds; such a variable cannot be read. */
  readonly lacking: number;
  /** Of a type whose checksum is that of its bytes (strings are summed otherwise). */
  readonly verifiable: boolean;
};

/** What the index holds, checked in itself; the data files are not yet looked at. */
export type Index = {
  readonly shards: number;
  readonly entries: ReadonlyMap<string, BundleEntry>;
  /** Pieces of partitioned variables, by the variable's name. */
  readonly pieces: ReadonlyMap<string, readonly Piece[]>;
};

/**
 * Reads an `.index` (owens2018.md 7.2) from its bytes; `file` goes into the messages. Throws SL_MODEL_INVALID with file, variable
 * and what is wrong; never anything else, whatever the bytes are, and never allocates more than a few times their number.
 */
export function readIndex(bytes: Uint8Array, file: string): Index {
  const fault: Fault = (what) => invalid(file, what);
  const [head, ...rest] = readTable(bytes, fault);
  if (!head || head.key.length > 0) throw fault("the first key is not the bundle's header");
  const shards = readHeader(head.value, (what) => invalid(file, `header: ${what}`));
  const entries = new Map<string, BundleEntry>();
  const loose = new Map<string, BundleEntry>();
  for (const { key, value } of rest) {
    // Keys of pieces begin with a zero byte: the ordered code of the number 0, then name and place.
    const isPiece = key[0] === 0;
    const hexKey = isPiece ? Buffer.from(key).toString("hex") : "";
    const name = isPiece ? `(piece ${hexKey})` : nameOf(key, fault);
    const inEntry: Fault = (what) => invalid(file, `variable ${name}: ${what}`);
    const entry = readEntry(value, inEntry);
    if (entry.slices.length === 0) checkSize(entry, inEntry);
    else if (isPiece) throw inEntry("a piece in pieces");
    if (entry.shard >= shards) throw inEntry(`stands in shard ${entry.shard} of ${shards}`);
    if (isPiece) loose.set(hexKey, entry);
    else entries.set(name, entry);
  }
  const pieces = new Map<string, readonly Piece[]>();
  for (const [name, entry] of entries)
    if (entry.slices.length > 0)
      pieces.set(
        name,
        piecesOf(name, entry, loose, (what) => invalid(file, `variable ${name}: ${what}`)),
      );
  const [orphan] = loose.keys();
  if (orphan !== undefined) throw fault(`the piece under key ${orphan} belongs to no variable`);
  return { shards, entries, pieces };
}

/** Printable ASCII, which is what graphs allow; so a name can stand in a message as it is. */
function nameOf(key: Uint8Array, fault: Fault): string {
  const name = Buffer.from(key).toString("latin1");
  if (!/^[\x21-\x7e]+$/.test(name)) throw fault(`${JSON.stringify(name)} is not the name of a variable`);
  return name;
}

function checkSize({ type, shape, bytes }: BundleEntry, fault: Fault): void {
  const each = typeBytes(type);
  if (each === 0) return;
  const count = shape.reduce((p, d) => p * d, 1);
  if (count * each !== bytes)
    throw fault(`${bytes} bytes for shape (${shape.join(", ")}) of ${typeName(type)}, expected ${count * each}`);
}

/** `PREFIX` of a checkpoint, also when the name of its index is given. */
export function prefixOf(path: string): string {
  return path.endsWith(INDEX) ? path.slice(0, -INDEX.length) : path;
}

/**
 * A checkpoint whose index is read and whose data files are open. Close it. Reads are synchronous: the graph builder asks for one
 * variable after another, and an import is a command of its own, with nothing to serve meanwhile.
 */
export class Checkpoint {
  readonly variables: readonly Variable[];
  readonly #shards: readonly Shard[];
  readonly #index: Index;
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);

  constructor(
    readonly prefix: string,
    /** Of the whole index, which holds a checksum of every variable. */
    readonly indexSha256: string,
    index: Index,
    shards: readonly Shard[],
  ) {
    this.#index = index;
    this.#shards = shards;
    this.variables = [...index.entries].map(([name, e]) => ({
      name,
      dtype: typeName(e.type),
      shape: e.shape,
      bytes: this.#parts(name, e).reduce((sum, [, part]) => sum + part.bytes, 0),
      slices: e.slices.length,
      lacking: e.slices.length === 0 ? 0 : missingValues(e.shape, index.pieces.get(name)!),
      verifiable: typeBytes(e.type) > 0,
    }));
  }

  /**
   * Values of a float32 or float16 variable, row-major, its checksum verified. Holds the result and one chunk. One read at a time.
   * Throws SL_MODEL_INVALID when there is no such variable, it is of another type or incomplete, or its bytes are damaged.
   */
  read(name: string): Float32Array {
    const entry = this.#entry(name);
    const type = typeName(entry.type);
    if (entry.slices.length > 0) return this.#joined(name, entry);
    if (type === "float32") {
      const values = new Float32Array(entry.bytes / 4);
      const bytes = new Uint8Array(values.buffer); // little endian, as every machine that Node runs on
      this.#pass(name, entry, (chunk, at) => bytes.set(chunk, at));
      return values;
    }
    if (type === "float16") {
      const values = new Float32Array(entry.bytes / 2);
      this.#pass(name, entry, (chunk, at) => {
        const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
        for (let i = 0; i < chunk.length; i += 2) values[(at + i) / 2] = half(view.getUint16(i, true));
      });
      return values;
    }
    throw this.#fault(entry, name, `is of type ${type}; weights are float32 or float16`);
  }

  /** A single int32 or int64, such as global_step. */
  readInteger(name: string): number {
    const entry = this.#entry(name);
    const type = typeName(entry.type);
    if ((type !== "int32" && type !== "int64") || entry.shape.length > 0)
      throw this.#fault(entry, name, `is ${type} of shape (${entry.shape.join(", ")}), not a single int32 or int64`);
    let value = 0n;
    this.#pass(name, entry, (chunk) => {
      const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
      value = type === "int32" ? BigInt(view.getInt32(0, true)) : view.getBigInt64(0, true);
    });
    if (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER)
      throw this.#fault(entry, name, `${value} is beyond 2^53`);
    return Number(value);
  }

  /** Reads a variable of any type with a fixed size only to verify its checksum; keeps nothing. */
  verify(name: string): void {
    const entry = this.#entry(name);
    if (typeBytes(entry.type) === 0)
      throw this.#fault(entry, name, `is of type ${typeName(entry.type)}, which is not read`);
    for (const [label, part] of this.#parts(name, entry)) this.#pass(label, part, () => {});
  }

  close(): void {
    closeAll(this.#shards);
  }

  #fault({ shard }: BundleEntry, name: string, what: string): Error {
    return invalid(this.#shards[shard]!.path, `variable ${name}: ${what}`);
  }

  #entry(name: string): BundleEntry {
    const entry = this.#index.entries.get(name);
    if (!entry) throw invalid(this.prefix + INDEX, `there is no variable ${name}`);
    return entry;
  }

  /** What of a variable stands in the files, with names for messages: itself, or its pieces. */
  #parts(name: string, entry: BundleEntry): (readonly [string, BundleEntry])[] {
    const pieces = this.#index.pieces.get(name);
    return pieces ? pieces.map((p) => [`${name}, piece ${p.label}`, p.entry]) : [[name, entry]];
  }

  /** A partitioned variable, whole. */
  #joined(name: string, entry: BundleEntry): Float32Array {
    const type = typeName(entry.type);
    if (type !== "float32" && type !== "float16")
      throw this.#fault(entry, name, `is of type ${type}; weights are float32 or float16`);
    const pieces = this.#index.pieces.get(name)!;
    const lacking = missingValues(entry.shape, pieces);
    if (lacking > 0)
      throw invalid(
        this.prefix + INDEX,
        `variable ${name}: its ${pieces.length} pieces (${pieces.map((p) => p.label).join(", ")}) lack ${lacking} values of shape (${entry.shape.join(", ")})`,
      );
    const whole = new Float32Array(entry.shape.reduce((p, d) => p * d, 1));
    const each = typeBytes(entry.type);
    for (const piece of pieces)
      this.#pass(`${name}, piece ${piece.label}`, piece.entry, (chunk, at) => {
        const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
        const values = Float32Array.from({ length: chunk.length / each }, (_, i) =>
          each === 4 ? view.getFloat32(4 * i, true) : half(view.getUint16(2 * i, true)),
        );
        place(whole, entry.shape, piece, values, at / each);
      });
    return whole;
  }

  /** Gives the bytes chunk by chunk (valid only during the call), then compares the checksum. */
  #pass(name: string, entry: BundleEntry, take: (chunk: Uint8Array, at: number) => void): void {
    const shard = this.#shards[entry.shard]!;
    let crc = 0;
    for (let at = 0; at < entry.bytes; at += CHUNK_BYTES) {
      const chunk = this.#chunk.subarray(0, Math.min(CHUNK_BYTES, entry.bytes - at));
      readFully(shard, chunk, entry.offset + at);
      crc = crc32c(chunk, crc);
      take(chunk, at);
    }
    const found = maskedCrc(crc);
    if (found !== entry.crc)
      throw this.#fault(entry, name, `checksum ${hex(found)}, the index says ${hex(entry.crc)}; the file is damaged`);
  }
}

/**
 * Opens a TensorFlow checkpoint (bundle V2: PREFIX.index and its data files). Everything that the index says is compared with the
 * real files here, so that later reads allocate only what is there. Throws SL_MODEL_INVALID with file, variable, expected and found.
 */
export function openCheckpoint(path: string): Checkpoint {
  const prefix = prefixOf(path);
  const file = openFile(prefix + INDEX);
  let index: Index;
  let sum: string;
  try {
    if (file.size > MAX_INDEX_BYTES) throw invalid(file.path, `${file.size} bytes; the limit is ${MAX_INDEX_BYTES}`);
    const bytes = new Uint8Array(file.size);
    readFully(file, bytes, 0);
    index = readIndex(bytes, file.path);
    sum = createHash("sha256").update(bytes).digest("hex");
  } finally {
    closeAll([file]);
  }
  const shards = openShards(prefix, index.shards);
  try {
    const whole = [...index.entries].filter(([, e]) => e.slices.length === 0);
    const pieces = [...index.pieces].flatMap(([name, all]) =>
      all.map((p) => [`${name}, piece ${p.label}`, p.entry] as const),
    );
    requireFilled(shards, [...whole, ...pieces]);
    return new Checkpoint(prefix, sum, index, shards);
  } catch (e) {
    closeAll(shards);
    throw e;
  }
}
