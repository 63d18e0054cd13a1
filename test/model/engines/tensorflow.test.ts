import { suite } from "uvu";
import * as assert from "uvu/assert";
import { tensor } from "../../../src/model/engines/engine.js";
import { findTensorFlow, openGraph } from "../../../src/model/engines/tensorflow.js";
import { float, GraphBuilder } from "../../../src/model/onnx/graph-builder.js";
import * as op from "../../../src/model/onnx/ops.js";
import { noise } from "../noise.js";
import { liveNets, type Net, paperNet } from "./support.js";
import { equal } from "./tensorflow.js";

const test = suite("TensorFlow.js");

// Whatever else is prepared on this machine: these tests are of the optional dependency.
delete process.env.SIGHTLINE_TFJS;
const plainJs = await findTensorFlow(["@tensorflow/tfjs-core"]);

test("in plain JavaScript: the shipped networks as onnxruntime", async () => {
  assert.match(plainJs.label, /^@tensorflow\/tfjs-core 4\.\S+ cpu$/);
  for (const net of await liveNets()) await equal(plainJs, net);
});

test("in plain JavaScript: the paper's alignment network in all three forms", async () => {
  for (const form of ["training", "folded", "unfolded"] as const) await equal(plainJs, paperNet(form, "shift", 8));
});

test("a network that is read from a file: a Buffer, whose numbers begin anywhere", async () => {
  const net = paperNet("folded", "shift", 8);
  await equal(plainJs, { ...net, bytes: Buffer.from(net.bytes) });
});

/** One small graph with the layers that the networks above do not have, some with channels last before them. */
function oddments(): Net {
  const g = new GraphBuilder("oddments");
  const x = g.input("x", "float32", [2, 4, 6, 5]);
  const w = (name: string, ...shape: number[]) =>
    g.weight(
      name,
      shape,
      Float32Array.from(
        noise(
          name,
          shape.reduce((a, b) => a * b, 1),
        ),
      ),
    );
  const c = op.conv(g, x, w("w", 6, 4, 3, 3), w("b", 6), { strides: [1, 2], pads: [2, 0, 0, 1] });
  const depthwise = op.conv(g, c, w("d", 6, 1, 3, 3), null, { pads: [1, 1, 1, 1], group: 6 });
  const slope = op.prelu(g, depthwise, w("slope", 6, 1, 1));
  const up = op.convTranspose(g, slope, w("t", 6, 3, 4, 4), w("tb", 3), { strides: [2, 2], pads: [1, 1, 0, 1] });
  g.output("up", up);
  const pooled = op.maxPool(g, slope, [2, 2], [1, 1], [1, 0, 0, 1]);
  const reflected = op.pad(
    g,
    pooled,
    [0, 0, 1, 1, 0, 1, 0, 0].map((v, i) => (i === 5 ? 0 : v)),
    "reflect",
  );
  const ones = op.pad(g, reflected, [0, 1, 0, 0, 0, 0, 0, 2], "constant", 1.5);
  const cut = op.slice(g, op.concat(g, [ones, ones], 1), 1, 2, -3);
  g.output("cut", op.leakyRelu(g, cut, 0.3));
  g.output("soft", op.softmax(g, op.cumSum(g, cut, 2), 1));
  const mean = op.reduceMean(g, cut, [2, 3]);
  g.output("mean", op.add(g, op.mul(g, cut, mean), op.expand(g, op.unary(g, "Tanh", mean), [2, 1, 1, 1])));
  g.output("max", op.unary(g, "Softplus", op.reduceMax(g, cut, 1)));
  g.output("pow", op.binary(g, "Pow", op.unary(g, "Exp", op.unary(g, "Neg", mean)), 0.5));
  const [a, b] = op.split(g, x, 1, [1, 3]);
  g.output("min", op.binary(g, "Min", a!, b!));
  g.output("unit", op.unitRows(g, op.transpose(g, op.unsqueeze(g, b!, 0), [0, 2, 1, 4, 3])));
  return {
    name: "oddments",
    bytes: g.finish(),
    inputs: { x: tensor(Float32Array.from(noise("x", 240)), [2, 4, 6, 5]) },
  };
}

test("the other operators, with uneven pads and in either order of axes", () => equal(plainJs, oddments()));

test("refuses another's operator, a damaged file and inputs that do not fit, each with its code", async () => {
  const { tf, label } = plainJs;
  const g = new GraphBuilder("odd");
  const x = g.input("x", "float32", [1, 4]);
  g.output("y", op.other(g, "Elu", [x], [1, 4], { alpha: float(1) }));
  const thrown = (bytes: Uint8Array): { code?: string; reason?: string; message: string } => {
    try {
      openGraph(tf, label, bytes, "net");
    } catch (e) {
      return e as never;
    }
    throw new Error("opened");
  };
  assert.is(thrown(g.finish()).reason, "model-refused");
  assert.match(thrown(g.finish()).message, /Elu/);
  const good = (await liveNets()).at(-1)!;
  for (const cut of [0, 10, good.bytes.length >> 1])
    assert.is(thrown(good.bytes.slice(0, cut)).code, "SL_MODEL_INVALID");
  const engine = openGraph(tf, label, good.bytes, "net");
  const before = tf.memory().numTensors;
  for (const inputs of [{}, { samples: tensor(new Float32Array(7), [1, 7]) }])
    await engine.run(inputs).then(
      () => assert.unreachable(),
      (e) => assert.is(e.code, "SL_INFERENCE_FAILED"),
    );
  assert.is(tf.memory().numTensors, before, "a failed run keeps no tensor");
  await engine.close();
});

test("a package that is nowhere is told as such", () =>
  findTensorFlow(["@tensorflow/tfjs-abacus"]).then(
    () => assert.unreachable(),
    (e) => assert.is(e.reason, "not-installed"),
  ));

test.run();
