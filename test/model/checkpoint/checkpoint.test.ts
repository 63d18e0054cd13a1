import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Checkpoint, openCheckpoint, readIndex } from "../../../src/model/checkpoint/checkpoint.js";
import { pieceKey } from "../../../src/model/checkpoint/slices.js";
import { refused } from "./refused.js";
import {
  type Bundle,
  field,
  float32,
  int64,
  message,
  partitioned,
  saveBundle,
  shapeMessage,
  sliceOf,
  type TestSlice,
  type TestVariable,
  writeBundle,
} from "./write-bundle.js";

const test = suite<{ dir: string; at: string }>("checkpoints");

test.before(async (t) => {
  t.dir = await mkdtemp(join(tmpdir(), "sightline-bundle-"));
});
test.after((t) => rm(t.dir, { recursive: true, force: true }));
let next = 0;
test.before.each((t) => {
  t.at = join(t.dir, `b${next++}.tf-7`);
});

function using<T>(prefix: string, job: (c: Checkpoint) => T): T {
  const c = openCheckpoint(prefix);
  try {
    return job(c);
  } finally {
    c.close();
  }
}

/** Opens and reads or verifies everything. */
function readAll(prefix: string): void {
  using(prefix, (c) => {
    for (const v of c.variables) c.verify(v.name);
  });
}

const variables: readonly TestVariable[] = [
  float32("im/conv1/weights", [2, 3], [1, -2, 3.5, 0, -0, 1e-30]),
  float32("im/conv1/empty", [0, 4], []),
  float32("scale", [], [7]),
  int64("global_step", 160_000),
  { name: "small", shape: [], type: 3, data: new Uint8Array(Int32Array.of(-3).buffer) },
  { name: "halves", shape: [3], type: 19, data: new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x0001).buffer) },
];

test("what was written is listed and read", (t) => {
  saveBundle(t.at, writeBundle(variables, { blockBytes: 60 }));
  using(t.at, (c) => {
    assert.equal(
      c.variables.map((v) => `${v.name} ${v.dtype} [${v.shape}] ${v.bytes}`),
      [
        "global_step int64 [] 8",
        "halves float16 [3] 6",
        "im/conv1/empty float32 [0,4] 0",
        "im/conv1/weights float32 [2,3] 24",
        "scale float32 [] 4",
        "small int32 [] 4",
      ],
    );
    assert.equal(c.read("im/conv1/weights"), Float32Array.of(1, -2, 3.5, 0, -0, 1e-30));
    assert.equal(c.read("im/conv1/empty"), new Float32Array(0));
    assert.equal(c.read("scale"), Float32Array.of(7));
    assert.equal(c.read("halves"), Float32Array.of(1, -2, 2 ** -24));
    assert.is(c.readInteger("global_step"), 160_000);
    assert.is(c.readInteger("small"), -3);
    refused(() => c.read("global_step"), /variable global_step: is of type int64; weights are float32 or float16/);
    refused(() => c.readInteger("scale"), /variable scale: is float32 of shape \(\), not a single int32 or int64/);
    refused(() => c.read("other"), /\.index: there is no variable other/);
  });
  using(`${t.at}.index`, (c) => assert.is(c.prefix, t.at));
});

test("tensors longer than a chunk, in several shards", (t) => {
  const long = Float32Array.from({ length: 700_001 }, (_, i) => Math.sin(i));
  const halves = Uint16Array.from({ length: 600_001 }, (_, i) => 0x3c00 + (i % 1024));
  saveBundle(
    t.at,
    writeBundle(
      [
        { ...float32("a", [700_001], long), shard: 2 },
        { name: "b", shape: [600_001], type: 19, data: new Uint8Array(halves.buffer), shard: 2 },
        { ...float32("c", [1], [5]), shard: 0 },
      ],
      { shards: 3 },
    ),
  );
  assert.ok(existsSync(`${t.at}.data-00002-of-00003`));
  using(t.at, (c) => {
    assert.equal(c.read("a"), long);
    const b = c.read("b");
    assert.is(b[600_000], 1 + (600_000 % 1024) / 1024);
    assert.is(b[524_289], 1 + (524_289 % 1024) / 1024);
    assert.equal(c.read("c"), Float32Array.of(5));
  });
  writeFileSync(`${t.at}.data-00001-of-00003`, Uint8Array.of(1));
  refused(() => openCheckpoint(t.at), /data-00001-of-00003: 1 bytes, its variables end at 0/);
});

test("every flipped byte of either file is noticed", (t) => {
  const bundle = writeBundle(variables, { blockBytes: 60 });
  saveBundle(t.at, bundle);
  readAll(t.at);
  for (const [file, bytes] of [
    [`${t.at}.index`, bundle.index],
    [`${t.at}.data-00000-of-00001`, bundle.data[0]!],
  ] as const) {
    for (let i = 0; i < bytes.length; i++) {
      const bad = Uint8Array.from(bytes);
      bad[i]! ^= 1 << (i % 8);
      writeFileSync(file, bad);
      refused(() => readAll(t.at), t.at, /variable |block|mark|index|header|key|number|padding|footer|bytes/);
    }
    writeFileSync(file, bytes);
  }
  readAll(t.at);
});

test("files that are cut off, too long, missing, exchanged or no files", (t) => {
  const bundle = writeBundle(variables);
  const data = `${t.at}.data-00000-of-00001`;
  saveBundle(t.at, bundle);
  for (let n = 0; n < bundle.data[0]!.length; n++) {
    writeFileSync(data, bundle.data[0]!.subarray(0, n));
    refused(() => readAll(t.at), data, /bytes \d+ to \d+ of a file of \d+|its variables end at/);
  }
  writeFileSync(data, Buffer.concat([bundle.data[0]!, Uint8Array.of(0)]));
  refused(() => readAll(t.at), /47 bytes, its variables end at 46/);
  const other = writeBundle(variables.map((v) => (v.name === "scale" ? float32("scale", [], [8]) : v)));
  writeFileSync(data, other.data[0]!);
  refused(() => readAll(t.at), data, /variable scale: checksum [0-9a-f]{8}, the index says [0-9a-f]{8}/);
});

test("a missing file, a folder, a huge index", (t) => {
  refused(() => openCheckpoint(t.at), `${t.at}.index: there is no such file`);
  mkdirSync(`${t.at}.index`);
  refused(() => openCheckpoint(t.at), /is not a file/);
  const next = `${t.at}x`;
  const bundle = writeBundle(variables);
  writeFileSync(`${next}.index`, bundle.index);
  refused(() => openCheckpoint(next), `${next}.data-00000-of-00001: there is no such file`);
  writeFileSync(`${next}.index`, new Uint8Array((4 << 20) + 1));
  refused(() => openCheckpoint(next), /4194305 bytes; the limit is 4194304/);
});

/** A bundle of one float32 `v` of two values whose entry is the given message. */
function withEntry(content: readonly number[], options: { header?: number[] } = {}): Bundle {
  return writeBundle([{ ...float32("v", [2], [1, 2]), message: Uint8Array.from(content) }], {
    ...(options.header && { header: Uint8Array.from(options.header) }),
  });
}

test("an index that claims what the files do not hold is refused before anything is allocated", (t) => {
  const entry = (o: { type?: number; shape?: number[]; shard?: number; offset?: number; bytes?: number }): number[] => [
    ...field(1, o.type ?? 1),
    ...shapeMessage(o.shape ?? [2]),
    ...field(3, o.shard ?? 0),
    ...field(4, o.offset ?? 0),
    ...field(5, o.bytes ?? 8),
  ];
  const negative = [...new Array<number>(9).fill(255), 1];
  const cases: [number[], RegExp][] = [
    [entry({ shape: [3] }), /variable v: 8 bytes for shape \(3\) of float32, expected 12/],
    [entry({ type: 2 }), /8 bytes for shape \(2\) of float64, expected 16/],
    [entry({ shape: [1e9, 1e9], bytes: 4e15 }), /4000000000000000 bytes for shape/],
    [entry({ shape: [2 ** 38], bytes: 2 ** 40 }), /bytes 0 to 1099511627776 of a file of 8/],
    [entry({ shape: [2 ** 41], bytes: 2 ** 43 }), /the limit is 2\^40/],
    [entry({ shape: new Array<number>(9).fill(1), bytes: 4 }), /more than 8 axes/],
    [entry({ offset: 4 }), /bytes 4 to 12 of a file of 8/],
    [entry({ offset: 2 ** 52 }), /of a file of 8/],
    [entry({ shape: [1], bytes: 4, offset: 4 }), /begins at byte 4, the one before it ends at 0/],
    [entry({ shape: [1], bytes: 4 }), /8 bytes, its variables end at 4/],
    [entry({ shard: 1 }), /stands in shard 1 of 1/],
    [[...field(1, 1), ...message(2, message(2, [8, ...negative]))], /negative or above 2\^53/],
    [[...entry({}), 5 * 8, ...negative], /negative or above 2\^53/],
    [[...field(1, 1), ...message(2, [...field(3, 1)]), ...field(5, 8)], /rank is unknown/],
    [[...entry({}), ...shapeMessage([2])], /two shapes/],
    [[...field(2, 5)], /shape is not a message/],
    [[...message(1, [])], /dtype is not a number/],
    [[7, 0], /field 0|number 0/],
    [[12], /unknown wire type 4/],
    [[2 * 8 + 2, 100], /100 bytes announced, 0 left/],
  ];
  for (const [content, what] of cases) {
    saveBundle(t.at, withEntry(content));
    refused(() => readAll(t.at), what);
  }
});

test("headers of other kinds are refused", (t) => {
  const cases: [number[], RegExp][] = [
    [[...field(1, 1e9)], /header: 1000000000 shards; allowed are 1 to 256/],
    [[], /header: 0 shards/],
    [[...field(1, 1), ...field(2, 1)], /big-endian/],
    [[...field(1, 1), ...message(3, field(2, 2))], /reader of version 2/],
    [[...field(1, 1), ...message(3, field(3, 1))], /forbids readers of version 1/],
    [[...field(1, 1), ...message(3, message(3, [0, 1]))], /forbids readers of version 1/],
    [[...field(1, 2)], /data-00000-of-00002: there is no such file/],
  ];
  for (const [header, what] of cases) {
    saveBundle(t.at, withEntry([...field(1, 1), ...shapeMessage([2]), ...field(5, 8)], { header }));
    refused(() => openCheckpoint(t.at), what);
  }
});

test("other types are listed and refused by name when read", (t) => {
  const one = (type: number, bytes: number): TestVariable => ({
    name: `of ${type}`.replace(" ", "_"),
    shape: [],
    type,
    data: new Uint8Array(bytes),
  });
  saveBundle(t.at, writeBundle([one(2, 8), one(14, 2), one(7, 5), one(99, 3)]));
  using(t.at, (c) => {
    assert.equal(
      c.variables.map((v) => [v.name, v.dtype, v.verifiable]),
      [
        ["of_14", "bfloat16", true],
        ["of_2", "float64", true],
        ["of_7", "string", false],
        ["of_99", "type 99", false],
      ],
    );
    refused(() => c.read("of_14"), /variable of_14: is of type bfloat16/);
    refused(() => c.read("of_2"), /variable of_2: is of type float64/);
    refused(() => c.verify("of_7"), /variable of_7: is of type string, which is not read/);
    refused(() => c.read("of_99"), /variable of_99: is of type type 99/);
  });
});

const counted = (shape: readonly number[]): TestVariable =>
  float32(
    "part",
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i + 0.5),
  );

test("pieces of a partitioned variable are put together, whichever axes they are cut along", (t) => {
  const cases: [number[], TestSlice[]][] = [
    [[7], [[[0, 4]], [[4, 3]]]],
    [
      [5, 3, 2],
      [
        [[0, 2], null, null],
        [[2, 3], null, null],
      ],
    ],
    [
      [4, 6, 3],
      [
        [null, [0, 1], null],
        [null, [1, 5], null],
      ],
    ],
    [
      [3, 4],
      [
        [null, [2, 2]],
        [null, [0, 2]],
      ],
    ],
    [
      [4, 5, 2],
      [
        [[0, 1], null, [0, 1]],
        [[0, 1], null, [1, 1]],
        [[1, 3], [0, 4], null],
        [[1, 3], [4, 1], null],
      ],
    ],
    // Longer than a chunk (2^18 values), places beyond one byte of the ordered code.
    [
      [3, 300, 700],
      [
        [null, [0, 100], null],
        [null, [100, 200], null],
      ],
    ],
  ];
  for (const [shape, slices] of cases) {
    const whole = counted(shape);
    saveBundle(t.at, writeBundle([...partitioned(whole, slices), float32("z", [1], [9])]));
    using(t.at, (c) => {
      const v = c.variables.find((x) => x.name === "part")!;
      assert.equal([v.shape, v.bytes, v.slices, v.lacking], [shape, whole.data.length, slices.length, 0]);
      assert.equal(c.read("part"), new Float32Array(whole.data.slice().buffer), `${shape}`);
      assert.equal(c.read("z"), Float32Array.of(9));
    });
    readAll(t.at);
  }
});

test("float16 in pieces", (t) => {
  const halves = (values: number[]): Uint8Array => new Uint8Array(Uint16Array.from(values).buffer);
  const [a, b] = [sliceOf("h", [[0, 1]]), sliceOf("h", [[1, 2]])];
  const own = [...field(1, 19), ...shapeMessage([3]), ...b.message, ...a.message];
  const none = { shape: [3], type: 19, data: new Uint8Array(0) };
  saveBundle(
    t.at,
    writeBundle([
      { ...none, name: "h", message: Uint8Array.from(own) },
      { name: "a", shape: [1], type: 19, data: halves([0x3c00]), key: a.key },
      { name: "b", shape: [2], type: 19, data: halves([0xc000, 0x4200]), key: b.key },
    ]),
  );
  using(t.at, (c) => assert.equal(c.read("h"), Float32Array.of(1, -2, 3)));
});

test("pieces that are missing, too many, elsewhere or of another shape are named with what was expected", (t) => {
  const two: TestSlice[] = [
    [[0, 1], null],
    [[1, 1], null],
  ];
  const whole = counted([2, 3]);
  const [own, first, second] = partitioned(whole, two) as [TestVariable, TestVariable, TestVariable];
  const withSlices = (...slices: TestSlice[]): TestVariable => partitioned(whole, slices)[0]!;
  const cases: [TestVariable[], RegExp][] = [
    [[own, first], /variable part: piece \[1:2, :\] of a whole of shape \(2, 3\) is not in the index/],
    [[withSlices(two[0]!), first, second], /the piece under key 0070617274[0-9a-f]+ belongs to no variable/],
    [[first, second], /the piece under key [0-9a-f]+ belongs to no variable/],
    [
      [own, first, { ...float32("x", [1, 2], [1, 2]), key: second.key! }],
      /piece \[1:2, :\] of a whole of shape \(2, 3\) is of type 1 and shape \(1, 2\), expected 1 and \(1, 3\)/,
    ],
    [
      [own, first, { ...second, type: 3 }],
      /piece \[1:2, :\] .* is of type 3 and shape \(1, 3\), expected 1 and \(1, 3\)/,
    ],
    [partitioned(whole, [two[0]!, [[0, 2], null]]), /pieces \[0:1, :\] and \[0:2, :\] overlap/],
    [
      [withSlices([[1, 2], null]), { ...first, key: sliceOf("part", [[1, 2], null]).key }],
      /piece \[1:3, :\] .* reaches beyond it/,
    ],
    [[withSlices([[0, 1]]), first], /piece \[0:1\] of a whole of shape \(2, 3\) has 1 axes/],
    [
      [{ ...own, message: Uint8Array.from([...own.message!, ...field(5, 8)]) }, first, second],
      /has 8 bytes of its own/,
    ],
    [
      [own, first, { ...second, message: Uint8Array.from([...field(1, 1), ...message(7, [])]) }],
      /\(piece [0-9a-f]+\): a piece in pieces/,
    ],
    [[withSlices(...Array.from({ length: 1025 }, () => two[0]!)), first], /1025 pieces; the limit is 1024/],
    [
      [{ ...own, message: Uint8Array.from([...field(1, 1), ...message(7, message(1, field(1, 5)))]) }],
      /a slice of a whole axis does not begin at 0/,
    ],
    [
      [
        {
          ...own,
          message: Uint8Array.from([...field(1, 1), ...message(7, new Array<number[]>(9).fill(message(1, [])).flat())]),
        },
      ],
      /a slice of more than 8 axes/,
    ],
  ];
  for (const [variables, what] of cases) {
    saveBundle(t.at, writeBundle(variables));
    refused(() => openCheckpoint(t.at), what);
  }
  // A file of which only a part was saved is one that can be listed; the variable cannot be read.
  saveBundle(t.at, writeBundle([withSlices(two[0]!), first]));
  using(t.at, (c) => {
    assert.equal(
      c.variables.map((v) => [v.name, v.slices, v.lacking]),
      [["part", 1, 3]],
    );
    refused(() => c.read("part"), /variable part: its 1 pieces \(\[0:1, :\]\) lack 3 values of shape \(2, 3\)/);
  });
});

test("every flipped byte of a file with pieces is noticed, too", (t) => {
  const bundle = writeBundle(
    partitioned(counted([3, 4]), [
      [null, [0, 3]],
      [null, [3, 1]],
    ]),
  );
  for (const [file, bytes] of [
    [`${t.at}.index`, bundle.index],
    [`${t.at}.data-00000-of-00001`, bundle.data[0]!],
  ] as const) {
    saveBundle(t.at, bundle);
    readAll(t.at);
    for (let i = 0; i < bytes.length; i++) {
      const bad = Uint8Array.from(bytes);
      bad[i]! ^= 1 << (i % 8);
      writeFileSync(file, bad);
      refused(() => readAll(t.at), t.at);
    }
  }
  const bad = Uint8Array.from(bundle.data[0]!);
  bad[40]! ^= 1; // of the second piece
  saveBundle(t.at, { ...bundle, data: [bad] });
  refused(() => readAll(t.at), /variable part, piece \[:, 3:4\]: checksum/);
});

test("keys of pieces: TensorFlow's ordered code, also of large numbers", () => {
  const code = (start: number, length: number | null): string => pieceKey("a", [{ start, length }]).slice(8);
  assert.is(pieceKey("a\u0000\u00ffb", []), "006100ffff00620001" + "00");
  assert.is(code(0, null), "0101" + "80" + "7f");
  assert.is(code(63, 1), "0101" + "bf" + "81");
  assert.is(code(64, 8191), "0101" + "c040" + "dfff");
  assert.is(code(8192, 2 ** 20 - 1), "0101" + "e02000" + "efffff");
  assert.is(code(2 ** 20, 2 ** 34), "0101" + "f0100000" + "fc0400000000");
  assert.is(code(2 ** 40, 2 ** 48), "0101" + "fd0000000000" + "ff01000000000000");
});

test("names that no graph has, and a first key that is no header", () => {
  const one = float32("x", [], [1]);
  refused(
    () => readIndex(writeBundle([{ ...one, name: "a b" }]).index, "f"),
    /^f: "a b" is not the name of a variable/,
  );
  refused(() => readIndex(writeBundle([{ ...one, name: "\u001b[2J" }]).index, "f"), /"\\u001b\[2J" is not the name/);
});

const shared = resolve("../shared/spec/checkpoint/small.tf-160000");
const sharedThere = existsSync(`${shared}.index`);
if (!sharedThere) console.log(`skipped: TensorFlow's own bundle (no ${shared}.index)`);
(sharedThere ? test : test.skip)("a bundle that TensorFlow wrote: every variable, shape, sum and first values", () => {
  type Listed = { name: string; shape: number[]; dtype: string; sum: number; first3: number[] };
  const list = (JSON.parse(readFileSync(join(shared, "../small.json"), "utf8")) as { variables: readonly Listed[] })
    .variables;
  using(shared, (c) => {
    assert.equal(
      c.variables.map(({ name, shape, dtype }) => ({ name, shape, dtype })),
      list.map(({ name, shape, dtype }) => ({ name, shape, dtype })),
    );
    assert.is(c.readInteger("global_step"), 160_000);
    for (const v of list.filter((v) => v.dtype === "float32")) {
      const values = c.read(v.name);
      const sum = values.reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(sum - v.sum) <= 1e-7 * Math.abs(v.sum) + 1e-30, `${v.name}: ${sum}, expected ${v.sum}`);
      assert.equal([...values.subarray(0, 3)], v.first3.map(Math.fround));
    }
  });
});

test.run();
