import { z } from "zod";

/** What the generators and the error texts need to know of one key. */
export type KeyInfo = {
  readonly kind: "object" | "record" | "array" | "enum" | "number" | "integer" | "boolean" | "string";
  readonly about: string;
  readonly unit: string | null;
  /** undefined: the key has no default and may be left out, or is needed (see `optional`). */
  readonly defaultValue: unknown;
  readonly optional: boolean;
  /** `env:NAME` and `file:PATH` are understood. */
  readonly reference: boolean;
  readonly secret: boolean;
  readonly example: unknown;
  /** What a value may be, in words. */
  readonly allowed: string;
  /** Keys of an object. */
  readonly keys: ReadonlyMap<string, KeyInfo>;
  /** Elements of an array, values of a record. */
  readonly inner: KeyInfo | null;
};

type Meta = {
  about?: string;
  allowed?: string;
  unit?: string;
  reference?: boolean;
  secret?: boolean;
  example?: unknown;
};

/** Walks a schema. Knows only the kinds that schema.ts uses. @throws TypeError on any other, so that a new kind is noticed in tests. */
export function describe(schema: z.ZodType): KeyInfo {
  const meta: Meta = { ...(schema.meta() as Meta | undefined) };
  let optional = false;
  let defaultValue: unknown;
  let inner: unknown = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) {
    optional = true;
    if (inner instanceof z.ZodDefault) defaultValue = inner.def.defaultValue;
    inner = inner.def.innerType;
  }
  const common = {
    about: meta.about ?? "",
    unit: meta.unit ?? null,
    defaultValue,
    optional,
    reference: meta.reference ?? false,
    secret: meta.secret ?? false,
    example: meta.example,
    keys: new Map<string, KeyInfo>(),
    inner: null,
  };
  if (inner instanceof z.ZodObject) {
    const keys = new Map<string, KeyInfo>();
    for (const [name, child] of Object.entries(inner.shape)) keys.set(name, describe(child as z.ZodType));
    return { ...common, kind: "object", keys, allowed: `keys ${[...keys.keys()].join(", ")}` };
  }
  if (inner instanceof z.ZodRecord) {
    const value = describe(inner.valueType as z.ZodType);
    return { ...common, kind: "record", inner: value, allowed: "names with settings" };
  }
  if (inner instanceof z.ZodArray) {
    const element = describe(inner.element as z.ZodType);
    return { ...common, kind: "array", inner: element, allowed: `list of ${element.allowed}` };
  }
  if (inner instanceof z.ZodEnum) return { ...common, kind: "enum", allowed: `one of ${inner.options.join(", ")}` };
  if (inner instanceof z.ZodNumber) {
    const integer = inner.isInt;
    const range = `${inner.minValue ?? "-inf"} to ${inner.maxValue ?? "inf"}`;
    return {
      ...common,
      kind: integer ? "integer" : "number",
      allowed: `${integer ? "whole number" : "number"} ${range}`,
    };
  }
  if (inner instanceof z.ZodBoolean) return { ...common, kind: "boolean", allowed: "true or false" };
  if (inner instanceof z.ZodString) return { ...common, kind: "string", allowed: meta.allowed ?? "text" };
  throw new TypeError(
    `describe() does not know this kind of schema: ${String((inner as { def?: { type?: string } }).def?.type)}`,
  );
}

/** The description of what stands at a path (a record takes any name, an array any index), or null when nothing may stand there. */
export function describeAt(root: KeyInfo, path: readonly PropertyKey[]): KeyInfo | null {
  let at: KeyInfo | null = root;
  for (const step of path) {
    if (at === null) return null;
    at = at.kind === "object" ? (at.keys.get(String(step)) ?? null) : at.inner;
  }
  return at;
}

/** The known key that is closest to a mistyped one, or null when none is near (more than about a third of the letters differ). */
export function nearestKey(typed: string, known: Iterable<string>): string | null {
  if (typed.length > 100) return null;
  const plain = (s: string) => s.toLowerCase().replace(/[-_\s]/g, "");
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const key of known) {
    const a = plain(typed);
    const b = plain(key);
    const distance = b.length > 3 && a.length > 2 && (b.startsWith(a) || a.startsWith(b)) ? 1 : editDistance(a, b);
    if (distance < bestDistance) {
      best = key;
      bestDistance = distance;
    }
  }
  return best !== null && bestDistance <= Math.max(1, Math.floor(best.length / 3)) ? best : null;
}

/** Edit distance (optimal string alignment: two letters that changed places are one mistake), three rows at a time. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      let best = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, before[j - 2]! + 1);
      next.push(best);
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}
