import type { StreamCard } from "./card.js";
import { type TensorMap, tensor } from "./engines/engine.js";

/** The states of a face that has seen and heard nothing. */
export function initialStates(declared: StreamCard["states"]): TensorMap {
  return Object.fromEntries(
    declared.map(({ name, shape, init }) => [
      name,
      tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(init), shape),
    ]),
  );
}
