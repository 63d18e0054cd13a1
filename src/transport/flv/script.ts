import { AmfReader, type AmfValue, readAmf0, writeAmf0 } from "../amf/amf0.js";
import { type FlvTag, SCRIPT } from "./tag.js";

/** Script data tags (FLV 10.1, E.4.4): a name and values in AMF0. The same bodies are RTMP's data messages. */

/** Script tag such as `onMetaData` or `onHighlight`. */
export function scriptTag(name: string, timestampMs: number, ...values: readonly AmfValue[]): FlvTag {
  return { type: SCRIPT, timestampMs, body: writeAmf0(name, ...values) };
}

/** @throws AmfError; a body without a name gives name "". */
export function readScript(body: Buffer): { name: string; values: AmfValue[] } {
  const [name, ...values] = readAmf0(body);
  return { name: typeof name === "string" ? name : "", values };
}

/**
 * Reads only the name, so that odd values behind it (arrays without an end marker are seen in the wild) do no harm.
 * A publisher's `@setDataFrame` (RTMP's "keep this for those who join") is taken off; `body` starts with the real name.
 * @throws AmfError when there is no value at all
 */
export function scriptName(body: Buffer): { name: string; body: Buffer } {
  const reader = new AmfReader(body);
  const first = reader.read();
  if (first !== "@setDataFrame" || reader.done) return { name: typeof first === "string" ? first : "", body };
  const inner = body.subarray(reader.offset);
  const name = new AmfReader(inner).read();
  return { name: typeof name === "string" ? name : "", body: inner };
}
