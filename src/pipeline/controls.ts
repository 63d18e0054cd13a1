import type { Keep } from "./types.js";

/** What a user may turn while the sound runs; every change is ramped (50 ms), never stepped. */
export type Controls = {
  /** `on-screen`: the model's gain g; `off-screen`: 1 - g; `mix`: 1 (everything stays). */
  readonly keep: Keep;
  /** s = strengthPercent / 100: the gain becomes 1 - s (1 - g). */
  readonly strengthPercent: number;
  /** No cell is turned down by more than this. */
  readonly attenuationLimitDb: number;
  /** Time constant with which a gain falls; 0 = as the model says. */
  readonly attackMs: number;
  /** Time constant with which a gain rises; 0 = as the model says. */
  readonly releaseMs: number;
};
