import type { PresetName } from "./presets.js";
import { type PaperVariable, paperVariables, sizeOfVariable, type VariableSource } from "./variables.js";

/** 32 bits a call (mulberry32). */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** FNV-1a of a name: variables are independent of each other and of their order. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h;
}

/** Centre and half width of the uniform values of a variable: He's variance for weights, statistics like those of a trained net. */
function spread(v: PaperVariable): readonly [number, number] {
  switch (v.role) {
    case "weights": {
      const transposed = v.name.startsWith("gen/deconv") || /^gen\/[fb]g\//.test(v.name);
      const from = v.shape.at(transposed ? -1 : -2)!;
      const taps = v.shape.slice(0, -2).reduce((p, d) => p * d, 1);
      return [0, Math.sqrt((3 * 2) / (taps * from))];
    }
    case "gamma":
      return [1, 0.05];
    case "moving_variance":
      return [1, 0.5];
    default:
      return [0, 0.15];
  }
}

/**
 * Weights without training, the same for the same seed and name on every machine; for tests and benches. Throws RangeError for a name
 * that the preset's graph does not need.
 */
export function randomVariables(
  preset: PresetName,
  options: { readonly width?: number; readonly seed?: number } = {},
): VariableSource {
  const known = new Map(paperVariables(preset, { width: options.width ?? 1, slots: false }).map((v) => [v.name, v]));
  return (name) => {
    const v = known.get(name);
    if (!v?.required) throw new RangeError(`${preset} has no variable ${name}`);
    const next = generator(hash(name) ^ (options.seed ?? 1));
    const [centre, half] = spread(v);
    const values = new Float32Array(sizeOfVariable(v));
    for (let i = 0; i < values.length; i++) values[i] = centre + half * (2 * next() - 1);
    return values;
  };
}
