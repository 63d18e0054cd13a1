import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { InferenceError } from "../../src/model/inference.js";
import { readWeights, tensorOf } from "../../src/model/weights.js";
import { pack } from "./safetensors.js";

const test = suite("weight files");

const bytes = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const entry = (shape: number[], from: number, to: number, dtype = "F32"): object => ({
  dtype,
  shape,
  data_offsets: [from, to],
});

function refused(file: Uint8Array, what: RegExp): void {
  try {
    readWeights(file, "some.safetensors");
  } catch (e) {
    assert.instance(e, InferenceError);
    assert.is((e as InferenceError).code, "SL_MODEL_INVALID");
    assert.match((e as Error).message, /^some\.safetensors: /);
    assert.match((e as Error).message, what);
    return;
  }
  assert.unreachable("was taken");
}

test("tensors come back with shape, values and notes, in any order of the header", () => {
  const f = readWeights(
    pack({ b: entry([2], 12, 20), __metadata__: { by: "test" }, a: entry([1, 3], 0, 12) }, bytes(1, 2, 3, -4, 0.5)),
  );
  assert.equal(f.tensors.get("a"), { shape: [1, 3], data: Float32Array.of(1, 2, 3) });
  assert.equal(f.tensors.get("b")!.data, Float32Array.of(-4, 0.5));
  assert.equal(f.notes, { by: "test" });
});

test("half-precision values are widened exactly", () => {
  const halves = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000);
  const f = readWeights(pack({ a: entry([5], 0, 10, "F16") }, new Uint8Array(halves.buffer)));
  assert.equal([...f.tensors.get("a")!.data], [1, -2, 2 ** -24, 65504, -0]);
});

test("each fault is refused by name of file, tensor and fault", () => {
  refused(new Uint8Array(5), /too short/);
  refused(pack("{", bytes()), /not JSON/);
  refused(pack("[]", bytes()), /not an object/);
  refused(pack({ a: entry([1], 0, 4, "I64") }, bytes(1)), /tensor a: type "I64"/);
  refused(pack({ a: entry([1], 0, 4, "toString") }, bytes(1)), /tensor a: type/);
  refused(pack({ a: entry([2], 0, 4) }, bytes(1)), /tensor a: 4 bytes for shape \(2\)/);
  refused(pack({ a: entry([2], 0, 8) }, bytes(1)), /outside/);
  refused(pack({ a: entry([1], 0, 4), b: entry([1], 0, 4) }, bytes(1)), /tensor b begins at byte 0, expected 4/);
  refused(pack({ a: entry([1], 4, 8) }, bytes(1, 2)), /begins at byte 4, expected 0/);
  refused(pack({ a: entry([1], 0, 4) }, bytes(1, 2)), /4 bytes after the last/);
  refused(pack({ a: entry([-1], 0, 4) }, bytes(1)), /shape/);
  refused(pack({ a: entry([1], 0, 4) }, bytes(Number.NaN)), /not finite/);
  refused(pack({ a: null }, bytes()), /tensor a: no description/);
  const long = pack({ a: entry([1], 0, 4) }, bytes(1));
  new DataView(long.buffer).setBigUint64(0, 2n ** 63n, true);
  refused(long, /header of 9223372036854775808 bytes/);
});

test("a missing tensor or another shape is named", () => {
  const { tensors } = readWeights(pack({ a: entry([2], 0, 8) }, bytes(1, 2)));
  assert.throws(() => tensorOf(tensors, "b", [1]), /lack tensor b/);
  assert.throws(() => tensorOf(tensors, "a", [1, 2]), /tensor a: shape \(2\), expected \(1, 2\)/);
});

test("a damaged file is refused with the code of models, never another error", () => {
  const good = pack({ a: entry([2, 2], 0, 16), b: entry([1], 16, 20), __metadata__: { x: "y" } }, bytes(1, 2, 3, 4, 5));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(good.length),
      (edits, cut) => {
        const bad = good.slice(0, cut === 0 ? good.length : cut);
        for (const [at, value] of edits) if (at < bad.length) bad[at] = value;
        try {
          readWeights(bad);
        } catch (e) {
          assert.instance(e, InferenceError);
        }
      },
    ),
    { numRuns: 2000, seed: 7 },
  );
});

test.run();
