import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readIndex } from "../../../src/model/checkpoint/checkpoint.js";
import { crc32c, maskedCrc } from "../../../src/model/checkpoint/crc32c.js";
import { readTable } from "../../../src/model/checkpoint/sstable.js";
import { InferenceError } from "../../../src/model/inference.js";
import { refused } from "./refused.js";
import {
  type Bundle,
  block,
  fixed32,
  float32,
  int64,
  partitioned,
  sealed,
  table,
  varint,
  writeBundle,
} from "./write-bundle.js";

const test = suite("index of a checkpoint");

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (index: Uint8Array): ReturnType<typeof readTable> =>
  readTable(index, (what) => new InferenceError("SL_MODEL_INVALID", `x.index: ${what}`));

/** About 40 entries in several blocks, with restarts inside. */
function small(): Bundle {
  const names = Array.from({ length: 40 }, (_, i) => `im/conv${(i * 7) % 40}/weights`);
  const variables = names.map((name, i) => float32(name, [i % 3, 2], new Float32Array(2 * (i % 3))));
  return writeBundle([...variables, int64("global_step", 160_000)], { blockBytes: 500 });
}

test("CRC-32C: the values of RFC 3720, pieces, and TensorFlow's masking", () => {
  assert.is(crc32c(utf8("123456789")), 0xe3069283);
  assert.is(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.is(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
  assert.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.is(crc32c(new Uint8Array(0)), 0);
  assert.is(maskedCrc(0), 0xa282ead8);
  const bitwise = (bytes: Uint8Array): number => {
    let c = 0xffffffff;
    for (const b of bytes) {
      c ^= b;
      for (let i = 0; i < 8; i++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    }
    return ~c >>> 0;
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, cut) => {
      const at = Math.min(cut, bytes.length);
      const whole = crc32c(bytes);
      assert.is(whole, bitwise(bytes));
      assert.is(crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at))), whole);
    }),
    { seed: 1 },
  );
});

test("any sorted table comes back as it was written, whatever its blocks", () => {
  const pairs = fc.uniqueArray(fc.tuple(fc.uint8Array({ maxLength: 12 }), fc.uint8Array({ maxLength: 9 })), {
    selector: ([key]) => Buffer.from(key).toString("hex"),
    minLength: 1,
    maxLength: 60,
  });
  fc.assert(
    fc.property(pairs, fc.integer({ min: 1, max: 20 }), (given, perBlock) => {
      const sorted = [...given].sort(([a], [b]) => Buffer.compare(a, b));
      const blocks: [Uint8Array, number[]][] = [];
      for (let i = 0; i < sorted.length; i += perBlock) {
        const part = sorted.slice(i, i + perBlock);
        blocks.push([part.at(-1)![0], block(part)]);
      }
      const found = read(table(blocks).index).map((e) => [[...e.key], [...e.value]]);
      assert.equal(
        found,
        sorted.map(([k, v]) => [[...k], [...v]]),
      );
    }),
    { seed: 2, numRuns: 200 },
  );
});

test("each fault of a table is named", () => {
  const one = (content: readonly number[], separator = "z"): Uint8Array => table([[utf8(separator), content]]).index;
  const entry = (shared: number, key: string, value = ""): number[] => [
    ...[shared, key.length, value.length].flatMap(varint),
    ...utf8(key),
    ...utf8(value),
  ];
  const tail = (...restarts: number[]): number[] => [...restarts.flatMap(fixed32), ...fixed32(restarts.length)];
  refused(() => read(new Uint8Array(47)), /x\.index: 47 bytes are too short/);
  refused(() => read(new Uint8Array(100)), /does not end in the mark of a table/);
  refused(() => read(one([0, 0])), /shorter than its count of restarts/);
  refused(() => read(one([...entry(0, "a"), ...fixed32(0xffffffff)])), /claims 4294967295 restarts/);
  refused(() => read(one([...entry(0, "a"), ...fixed32(0)])), /claims 0 restarts/);
  refused(() => read(one([...entry(0, "a"), ...tail(0, 1)])), /restart point is not at an entry/);
  refused(() => read(one([...entry(0, "ab"), ...entry(1, "c"), ...tail(0, 5)])), /restart point shares a prefix/);
  refused(() => read(one([...entry(3, "a"), ...tail(1)])), /shares 3 bytes with one of 0/);
  refused(() => read(one([...entry(0, "b"), ...entry(0, "a"), ...tail(0)])), /do not ascend/);
  refused(() => read(one([0, ...varint(1e9), 0, ...tail(0)])), /a key of 1000000000 bytes; the limit is 1024/);
  refused(() => read(one([0, 1, ...varint(1e9), 97, ...tail(0)])), /1000000000 bytes announced, 0 left/);
  refused(() => read(one([0, 0x81, 0, 0, 97, ...tail(0)])), /shortest form/);
  refused(() => read(one([...new Array<number>(10).fill(255), ...tail(0)])), /negative or above 2\^53/);
  refused(() => read(one([])), /shorter than its count/);
  refused(() => read(one(block([]))), /block 0 is empty/);
  refused(() => read(one(block([[utf8("zz"), utf8("")]]), "z")), /block 0 has keys beyond its separator/);
  const a = block([[utf8("a"), utf8("")]]);
  const twice = table([
    [utf8("a"), a],
    [utf8("b"), a],
  ]);
  refused(() => read(twice.index), /do not ascend from block to block/);
  refused(() => read(table([[utf8("a"), a]], a).index), /metaindex block is not empty/);
});

test("a block that is packed, damaged, elsewhere or named twice is refused", () => {
  const { index, blocks } = small();
  const [offset, size] = blocks[1]!;
  const packed = Uint8Array.from(index);
  packed.set(sealed(index.subarray(offset, offset + size), 1), offset);
  refused(() => read(packed), /block 1 at byte \d+ is compressed with snappy, which is not read/);
  packed.set(sealed(index.subarray(offset, offset + size), 9), offset);
  refused(() => read(packed), /compressed in the unknown way 9/);
  const damaged = Uint8Array.from(index);
  damaged[offset + 3]! ^= 4;
  refused(() => read(damaged), /block 1 at byte \d+: checksum [0-9a-f]{8}, the file says [0-9a-f]{8}/);
  // An index block whose handles lead to itself, to one block twice, or beyond the file.
  const [at, length] = blocks.at(-1)!;
  const withHandles = (...places: (readonly [number, number])[]): Uint8Array => {
    const keys = places.map(([o, s], i) => [utf8(`k${i}`), Uint8Array.from([...varint(o), ...varint(s)])] as const);
    const content = sealed(block(keys));
    const meta = blocks.at(-2)!;
    const ends = [...varint(meta[0]), ...varint(meta[1]), ...varint(at), ...varint(content.length - 5)];
    const footer = [...ends, ...new Array<number>(40 - ends.length).fill(0), ...index.subarray(-8)];
    return Uint8Array.from([...index.subarray(0, at), ...content, ...footer]);
  };
  refused(() => read(withHandles([at, length])), /a block begins at byte/);
  refused(() => read(withHandles([0, blocks[0]![1]], [0, blocks[0]![1]])), /begins at byte 0, expected \d+/);
  refused(() => read(withHandles(...blocks.slice(0, -3))), /a block begins at byte \d+, expected/);
  refused(() => read(withHandles([2 ** 52, 2 ** 52])), /a block begins at byte/);
  const away = Uint8Array.from(index);
  away.set([...varint(0), ...varint(2 ** 50)], index.length - 48);
  refused(() => read(away), /metaindex block at byte 0, 1125899906842624 bytes long, reaches beyond/);
});

test("a small file cannot unfold into a large table", () => {
  const key = "k".repeat(1000);
  const entries: number[] = [0, ...varint(1004), 0, ...utf8(key), 0, 0, 0, 0];
  for (let i = 1; i < 60_000; i++) entries.push(...varint(1000), 4, 0, ...fixed32(i).reverse());
  const many = table([[utf8("z"), [...entries, ...fixed32(0), ...fixed32(1)]]]).index;
  refused(() => read(many), /more than 33554432 bytes of keys/);
  const short: number[] = [];
  for (let i = 0; i < 70_000; i++) short.push(0, 4, 0, ...fixed32(i).reverse());
  refused(() => read(table([[utf8("z"), [...short, ...fixed32(0), ...fixed32(1)]]]).index), /more than 65536 entries/);
});

test("every prefix of a good index is refused", () => {
  const { index } = small();
  assert.is(readIndex(index, "x.index").entries.size, 41);
  for (let n = 0; n < index.length; n++) refused(() => readIndex(index.subarray(0, n), "x.index"), /^x\.index: /);
});

test("every single flipped bit of an index is noticed", () => {
  const { index } = small();
  for (let bit = 0; bit < 8 * index.length; bit++) {
    const bad = Uint8Array.from(index);
    bad[bit >> 3]! ^= 1 << (bit & 7);
    refused(() => readIndex(bad, "x.index"), /^x\.index: /);
  }
});

/** xorshift: the same mutations on every machine. */
function randomOf(seed: number): (below: number) => number {
  let s = seed;
  return (below) => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) % below;
  };
}

test("100,000 mutations of an index, half of them with right checksums, are refused or read, never worse", () => {
  const { index, blocks } = writeBundle(
    [
      float32("a/b", [2], [1, 2]),
      float32("a/c", [], [3]),
      int64("global_step", 7),
      ...partitioned(float32("p", [2], [1, 2]), [[[0, 1]], [[1, 1]]]),
    ],
    { blockBytes: 30 },
  );
  const random = randomOf(20_181_126);
  const before = process.memoryUsage().heapUsed;
  let readable = 0;
  for (let round = 0; round < 100_000; round++) {
    const bad = Uint8Array.from(index);
    for (let edits = 1 + random(3); edits > 0; edits--) {
      const at = random(bad.length);
      bad[at] = random(3) === 0 ? [0, 1, 127, 128, 255][random(5)]! : random(256);
    }
    const resealed = round % 2 === 0;
    if (resealed) for (const [o, s] of blocks) bad.set(sealed(bad.subarray(o, o + s), bad[o + s]), o);
    try {
      const found = readIndex(bad, "x.index");
      if (!resealed) assert.equal(bad, index);
      assert.ok(found.entries.size + [...found.pieces.values()].flat().length <= 6);
      readable++;
    } catch (e) {
      assert.instance(e, InferenceError);
    }
  }
  assert.ok(readable > 1000, `only ${readable} were readable: the mutations do not reach the messages`);
  assert.ok(process.memoryUsage().heapUsed - before < 200e6);
});

test.run();
