import { suite } from "uvu";
import * as assert from "uvu/assert";
import { OnnxEngine, tensor } from "../../src/model/engines/onnxruntime.js";
import { GraphBuilder } from "../../src/model/onnx/graph-builder.js";
import { exactHalf } from "../../src/model/onnx/half.js";
import * as op from "../../src/model/onnx/ops.js";
import { half } from "../../src/model/weights.js";

const test = suite("half precision");

test("every finite half comes back with the bits it had, also from the middle of a buffer", () => {
  const patterns = Array.from({ length: 1 << 16 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00);
  assert.is(patterns.length, 63_488);
  const values = Float32Array.from([7, ...patterns.map(half)]).subarray(1);
  assert.equal(exactHalf(values), Uint16Array.from(patterns));
});

test("what a half cannot hold is refused", () => {
  for (const value of [
    65_520,
    2 ** -25,
    1 + 2 ** -11,
    1e-40,
    2 ** -14 * (1 + 2 ** -11),
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ])
    assert.is(exactHalf(Float32Array.of(1, value)), null, `${value}`);
});

test("a graph with halved weights is smaller and gives the same numbers; weights that would lose something stay as they are", async () => {
  const exact = Float32Array.from({ length: 4096 }, (_, i) => half((i * 13) % 0x7c00));
  const other = Float32Array.from(exact, (v, i) => (i === 7 ? 0.1 : v));
  const build = (weights: Float32Array, halves: boolean): Uint8Array => {
    const g = new GraphBuilder("product", { halves });
    const x = g.input("x", "float32", [1, 64]);
    g.output("y", op.matMul(g, x, g.weight("w", [64, 64], weights)));
    return g.finish();
  };
  const x = tensor(
    Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)),
    [1, 64],
  );
  const run = async (bytes: Uint8Array): Promise<unknown> => {
    const engine = await OnnxEngine.open(bytes, { threads: 1 });
    const { y } = await engine.run({ x });
    await engine.close();
    return y!.data;
  };
  const [wide, narrow] = [build(exact, false), build(exact, true)];
  assert.ok(narrow.length < wide.length - 8000, `${narrow.length} of ${wide.length} bytes`);
  assert.equal(await run(narrow), await run(wide));
  assert.ok(Math.abs(build(other, true).length - wide.length) < 100);
});

test.run();
