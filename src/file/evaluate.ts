import type { Crops, FaceFollower, FollowedFace } from "../model/faces/follower.js";

/**
 * Switches for measurements only (bench/val.ts, bench/quality); no command offers them.
 * `picture: "frozen"`: every step is given the first crop of the first face found (every window the first picture), held still, and no policy steps
 * in: what the same network does without lips to look at. `policy: "off"`: a frozen picture is no reason to leave the sound alone.
 */
export type Evaluate = { readonly picture?: "live" | "frozen"; readonly policy?: "on" | "off" };

type Faces = Pick<FaceFollower, "facesAt" | "cropsFor" | "frozenAt" | "detectionFault">;

/** What the step runner is shown instead of the follower. */
export function facesFor(evaluate: Evaluate, follower: FaceFollower, unitSamples: number): Faces {
  if (evaluate.picture === "frozen") return new HeldFace(follower, unitSamples);
  if (evaluate.policy === "off") {
    return {
      facesAt: (sample) => follower.facesAt(sample),
      cropsFor: (track, fromUnit, units) => follower.cropsFor(track, fromUnit, units),
      frozenAt: () => false,
      detectionFault: null,
    };
  }
  return follower;
}

class HeldFace implements Faces {
  readonly detectionFault = null;
  readonly #follower: FaceFollower;
  readonly #unitSamples: number;
  #held: { readonly face: FollowedFace; readonly crop: Uint8Array } | null = null;

  constructor(follower: FaceFollower, unitSamples: number) {
    this.#follower = follower;
    this.#unitSamples = unitSamples;
  }

  facesAt(sample: number): readonly FollowedFace[] {
    if (this.#held === null) {
      const face = this.#follower.facesAt(sample)[0];
      if (face === undefined) return [];
      const { crops, hasPicture } = this.#follower.cropsFor(face.id, Math.floor(sample / this.#unitSamples), 1);
      if (!hasPicture) return [];
      this.#held = { face, crop: crops };
    }
    return [this.#held.face];
  }

  cropsFor(_track: number, _fromUnit: number, units: number): Crops {
    if (this.#held === null) return { crops: new Uint8Array(0), hasPicture: false, repeated: units };
    const { crop } = this.#held;
    const crops = new Uint8Array(units * crop.length);
    for (let u = 0; u < units; u++) crops.set(crop, u * crop.length);
    return { crops, hasPicture: true, repeated: units };
  }

  frozenAt(): boolean {
    return false;
  }
}
