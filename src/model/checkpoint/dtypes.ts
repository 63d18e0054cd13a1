/** Element types of TensorFlow by the numbers of its DataType, with the bytes of a value (0: not fixed). */
const types: Readonly<Record<number, readonly [name: string, bytes: number]>> = {
  1: ["float32", 4],
  2: ["float64", 8],
  3: ["int32", 4],
  4: ["uint8", 1],
  5: ["int16", 2],
  6: ["int8", 1],
  7: ["string", 0],
  8: ["complex64", 8],
  9: ["int64", 8],
  10: ["bool", 1],
  14: ["bfloat16", 2],
  17: ["uint16", 2],
  18: ["complex128", 16],
  19: ["float16", 2],
  20: ["resource", 0],
  21: ["variant", 0],
  22: ["uint32", 4],
  23: ["uint64", 8],
};

export function typeName(type: number): string {
  return types[type]?.[0] ?? `type ${type}`;
}

/** Bytes of one value, or 0 when values have no fixed size or the type is not known. */
export function typeBytes(type: number): number {
  return types[type]?.[1] ?? 0;
}
