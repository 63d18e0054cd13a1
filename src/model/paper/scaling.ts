/** Scales of inputs and outputs (spec section 1.1). */

/** Pixel 0..255 -> -1..1: `x * PIXEL.scale + PIXEL.shift`. */
export const PIXEL = { scale: 2 / 255, shift: -1 } as const;

/** Level in dB -> the network's number: -100 dB = -1, 80 dB = 1; not clipped. */
export const DB = { scale: 2 / 180, shift: 200 / 180 - 1 } as const;

/** A head's tanh -> dB. */
export const HEAD_DB = { scale: 90, shift: -10 } as const;

/** The sound of the trunk is compressed to sign(a) ln(1 + 255 |a|) / ln 256. */
export const COMPRESSION = 255;

/** Root mean square to which every part is brought in training. */
export const TRAINING_RMS = 0.1;
/** Of a mixture of two such parts: inference brings every channel of a window to it. */
export const MIXTURE_RMS = Math.sqrt(2) * TRAINING_RMS;
const MIN_RMS = 1e-4;

/**
 * One channel of a window at the level that the network knows, and the gain that did it (divide the output by it to have the
 * original level back; the release does not). Near silence the gain stays at `target` / 1e-4.
 */
export function levelled(channel: ArrayLike<number>, target = MIXTURE_RMS): { samples: Float32Array; gain: number } {
  let energy = 0;
  for (let i = 0; i < channel.length; i++) energy += channel[i]! * channel[i]!;
  const gain = target / Math.max(MIN_RMS, Math.sqrt(energy / Math.max(1, channel.length)));
  return { samples: Float32Array.from(channel, (v) => v * gain), gain };
}
