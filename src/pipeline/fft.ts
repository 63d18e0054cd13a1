/**
 * Fourier transform of real signals whose length is a power of two. The N real values are seen as N/2 complex ones, transformed
 * (radix 2, decimation in time), and taken apart (Sorensen et al. 1987, "Real-valued fast Fourier transform algorithms").
 * Tables are made once; nothing is allocated later; callers provide outputs. Doubles: in V8 they are as quick as floats here.
 */
export class RealFft {
  readonly size: number;
  /** Bins 0 .. size / 2. A spectrum is `2 * bins` numbers: re, im, re, im, ... */
  readonly bins: number;
  readonly #half: number;
  /** exp(-2 pi i k / size) for k < size / 2, interleaved. */
  readonly #twiddle: Float64Array;
  readonly #bitReversed: Uint32Array;
  readonly #work: Float64Array;

  constructor(size: number) {
    if (!Number.isInteger(size) || size < 4 || size > 1 << 20 || (size & (size - 1)) !== 0) {
      throw new RangeError(`FFT size must be a power of two from 4 to 2^20, not ${size}`);
    }
    const half = size / 2;
    this.size = size;
    this.bins = half + 1;
    this.#half = half;
    this.#work = new Float64Array(size);
    this.#twiddle = new Float64Array(size);
    for (let k = 0; k < half; k++) {
      this.#twiddle[2 * k] = Math.cos((2 * Math.PI * k) / size);
      this.#twiddle[2 * k + 1] = -Math.sin((2 * Math.PI * k) / size);
    }
    this.#bitReversed = new Uint32Array(half);
    const bits = Math.log2(half);
    for (let i = 0; i < half; i++) {
      let reversed = 0;
      for (let b = 0; b < bits; b++) reversed |= ((i >> b) & 1) << (bits - 1 - b);
      this.#bitReversed[i] = reversed;
    }
  }

  /** spectrum[k] = sum over n of signal[n] exp(-2 pi i k n / size), unscaled. `signal`: size, `spectrum`: 2 * bins values. */
  forward(signal: Float64Array, spectrum: Float64Array): void {
    if (signal.length < this.size || spectrum.length < 2 * this.bins) throw new RangeError("FFT array too short");
    const half = this.#half;
    const z = this.#work;
    const order = this.#bitReversed;
    for (let i = 0; i < half; i++) {
      const from = 2 * order[i]!;
      z[2 * i] = signal[from]!;
      z[2 * i + 1] = signal[from + 1]!;
    }
    this.#butterflies(z);
    const w = this.#twiddle;
    spectrum[0] = z[0]! + z[1]!;
    spectrum[1] = 0;
    spectrum[2 * half] = z[0]! - z[1]!;
    spectrum[2 * half + 1] = 0;
    for (let k = 1; k < half; k++) {
      const m = half - k;
      const evenRe = 0.5 * (z[2 * k]! + z[2 * m]!);
      const evenIm = 0.5 * (z[2 * k + 1]! - z[2 * m + 1]!);
      const oddRe = 0.5 * (z[2 * k + 1]! + z[2 * m + 1]!);
      const oddIm = -0.5 * (z[2 * k]! - z[2 * m]!);
      const c = w[2 * k]!;
      const s = w[2 * k + 1]!;
      spectrum[2 * k] = evenRe + c * oddRe - s * oddIm;
      spectrum[2 * k + 1] = evenIm + c * oddIm + s * oddRe;
    }
  }

  /** The inverse of `forward`, scaled so that inverse(forward(x)) = x. Imaginary parts of bins 0 and size / 2 are not read. */
  inverse(spectrum: Float64Array, signal: Float64Array): void {
    if (signal.length < this.size || spectrum.length < 2 * this.bins) throw new RangeError("FFT array too short");
    const half = this.#half;
    const z = this.#work;
    const order = this.#bitReversed;
    const w = this.#twiddle;
    // Conjugate in, conjugate out: the forward butterflies then compute the inverse.
    z[0] = 0.5 * (spectrum[0]! + spectrum[2 * half]!);
    z[1] = -0.5 * (spectrum[0]! - spectrum[2 * half]!);
    for (let k = 1; k < half; k++) {
      const m = half - k;
      const evenRe = 0.5 * (spectrum[2 * k]! + spectrum[2 * m]!);
      const evenIm = 0.5 * (spectrum[2 * k + 1]! - spectrum[2 * m + 1]!);
      const diffRe = 0.5 * (spectrum[2 * k]! - spectrum[2 * m]!);
      const diffIm = 0.5 * (spectrum[2 * k + 1]! + spectrum[2 * m + 1]!);
      const c = w[2 * k]!;
      const s = -w[2 * k + 1]!;
      const oddRe = c * diffRe - s * diffIm;
      const oddIm = c * diffIm + s * diffRe;
      const to = 2 * order[k]!;
      z[to] = evenRe - oddIm;
      z[to + 1] = -(evenIm + oddRe);
    }
    this.#butterflies(z);
    const scale = 1 / half;
    for (let i = 0; i < half; i++) {
      signal[2 * i] = z[2 * i]! * scale;
      signal[2 * i + 1] = -z[2 * i + 1]! * scale;
    }
  }

  /** In-place complex transform of `half` bit-reversed values. */
  #butterflies(z: Float64Array): void {
    const half = this.#half;
    const w = this.#twiddle;
    for (let i = 0; i < 2 * half; i += 4) {
      const re = z[i + 2]!;
      const im = z[i + 3]!;
      z[i + 2] = z[i]! - re;
      z[i + 3] = z[i + 1]! - im;
      z[i] = z[i]! + re;
      z[i + 1] = z[i + 1]! + im;
    }
    for (let span = 2; span < half; span *= 2) {
      const step = (2 * half) / span; // exp(-2 pi i k / (2 span)) = twiddle[k * size / (2 span)], interleaved: * 2
      for (let start = 0; start < half; start += 2 * span) {
        for (let k = 0, t = 0; k < span; k++, t += step) {
          const a = 2 * (start + k);
          const b = a + 2 * span;
          const c = w[t]!;
          const s = w[t + 1]!;
          const re = c * z[b]! - s * z[b + 1]!;
          const im = c * z[b + 1]! + s * z[b]!;
          z[b] = z[a]! - re;
          z[b + 1] = z[a + 1]! - im;
          z[a] = z[a]! + re;
          z[a + 1] = z[a + 1]! + im;
        }
      }
    }
  }
}
