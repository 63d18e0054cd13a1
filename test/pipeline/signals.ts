/** Signals and measures that the tests of the pipeline share. */

/** Uniform noise in -1..1, the same for the same seed (mulberry32). */
export function noise(length: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}

export function sine(length: number, hz: number, amplitude = 0.5): Float32Array {
  return Float32Array.from({ length }, (_, n) => amplitude * Math.sin((2 * Math.PI * hz * n) / 48_000));
}

/** A sweep from `fromHz` to `toHz`, exponential. */
export function sweep(length: number, fromHz: number, toHz: number, amplitude = 0.5): Float32Array {
  const k = Math.log(toHz / fromHz) / length;
  return Float32Array.from(
    { length },
    (_, n) => amplitude * Math.sin((2 * Math.PI * fromHz * (Math.exp(k * n) - 1)) / k / 48_000),
  );
}

export function largestStep(x: Float32Array): number {
  let largest = 0;
  for (let n = 1; n < x.length; n++) largest = Math.max(largest, Math.abs(x[n]! - x[n - 1]!));
  return largest;
}

/** 10 log10 of the energy of `x - y` over that of `x`. */
export function errorDb(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let error = 0;
  let energy = 0;
  for (let n = 0; n < x.length; n++) {
    error += (x[n]! - y[n]!) ** 2;
    energy += x[n]! ** 2;
  }
  return 10 * Math.log10((error + 1e-30) / (energy + 1e-30));
}

export function concat(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
