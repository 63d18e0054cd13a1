import { TensorProto_DataType } from "./onnx_pb.js";
import { readOnnx } from "./read.js";

/** The float32 tensors of an ONNX file by name; each is copied when it is asked for. Both throw SL_MODEL_INVALID. */
export function floatTensors(bytes: Uint8Array, what: string): (name: string) => Float32Array {
  const { model, no } = readOnnx(bytes, what);
  const known = new Map((model.graph?.initializer ?? []).map((t) => [t.name, t]));
  return (name) => {
    const t = known.get(name);
    if (!t) throw no(`holds no tensor ${name}; it was not written by this program`);
    if (t.dataType !== TensorProto_DataType.FLOAT || t.rawData.length % 4 !== 0)
      throw no(`tensor ${name} is of type ${t.dataType}, expected float32`);
    // A copy, so that numbers begin where their type wants it.
    return new Float32Array(new Uint8Array(t.rawData).buffer);
  };
}
