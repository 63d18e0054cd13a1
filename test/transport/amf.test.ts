import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  AmfError,
  type AmfObject,
  AmfReader,
  type AmfValue,
  EcmaArray,
  MAX_AMF_DEPTH,
  readAmf0,
  writeAmf0,
} from "../../src/transport/amf/amf0.js";
import { fuzz } from "./fuzz.js";

const test = suite("amf0");

const text = fc.string({ unit: "grapheme", maxLength: 12 });
const values = fc.letrec<{ value: AmfValue; entries: AmfObject }>((tie) => ({
  entries: fc.dictionary(text, tie("value"), { maxKeys: 4, noNullPrototype: false }),
  value: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.double(),
    fc.boolean(),
    text,
    fc.constant(null),
    fc.constant(undefined),
    fc.date({ noInvalidDate: true }),
    tie("entries"),
    tie("entries").map((entries) => new EcmaArray(entries)),
    fc.array(tie("value"), { maxLength: 4 }),
  ),
}));

/** Objects come back without a prototype; this makes both sides comparable. */
function plain(value: AmfValue): unknown {
  if (value instanceof EcmaArray) return { ecma: plain(value.entries) };
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Date) return { date: value.getTime() };
  if (typeof value === "object" && value !== null)
    return Object.entries(value)
      .map(([k, v]) => [k, plain(v)])
      .sort();
  return Object.is(value, -0) ? "minus zero" : value;
}

test("what was written is read back", () => {
  fc.assert(
    fc.property(fc.array(values.value, { maxLength: 4 }), (list) => {
      assert.equal(readAmf0(writeAmf0(...list)).map(plain), list.map(plain));
    }),
    { seed: 1, numRuns: 500 },
  );
});

test("the bytes of a connect command are those of the specification", () => {
  const bytes = writeAmf0("connect", 1, { app: "live", ok: true });
  assert.is(
    bytes.toString("hex"),
    "020007636f6e6e656374" +
      "003ff0000000000000" +
      "03" +
      "0003617070" +
      "0200046c697665" +
      "00026f6b" +
      "0101" +
      "000009",
  );
});

test("strings over 65535 bytes are long strings", () => {
  const long = "ä".repeat(40_000);
  const bytes = writeAmf0(long);
  assert.is(bytes[0], 12);
  assert.equal(readAmf0(bytes), [long]);
});

test("the count of an associative array is only a hint", () => {
  const bytes = writeAmf0(new EcmaArray({ a: 1 }));
  bytes.writeUInt32BE(0xffff_ffff, 1);
  const [array] = readAmf0(bytes);
  assert.ok(array instanceof EcmaArray);
  assert.is(array.entries.a, 1);
});

test("a key named __proto__ is only a key", () => {
  const [object] = readAmf0(Buffer.from(`030009${Buffer.from("__proto__").toString("hex")}0101000009`, "hex"));
  assert.equal(Object.keys(object as AmfObject), ["__proto__"]);
  assert.is(({} as Record<string, unknown>).polluted, undefined);
});

test("nesting and counts over the limits are refused in both directions", () => {
  const deep = Buffer.concat([
    ...Array.from({ length: MAX_AMF_DEPTH + 2 }, () => Buffer.from("0a00000001", "hex")),
    Buffer.of(5),
  ]);
  assert.throws(
    () => readAmf0(deep),
    (e: unknown) => e instanceof AmfError,
  );
  const circle: AmfObject = {};
  circle.self = circle;
  assert.throws(
    () => writeAmf0(circle),
    (e: unknown) => e instanceof AmfError,
  );
  assert.throws(
    () => readAmf0(Buffer.from("0affffffff05", "hex")),
    (e: unknown) => e instanceof AmfError,
  );
  assert.throws(
    () => readAmf0(Buffer.alloc(70_000, 5)),
    (e: unknown) => e instanceof AmfError,
  );
});

test("references and the AVM+ switch are refused", () => {
  for (const hex of ["070000", "1101", "04", "0e", "ff"]) {
    assert.throws(
      () => readAmf0(Buffer.from(hex, "hex")),
      (e: unknown) => e instanceof AmfError,
    );
  }
});

const samples = [
  writeAmf0("connect", 1, { app: "live", tcUrl: "rtmp://127.0.0.1/live", audioCodecs: 3191 }),
  writeAmf0(
    "onMetaData",
    new EcmaArray({ width: 1280, height: 720, encoder: "x", keyframes: { times: [0, 2, 4], at: [1, 2, 3] } }),
  ),
  writeAmf0(
    "@setDataFrame",
    "onMetaData",
    new EcmaArray({ stereo: true, when: new Date(0), none: null, nothing: undefined }),
  ),
];

test("every prefix of a good message either reads whole values or is refused", () => {
  for (const good of samples) {
    const ends = new Set([0]);
    for (const reader = new AmfReader(good); !reader.done; ends.add(reader.offset)) reader.read();
    for (let n = 0; n <= good.length; n++) {
      const prefix = good.subarray(0, n);
      if (ends.has(n)) readAmf0(prefix);
      else
        assert.throws(
          () => readAmf0(prefix),
          (e: unknown) => e instanceof AmfError,
        );
    }
  }
});

test("100000 mutations give values or an AmfError, never more values than bytes", () => {
  const result = fuzz({ samples, count: 100_000, seed: 7, allowed: [AmfError] }, (bytes) => {
    const read = readAmf0(bytes);
    assert.ok(read.length <= bytes.length);
  });
  assert.ok(result.taken > 1000 && result.refused > 1000, JSON.stringify(result));
});

test.run();
