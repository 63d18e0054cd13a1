/** Writes the format for tests: header as given, data as given. */
export function pack(head: Record<string, unknown> | string, data: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(typeof head === "string" ? head : JSON.stringify(head));
  const out = new Uint8Array(8 + text.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  out.set(data, 8 + text.length);
  return out;
}
