import { crc32c, maskedCrc } from "./crc32c.js";
import { ByteReader, type Fault } from "./wire.js";

/** One pair of the table; both are views of the file's bytes or copies, never shared with another pair. */
export type TableEntry = { readonly key: Uint8Array; readonly value: Uint8Array };

const FOOTER = 48;
const MAGIC = Uint8Array.of(0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb);
/** Type byte and checksum after every block. */
const TRAILER = 5;
const MAX_BLOCKS = 4096;
const MAX_ENTRIES = 65_536;
const MAX_KEY_BYTES = 1024;
/** All keys together: shared prefixes let a small file unfold into a large table. */
const MAX_UNFOLDED_BYTES = 32 << 20;

type Handle = { readonly offset: number; readonly size: number };

function compare(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

function handleFrom(reader: ByteReader): Handle {
  return { offset: reader.varint(), size: reader.varint() };
}

/** A block's content without its trailer; checksum and type verified. */
function blockAt(bytes: Uint8Array, { offset, size }: Handle, what: string, fault: Fault): Uint8Array {
  const room = bytes.length - FOOTER - TRAILER;
  if (offset > room || size > room - offset)
    throw fault(`${what} at byte ${offset}, ${size} bytes long, reaches beyond the ${bytes.length} bytes of the file`);
  const reader = new ByteReader(bytes, fault, offset + size);
  const type = reader.take(1)[0]!;
  const said = reader.fixed32();
  const found = maskedCrc(crc32c(bytes.subarray(offset, offset + size + 1)));
  if (said !== found) throw fault(`${what} at byte ${offset}: checksum ${hex(found)}, the file says ${hex(said)}`);
  if (type === 1)
    throw fault(
      `${what} at byte ${offset} is compressed with snappy, which is not read; TensorFlow's Saver writes none`,
    );
  if (type !== 0) throw fault(`${what} at byte ${offset} is compressed in the unknown way ${type}`);
  return bytes.subarray(offset, offset + size);
}

export function hex(crc: number): string {
  return crc.toString(16).padStart(8, "0");
}

/** How much may still be unfolded; one for the whole table. */
type Budget = { entries: number; bytes: number };

/** Pairs of one block: keys with their shared prefixes put back, strictly ascending; restart points as the entries have them. */
function entriesOf(block: Uint8Array, budget: Budget, fault: Fault): TableEntry[] {
  if (block.length < 4) throw fault("a block is shorter than its count of restarts");
  const restarts = new ByteReader(block, fault, block.length - 4).fixed32();
  if (restarts < 1 || restarts > (block.length - 4) / 4)
    throw fault(`a block of ${block.length} bytes claims ${restarts} restarts`);
  const end = block.length - 4 - 4 * restarts;
  const ends = new ByteReader(block, fault, end);
  const points = Array.from({ length: restarts }, () => ends.fixed32());
  const reader = new ByteReader(block.subarray(0, end), fault);
  const out: TableEntry[] = [];
  let key = new Uint8Array(0);
  let nextPoint = 0;
  while (reader.left > 0) {
    const isRestart = points[nextPoint] === reader.at;
    if (isRestart) nextPoint++;
    const shared = reader.varint();
    const unshared = reader.varint();
    const valueBytes = reader.varint();
    if (isRestart && shared !== 0) throw fault("a restart point shares a prefix");
    if (shared > key.length) throw fault(`a key shares ${shared} bytes with one of ${key.length}`);
    if (shared + unshared > MAX_KEY_BYTES)
      throw fault(`a key of ${shared + unshared} bytes; the limit is ${MAX_KEY_BYTES}`);
    const tail = reader.take(unshared);
    const next = new Uint8Array(shared + unshared);
    next.set(key.subarray(0, shared));
    next.set(tail, shared);
    if (out.length > 0 && compare(key, next) >= 0) throw fault("the keys do not ascend");
    budget.entries -= 1;
    budget.bytes -= next.length;
    if (budget.entries < 0) throw fault(`more than ${MAX_ENTRIES} entries`);
    if (budget.bytes < 0) throw fault(`more than ${MAX_UNFOLDED_BYTES} bytes of keys`);
    key = next;
    out.push({ key, value: reader.take(valueBytes) });
  }
  // An empty block has the one restart 0 that no entry stands at.
  if (nextPoint !== restarts && !(out.length === 0 && restarts === 1 && points[0] === 0))
    throw fault("a restart point is not at an entry");
  return out;
}

/** Every byte belongs to just one block: so a damaged byte cannot hide between blocks, and no block is read twice. */
function requireTiling(handles: readonly Handle[], end: number, fault: Fault): void {
  let at = 0;
  for (const { offset, size } of [...handles].sort((a, b) => a.offset - b.offset)) {
    if (offset !== at) throw fault(`a block begins at byte ${offset}, expected ${at}`);
    at = offset + size + TRAILER;
  }
  if (at !== end) throw fault(`the blocks end at byte ${at}, expected ${end}`);
}

/**
 * All pairs of a table in LevelDB's format, as TensorFlow writes it for the index of a checkpoint (owens2018.md 7.2): footer, index
 * block, data blocks, each with a verified checksum. Strict: blocks must fill the file, keys must ascend, numbers must be in their
 * shortest form, so that any one damaged byte is noticed. Work and memory are bounded by the file's size and the limits above.
 * `fault` makes the error that is thrown.
 */
export function readTable(bytes: Uint8Array, fault: Fault): TableEntry[] {
  if (bytes.length < FOOTER) throw fault(`${bytes.length} bytes are too short for an index, which ends in ${FOOTER}`);
  const footer = bytes.subarray(bytes.length - FOOTER);
  if (compare(footer.subarray(40), MAGIC) !== 0)
    throw fault("does not end in the mark of a table: no index of a checkpoint, or cut off");
  const reader = new ByteReader(footer.subarray(0, 40), fault);
  const metaHandle = handleFrom(reader);
  const indexHandle = handleFrom(reader);
  if (reader.take(reader.left).some((b) => b !== 0)) throw fault("the footer's padding is not zero");
  const budget: Budget = { entries: MAX_ENTRIES, bytes: MAX_UNFOLDED_BYTES };
  if (entriesOf(blockAt(bytes, metaHandle, "the metaindex block", fault), budget, fault).length > 0)
    throw fault("the metaindex block is not empty; TensorFlow writes nothing there");
  const index = entriesOf(blockAt(bytes, indexHandle, "the index block", fault), budget, fault);
  if (index.length > MAX_BLOCKS) throw fault(`${index.length} blocks; the limit is ${MAX_BLOCKS}`);
  const handles = index.map(({ value }) => {
    const r = new ByteReader(value, fault);
    const handle = handleFrom(r);
    if (r.left > 0) throw fault("a block's place has bytes left over");
    return handle;
  });
  // Before any block is read: handles that name one block a thousand times would make a thousand times the work.
  requireTiling([...handles, metaHandle, indexHandle], bytes.length - FOOTER, fault);
  const out: TableEntry[] = [];
  for (const [i, handle] of handles.entries()) {
    const entries = entriesOf(blockAt(bytes, handle, `block ${i}`, fault), budget, fault);
    if (entries.length === 0) throw fault(`block ${i} is empty`);
    const last = out.at(-1);
    if (last && compare(last.key, entries[0]!.key) >= 0) throw fault("the keys do not ascend from block to block");
    if (compare(entries.at(-1)!.key, index[i]!.key) > 0) throw fault(`block ${i} has keys beyond its separator`);
    for (const e of entries) out.push(e);
  }
  return out;
}
