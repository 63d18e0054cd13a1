import type { Box, Picture } from "../../pipeline/types.js";
import { type Detection, type Inference, InferenceError } from "../inference.js";
import { FACE_DETECTOR } from "./blazeface.js";
import { checkPicture, rgbSquare } from "./i420.js";
import { cropMouth, faceRect, mouthSquare, poseOf } from "./mouth-crop.js";
import { mergeDetections, type Round, squaresOf, toPicture } from "./regions.js";
import { FROZEN_AFTER_SAMPLES, SceneWatch } from "./scene.js";
import { StillFaces } from "./still-face.js";
import { FaceTracker, type Track, type TrackerOptions } from "./tracker.js";

export type FollowerOptions = {
  readonly inference: Pick<Inference, "detectFaces">;
  /** Side of the mouth crops (the card's picture.side) and samples per picture of the model (its unitSamples). */
  readonly side: number;
  readonly unitSamples?: number;
  /** Side of the detector's input. */
  readonly detectorSide?: number;
  /** Time between two detections, in samples. Default 0.2 s. */
  readonly detectEverySamples?: number;
  /** How far back crops are kept, in samples. Default 3 s. */
  readonly ringSamples?: number;
  readonly tracker?: Partial<TrackerOptions>;
};

export type FollowedFace = {
  readonly id: number;
  readonly box: Box;
  readonly score: number;
  /** Its mouth has not moved for two seconds: a photograph, if other faces move. */
  readonly still: boolean;
};

export type Crops = {
  /** units * side * side grey values, oldest first; 110 where there is no picture. */
  readonly crops: Uint8Array;
  /** At least one unit has a real crop of this face (the others repeat the nearest one). */
  readonly hasPicture: boolean;
  /** Units that had to repeat another unit's crop. */
  readonly repeated: number;
};

type Crop = { readonly id: number; readonly grey: Uint8Array };
/** What is kept of one unit. */
type Unit = {
  readonly unit: number;
  readonly crops: readonly Crop[];
  readonly frozen: boolean;
  readonly faces: readonly FollowedFace[];
};

/** A face smaller than this share of the picture's shorter side (half of its box) is looked for in tiles: see blazeface.ts. */
const SMALL_HALF = 0.07;
const GREY = 110;
/** As long as a face is followed that is not found again: before, that nobody is followed is as true as ever. */
const FAULT_AFTER_SAMPLES = 48_000;

/**
 * Follows the faces of one channel: pictures in, mouth crops of every followed face for every unit out. Has no clock; all times are
 * samples of the channel's timeline. Unit p shows the newest picture not later than p * unitSamples; while that picture may still come,
 * the newest one so far stands in for it.
 *
 * Detection runs beside: `push` starts one when it is due (five times a second, at once after a cut) and returns; at most one is under
 * way. Live, the boxes are then one detection late; in files `await settle()` after every `push` makes the result the same each time.
 */
export class FaceFollower {
  readonly counters = { pictures: 0, pictures_late: 0, cuts: 0, detections: 0, detection_failures: 0 };
  readonly #o: Required<Omit<FollowerOptions, "tracker">>;
  readonly #tracker: FaceTracker;
  readonly #scene = new SceneWatch();
  readonly #ring: (Unit | undefined)[];
  /** The newest picture, and its mouth crops once they were needed. */
  #picture: Picture | null = null;
  #crops: readonly Crop[] | null = null;
  /** Of those: the faces that stand still. */
  readonly #stillFaces = new StillFaces();
  #still: ReadonlySet<number> = new Set();
  #tracks: readonly Track[] = [];
  #stillSince = 0;
  /** Newest unit whose picture is certain. */
  #decided = Number.NEGATIVE_INFINITY;
  #nextDetection = Number.NEGATIVE_INFINITY;
  #round: Round = "whole";
  #running: Promise<void> | null = null;
  #detectionFault: InferenceError["code"] | null = null;
  /** The picture of the newest detection that succeeded, and since when none does: from there on, so that a fault is known before the faces of then are given up. */
  #lastGood: number | null = null;
  #faultSince: number | null = null;
  /** Counts cuts and resets: what was found before one is not true after it. */
  #epoch = 0;

  constructor(options: FollowerOptions) {
    this.#o = {
      unitSamples: 1920,
      detectorSide: FACE_DETECTOR.side,
      detectEverySamples: 9600,
      ringSamples: 144_000,
      ...options,
    };
    this.#tracker = new FaceTracker(options.tracker);
    this.#ring = new Array<Unit | undefined>(Math.max(1, Math.ceil(this.#o.ringSamples / this.#o.unitSamples)));
  }

  /**
   * The next decoded picture. One that is not later than its predecessor is dropped and counted.
   * The picture's data must not be changed afterwards: the newest one is kept until the next comes.
   * @throws RangeError when size and data do not fit
   */
  push(picture: Picture): void {
    checkPicture(picture);
    if (this.#picture !== null && picture.atSample <= this.#picture.atSample) {
      this.counters.pictures_late++;
      return;
    }
    const { unitSamples } = this.#o;
    this.#decideUntil(Math.ceil(picture.atSample / unitSamples) - 1);
    this.counters.pictures++;
    this.#picture = picture;
    this.#crops = null;
    const scene = this.#scene.look(
      picture,
      this.#tracks.map((t) => mouthSquare(t.pose)),
    );
    this.#stillSince = scene.stillSinceSample;
    if (scene.cut) {
      this.counters.cuts++;
      this.#forgetFaces(picture.atSample);
    }
    this.#tracks = this.#tracker.advance(picture.atSample);
    if (picture.atSample % unitSamples === 0) this.#decideUntil(picture.atSample / unitSamples);
    if (picture.atSample >= this.#nextDetection && this.#running === null) this.#startDetection(picture);
  }

  /** Waits for the detection under way, if any. */
  async settle(): Promise<void> {
    await this.#running;
  }

  /** Crops of one face for `units` units from `fromUnit` on; units not decided yet show the newest picture. */
  cropsFor(track: number, fromUnit: number, units: number): Crops {
    const size = this.#o.side ** 2;
    const crops = new Uint8Array(units * size);
    const found: number[] = [];
    for (let i = 0; i < units; i++) {
      const crop = this.#at(fromUnit + i)?.crops.find((c) => c.id === track);
      if (!crop) continue;
      crops.set(crop.grey, i * size);
      found.push(i);
    }
    if (found.length === 0) return { crops: crops.fill(GREY), hasPicture: false, repeated: units };
    // Missing ones repeat the last crop before them, those at the beginning the first.
    for (let i = 0, k = 0; i < units; i++) {
      while (k + 1 < found.length && found[k + 1]! <= i) k++;
      const from = found[k]!;
      if (from !== i) crops.copyWithin(i * size, from * size, (from + 1) * size);
    }
    return { crops, hasPicture: true, repeated: units - found.length };
  }

  /** Faces that are followed at a unit. */
  tracksAt(unit: number): readonly number[] {
    return this.#at(unit)?.crops.map((c) => c.id) ?? [];
  }

  /** Boxes (fractions of the picture) at a sample: those of its unit. */
  facesAt(sample: number): readonly FollowedFace[] {
    return this.#at(Math.floor(sample / this.#o.unitSamples))?.faces ?? [];
  }

  /** The picture has not changed for a second, or none came. True too while nothing is known of the unit. */
  frozenAt(unit: number): boolean {
    return this.#at(unit)?.frozen ?? true;
  }

  /** Why no detection has succeeded for a second of picture; null: one has. That no face is followed then says nothing about the picture. */
  get detectionFault(): InferenceError["code"] | null {
    const since = this.#faultSince;
    const isOld = since !== null && this.#picture !== null && this.#picture.atSample - since >= FAULT_AFTER_SAMPLES;
    return isOld ? this.#detectionFault : null;
  }

  /** Newest unit whose picture is certain; later ones may still change. */
  get decidedUnit(): number {
    return this.#decided;
  }

  /** The timeline was anchored anew: everything before is forgotten. */
  reset(): void {
    this.#forgetFaces(Number.NEGATIVE_INFINITY);
    this.#scene.reset();
    this.#ring.fill(undefined);
    this.#picture = null;
    this.#lastGood = null;
    this.#crops = null;
    this.#decided = Number.NEGATIVE_INFINITY;
  }

  #forgetFaces(detectFrom: number): void {
    this.#epoch++;
    this.#tracker.clear();
    this.#tracks = [];
    this.#round = "whole";
    this.#nextDetection = detectFrom;
  }

  #at(unit: number): Unit | null {
    if (unit <= this.#decided) {
      const kept = this.#ring[mod(unit, this.#ring.length)];
      return kept?.unit === unit ? kept : null;
    }
    return this.#unitOfNewest(unit);
  }

  /** Writes all units up to this one with the newest picture: no later picture can belong to them any more. */
  #decideUntil(unit: number): void {
    const first = Math.max(this.#decided + 1, unit - this.#ring.length + 1);
    this.#decided = Math.max(this.#decided, unit);
    if (this.#picture === null) return;
    for (let u = first; u <= unit; u++) this.#ring[mod(u, this.#ring.length)] = this.#unitOfNewest(u) ?? undefined;
  }

  /** A unit that shows the newest picture; null before that picture's time. */
  #unitOfNewest(unit: number): Unit | null {
    const picture = this.#picture;
    const sample = unit * this.#o.unitSamples;
    if (picture === null || sample < picture.atSample) return null;
    if (this.#crops === null) {
      this.#crops = this.#tracks.map((t) => ({ id: t.id, grey: cropMouth(picture, t.pose, this.#o.side) }));
      this.#still = this.#stillFaces.look(this.#crops, picture.atSample);
    }
    return {
      unit,
      crops: this.#crops,
      frozen: sample - this.#stillSince >= FROZEN_AFTER_SAMPLES,
      faces: this.#tracks.map((t) => ({ ...faceOf(t, picture), still: this.#still.has(t.id) })),
    };
  }

  #startDetection(picture: Picture): void {
    this.#nextDetection = picture.atSample + this.#o.detectEverySamples;
    const epoch = this.#epoch;
    const round = this.#round;
    this.#running = this.#detect(picture, round)
      .then((detections) => {
        this.counters.detections++;
        this.#detectionFault = null;
        this.#faultSince = null;
        this.#lastGood = picture.atSample;
        if (epoch === this.#epoch) this.#found(picture, round, detections);
      })
      // Of the detector or of ours: nobody waits for this promise live, so that a rejection would end the process.
      .catch((error: unknown) => {
        this.counters.detection_failures++;
        this.#detectionFault = error instanceof InferenceError ? error.code : "SL_INFERENCE_FAILED";
        this.#faultSince ??= this.#lastGood ?? picture.atSample;
      })
      .finally(() => {
        this.#running = null;
      });
  }

  async #detect(picture: Picture, round: Round): Promise<Detection[]> {
    const { width, height } = picture;
    const side = this.#o.detectorSide;
    const all: Detection[] = [];
    for (const square of squaresOf(width, height, round)) {
      const seen = await this.#o.inference.detectFaces(rgbSquare(picture, square, side), side);
      for (const d of seen) {
        if (!isNear(d)) continue;
        const mapped = toPicture(d, square, width, height);
        if (mapped) all.push(mapped);
      }
    }
    return mergeDetections(all);
  }

  #found(picture: Picture, round: Round, detections: readonly Detection[]): void {
    const { width, height } = picture;
    this.#tracker.see(
      picture.atSample,
      detections.map((d) => ({ pose: poseOf(d, width, height), score: d.score })),
    );
    const now = this.#picture ?? picture;
    const known = this.#tracks.map((t) => t.id).join();
    this.#tracks = this.#tracker.advance(now.atSample);
    // New faces get a crop of the newest picture at once, so that a first step need not wait for the next one.
    if (this.#tracks.map((t) => t.id).join() !== known) {
      this.#crops = null;
      this.#rewriteNewest(now);
    }
    this.#round = this.#nextRound(round, Math.min(width, height));
  }

  /** The unit that already shows the newest picture is written again, now with the faces found in it. */
  #rewriteNewest(picture: Picture): void {
    const first = Math.ceil(picture.atSample / this.#o.unitSamples);
    for (let u = Math.max(first, this.#decided - this.#ring.length + 1); u <= this.#decided; u++) {
      this.#ring[mod(u, this.#ring.length)] = this.#unitOfNewest(u) ?? undefined;
    }
  }

  /** Small faces need tiles every time; with no face at all they are tried every second time. */
  #nextRound(round: Round, shortSide: number): Round {
    if (this.#tracks.length === 0) return round === "whole" ? "tiles" : "whole";
    return this.#tracks.some((t) => t.pose.half < SMALL_HALF * shortSide) ? "tiles" : "whole";
  }
}

/** Fractions of the detector's square beyond this are no face; crops of such a size would never end. */
const FAR = 4;

function isNear(d: Detection): boolean {
  return [d.x, d.y, d.width, d.height, d.score, ...d.keypoints].every((v) => Math.abs(v) <= FAR);
}

function faceOf(track: Track, picture: Picture): Omit<FollowedFace, "still"> {
  const rect = faceRect(track.pose);
  const left = Math.max(0, rect.x) / picture.width;
  const top = Math.max(0, rect.y) / picture.height;
  const right = Math.min(picture.width, rect.x + rect.width) / picture.width;
  const bottom = Math.min(picture.height, rect.y + rect.height) / picture.height;
  const box = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  return { id: track.id, score: track.score, box };
}

const mod = (n: number, m: number): number => ((n % m) + m) % m;
