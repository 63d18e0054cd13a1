import type { WindowCard } from "../card.js";
import { type TensorMap, tensor } from "../engines/engine.js";
import { levelled } from "./scaling.js";
import { spectrum } from "./spectrum.js";

/** Which sound the u-net separates: the mean of both channels, as in training, or the left one alone, as the release does. */
export type Mixture = "mean" | "left";

export type WindowInput = {
  /** One RGB square (side, side, 3) for each frame of the card; null for a model that sees none. */
  readonly pictures: readonly Uint8Array[] | null;
  /** Samples at 21 kHz, as many as the card says; mono sound is given twice. */
  readonly left: Float32Array;
  readonly right: Float32Array;
};

/** Of a network without u-net: pictures of whole frames, values 0..255. */
export type ActivationInput = {
  readonly pictures: readonly (Uint8Array | Float32Array)[];
  readonly left: Float32Array;
  readonly right: Float32Array;
};

/** What a network with u-net is given, and the gain that brought the mixture to its level. Throws RangeError for a wrong size. */
export function windowTensors(
  card: WindowCard,
  { pictures, left, right }: WindowInput,
  mixture: Mixture = "mean",
): { readonly tensors: TensorMap; readonly gain: number } {
  const { paper } = card;
  checkSound(card, left, right);
  const mono = mixture === "left" ? left : left.map((v, i) => (v + right[i]!) / 2);
  const heard = levelled(mono, paper.constants.rms);
  const { db, phase } = spectrum(heard.samples, paper.window.spectrum);
  const given: Record<string, () => Float32Array | Uint8Array> = {
    video: () => video(card, pictures),
    samples: () => stereo(levelled(left, paper.constants.rms).samples, levelled(right, paper.constants.rms).samples),
    db: () => db,
    phase: () => phase,
  };
  const tensors: TensorMap = {};
  for (const { name, shape } of paper.inputs) tensors[name] = tensor(given[name]!(), shape);
  return { tensors, gain: heard.gain };
}

/** What a network without u-net is given: sound at its own level, clipped to -1..1 (spec section 5, "CAM"). Throws RangeError. */
export function activationTensors(card: WindowCard, { pictures, left, right }: ActivationInput): TensorMap {
  const { paper } = card;
  const clipped = (x: Float32Array): Float32Array => x.map((v) => Math.max(-1, Math.min(1, v)));
  checkSound(card, left, right);
  const given: Record<string, () => Float32Array | Uint8Array> = {
    video: () => video(card, pictures),
    samples: () => stereo(clipped(left), clipped(right)),
  };
  const tensors: TensorMap = {};
  for (const { name, shape } of paper.inputs) {
    const make = given[name];
    if (!make || !paper.inputs.some((p) => p.name === "video"))
      throw new RangeError(`${card.name} (preset ${paper.preset}) also takes ${name}`);
    tensors[name] = tensor(make(), shape);
  }
  return tensors;
}

function checkSound({ paper }: WindowCard, left: Float32Array, right: Float32Array): void {
  const { preset, window } = paper;
  if (left.length !== window.samples || right.length !== window.samples)
    throw new RangeError(`a window of ${preset} has ${window.samples} samples, not ${left.length}, ${right.length}`);
}

function video(
  { paper }: WindowCard,
  pictures: readonly (Uint8Array | Float32Array)[] | null,
): Uint8Array | Float32Array {
  const { side, window, inputs } = paper;
  const size = 3 * side * side;
  if (pictures?.length !== window.frames || pictures.some((p) => p.length !== size))
    throw new RangeError(`a window needs ${window.frames} pictures of ${size} values, not ${pictures?.length ?? 0}`);
  const bytes = inputs.find((p) => p.name === "video")?.type === "uint8";
  const all = bytes ? new Uint8Array(window.frames * size) : new Float32Array(window.frames * size);
  for (const [i, picture] of pictures.entries())
    all.set(bytes && picture instanceof Float32Array ? picture.map(Math.round) : picture, i * size);
  return all;
}

function stereo(left: Float32Array, right: Float32Array): Float32Array {
  const both = new Float32Array(2 * left.length);
  for (let n = 0; n < left.length; n++) {
    both[2 * n] = left[n]!;
    both[2 * n + 1] = right[n]!;
  }
  return both;
}
