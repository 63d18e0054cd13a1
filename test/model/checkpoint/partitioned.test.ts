import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openCheckpoint } from "../../../src/model/checkpoint/checkpoint.js";
import { pieceKey } from "../../../src/model/checkpoint/slices.js";
import { readAll, using } from "./read-bundle.js";
import { refused } from "./refused.js";
import {
  field,
  float32,
  message,
  partitioned,
  saveBundle,
  shapeMessage,
  sliceOf,
  type TestSlice,
  type TestVariable,
  writeBundle,
} from "./write-bundle.js";

const test = suite<{ dir: string; at: string }>("checkpoints: partitioned variables");

test.before(async (t) => {
  t.dir = await mkdtemp(join(tmpdir(), "sightline-bundle-"));
});
test.after((t) => rm(t.dir, { recursive: true, force: true }));
let next = 0;
test.before.each((t) => {
  t.at = join(t.dir, `b${next++}.tf-7`);
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

test.run();
