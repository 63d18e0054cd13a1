/** Caps in GStreamer's text form: `name, field=(type)value, ...`. Only the first structure is read; ranges and lists stay text. */
export type Caps = { readonly name: string; readonly fields: ReadonlyMap<string, string> };

const FIELD = /([A-Za-z0-9_.-]+)=\((?:[^()]*)\)("(?:[^"\\]|\\.)*"|[^,;"]*)/g;

export function parseCaps(text: string): Caps {
  const end = text.search(/[,;]/);
  const fields = new Map<string, string>();
  for (const match of text.matchAll(FIELD)) {
    const value = match[2]!.trim();
    fields.set(match[1]!, value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, "$1") : value);
  }
  return { name: (end < 0 ? text : text.slice(0, end)).trim(), fields };
}

/** A whole number field, or null when absent or not a plain number. */
export function capsInt(caps: Caps, field: string): number | null {
  const value = caps.fields.get(field);
  return value !== undefined && /^-?\d+$/.test(value) ? Number(value) : null;
}

/** A `(fraction)n/d` field as a number, or null. */
export function capsFraction(caps: Caps, field: string): number | null {
  const match = /^(\d+)\/(\d+)$/.exec(caps.fields.get(field) ?? "");
  return match !== null && Number(match[1]) > 0 && Number(match[2]) > 0 ? Number(match[1]) / Number(match[2]) : null;
}

/** A `(buffer)` field (hex), such as codec_data. */
export function capsBuffer(caps: Caps, field: string): Buffer | null {
  const value = caps.fields.get(field);
  return value !== undefined && value.length > 0 && /^(?:[0-9a-f]{2})+$/i.test(value)
    ? Buffer.from(value, "hex")
    : null;
}

/** True when luma uses 0..255: the first number of `colorimetry` is GstVideoColorRange (1 = 0..255); names are all studio range but sRGB. */
export function isFullRange(caps: Caps): boolean {
  const value = caps.fields.get("colorimetry") ?? "";
  return value === "sRGB" || value === "1" || value.startsWith("1:");
}
