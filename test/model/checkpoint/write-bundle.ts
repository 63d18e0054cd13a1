import { writeFileSync } from "node:fs";
import { crc32c, maskedCrc } from "../../../src/model/checkpoint/crc32c.js";

/** Writes TensorFlow bundles for tests, right ones and, by the overrides, wrong ones. */
export type TestVariable = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
  /** DataType of TensorFlow; default 1, float32. */
  readonly type?: number;
  readonly shard?: number;
  /** Instead of the entry's message. */
  readonly message?: Uint8Array;
  /** Instead of the name's bytes. */
  readonly key?: Uint8Array;
};

export type BundleOptions = {
  readonly shards?: number;
  /** A data block ends at the first entry beyond so many bytes. */
  readonly blockBytes?: number;
  readonly header?: Uint8Array;
};

export type Bundle = {
  readonly index: Uint8Array;
  readonly data: readonly Uint8Array[];
  /** Offset and size of every block of the index, without its 5 bytes of type and checksum. */
  readonly blocks: readonly (readonly [offset: number, size: number])[];
};

export function varint(value: number): number[] {
  const out: number[] = [];
  for (let v = value; ; v = Math.floor(v / 128)) {
    if (v < 128) return [...out, v];
    out.push((v % 128) + 128);
  }
}

export function fixed32(value: number): number[] {
  return [0, 8, 16, 24].map((s) => (value >>> s) & 255);
}

/** A varint field; 0 is left out, as protobuf does. */
export const field = (number: number, value: number): number[] =>
  value === 0 ? [] : [...varint(8 * number), ...varint(value)];
export const message = (number: number, content: readonly number[]): number[] => [
  ...varint(8 * number + 2),
  ...varint(content.length),
  ...content,
];

export const shapeMessage = (shape: readonly number[]): number[] =>
  message(
    2,
    shape.flatMap((d) => message(2, field(1, d))),
  );

export function float32(name: string, shape: readonly number[], values: ArrayLike<number>): TestVariable {
  return { name, shape, data: new Uint8Array(Float32Array.from(values).buffer) };
}

/** Begin and length along each axis; null: all of it. */
export type TestSlice = readonly (readonly [start: number, length: number] | null)[];

/** Ordered code of a number from -1 to 8191. */
const ordered = (v: number): number[] => (v < 64 ? [0x80 ^ (v & 255)] : [0xc0 ^ (v >> 8), v & 255]);

/** Key of a piece and its slice's message, both as TensorFlow's Saver writes them. */
export function sliceOf(name: string, slice: TestSlice): { key: Uint8Array; message: number[] } {
  const places = slice.flatMap((s) => [...ordered(s?.[0] ?? 0), ...ordered(s?.[1] ?? -1)]);
  return {
    key: Uint8Array.from([0, ...new TextEncoder().encode(name), 0, 1, 1, slice.length, ...places]),
    message: message(
      7,
      slice.flatMap((s) => message(1, s ? [...field(1, s[0]), ...varint(16), ...varint(s[1])] : [])),
    ),
  };
}

/** A float32 variable saved in pieces: its own entry, which has no bytes, and one for each piece. */
export function partitioned(whole: TestVariable, slices: readonly TestSlice[]): TestVariable[] {
  const { name, shape } = whole;
  const values = new Float32Array(whole.data.slice().buffer);
  const own = [...field(1, 1), ...shapeMessage(shape), ...slices.flatMap((s) => sliceOf(name, s).message)];
  const pieces = slices.map((slice): TestVariable => {
    const ranges = slice.map((s, i) => s ?? ([0, shape[i]!] as const));
    const inside = values.filter((_, at) => {
      let rest = at;
      return [...ranges.keys()].reverse().every((axis) => {
        const i = rest % shape[axis]!;
        rest = Math.floor(rest / shape[axis]!);
        return i >= ranges[axis]![0] && i < ranges[axis]![0] + ranges[axis]![1];
      });
    });
    const size = ranges.map(([, length]) => length);
    return { ...float32(`${name} ${JSON.stringify(slice)}`, size, inside), key: sliceOf(name, slice).key };
  });
  return [{ ...whole, data: new Uint8Array(0), message: Uint8Array.from(own) }, ...pieces];
}

export function int64(name: string, value: number): TestVariable {
  return { name, shape: [], type: 9, data: new Uint8Array(BigInt64Array.of(BigInt(value)).buffer) };
}

/** Type byte and checksum are the table's; `content` is a block's. */
export function sealed(content: readonly number[] | Uint8Array, type = 0): Uint8Array {
  const bytes = Uint8Array.from([...content, type]);
  return Uint8Array.from([...bytes, ...fixed32(maskedCrc(crc32c(bytes)))]);
}

/** A block of LevelDB's format: prefix-compressed, a restart every 16 entries. */
export function block(entries: readonly (readonly [key: Uint8Array, value: Uint8Array])[]): number[] {
  const out: number[] = [];
  const restarts = entries.length === 0 ? [0] : [];
  let before = new Uint8Array(0);
  for (const [i, [key, value]] of entries.entries()) {
    let shared = 0;
    if (i % 16 === 0) restarts.push(out.length);
    else while (shared < Math.min(before.length, key.length) && before[shared] === key[shared]) shared++;
    out.push(...varint(shared), ...varint(key.length - shared), ...varint(value.length));
    out.push(...key.subarray(shared), ...value);
    before = Uint8Array.from(key);
  }
  return [...out, ...restarts.flatMap(fixed32), ...fixed32(restarts.length)];
}

const MAGIC = [0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb];

/** A whole table from the contents of its data blocks, each with its separator. */
export function table(
  blocks: readonly (readonly [separator: Uint8Array, content: readonly number[]])[],
  meta: readonly number[] = block([]),
): Pick<Bundle, "index" | "blocks"> {
  const parts: Uint8Array[] = [];
  const places: [number, number][] = [];
  let at = 0;
  const put = (content: readonly number[]): Uint8Array => {
    const part = sealed(content);
    places.push([at, content.length]);
    const handle = Uint8Array.from([...varint(at), ...varint(content.length)]);
    at += part.length;
    parts.push(part);
    return handle;
  };
  const handles = blocks.map(([separator, content]) => [separator, put(content)] as const);
  const ends = [...put(meta), ...put(block(handles))];
  parts.push(Uint8Array.from([...ends, ...new Array<number>(40 - ends.length).fill(0), ...MAGIC]));
  return { index: new Uint8Array(Buffer.concat(parts)), blocks: places };
}

export function writeBundle(variables: readonly TestVariable[], options: BundleOptions = {}): Bundle {
  const { shards = 1, blockBytes = 1 << 18 } = options;
  const data = Array.from({ length: shards }, () => [] as Uint8Array[]);
  const ends = data.map(() => 0);
  const encoder = new TextEncoder();
  const sorted = variables.map((v) => [v.key ?? encoder.encode(v.name), v] as const);
  sorted.sort(([a], [b]) => Buffer.compare(a, b));
  const header = options.header ?? Uint8Array.from([...field(1, shards), ...message(3, field(1, 1))]);
  const entries: [Uint8Array, Uint8Array][] = [[new Uint8Array(0), header]];
  for (const [key, v] of sorted) {
    const shard = v.shard ?? 0;
    const content = [
      ...field(1, v.type ?? 1),
      ...shapeMessage(v.shape),
      ...field(3, shard),
      ...field(4, ends[shard]!),
      ...field(5, v.data.length),
      ...[6 * 8 + 5, ...fixed32(maskedCrc(crc32c(v.data)))],
    ];
    entries.push([key, v.message ?? Uint8Array.from(content)]);
    ends[shard]! += v.data.length;
    data[shard]!.push(v.data);
  }
  const blocks: [Uint8Array, number[]][] = [];
  let open: [Uint8Array, Uint8Array][] = [];
  let size = 0;
  const cut = (): void => {
    if (open.length > 0) blocks.push([open.at(-1)![0], block(open)]);
    open = [];
    size = 0;
  };
  for (const e of entries) {
    open.push(e);
    size += e[0].length + e[1].length;
    if (size >= blockBytes) cut();
  }
  cut();
  return { ...table(blocks), data: data.map((d) => new Uint8Array(Buffer.concat(d))) };
}

/** PREFIX.index and its data files on disk. */
export function saveBundle(prefix: string, bundle: Pick<Bundle, "index" | "data">): void {
  writeFileSync(`${prefix}.index`, bundle.index);
  const n = (k: number): string => String(k).padStart(5, "0");
  for (const [k, d] of bundle.data.entries()) writeFileSync(`${prefix}.data-${n(k)}-of-${n(bundle.data.length)}`, d);
}
