import { z } from "zod";
import { GraphBuilder, type Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";

/**
 * Turns a TensorFlow.js graph model (model.json + weights) with one picture input into ONNX. Only the operators that small
 * convolutional detectors use; anything else is refused by name. TensorFlow's layout NHWC becomes NCHW once, at the input, and
 * goes back before every Reshape, so the numbers come out in TensorFlow's order.
 */

const attr = z.object({
  s: z.string().optional(),
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

/** Weights as they lie in the file; every element has 4 bytes. */
type Weight = { readonly name: string; readonly dims: readonly number[]; readonly bytes: Uint8Array };
type TfNode = z.infer<typeof graphModel>["modelTopology"]["node"][number];

export class ImportError extends Error {
  readonly code = "SL_MODEL_INVALID";
  override readonly name = "ImportError";
}

export type PictureModel = {
  /** ONNX file. Input: uint8 [1, side, side, 3], RGB as it lies in memory. */
  readonly bytes: Uint8Array;
  readonly side: number;
};

export type ImportOptions = {
  readonly name: string;
  /** Name of the ONNX input; a byte v enters the network as v * scale + offset. */
  readonly input: string;
  readonly scale: number;
  readonly offset: number;
  /** Outputs of the ONNX file: named TensorFlow values joined along axis 1, if asked through a sigmoid. */
  readonly outputs: readonly { readonly name: string; readonly from: readonly string[]; readonly sigmoid: boolean }[];
};

/**
 * @param json parsed model.json
 * @param weights the joined weight files
 * @throws ImportError when an operator, a shape or a length is not understood
 */
export function importPictureModel(json: unknown, weights: Uint8Array, options: ImportOptions): PictureModel {
  const model = graphModel.safeParse(json);
  if (!model.success) throw new ImportError(`not a TensorFlow.js graph model: ${z.prettifyError(model.error)}`);
  const g = new GraphBuilder(options.name);
  const constants = readWeights(
    model.data.weightsManifest.flatMap((group) => group.weights),
    weights,
  );
  const values = new Map<string, Value>();
  let side = 0;
  for (const node of model.data.modelTopology.node) {
    if (node.op === "Const") continue;
    if (node.op === "Placeholder") {
      side = inputSide(node);
      const bytes = g.input(options.input, "uint8", [1, side, side, 3]);
      const float = op.cast(g, op.transpose(g, bytes, [0, 3, 1, 2]), "float32");
      values.set(node.name, op.add(g, op.mul(g, float, options.scale), options.offset));
      continue;
    }
    const convert = OPERATORS[node.op];
    if (!convert) throw new ImportError(`operator ${node.op} (${node.name}) is not supported`);
    values.set(node.name, convert(g, node, { values, constants }));
  }
  for (const { name, from, sigmoid } of options.outputs) {
    const joined = op.concat(
      g,
      from.map((part) => lookUp(values, part, "output")),
      1,
    );
    g.output(name, sigmoid ? op.unary(g, "Sigmoid", joined) : joined);
  }
  return { bytes: g.finish(), side };
}

function readWeights(manifest: readonly { name: string; shape: number[] }[], bytes: Uint8Array): Map<string, Weight> {
  const found = new Map<string, Weight>();
  let at = 0;
  for (const { name, shape } of manifest) {
    const size = 4 * shape.reduce((a, b) => a * b, 1);
    if (at + size > bytes.length) throw new ImportError(`weights end inside ${name}`);
    found.set(name, { name, dims: shape, bytes: new Uint8Array(bytes.subarray(at, at + size)) });
    at += size;
  }
  if (at !== bytes.length) throw new ImportError(`${bytes.length - at} bytes of weights are left over`);
  return found;
}

function inputSide(node: TfNode): number {
  const shape = z
    .object({ shape: z.object({ shape: z.object({ dim: z.array(z.object({ size: z.string() })) }) }) })
    .safeParse(node.attr);
  const [, height, width, colours] = shape.data?.shape.shape.dim.map((d) => Number(d.size)) ?? [];
  if (!height || height !== width || colours !== 3) throw new ImportError(`${node.name}: not a picture [1, S, S, 3]`);
  return height;
}

// ---- operators ---------------------------------------------------------------------------------------------------------

type Scope = { readonly values: Map<string, Value>; readonly constants: Map<string, Weight> };
type Operator = (g: GraphBuilder, node: TfNode, scope: Scope) => Value;

const OPERATORS: Readonly<Record<string, Operator>> = {
  _FusedConv2D: (g, node, scope) => {
    const fused = textList(node, "fused_ops").join();
    const y = convolution(g, node, scope, { depthwise: false, bias: true });
    if (fused === "BiasAdd") return y;
    if (fused === "BiasAdd,Relu") return op.unary(g, "Relu", y);
    throw new ImportError(`${node.name}: fused ${fused} is not supported`);
  },
  DepthwiseConv2dNative: (g, node, scope) => convolution(g, node, scope, { depthwise: true, bias: false }),
  AddV2: (g, node, scope) => op.add(g, valueAt(node, 0, scope), valueAt(node, 1, scope)),
  Relu: (g, node, scope) => op.unary(g, "Relu", valueAt(node, 0, scope)),
  MaxPool: (g, node, scope) => {
    const x = valueAt(node, 0, scope);
    const kernel = spatial(node, "ksize");
    return op.maxPool(g, x, kernel, spatial(node, "strides"), padsOf(node, x, kernel));
  },
  Pad: (g, node, scope) => {
    const pairs = intsOf(weightAt(node, 1, scope)); // before and after, of the axes N H W C
    const nchw = [0, 3, 1, 2];
    return op.pad(g, valueAt(node, 0, scope), [
      ...nchw.map((axis) => pairs[2 * axis]!),
      ...nchw.map((axis) => pairs[2 * axis + 1]!),
    ]);
  },
  Reshape: (g, node, scope) => {
    const x = valueAt(node, 0, scope);
    const nhwc = x.shape.length === 4 ? op.transpose(g, x, [0, 2, 3, 1]) : x;
    return op.reshape(g, nhwc, intsOf(weightAt(node, 1, scope)));
  },
  Identity: (_g, node, scope) => valueAt(node, 0, scope),
};

function convolution(
  g: GraphBuilder,
  node: TfNode,
  scope: Scope,
  options: { depthwise: boolean; bias: boolean },
): Value {
  const x = valueAt(node, 0, scope);
  const w = weightAt(node, 1, scope);
  const [kh = 0, kw = 0, cin = 0, last = 0] = w.dims;
  if (w.dims.length !== 4 || (options.depthwise && last !== 1)) {
    throw new ImportError(`${node.name}: kernel shape ${w.dims} is not supported`);
  }
  // TensorFlow [kh, kw, in, out] (depthwise: [kh, kw, channel, 1]) to ONNX [out, in per group, kh, kw].
  const cout = options.depthwise ? cin : last;
  const per = options.depthwise ? 1 : cin;
  const from = floatsOf(w);
  const to = new Float32Array(from.length);
  const area = kh * kw;
  for (let p = 0; p < area; p++) {
    for (let i = 0; i < per; i++) {
      for (let o = 0; o < cout; o++) to[(o * per + i) * area + p] = from[(p * per + i) * cout + o]!;
    }
  }
  const bias = options.bias ? weightAt(node, 2, scope) : null;
  return op.conv(g, x, g.weight(w.name, [cout, per, kh, kw], to), bias && g.weight(bias.name, [cout], floatsOf(bias)), {
    strides: spatial(node, "strides"),
    pads: padsOf(node, x, [kh, kw]),
    group: options.depthwise ? cin : 1,
  });
}

/** TensorFlow's "SAME": out = ceil(in / stride); of an odd padding the larger half goes behind and below. */
function padsOf(node: TfNode, x: Value, kernel: readonly number[]): number[] {
  const mode = text(node, "padding");
  if (mode === "VALID") return [0, 0, 0, 0];
  if (mode !== "SAME") throw new ImportError(`${node.name}: padding ${mode} is not supported`);
  const strides = spatial(node, "strides");
  const totals = kernel.map((k, axis) => {
    const n = x.shape[2 + axis] as number;
    return Math.max(0, (Math.ceil(n / strides[axis]!) - 1) * strides[axis]! + k - n);
  });
  return [...totals.map((t) => Math.floor(t / 2)), ...totals.map((t) => Math.ceil(t / 2))];
}

function lookUp<T>(map: Map<string, T>, name: string | undefined, of: string): T {
  const found = name === undefined ? undefined : map.get(name);
  if (found === undefined) throw new ImportError(`${of}: ${name} is not there`);
  return found;
}

const valueAt = (node: TfNode, i: number, scope: Scope): Value => lookUp(scope.values, node.input[i], node.name);
const weightAt = (node: TfNode, i: number, scope: Scope): Weight => lookUp(scope.constants, node.input[i], node.name);
const floatsOf = (w: Weight): Float32Array =>
  new Float32Array(w.bytes.buffer, w.bytes.byteOffset, w.bytes.byteLength / 4);
const intsOf = (w: Weight): number[] => [...new Int32Array(w.bytes.buffer, w.bytes.byteOffset, w.bytes.byteLength / 4)];

const attribute = (node: TfNode, name: string): z.infer<typeof attr> => attr.safeParse(node.attr[name]).data ?? {};
const decode = (base64: string): string => Buffer.from(base64, "base64").toString("latin1");
const text = (node: TfNode, name: string): string => decode(attribute(node, name).s ?? "");
const textList = (node: TfNode, name: string): string[] => (attribute(node, name).list?.s ?? []).map(decode);

/** The middle two numbers of an attribute of four (N H W C). */
function spatial(node: TfNode, name: string): number[] {
  const all = (attribute(node, name).list?.i ?? []).map(Number);
  if (all.length !== 4) throw new ImportError(`${node.name}: ${name} has not four numbers`);
  return all.slice(1, 3);
}
