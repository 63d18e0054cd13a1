import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openCheckpoint, readIndex } from "../../../src/model/checkpoint/checkpoint.js";
import { readAll, using } from "./read-bundle.js";
import { refused } from "./refused.js";
import {
  type Bundle,
  field,
  float32,
  int64,
  message,
  saveBundle,
  shapeMessage,
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
