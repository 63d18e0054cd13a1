/**
 * Sizes of tensors: a number, or a size that grows with the one free number U of a graph (its units, frames or batch):
 * `units * U + plus`. Enough to follow shapes and count work exactly; not a general algebra.
 */
export type Dim = number | { readonly units: number; readonly plus: number };
export type Shape = readonly Dim[];

export function dim(units: number, plus = 0): Dim {
  return units === 0 ? plus : { units, plus };
}

function parts(d: Dim): { units: number; plus: number } {
  return typeof d === "number" ? { units: 0, plus: d } : d;
}

export function addDims(a: Dim, b: Dim): Dim {
  const x = parts(a);
  const y = parts(b);
  return dim(x.units + y.units, x.plus + y.plus);
}

/** Throws when both grow with U: such a size is not linear. */
export function mulDims(a: Dim, b: Dim): Dim {
  const x = parts(a);
  const y = parts(b);
  if (x.units !== 0 && y.units !== 0) throw new TypeError("a size that grows with the square of the free number");
  return dim(x.units * y.plus + x.plus * y.units, x.plus * y.plus);
}

export function sizeOf(shape: Shape): Dim {
  return shape.reduce(mulDims, 1);
}

export function sameDim(a: Dim, b: Dim): boolean {
  const x = parts(a);
  const y = parts(b);
  return x.units === y.units && x.plus === y.plus;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => sameDim(d, b[i]!));
}

/** What the size is when the free number is `u`. */
export function dimAt(d: Dim, u: number): number {
  const x = parts(d);
  return x.units * u + x.plus;
}

/** For messages and as ONNX dim_param: `5*U+1`. */
export function dimText(d: Dim): string {
  if (typeof d === "number") return String(d);
  const grow = d.units === 1 ? "U" : `${d.units}*U`;
  if (d.plus === 0) return grow;
  return d.plus > 0 ? `${grow}+${d.plus}` : `${grow}${d.plus}`;
}

export function shapeText(shape: Shape): string {
  return `(${shape.map(dimText).join(", ")})`;
}

/** Size of a convolution's output; `pad` = both sides together. A size that grows must be a multiple of the stride in its growing part. */
export function convDim(d: Dim, kernel: number, stride: number, pad: number): Dim {
  const x = parts(d);
  if (x.units % stride !== 0) throw new TypeError(`${dimText(d)} does not divide by stride ${stride}`);
  return dim(x.units / stride, Math.floor((x.plus + pad - kernel) / stride) + 1);
}

/** NumPy's rule of broadcasting. */
export function broadcast(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x === 1) out.push(y);
    else if (y === 1 || sameDim(x, y)) out.push(x);
    else throw new TypeError(`shapes ${shapeText(a)} and ${shapeText(b)} do not broadcast`);
  }
  return out;
}
