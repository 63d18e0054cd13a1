import { RAMP_SAMPLES, ramp } from "./ramp.js";
import { type Keep, SAMPLE_RATE } from "./types.js";

/** What a user may turn while the sound runs; every change is ramped (50 ms), never stepped. */
export type Controls = {
  /** `on-screen`: the model's gain g; `off-screen`: 1 - g; `mix`: 1 (everything stays). */
  readonly keep: Keep;
  /** 0 to 100. s = strengthPercent / 100: the gain becomes 1 - s (1 - g), so 0 % is the identity. */
  readonly strengthPercent: number;
  /** No cell is turned down by more than this many dB, 0 to 200 (a channel's setting: to 80). */
  readonly attenuationLimitDb: number;
  /** Time constant with which a gain falls, milliseconds, 0 to 10 000; 0: as the model says. */
  readonly attackMs: number;
  /** Time constant with which a gain rises, likewise. */
  readonly releaseMs: number;
};

export const DEFAULT_CONTROLS: Controls = {
  keep: "on-screen",
  strengthPercent: 100,
  attenuationLimitDb: 40,
  attackMs: 0,
  releaseMs: 0,
};

/** keep as a line a * g + b, so that a change of it can be ramped like a number. */
const LINE: Record<Keep, readonly [number, number]> = { "on-screen": [1, 0], "off-screen": [-1, 1], mix: [0, 1] };

function check(name: keyof Controls, value: number, high: number): void {
  if (!(value >= 0 && value <= high)) throw new RangeError(`${name} must be a number from 0 to ${high}, not ${value}`);
}

/** The same controls. Throws RangeError on values out of range. */
export function checkControls(controls: Controls): Controls {
  if (LINE[controls.keep] === undefined)
    throw new RangeError(`keep must be on-screen, off-screen or mix, not ${String(controls.keep)}`);
  check("strengthPercent", controls.strengthPercent, 100);
  check("attenuationLimitDb", controls.attenuationLimitDb, 200);
  check("attackMs", controls.attackMs, 10_000);
  check("releaseMs", controls.releaseMs, 10_000);
  return controls;
}

/** Turns the model's gains into the user's: keep, strength, attenuation limit, then attack and release. Rows in, rows out, in place. */
export class GainControls {
  #controls: Controls;
  /** a, b, strength, floor: where the ramp comes from, where it goes, where it is. */
  readonly #from = new Float64Array(4);
  readonly #to = new Float64Array(4);
  readonly #now = new Float64Array(4);
  #rampStart = Number.NEGATIVE_INFINITY;
  #lastCentre = Number.NEGATIVE_INFINITY;
  readonly #smoothed: Float32Array;
  #fresh = true;

  constructor(bins: number, initial: Partial<Controls> = {}) {
    this.#controls = DEFAULT_CONTROLS;
    this.#smoothed = new Float32Array(bins);
    this.set(initial);
  }

  get controls(): Controls {
    return this.#controls;
  }

  /** Takes effect from the next row on, over RAMP_SAMPLES (at once while no row has been asked for). Throws RangeError. */
  set(patch: Partial<Controls>): void {
    const next = checkControls({ ...this.#controls, ...patch });
    const line = LINE[next.keep];
    this.#controls = next;
    this.#from.set(this.#now);
    this.#to[0] = line[0];
    this.#to[1] = line[1];
    this.#to[2] = next.strengthPercent / 100;
    this.#to[3] = 10 ** (-next.attenuationLimitDb / 20);
    this.#rampStart = this.#lastCentre;
  }

  /** Forget the smoothing's past: the next row is not a continuation of the last one. */
  restart(): void {
    this.#fresh = true;
  }

  /** `row`: model gains of the frame centred on `centre` (never earlier than the last); overwritten with the user's gains. */
  apply(centre: number, row: Float32Array): void {
    const u = ramp(centre, this.#rampStart, RAMP_SAMPLES);
    for (let i = 0; i < 4; i++) this.#now[i] = this.#from[i]! + u * (this.#to[i]! - this.#from[i]!);
    const slope = this.#now[0]!;
    const offset = this.#now[1]!;
    const strength = this.#now[2]!;
    const floor = this.#now[3]!;
    for (let k = 0; k < row.length; k++) {
      const gain = 1 - strength * (1 - (slope * row[k]! + offset));
      row[k] = Math.max(floor, gain);
    }
    this.#smooth(centre - this.#lastCentre, row);
    this.#lastCentre = centre;
  }

  /** One-pole smoothing by bin; exp(-inf) = 0 makes a time constant of 0 "at once". */
  #smooth(elapsedSamples: number, row: Float32Array): void {
    const { attackMs, releaseMs } = this.#controls;
    const state = this.#smoothed;
    if (!this.#fresh && (attackMs > 0 || releaseMs > 0)) {
      const elapsedMs = (elapsedSamples * 1000) / SAMPLE_RATE;
      const fall = attackMs > 0 ? Math.exp(-elapsedMs / attackMs) : 0;
      const rise = releaseMs > 0 ? Math.exp(-elapsedMs / releaseMs) : 0;
      for (let k = 0; k < row.length; k++) {
        const gain = row[k]!;
        const old = state[k]!;
        row[k] = gain + (gain < old ? fall : rise) * (old - gain);
      }
    }
    state.set(row);
    this.#fresh = false;
  }
}
