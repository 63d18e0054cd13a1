import { SAMPLE_RATE } from "../../pipeline/types.js";
import type { StreamCard, WindowCard } from "../card.js";
import { initialStates } from "../initial-states.js";
import { type TensorMap, tensor } from "./engine.js";

/** Units of a trial's step: as long as those of a `balanced` channel (HOP_UNITS, src/channel/latency.ts). */
const UNITS = 3;
/** Loudest value of made-up sound. */
const LEVEL = 0.1;

/** Values in -1..1, always the same for a seed (linear congruence of C's rand). */
function noise(seed: number, size: number): Float32Array {
  let q = seed;
  return Float32Array.from({ length: size }, () => {
    q = (Math.imul(1103515245, q) + 12345) & 0x7fffffff;
    return q / 2 ** 30 - 1;
  });
}

const pixels = (seed: number, size: number): Uint8Array => Uint8Array.from(noise(seed, size), (v) => 127.5 + 127.5 * v);
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const initial = (card: StreamCard, which: (of: "sound" | "person" | undefined) => boolean): TensorMap =>
  initialStates(card.states.filter(({ of }) => which(of)));

const heardIn = (card: StreamCard, units: number): TensorMap => ({
  samples: tensor(
    noise(1, units * card.unitSamples).map((v) => v * LEVEL),
    [1, units * card.unitSamples],
  ),
});

function seenIn(card: StreamCard, units: number): TensorMap {
  const { side } = card.picture;
  const one = tensor(Float32Array.of(1), [1, 1]);
  return {
    crops: tensor(pixels(2, units * side ** 2), [1, units, side, side]),
    has_picture: one,
    memory: tensor(noise(3, card.memorySize), [1, card.memorySize]),
    has_memory: one,
  };
}

/** One step from its initial state for a network of one part: noise seen and heard, with a voice memory. */
export function stepTrial(card: StreamCard, units = UNITS): TensorMap {
  return { ...heardIn(card, units), ...seenIn(card, units), ...initial(card, () => true) };
}

/** The same for the two parts of a network (`files.sound`): for the first of them, */
export function soundTrial(card: StreamCard, units = UNITS): TensorMap {
  return { ...heardIn(card, units), ...initial(card, (of) => of === "sound") };
}

/** and for the second, by what the first one made of that. */
export function faceTrial(card: StreamCard, heard: TensorMap, units = UNITS): TensorMap {
  return { ...heard, ...seenIn(card, units), ...initial(card, (of) => of !== "sound") };
}

/** A second of sound for a voice encoder. */
export function voiceTrial(): TensorMap {
  return {
    samples: tensor(
      noise(1, SAMPLE_RATE).map((v) => v * LEVEL),
      [1, SAMPLE_RATE],
    ),
  };
}

/** One window of a window model: noise in all inputs, within what they can be. */
export function windowTrial(card: WindowCard): TensorMap {
  const { inputs, constants } = card.paper;
  const { floorDb } = constants;
  return Object.fromEntries(
    inputs.map(({ name, type, shape }, i) => {
      const size = sizeOf(shape);
      if (name === "video") {
        const bytes = pixels(i + 1, size);
        return [name, tensor(type === "uint8" ? bytes : Float32Array.from(bytes), shape)];
      }
      const v = noise(i + 1, size);
      const within =
        name === "db"
          ? v.map((x) => (floorDb * (1 - x)) / 2)
          : v.map((x) => x * (name === "phase" ? Math.PI : constants.rms));
      return [name, tensor(within, shape)];
    }),
  );
}
