import type { Inference } from "../model/inference.js";
import type { GridLayout } from "../pipeline/band-energy.js";
import type { StepSound } from "../pipeline/gain-renderer.js";
import type { GainGrid } from "../pipeline/types.js";
import type { Voices } from "../pipeline/voices.js";

type CardGrid = Pick<Inference["card"], "unitSamples" | "firstFrameOffset" | "grid">;

/** Where the gains of a step lie. */
export function layoutOf(
  step: Pick<StepSound, "atSample" | "units">,
  { unitSamples, firstFrameOffset, grid }: CardGrid,
): GridLayout {
  const frames = (step.units * unitSamples) / grid.hopSamples;
  return {
    atSample: step.atSample + firstFrameOffset,
    hopSamples: grid.hopSamples,
    frames,
    bins: grid.bins,
    binHz: grid.binHz,
  };
}

/** The frames of the step itself, of an answer that may begin with those of a look-back. */
export function tail(gains: GainGrid, layout: GridLayout): GainGrid {
  if (gains.frames === layout.frames) return gains;
  return { ...layout, data: gains.data.subarray((gains.frames - layout.frames) * gains.bins) };
}

/** The same of its voices; the newest `units` are the step's. */
export function voicesTail(voices: Voices, layout: GridLayout, units: number): Voices {
  const { count, masks, belief, fit, lips, speaker } = voices;
  if (lips.length === units) return voices;
  /** The last numbers of every voice. */
  const last = (all: Float32Array, size: number): Float32Array => {
    const out = new Float32Array(count * size);
    const each = all.length / count;
    for (let v = 0; v < count; v++) out.set(all.subarray((v + 1) * each - size, (v + 1) * each), v * size);
    return out;
  };
  return {
    count,
    masks: last(masks, layout.frames * layout.bins),
    belief: last(belief, units),
    fit: last(fit, units),
    lips: lips.subarray(-units),
    speaker: last(speaker, (speaker.length / count / lips.length) * units),
  };
}

export function joined(a: Float32Array, b: Float32Array): Float32Array {
  const out = new Float32Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** Waiting steps as one: running what came late along is cheaper than re-making the state after leaving it out. */
export function joinSteps(
  first: StepSound,
  second: StepSound,
  unitSamples: number,
  maxUnits: number,
): StepSound | null {
  if (first.atSample + first.units * unitSamples !== second.atSample || first.units + second.units > maxUnits)
    return null;
  return {
    atSample: first.atSample,
    units: first.units + second.units,
    samples: joined(first.samples, second.samples),
  };
}
