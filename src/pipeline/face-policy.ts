import type { GridLayout } from "./band-energy.js";
import { type Box, type GainGrid, type Mode, SAMPLE_RATE } from "./types.js";

/** Why a policy leaves the sound as it is, or mutes it (codes of src/codes.ts). */
export const PolicyReason = {
  noFace: "SL_NO_FACE",
  frozen: "SL_PICTURE_FROZEN",
  visibleSilent: "SL_VISIBLE_SILENT",
} as const;
export type PolicyReason = (typeof PolicyReason)[keyof typeof PolicyReason];

export type AttributionPolicy = {
  /** Only faces whose centre lies in it count as on-screen; null: the whole picture. */
  readonly region: Box | null;
  /** No face, or a frozen picture: the sound as it is, or none. */
  readonly whenNobodyVisible: "keep" | "mute";
  /** Under 0.1 of the sound is of those in the picture for a second: it is turned down all the same, or kept as it is. */
  readonly whenVisibleSilent: "reduce" | "keep";
};

/** What the model said about one face in one step. `still`: it has not moved its mouth for a while. */
export type FaceGains = { readonly id: number; readonly box: Box; readonly gains: GainGrid; readonly still?: boolean };

export type AttributionInput = {
  /** The cells of this step; every face's grid has the same. */
  readonly layout: GridLayout;
  readonly faces: readonly FaceGains[];
  readonly frozen: boolean;
  /** Energy of the mixture in each cell, frames x bins (BandEnergy or GainRenderer.energies). */
  readonly energies: Float32Array;
  /** How much of it is new, in samples; default: all. */
  readonly newSamples?: number;
};

/** What to do with the sound of one step. */
export type Decision = {
  readonly layout: GridLayout;
  /** On-screen gains; null: leave the sound as it is (or, with `mute`, let none through), for `reason`. */
  readonly gains: GainGrid | null;
  readonly mute: boolean;
  readonly reason: PolicyReason | null;
  /** By face id: share of the sound's energy that is this face's voice, 0..1; 0 while nothing is heard. */
  readonly speaking: ReadonlyMap<number, number>;
};

/** The sound counts as heard above about -60 dBFS. */
const AUDIBLE = 1e-6;
/** Visible people count as silent when less than SILENT of the energy is theirs for a second, as speaking again above SPEAKING. */
const SILENT = 0.1;
const SPEAKING = 0.2;
const SILENT_AFTER_SAMPLES = SAMPLE_RATE;

/** From the gains of each face to the gains of the channel: region, several faces, nobody visible, visible but silent. */
export class FacePolicy {
  #policy: AttributionPolicy;
  #silentSamples = 0;

  constructor(policy: Partial<AttributionPolicy> = {}) {
    this.#policy = { region: null, whenNobodyVisible: "keep", whenVisibleSilent: "reduce", ...policy };
  }

  get policy(): AttributionPolicy {
    return this.#policy;
  }

  set(patch: Partial<AttributionPolicy>): void {
    this.#policy = { ...this.#policy, ...patch };
  }

  /** Call once a step, in order. Throws RangeError when a grid does not have the layout's shape. */
  decide({ layout, faces, frozen, energies, newSamples }: AttributionInput): Decision {
    const cells = layout.frames * layout.bins;
    if (energies.length !== cells) throw new RangeError(`energies: expected ${cells} values, not ${energies.length}`);
    const total = energies.reduce((sum, e) => sum + e, 0);
    const audible = total > AUDIBLE * layout.frames;
    const speaking = new Map<number, number>();
    let combined: Float32Array | null = null;
    // Beside a face that moves, one that does not is a photograph: it must not keep anybody's voice.
    const someMove = faces.some((f) => f.still !== true && this.counts(f.box));
    for (const { id, box, gains, still } of faces) {
      if (gains.data.length !== cells || gains.atSample !== layout.atSample) {
        throw new RangeError(
          `gains of face ${id} (at ${gains.atSample}) do not lie on the step's cells (at ${layout.atSample})`,
        );
      }
      speaking.set(id, audible ? share(gains.data, energies, total) : 0);
      if (!this.counts(box) || (still === true && someMove)) continue;
      if (combined === null) combined = gains.data.slice();
      else for (let i = 0; i < cells; i++) combined[i] = Math.max(combined[i]!, gains.data[i]!);
    }

    if (frozen || combined === null) {
      this.#silentSamples = 0;
      const reason = frozen ? PolicyReason.frozen : PolicyReason.noFace;
      return { layout, gains: null, mute: this.#policy.whenNobodyVisible === "mute", reason, speaking };
    }
    if (audible) this.#watchSilence(share(combined, energies, total), newSamples ?? layout.frames * layout.hopSamples);
    if (this.#policy.whenVisibleSilent === "keep" && this.#silentSamples >= SILENT_AFTER_SAMPLES) {
      return { layout, gains: null, mute: false, reason: PolicyReason.visibleSilent, speaking };
    }
    return { layout, gains: { ...layout, data: combined }, mute: false, reason: null, speaking };
  }

  /** Whether a face there counts as on-screen: its centre lies in the region (edges included). */
  counts(box: Box): boolean {
    const { region } = this.#policy;
    if (region === null) return true;
    const x = box.x + box.width / 2;
    const y = box.y + box.height / 2;
    return x >= region.x && x <= region.x + region.width && y >= region.y && y <= region.y + region.height;
  }

  #watchSilence(keptShare: number, samples: number): void {
    if (keptShare < SILENT) this.#silentSamples = Math.min(this.#silentSamples + samples, SILENT_AFTER_SAMPLES);
    else if (keptShare > SPEAKING || this.#silentSamples < SILENT_AFTER_SAMPLES) this.#silentSamples = 0;
  }
}

/** How the sound of a step leaves; null: the step failed. */
export function modeOf(decision: Decision | null): Mode {
  if (decision?.gains != null) return "separated";
  return decision?.mute === true ? "muted" : "bypass";
}

/** Energy that passes the gains, as a share of all. */
function share(gains: Float32Array, energies: Float32Array, total: number): number {
  let kept = 0;
  for (let i = 0; i < gains.length; i++) kept += gains[i]! * gains[i]! * energies[i]!;
  return Math.min(1, kept / total);
}
