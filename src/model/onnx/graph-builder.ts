import type { MessageInitShape } from "@bufbuild/protobuf";
import { addDims, type Dim, dim, dimText, mulDims, type Shape, sameDim, shapeText, sizeOf } from "./dims.js";
import { exactHalf } from "./half.js";
import {
  type AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  type NodeProtoSchema,
  type ValueInfoProtoSchema,
} from "./onnx_pb.js";
import { type LateTensor, modelPieces } from "./pieces.js";

/** Element types used here, named as in onnxruntime. */
export type ElementType = "float32" | "int64" | "uint8" | "int8" | "bool" | "int32";

const dataType: Record<ElementType, DataType> = {
  float32: DataType.FLOAT,
  int64: DataType.INT64,
  uint8: DataType.UINT8,
  int8: DataType.INT8,
  bool: DataType.BOOL,
  int32: DataType.INT32,
};

/** A tensor of the graph being built. Only the builder that made it may use it. */
export type Value = { readonly name: string; readonly type: ElementType; readonly shape: Shape };

/**
 * Attribute of a node. ONNX tells 1 from 1.0, JavaScript does not: a plain number (or list) is an integer, fractions and
 * integers meant as floats are written `float(0.5)`.
 */
export type Attribute =
  | number
  | string
  | readonly number[]
  | readonly string[]
  | { readonly float: number }
  | { readonly floats: readonly number[] };
export const float = (value: number): Attribute => ({ float: value });

export type Data = Float32Array | BigInt64Array | Uint8Array | Int8Array | Int32Array;

/** Values of a tensor, or who makes them when the file is written: a graph that is only looked at then costs no memory. */
export type Floats = Float32Array | (() => Float32Array);

/** Multiply-adds: `perUnit * U + fixed`, U being the free number of the graph. */
export type Work = { readonly perUnit: number; readonly fixed: number };

export type NodeOptions = {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Type of the outputs; default that of the first input. */
  readonly type?: ElementType;
  /** Multiply-adds, for the model card. */
  readonly macs?: Dim;
  /** "com.microsoft" for operators of onnxruntime only; default: standard ONNX. */
  readonly domain?: string;
};

const encoder = new TextEncoder();

/** Smaller tensors are not worth the node that widens them. */
const LEAST_HALVED = 1024;

function attributeProto(name: string, value: Attribute): MessageInitShape<typeof AttributeProtoSchema> {
  if (typeof value === "number") {
    if (!Number.isInteger(value)) throw new TypeError(`attribute ${name}: write float(${value}) for a fraction`);
    return { name, type: AttributeType.INT, i: BigInt(value) };
  }
  if (typeof value === "string") return { name, type: AttributeType.STRING, s: encoder.encode(value) };
  if ("float" in value) return { name, type: AttributeType.FLOAT, f: value.float };
  if ("floats" in value) return { name, type: AttributeType.FLOATS, floats: [...value.floats] };
  const strings = value.filter((v) => typeof v === "string");
  if (strings.length > 0) return { name, type: AttributeType.STRINGS, strings: strings.map((s) => encoder.encode(s)) };
  return { name, type: AttributeType.INTS, ints: (value as readonly number[]).map((v) => BigInt(v)) };
}

function valueInfo(value: Value): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dims = value.shape.map((d) => ({
    value:
      typeof d === "number"
        ? { case: "dimValue" as const, value: BigInt(d) }
        : { case: "dimParam" as const, value: dimText(d) },
  }));
  return {
    name: value.name,
    type: { value: { case: "tensorType", value: { elemType: dataType[value.type], shape: { dim: dims } } } },
  };
}

/**
 * Writes an ONNX model node by node. Order of calls = order of nodes, so a graph is always sorted; names are unique or refused.
 * Shapes are carried along (ops.ts computes them), so a wrong layer is an error here and not a riddle from the engine.
 *
 *     const g = new GraphBuilder("faces");
 *     const x = g.input("picture", "uint8", [1, 128, 128, 3]);
 *     const y = op.conv(g, ..., g.weight("w", [24, 3, 5, 5], w), g.weight("b", [24], b), { strides: [2, 2], pads: [1, 1, 2, 2] });
 *     g.output("scores", y);
 *     const bytes = g.finish();
 */
export class GraphBuilder {
  private readonly nodes: MessageInitShape<typeof NodeProtoSchema>[] = [];
  private readonly initialisers: LateTensor[] = [];
  private readonly inputs: Value[] = [];
  private readonly outputs: Value[] = [];
  private readonly names = new Set<string>();
  /** Small integer constants (axes, shapes) by content, so that each stands in the file once. */
  private readonly small = new Map<string, Value>();
  private readonly domains = new Set<string>();
  private next = 0;
  private prefix = "";
  private work: Dim = 0;
  private weights = 0;

  private readonly opset: number;
  private readonly irVersion: number;
  private readonly halves: boolean;

  /**
   * @param options irVersion: 8 belongs to opset 17, older engines refuse newer numbers. halves: large weights that float16 holds without
   * loss stand in the file as such, and a Cast widens them when an engine loads it.
   */
  constructor(
    private readonly name: string,
    { opset = 17, irVersion = 8, halves = false }: { opset?: number; irVersion?: number; halves?: boolean } = {},
  ) {
    this.opset = opset;
    this.irVersion = irVersion;
    this.halves = halves;
  }

  input(name: string, type: ElementType, shape: Shape): Value {
    const value = { name: this.claim(name), type, shape };
    this.inputs.push(value);
    return value;
  }

  /** A trained tensor: counted as parameters. Float32 or, see `halves`, float16, little endian in the file (so is every machine that Node runs on). */
  weight(name: string, shape: readonly number[], data: Floats): Value {
    this.weights += sizeOf(shape) as number;
    if (typeof data === "function") return this.later(name, shape, data);
    const half = this.halves && data.length >= LEAST_HALVED ? exactHalf(data) : null;
    return half === null ? this.initialiser(name, shape, data) : this.widened(name, shape, half);
  }

  /** A constant that is not trained (window, DFT matrix, mel bank). */
  constant(data: Data, shape: readonly number[] = [data.length], name = this.fresh("constant")): Value {
    return this.initialiser(name, shape, data);
  }

  /** A constant that is made when the file is written. */
  lateConstant(name: string, shape: readonly number[], make: () => Float32Array): Value {
    return this.later(name, shape, make);
  }

  /** A trained tensor that is kept in integers; counted as parameters, made when the file is written. */
  integers(name: string, type: "int8" | "int32", shape: readonly number[], make: () => Int8Array | Int32Array): Value {
    this.weights += sizeOf(shape) as number;
    return this.later(name, shape, make, type);
  }

  /** Nodes that `make` adds are called SCOPE/..., for whoever looks at the file or at an engine's profile. */
  scoped<T>(scope: string, make: () => T): T {
    const before = this.prefix;
    this.prefix = `${scope}/`;
    try {
      return make();
    } finally {
      this.prefix = before;
    }
  }

  scalar(value: number): Value {
    return this.shared(`f${value}`, () => this.constant(Float32Array.of(value), []));
  }

  /** int64 vector: axes, shapes, starts. */
  ints(...values: number[]): Value {
    return this.shared(`i${values.join()}`, () => this.constant(BigInt64Array.from(values, BigInt)));
  }

  node(type: string, inputs: readonly (Value | null)[], shape: Shape, options: NodeOptions = {}): Value {
    return this.nodeMany(type, inputs, [shape], options)[0]!;
  }

  /** A node with several outputs; null leaves an output out. A null input is an absent optional one. */
  nodeMany<const S extends readonly (Shape | null)[]>(
    type: string,
    inputs: readonly (Value | null)[],
    shapes: S,
    options: NodeOptions = {},
  ): { [K in keyof S]: Value } {
    for (const v of inputs)
      if (v && !this.names.has(v.name)) throw new TypeError(`${type}: ${v.name} is not of this graph`);
    const elementType = options.type ?? inputs.find((v) => v !== null)?.type ?? "float32";
    const label = this.fresh(type.toLowerCase());
    const outputs = shapes.map(
      (shape, i): Value => ({
        name: shape === null ? "" : this.claim(i === 0 ? label : `${label}.${i}`),
        type: elementType,
        shape: shape ?? [],
      }),
    );
    if (options.domain) this.domains.add(options.domain);
    this.nodes.push({
      opType: type,
      name: label,
      domain: options.domain ?? "",
      input: inputs.map((v) => v?.name ?? ""),
      output: outputs.map((v) => v.name),
      attribute: Object.entries(options.attributes ?? {}).map(([k, v]) => attributeProto(k, v)),
    });
    this.work = addDims(this.work, options.macs ?? 0);
    return outputs as { [K in keyof S]: Value };
  }

  /** Gives a value its public name. */
  output(name: string, value: Value): Value {
    const out = { name: this.claim(name), type: value.type, shape: value.shape };
    this.nodes.push({ opType: "Identity", name: `output_${name}`, input: [value.name], output: [name] });
    this.outputs.push(out);
    return out;
  }

  get parameters(): number {
    return this.weights;
  }

  get macs(): Work {
    return typeof this.work === "number"
      ? { perUnit: 0, fixed: this.work }
      : { perUnit: this.work.units, fixed: this.work.plus };
  }

  /** The file's bytes. `notes` become metadata_props. */
  finish(notes: Readonly<Record<string, string>> = {}): Uint8Array<ArrayBuffer> {
    const { size, pieces } = this.whole(notes);
    const file = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces()) {
      file.set(piece, at);
      at += piece.length;
    }
    return file;
  }

  /** The same bytes one after another, for files that need not be in memory as a whole: at any time one tensor is. */
  pieces(notes: Readonly<Record<string, string>> = {}): Generator<Uint8Array> {
    return this.whole(notes).pieces();
  }

  private whole(notes: Readonly<Record<string, string>>): ReturnType<typeof modelPieces> {
    if (this.outputs.length === 0) throw new TypeError(`graph ${this.name} has no output`);
    return modelPieces({
      model: {
        irVersion: BigInt(this.irVersion),
        opsetImport: [
          { domain: "", version: BigInt(this.opset) },
          ...[...this.domains].map((domain) => ({ domain, version: 1n })),
        ],
        producerName: "sightline",
        metadataProps: Object.entries(notes).map(([key, value]) => ({ key, value })),
      },
      graph: {
        name: this.name,
        node: this.nodes,
        input: this.inputs.map(valueInfo),
        output: this.outputs.map(valueInfo),
      },
      initialisers: this.initialisers,
    });
  }

  private initialiser(name: string, shape: readonly number[], data: Data): Value {
    checkSize(name, shape, data);
    const type: ElementType =
      data instanceof Float32Array
        ? "float32"
        : data instanceof BigInt64Array
          ? "int64"
          : data instanceof Int32Array
            ? "int32"
            : data instanceof Int8Array
              ? "int8"
              : "uint8";
    const raw = new Uint8Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer);
    this.initialisers.push({
      head: { name: this.claim(name), dims: shape.map((d) => BigInt(d)), dataType: dataType[type] },
      bytes: raw.length,
      make: () => raw,
    });
    return { name, type, shape };
  }

  private widened(name: string, shape: readonly number[], half: Uint16Array): Value {
    if (sizeOf(shape) !== half.length)
      throw new TypeError(`${name}: ${half.length} values for shape ${shapeText(shape)}`);
    const kept = this.claim(name);
    this.initialisers.push({
      head: { name: kept, dims: shape.map((d) => BigInt(d)), dataType: DataType.FLOAT16 },
      bytes: half.byteLength,
      make: () => new Uint8Array(half.buffer as ArrayBuffer),
    });
    const wide = { name: this.claim(`${name}.wide`), type: "float32" as const, shape };
    const attribute = [attributeProto("to", DataType.FLOAT)];
    this.nodes.push({ opType: "Cast", name: wide.name, input: [kept], output: [wide.name], attribute });
    return wide;
  }

  /** As `initialiser`; what `make` gives is not copied. */
  private later(
    name: string,
    shape: readonly number[],
    make: () => Float32Array | Int8Array | Int32Array,
    type: "float32" | "int8" | "int32" = "float32",
  ): Value {
    this.initialisers.push({
      head: { name: this.claim(name), dims: shape.map((d) => BigInt(d)), dataType: dataType[type] },
      bytes: (type === "int8" ? 1 : 4) * (sizeOf(shape) as number),
      make: () => {
        const data = make();
        checkSize(name, shape, data);
        return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      },
    });
    return { name, type, shape };
  }

  private shared(key: string, make: () => Value): Value {
    const have = this.small.get(key) ?? make();
    this.small.set(key, have);
    return have;
  }

  private claim(name: string): string {
    if (name === "" || this.names.has(name)) throw new TypeError(`name ${JSON.stringify(name)} is taken or empty`);
    this.names.add(name);
    return name;
  }

  private fresh(base: string): string {
    return `${this.prefix}${base}_${this.next++}`;
  }
}

function checkSize(name: string, shape: readonly number[], data: Data): void {
  if (sizeOf(shape) !== data.length)
    throw new TypeError(`${name}: ${data.length} values for shape ${shapeText(shape)}`);
}

/** Shape of `reshape(x, to)`: at most one -1, which takes what is left. */
export function reshaped(from: Shape, to: readonly Dim[]): Shape {
  const at = to.indexOf(-1);
  if (at < 0) {
    if (!sameDim(sizeOf(from), sizeOf(to)))
      throw new TypeError(`${shapeText(from)} does not reshape to ${shapeText(to)}`);
    return to;
  }
  const rest = to.reduce<Dim>((p, d, i) => (i === at ? p : mulDims(p, d)), 1);
  const whole = sizeOf(from);
  if (typeof rest !== "number") throw new TypeError("the free size must be the -1 of a reshape");
  const [u, p] = typeof whole === "number" ? [0, whole] : [whole.units, whole.plus];
  if (u % rest !== 0 || p % rest !== 0) throw new TypeError(`${shapeText(from)} does not reshape to ${shapeText(to)}`);
  return to.map((d, i) => (i === at ? dim(u / rest, p / rest) : d));
}
