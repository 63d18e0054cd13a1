import { create, toBinary } from "@bufbuild/protobuf";
import { z } from "zod";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "../onnx/onnx_pb.js";

/**
 * Turns a TensorFlow.js graph model (model.json + weights) with one picture input into ONNX. Only the operators that small
 * convolutional detectors use; anything else is refused by name. TensorFlow's layout NHWC becomes NCHW once, at the input, and
 * goes back before every Reshape, so the numbers come out in TensorFlow's order.
 */

const attr = z.object({
  s: z.union([z.string(), z.array(z.string())]).optional(),
  i: z.string().optional(),
  list: z.object({ i: z.array(z.string()).optional(), s: z.array(z.string()).optional() }).optional(),
});
const graphModel = z.object({
  modelTopology: z.object({
    node: z.array(
      z.object({
        name: z.string(),
        op: z.string(),
        input: z.array(z.string()).default([]),
        attr: z.record(z.string(), z.unknown()).default({}),
      }),
    ),
  }),
  weightsManifest: z.array(
    z.object({
      weights: z.array(
        z.object({ name: z.string(), shape: z.array(z.int().nonnegative()), dtype: z.enum(["float32", "int32"]) }),
      ),
    }),
  ),
});

type Weight = { readonly shape: readonly number[]; readonly bytes: Uint8Array; readonly dtype: "float32" | "int32" };
/** What is known of a value: its ONNX name, and its shape in TensorFlow's axis order. 4-D values are stored NCHW. */
type Value = { readonly name: string; readonly shape: readonly number[] };
type TfNode = z.infer<typeof graphModel>["modelTopology"]["node"][number];

export class ImportError extends Error {
  readonly code = "SL_MODEL_INVALID";
  override readonly name = "ImportError";
}

/** Collects ONNX nodes; one small method per thing that is emitted. */
class Emitter {
  readonly nodes: NodeProto[] = [];
  readonly tensors: TensorProto[] = [];
  #next = 0;

  node(opType: string, input: string[], attributes: AttributeProto[] = [], output = `v${this.#next++}`): string {
    this.nodes.push(
      create(NodeProtoSchema, {
        name: `${opType}_${this.nodes.length}`,
        opType,
        input,
        output: [output],
        attribute: attributes,
      }),
    );
    return output;
  }

  tensor(dataType: DataType, dims: readonly number[], raw: Uint8Array): string {
    const name = `w${this.tensors.length}`;
    this.tensors.push(create(TensorProtoSchema, { name, dataType, dims: dims.map(BigInt), rawData: raw }));
    return name;
  }

  floats(dims: readonly number[], values: Float32Array): string {
    return this.tensor(DataType.FLOAT, dims, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  int64s(values: readonly number[]): string {
    return this.tensor(DataType.INT64, [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer));
  }
}

const ints = (name: string, values: readonly number[]): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: values.map(BigInt) });
const int = (name: string, value: number): AttributeProto =>
  create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });

export type PictureModel = {
  /** ONNX ModelProto. Input: uint8 [1, side, side, 3], RGB as it lies in memory; value v becomes v * scale + offset. */
  readonly bytes: Uint8Array;
  readonly side: number;
};

/** One output of the ONNX file: the named TensorFlow values joined along axis 1, if asked through a sigmoid. */
export type OutputRecipe = { readonly name: string; readonly from: readonly string[]; readonly sigmoid: boolean };

/**
 * @param json parsed model.json
 * @param weights the joined weight files
 * @throws ImportError when an operator, a shape or a length is not understood
 */
export function importPictureModel(
  json: unknown,
  weights: Uint8Array,
  options: { input: string; scale: number; offset: number; outputs: readonly OutputRecipe[] },
): PictureModel {
  const model = graphModel.parse(json);
  const out = new Emitter();
  const constants = readWeights(model.weightsManifest, weights);
  const values = new Map<string, Value>();
  let side = 0;
  for (const node of model.modelTopology.node) {
    if (node.op === "Const") continue;
    if (node.op === "Placeholder") {
      side = inputSide(node);
      const nchw = out.node("Transpose", [options.input], [ints("perm", [0, 3, 1, 2])]);
      const float = out.node("Cast", [nchw], [int("to", DataType.FLOAT)]);
      const scaled = out.node("Mul", [float, out.floats([1], Float32Array.of(options.scale))]);
      const name = out.node("Add", [scaled, out.floats([1], Float32Array.of(options.offset))]);
      values.set(node.name, { name, shape: [1, side, side, 3] });
      continue;
    }
    const convert = OPERATORS[node.op];
    if (!convert) throw new ImportError(`operator ${node.op} (${node.name}) is not supported`);
    const inputs = node.input.map((i) => values.get(i) ?? constants.get(i));
    if (inputs.some((v) => v === undefined)) throw new ImportError(`${node.name}: an input is missing`);
    values.set(node.name, convert(out, node, inputs as (Value | Weight)[]));
  }
  const outputs = options.outputs.map((recipe) => joinOutput(out, recipe, values));
  const input = valueInfo(options.input, DataType.UINT8, [1, side, side, 3]);
  const proto = create(ModelProtoSchema, {
    irVersion: 10n,
    producerName: "sightline",
    opsetImport: [{ domain: "", version: 17n }],
    graph: { name: "faces", node: out.nodes, initializer: out.tensors, input: [input], output: outputs },
  });
  return { bytes: toBinary(ModelProtoSchema, proto), side };
}

function joinOutput(out: Emitter, recipe: OutputRecipe, values: Map<string, Value>): ValueInfoProto {
  const parts = recipe.from.map((name) => {
    const value = values.get(name);
    if (value?.shape.length !== 3) throw new ImportError(`output ${name} is not a 3-D value of the model`);
    return value;
  });
  const shape = [1, parts.reduce((n, p) => n + p.shape[1]!, 0), parts[0]!.shape[2]!];
  const names = parts.map((p) => p.name);
  const joined = out.node("Concat", names, [int("axis", 1)], recipe.sigmoid ? undefined : recipe.name);
  if (recipe.sigmoid) out.node("Sigmoid", [joined], [], recipe.name);
  return valueInfo(recipe.name, DataType.FLOAT, shape);
}

function valueInfo(name: string, elemType: DataType, shape: readonly number[]): ValueInfoProto {
  const dim = shape.map((n) => ({ value: { case: "dimValue" as const, value: BigInt(n) } }));
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: "tensorType", value: { elemType, shape: { dim } } } },
  });
}

function readWeights(manifest: z.infer<typeof graphModel>["weightsManifest"], bytes: Uint8Array): Map<string, Weight> {
  const found = new Map<string, Weight>();
  let at = 0;
  for (const w of manifest.flatMap((group) => group.weights)) {
    const size = 4 * w.shape.reduce((a, b) => a * b, 1);
    if (at + size > bytes.length) throw new ImportError(`weights end inside ${w.name}`);
    found.set(w.name, { shape: w.shape, dtype: w.dtype, bytes: bytes.slice(at, at + size) });
    at += size;
  }
  if (at !== bytes.length) throw new ImportError(`${bytes.length - at} bytes of weights are left over`);
  return found;
}

function inputSide(node: TfNode): number {
  const shape = z
    .object({ shape: z.object({ shape: z.object({ dim: z.array(z.object({ size: z.string() })) }) }) })
    .parse(node.attr)
    .shape.shape.dim.map((d) => Number(d.size));
  if (shape.length !== 4 || shape[1] !== shape[2] || shape[3] !== 3)
    throw new ImportError(`input shape ${shape} is not [1, S, S, 3]`);
  return shape[1]!;
}

// ---- operators -------------------------------------------------------------------------------------------------------------

type Operator = (out: Emitter, node: TfNode, inputs: readonly (Value | Weight)[]) => Value;

const OPERATORS: Readonly<Record<string, Operator>> = {
  _FusedConv2D: (out, node, [x, w, bias]) => {
    const fused = textList(node, "fused_ops");
    const conv = convolution(out, node, asValue(x, node), asWeight(w, node), asWeight(bias, node));
    if (fused.join() === "BiasAdd") return conv;
    if (fused.join() === "BiasAdd,Relu") return { ...conv, name: out.node("Relu", [conv.name]) };
    throw new ImportError(`${node.name}: fused ${fused} is not supported`);
  },
  DepthwiseConv2dNative: (out, node, [x, w]) => convolution(out, node, asValue(x, node), asWeight(w, node), null, true),
  AddV2: (out, node, [a, b]) => {
    const [left, right] = [asValue(a, node), asValue(b, node)];
    if (left.shape.join() !== right.shape.join()) throw new ImportError(`${node.name}: broadcast is not supported`);
    return { name: out.node("Add", [left.name, right.name]), shape: left.shape };
  },
  Relu: (out, node, [x]) => ({ name: out.node("Relu", [asValue(x, node).name]), shape: asValue(x, node).shape }),
  MaxPool: (out, node, [x]) => {
    const value = asValue(x, node);
    const size = numberList(node, "ksize").slice(1, 3);
    const { pads, strides, shape } = slide(node, value.shape, size, value.shape[3]!);
    if (pads.some((p) => p !== 0)) throw new ImportError(`${node.name}: padded pooling is not supported`);
    return { name: out.node("MaxPool", [value.name], [ints("kernel_shape", size), ints("strides", strides)]), shape };
  },
  Pad: (out, node, [x, paddings]) => {
    const value = asValue(x, node);
    const pairs = asInts(asWeight(paddings, node)); // before and after, per axis N H W C
    const order = [0, 3, 1, 2];
    const pads = [...order.map((axis) => pairs[2 * axis]!), ...order.map((axis) => pairs[2 * axis + 1]!)];
    const shape = value.shape.map((n, axis) => n + pairs[2 * axis]! + pairs[2 * axis + 1]!);
    return { name: out.node("Pad", [value.name, out.int64s(pads)]), shape };
  },
  Reshape: (out, node, [x, to]) => {
    const value = asValue(x, node);
    const count = value.shape.reduce((a, b) => a * b, 1);
    const wanted = [...asInts(asWeight(to, node))];
    const open = wanted.indexOf(-1);
    if (open >= 0) wanted[open] = count / wanted.reduce((a, b, i) => (i === open ? a : a * b), 1);
    const nhwc =
      value.shape.length === 4 ? out.node("Transpose", [value.name], [ints("perm", [0, 2, 3, 1])]) : value.name;
    return { name: out.node("Reshape", [nhwc, out.int64s(wanted)]), shape: wanted };
  },
  Identity: (_out, node, [x]) => asValue(x, node),
};

function convolution(out: Emitter, node: TfNode, x: Value, w: Weight, bias: Weight | null, depthwise = false): Value {
  const [kh, kw, cin, last] = w.shape as [number, number, number, number];
  if (w.shape.length !== 4 || (depthwise && last !== 1))
    throw new ImportError(`${node.name}: kernel shape ${w.shape} is not supported`);
  const cout = depthwise ? cin : last;
  const { pads, strides, shape } = slide(node, x.shape, [kh, kw], cout);
  // TensorFlow [kh, kw, in, out] (depthwise: [kh, kw, channel, 1]) to ONNX [out, in per group, kh, kw].
  const per = depthwise ? 1 : cin;
  const from = new Float32Array(w.bytes.buffer, w.bytes.byteOffset, w.bytes.length / 4);
  const to = new Float32Array(from.length);
  for (let p = 0; p < kh * kw; p++)
    for (let i = 0; i < per; i++)
      for (let o = 0; o < cout; o++) to[(o * per + i) * kh * kw + p] = from[(p * per + i) * cout + o]!;
  const inputs = [x.name, out.floats([cout, per, kh, kw], to)];
  if (bias) inputs.push(out.tensor(DataType.FLOAT, [cout], bias.bytes));
  const attributes = [
    ints("kernel_shape", [kh, kw]),
    ints("strides", strides),
    ints("pads", pads),
    int("group", depthwise ? cin : 1),
  ];
  return { name: out.node("Conv", inputs, attributes), shape };
}

/** Padding of TensorFlow's "SAME": out = ceil(in / stride); what does not divide by two goes behind and below. */
function slide(node: TfNode, shape: readonly number[], kernel: readonly number[], channels: number) {
  const strides = numberList(node, "strides").slice(1, 3);
  const mode = text(node, "padding");
  if (mode !== "SAME" && mode !== "VALID") throw new ImportError(`${node.name}: padding ${mode} is not supported`);
  const sizes = [0, 1].map((axis) => {
    const [n, k, s] = [shape[1 + axis]!, kernel[axis]!, strides[axis]!];
    const size = mode === "SAME" ? Math.ceil(n / s) : Math.floor((n - k) / s) + 1;
    const total = Math.max(0, (size - 1) * s + k - n);
    return mode === "SAME"
      ? { size, before: Math.floor(total / 2), after: Math.ceil(total / 2) }
      : { size, before: 0, after: 0 };
  });
  const pads = [...sizes.map((a) => a.before), ...sizes.map((a) => a.after)];
  return { strides, pads, shape: [1, sizes[0]!.size, sizes[1]!.size, channels] };
}

function asValue(v: Value | Weight | undefined, node: TfNode): Value {
  if (!v || "bytes" in v) throw new ImportError(`${node.name}: expected a computed input`);
  return v;
}

function asWeight(v: Value | Weight | undefined, node: TfNode): Weight {
  if (!v || !("bytes" in v)) throw new ImportError(`${node.name}: expected a constant input`);
  return v;
}

const asInts = (w: Weight): readonly number[] =>
  Array.from(new Int32Array(w.bytes.buffer, w.bytes.byteOffset, w.bytes.length / 4));
const decode = (base64: string): string => Buffer.from(base64, "base64").toString("latin1");

function numberList(node: TfNode, name: string): number[] {
  return (attr.parse(node.attr[name]).list?.i ?? []).map(Number);
}

function textList(node: TfNode, name: string): string[] {
  return (attr.parse(node.attr[name]).list?.s ?? []).map(decode);
}

function text(node: TfNode, name: string): string {
  const value = attr.parse(node.attr[name]).s;
  return decode(Array.isArray(value) ? (value[0] ?? "") : (value ?? ""));
}
