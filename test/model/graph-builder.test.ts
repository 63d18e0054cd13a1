import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import * as ort from "onnxruntime-node";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { broadcast, convDim, dim, dimAt, dimText, mulDims } from "../../src/model/onnx/dims.js";
import { GraphBuilder, reshaped } from "../../src/model/onnx/graph-builder.js";
import { ModelProtoSchema } from "../../src/model/onnx/onnx_pb.js";
import * as op from "../../src/model/onnx/ops.js";

const test = suite("onnx graph builder");

const ramp = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.7));

async function run(
  bytes: Uint8Array,
  feeds: Record<string, ort.Tensor>,
): Promise<ort.InferenceSession.OnnxValueMapType> {
  const session = await ort.InferenceSession.create(bytes, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

test("a convolution written here gives the numbers of a plain loop, for any batch", async () => {
  const w = ramp(2 * 3 * 3);
  const g = new GraphBuilder("conv");
  const x = g.input("x", "float32", [dim(1), 3, 8]);
  g.output(
    "y",
    op.unary(
      g,
      "Relu",
      op.conv(g, x, g.weight("w", [2, 3, 3], w), g.weight("b", [2], Float32Array.of(0.1, -0.2)), {
        strides: [2],
        pads: [1, 1],
      }),
    ),
  );
  assert.equal(g.parameters, 20);
  assert.equal(g.macs, { perUnit: 2 * 4 * 9, fixed: 0 });
  const data = ramp(2 * 3 * 8);
  const { y } = await run(g.finish(), { x: new ort.Tensor("float32", data, [2, 3, 8]) });
  assert.equal(y!.dims, [2, 2, 4]);
  const got = y!.data as Float32Array;
  for (let n = 0; n < 2; n++)
    for (let o = 0; o < 2; o++)
      for (let t = 0; t < 4; t++) {
        let sum = o === 0 ? 0.1 : -0.2;
        for (let c = 0; c < 3; c++)
          for (let k = 0; k < 3; k++)
            if (2 * t + k >= 1 && 2 * t + k <= 8) sum += w[o * 9 + c * 3 + k]! * data[n * 24 + c * 8 + 2 * t + k - 1]!;
        assert.ok(Math.abs(got[(n * 2 + o) * 4 + t]! - Math.max(0, sum)) < 1e-5);
      }
});

test("shapes computed while building are those the engine finds", async () => {
  const g = new GraphBuilder("shapes");
  const x = g.input("x", "uint8", [dim(1), 6]);
  const f = op.cast(g, x, "float32");
  const parts: [string, ReturnType<typeof op.add>][] = [
    ["slice", op.slice(g, f, 1, -2)],
    ["middle", op.slice(g, f, 1, 1, -1)],
    ["concat", op.concat(g, [f, f, f], 0)],
    ["reshape", op.reshape(g, f, [-1, 2])],
    ["mean", op.reduceMean(g, f, [0])],
    ["gelu", op.gelu(g, f)],
    ["pad", op.pad(g, f, [0, 2, 0, 3], "reflect")],
    [
      "up",
      op.convTranspose(g, op.reshape(g, f, [-1, 2, 3]), g.weight("w", [2, 4, 3], ramp(24)), null, {
        strides: [2],
        pads: [1, 1],
      }),
    ],
    ["pool", op.maxPool(g, op.reshape(g, f, [-1, 1, 6]), [2], [2])],
  ];
  for (const [name, v] of parts) g.output(name, v);
  const units = 4;
  const out = await run(g.finish(), {
    x: new ort.Tensor(
      "uint8",
      Uint8Array.from({ length: 24 }, (_, i) => i),
      [units, 6],
    ),
  });
  for (const [name, v] of parts)
    assert.equal(
      out[name]!.dims,
      v.shape.map((d) => dimAt(d, units)),
      name,
    );
  assert.equal([...(out.middle!.data as Float32Array).slice(0, 4)], [1, 2, 3, 4]);
});

test("a wrong layer is refused while building, with its shapes in the message", () => {
  const g = new GraphBuilder("wrong");
  const x = g.input("x", "float32", [2, 5]);
  assert.throws(() => op.matMul(g, x, g.constant(ramp(12), [4, 3])), /\(2, 5\) times \(4, 3\)/);
  assert.throws(() => op.reshape(g, x, [3, -1]), /does not reshape/);
  assert.throws(() => op.add(g, x, g.constant(ramp(3))), /do not broadcast/);
  assert.throws(() => g.constant(ramp(3), [2]), /3 values for shape \(2\)/);
  assert.throws(() => g.input("x", "float32", [1]), /taken/);
  assert.throws(() => g.finish(), /no output/);
  assert.throws(() => op.add(g, new GraphBuilder("b").input("z", "float32", [1]), 1), /not of this graph/);
});

test("sizes with a free number compute as they do for every number", () => {
  const int = (max: number) => fc.integer({ min: 0, max });
  fc.assert(
    fc.property(int(9), int(99), int(9), int(50), (u, p, k, n) => {
      assert.is(dimAt(mulDims(dim(u, p), k), n), (u * n + p) * k);
      assert.is(dimAt(convDim(dim(2 * u, p + 9), 3, 2, 2), n), Math.floor((2 * u * n + p + 9 + 2 - 3) / 2) + 1);
    }),
    { numRuns: 200, seed: 1 },
  );
  assert.is(dimText(dim(5, 3)), "5*U+3");
  assert.equal(broadcast([dim(1), 1, 4], [3, 1]), [dim(1), 3, 4]);
  assert.equal(reshaped([dim(10), 4], [-1, 8]), [dim(5), 8]);
});

test("the file is what protobuf writes for the whole, in pieces too, with late tensors made only then", () => {
  let made = 0;
  const g = new GraphBuilder("pieces");
  const x = g.input("x", "float32", [2]);
  const late = g.weight("late", [2], () => {
    made++;
    return Float32Array.of(1, 2);
  });
  g.output("y", op.add(g, op.add(g, x, late), g.constant(Float32Array.of(3, 4))));
  assert.is(made, 0);
  const pieces = g.pieces({ note: "n" });
  const first = pieces.next().value as Uint8Array;
  assert.is(made, 0);
  const joined = Buffer.concat([first, ...pieces]);
  assert.is(made, 1);
  const whole = g.finish({ note: "n" });
  assert.equal(Buffer.compare(joined, whole), 0);
  const again = toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, whole));
  assert.equal(Buffer.compare(Buffer.from(again), whole), 0);
  const wrong = new GraphBuilder("wrong");
  wrong.output(
    "y",
    wrong.weight("w", [3], () => Float32Array.of(1)),
  );
  assert.throws(() => wrong.finish(), /w: 1 values for shape \(3\)/);
});

test.run();
