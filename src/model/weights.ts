import { InferenceError } from "./inference.js";

/** Trained tensors by the names of the PyTorch state_dict, all float32. */
export type WeightTensor = { readonly shape: readonly number[]; readonly data: Float32Array };
export type Weights = ReadonlyMap<string, WeightTensor>;
export type WeightFile = {
  readonly tensors: Weights;
  /** `__metadata__` of the file. */
  readonly notes: Readonly<Record<string, string>>;
};

const MAX_HEADER_BYTES = 1 << 20;
const MAX_TENSORS = 4096;
const MAX_RANK = 8;
const bytesOf: Record<string, number> = { F32: 4, F16: 2 };

function invalid(file: string, what: string): InferenceError {
  return new InferenceError("SL_MODEL_INVALID", `${file}: ${what}`);
}

/** Value of a half-precision number given by its 16 bits; exact. */
export function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function header(bytes: Uint8Array, file: string): { entries: [string, unknown][]; begin: number } {
  if (bytes.length < 8) throw invalid(file, `${bytes.length} bytes are too short for a safetensors file`);
  const size = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (size > BigInt(MAX_HEADER_BYTES) || 8n + size > BigInt(bytes.length))
    throw invalid(file, `header of ${size} bytes; the file has ${bytes.length}, the limit is ${MAX_HEADER_BYTES}`);
  const begin = 8 + Number(size);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, begin)));
  } catch {
    throw invalid(file, "the header is not JSON in UTF-8");
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw invalid(file, "the header is not an object");
  return { entries: Object.entries(parsed), begin };
}

type Entry = { dtype: string; shape: number[]; from: number; to: number; count: number };

function entryOf(name: string, raw: unknown, room: number, file: string): Entry {
  const bad = (what: string): InferenceError => invalid(file, `tensor ${name}: ${what}`);
  if (typeof raw !== "object" || raw === null) throw bad("no description");
  const { dtype, shape, data_offsets: offsets } = raw as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(bytesOf, dtype))
    throw bad(`type ${JSON.stringify(dtype)} is not F32 or F16`);
  const whole = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(whole))
    throw bad("shape is not a list of up to 8 whole numbers");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(whole))
    throw bad("data_offsets is not a pair of whole numbers");
  const [from, to] = offsets as [number, number];
  const count = shape.reduce((p: number, d: number) => p * d, 1);
  if (to > room || from > to) throw bad(`bytes ${from} to ${to} lie outside of the ${room} bytes of data`);
  if (to - from !== count * bytesOf[dtype]!)
    throw bad(`${to - from} bytes for shape (${shape.join(", ")}) of ${dtype}`);
  return { dtype, shape, from, to, count };
}

/**
 * Reads a safetensors file (8 bytes header length little endian, JSON header, raw data). Strict: tensors must fill the data
 * without gap or overlap, every value must be finite. Throws SL_MODEL_INVALID with file, tensor and what is wrong.
 */
export function readWeights(bytes: Uint8Array, file = "weights"): WeightFile {
  const { entries, begin } = header(bytes, file);
  if (entries.length > MAX_TENSORS) throw invalid(file, `${entries.length} tensors; the limit is ${MAX_TENSORS}`);
  const notes: Record<string, string> = {};
  const found: [string, Entry][] = [];
  for (const [name, raw] of entries) {
    if (name === "__metadata__") {
      if (typeof raw !== "object" || raw === null || !Object.values(raw).every((v) => typeof v === "string"))
        throw invalid(file, "__metadata__ is not a table of strings");
      Object.assign(notes, raw);
    } else found.push([name, entryOf(name, raw, bytes.length - begin, file)]);
  }
  found.sort((a, b) => a[1].from - b[1].from || a[1].to - b[1].to);
  let at = 0;
  for (const [name, e] of found) {
    if (e.from !== at) throw invalid(file, `tensor ${name} begins at byte ${e.from}, expected ${at}`);
    at = e.to;
  }
  if (at !== bytes.length - begin) throw invalid(file, `${bytes.length - begin - at} bytes after the last tensor`);
  const view = new DataView(bytes.buffer, bytes.byteOffset + begin);
  const tensors = new Map<string, WeightTensor>();
  for (const [name, e] of found) {
    const data = new Float32Array(e.count);
    for (let i = 0; i < e.count; i++)
      data[i] = e.dtype === "F32" ? view.getFloat32(e.from + 4 * i, true) : half(view.getUint16(e.from + 2 * i, true));
    if (!data.every(Number.isFinite)) throw invalid(file, `tensor ${name} holds a value that is not finite`);
    tensors.set(name, { shape: e.shape, data });
  }
  return { tensors, notes };
}

/** The tensor of that name and shape, or SL_MODEL_INVALID. */
export function tensorOf(weights: Weights, name: string, shape: readonly number[]): Float32Array {
  const t = weights.get(name);
  if (!t) throw new InferenceError("SL_MODEL_INVALID", `the weights lack tensor ${name}`);
  if (t.shape.length !== shape.length || t.shape.some((d, i) => d !== shape[i])) {
    throw new InferenceError(
      "SL_MODEL_INVALID",
      `tensor ${name}: shape (${t.shape.join(", ")}), expected (${shape.join(", ")})`,
    );
  }
  return t.data;
}
