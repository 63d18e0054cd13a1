import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { GraphProtoSchema, ModelProtoSchema, TensorProtoSchema } from "./onnx_pb.js";

/** A tensor of the file whose values are made only when their turn comes. */
export type LateTensor = {
  /** All but raw_data. */
  readonly head: MessageInitShape<typeof TensorProtoSchema>;
  readonly bytes: number;
  /** Exactly `bytes` bytes, little endian. */
  readonly make: () => Uint8Array;
};

type Fields<T> = Omit<T, "$typeName" | "$unknown">;
export type ModelParts = {
  /** Without graph. */
  readonly model: Fields<MessageInitShape<typeof ModelProtoSchema>>;
  /** Without initialisers. */
  readonly graph: Fields<MessageInitShape<typeof GraphProtoSchema>>;
  readonly initialisers: readonly LateTensor[];
};

const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;

/** Tag and length of a field of bytes that follow. */
function opening(field: number, size: number): Uint8Array {
  return new BinaryWriter().tag(field, WireType.LengthDelimited).uint32(size).finish();
}

/**
 * An ONNX file piece by piece, in memory only one tensor at a time, and its size. Joined, the pieces are what protobuf writes for the
 * whole: fields in the order of their numbers. The format ends at 2 GiB; RangeError beyond that.
 */
export function modelPieces(parts: ModelParts): { readonly size: number; pieces(): Generator<Uint8Array> } {
  const { irVersion, producerName, ...afterGraph } = parts.model;
  const { name, node, ...afterTensors } = parts.graph;
  const model = (fields: MessageInitShape<typeof ModelProtoSchema>): Uint8Array =>
    toBinary(ModelProtoSchema, create(ModelProtoSchema, fields));
  const graph = (fields: MessageInitShape<typeof GraphProtoSchema>): Uint8Array =>
    toBinary(GraphProtoSchema, create(GraphProtoSchema, fields));
  const heads = parts.initialisers.map((t) => {
    const head = toBinary(TensorProtoSchema, create(TensorProtoSchema, t.head));
    const raw = opening(TENSOR_RAW_DATA, t.bytes);
    const whole = opening(GRAPH_INITIALIZER, head.length + raw.length + t.bytes);
    return Buffer.concat([whole, head, raw]);
  });
  const begin = model({
    ...(irVersion !== undefined && { irVersion }),
    ...(producerName !== undefined && { producerName }),
  });
  const [nodes, values] = [graph({ ...(name !== undefined && { name }), ...(node && { node }) }), graph(afterTensors)];
  const tensors = parts.initialisers.reduce((sum, t, i) => sum + heads[i]!.length + t.bytes, 0);
  const inGraph = nodes.length + tensors + values.length;
  if (inGraph >= 2 ** 31) throw new RangeError(`an ONNX file of ${inGraph} bytes; the limit is 2 GiB`);
  const before = Buffer.concat([begin, opening(MODEL_GRAPH, inGraph), nodes]);
  const after = Buffer.concat([values, model(afterGraph)]);
  return {
    size: before.length + tensors + after.length,
    *pieces() {
      yield before;
      for (const [i, t] of parts.initialisers.entries()) {
        yield heads[i]!;
        const data = t.make();
        if (data.length !== t.bytes) throw new TypeError(`${t.head.name}: ${data.length} bytes, expected ${t.bytes}`);
        yield data;
      }
      yield after;
    },
  };
}
