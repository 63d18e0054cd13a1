import { fromBinary } from "@bufbuild/protobuf";
import { InferenceError } from "../inference.js";
import { type ModelProto, ModelProtoSchema } from "./onnx_pb.js";

export type Refusal = (why: string) => InferenceError;

/** An ONNX file's message, and how to say SL_MODEL_INVALID about it. Throws that where it is none. */
export function readOnnx(bytes: Uint8Array, what: string): { readonly model: ModelProto; readonly no: Refusal } {
  const no: Refusal = (why) => new InferenceError("SL_MODEL_INVALID", `${what}: ${why}`);
  try {
    return { model: fromBinary(ModelProtoSchema, bytes), no };
  } catch (e) {
    throw no(`not an ONNX file: ${e instanceof Error ? e.message : String(e)}`);
  }
}
