import type { TensorProto } from "../../onnx/onnx_pb.js";
import { type Refusal, readOnnx } from "../../onnx/read.js";
import { half } from "../../weights.js";

export type Attributes = {
  int(name: string, otherwise?: number): number;
  ints(name: string): readonly number[] | null;
  float(name: string, otherwise: number): number;
  text(name: string, otherwise: string): string;
};
export type Node = {
  readonly type: string;
  readonly name: string;
  /** Empty: an optional input that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Attributes;
};
export type Constant = { readonly shape: readonly number[]; readonly data: Float32Array | Int32Array };
export type Graph = {
  readonly nodes: readonly Node[];
  readonly constants: ReadonlyMap<string, Constant>;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
};

/** ONNX's numbers for element types. */
const FLOAT = 1;
const FLOAT16 = 10;
const UINT8 = 2;
const INT8 = 3;
const INT32 = 6;
const INT64 = 7;
const INT32_MAX = 2 ** 31 - 1;

/** Reads an ONNX file as `GraphBuilder` writes it: nodes in order, weights inside. Throws SL_MODEL_INVALID. */
export function readGraph(bytes: Uint8Array, what: string): Graph {
  const { model, no } = readOnnx(bytes, what);
  const { graph } = model;
  if (!graph || graph.node.length === 0) throw no("holds no graph");
  const constants = new Map(graph.initializer.map((t) => [t.name, constant(t, no)]));
  const known = new Set([...constants.keys(), ...graph.input.map((i) => i.name)]);
  const nodes = graph.node.map((n): Node => {
    for (const input of n.input)
      if (input !== "" && !known.has(input)) throw no(`node ${n.name} reads ${input}, which nothing before it makes`);
    for (const output of n.output) known.add(output);
    const of = (name: string) => n.attribute.find((a) => a.name === name);
    return {
      type: n.domain === "" ? n.opType : `${n.domain}.${n.opType}`,
      name: n.name,
      inputs: n.input,
      outputs: n.output,
      attributes: {
        int: (name, otherwise = 0) => (of(name) ? Number(of(name)!.i) : otherwise),
        ints: (name) => of(name)?.ints.map(Number) ?? null,
        float: (name, otherwise) => of(name)?.f ?? otherwise,
        text: (name, otherwise) => (of(name) ? new TextDecoder().decode(of(name)!.s) : otherwise),
      },
    };
  });
  const outputs = graph.output.map((o) => o.name);
  for (const name of outputs) if (!known.has(name)) throw no(`output ${name} is made by no node`);
  return {
    nodes,
    constants,
    inputs: graph.input.map((i) => i.name).filter((name) => !constants.has(name)),
    outputs,
  };
}

/** Bytes of a number. */
const WIDTHS = new Map([
  [FLOAT, 4],
  [FLOAT16, 2],
  [UINT8, 1],
  [INT8, 1],
  [INT32, 4],
  [INT64, 8],
]);

function constant(t: TensorProto, no: Refusal): Constant {
  const shape = t.dims.map(Number);
  const size = shape.reduce((a, b) => a * b, 1);
  const width = WIDTHS.get(t.dataType);
  if (width === undefined) throw no(`tensor ${t.name} is of type ${t.dataType}`);
  if (t.rawData.length !== size * width)
    throw no(`tensor ${t.name} has ${t.rawData.length} bytes for shape ${shape.join(" x ")}`);
  // A copy, so that numbers begin where their type wants it; slice() of a Buffer, as files are read, makes none.
  const { buffer } = new Uint8Array(t.rawData);
  if (t.dataType === FLOAT) return { shape, data: new Float32Array(buffer) };
  if (t.dataType === FLOAT16) return { shape, data: Float32Array.from(new Uint16Array(buffer), half) };
  // Of int8 models, whose operators the executor refuses by name.
  if (t.dataType === UINT8) return { shape, data: Int32Array.from(new Uint8Array(buffer)) };
  if (t.dataType === INT8) return { shape, data: Int32Array.from(new Int8Array(buffer)) };
  if (t.dataType === INT32) return { shape, data: new Int32Array(buffer) };
  // TensorFlow.js has no 64-bit numbers; ours are axes and sizes, of which the largest mean "up to the end".
  const data = Int32Array.from(new BigInt64Array(buffer), (v) => Math.max(-INT32_MAX, Math.min(INT32_MAX, Number(v))));
  return { shape, data };
}
