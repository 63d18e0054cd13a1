/**
 * Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, "SDR - half-baked or well done?", eq. 5), means removed.
 * Only the length that both have counts. Infinity for a perfect estimate, -Infinity for silence.
 */
export function siSdr(estimate: Float32Array, reference: Float32Array): number {
  const n = Math.min(estimate.length, reference.length);
  let meanE = 0;
  let meanR = 0;
  for (let i = 0; i < n; i++) {
    meanE += estimate[i]! / n;
    meanR += reference[i]! / n;
  }
  let cross = 0;
  let power = 0;
  let energy = 0;
  for (let i = 0; i < n; i++) {
    const e = estimate[i]! - meanE;
    const r = reference[i]! - meanR;
    cross += e * r;
    power += r * r;
    energy += e * e;
  }
  if (power === 0) throw new RangeError("the reference is silent");
  const target = (cross * cross) / power;
  return target === 0 ? Number.NEGATIVE_INFINITY : 10 * Math.log10(target / Math.max(0, energy - target));
}

/** RMS over the 20 ms frames (48 kHz) that are not pauses: within 30 dB of the loudest tenth. */
export function speechRms(x: Float32Array): number {
  const powers: number[] = [];
  for (let at = 0; at + 960 <= x.length; at += 960) {
    let sum = 0;
    for (let i = at; i < at + 960; i++) sum += x[i]! * x[i]!;
    powers.push(sum / 960);
  }
  const loud = [...powers].sort((a, b) => a - b)[Math.floor(0.9 * powers.length)] ?? 0;
  const speech = powers.filter((p) => p > loud * 1e-3);
  return Math.sqrt(speech.reduce((a, b) => a + b, 0) / Math.max(1, speech.length));
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
