import { checkPicture, rgbSquare } from "../model/faces/i420.js";
import { FROZEN_AFTER_SAMPLES, SceneWatch } from "../model/faces/scene.js";
import { FRAME_SAMPLES, squeezedSide } from "../model/paper/geometry.js";
import type { Box, Picture } from "../pipeline/types.js";

export type PictureSquaresOptions = {
  /** Side of the squares that the network sees. */
  readonly side: number;
  readonly unitSamples: number;
  /** How far back pictures are kept, in samples. */
  readonly keptSamples: number;
  /** Only this part of the picture is seen, the rest is grey; null: all of it. */
  readonly region: Box | null;
};

type Kept = { readonly atSample: number; readonly square: Uint8Array; readonly stillSinceSample: number };

/** Pictures come 60 a second at the most. */
const LEAST_STEP_SAMPLES = 800;
/** Points per axis that are averaged for a pixel of a square: at 1080 lines every second one. */
const TAPS = 8;
const GREY = 128;

/**
 * What a window model sees of one channel: whole pictures squeezed, their middle cut out. Pictures in, 29.97 squares a second out; frame f shows
 * the newest picture not later than its middle, (f + 0.5) * FRAME_SAMPLES. Has no clock; times are samples of the channel's timeline.
 */
export class PictureSquares {
  readonly counters = { pictures: 0, pictures_late: 0, cuts: 0 };
  readonly #o: PictureSquaresOptions;
  readonly #scene = new SceneWatch();
  /** Oldest first. */
  #kept: Kept[] = [];

  constructor(options: PictureSquaresOptions) {
    this.#o = options;
  }

  /** The next decoded picture; one that is not later than its predecessor is dropped and counted. Throws RangeError when size and data do not fit. */
  push(picture: Picture): void {
    checkPicture(picture);
    const { atSample } = picture;
    const newest = this.#kept.at(-1)?.atSample ?? Number.NEGATIVE_INFINITY;
    if (atSample <= newest) {
      this.counters.pictures_late++;
      return;
    }
    this.counters.pictures++;
    const { cut, stillSinceSample } = this.#scene.look(picture, []);
    if (cut) this.counters.cuts++;
    this.#kept.push({ atSample, square: this.#square(picture), stillSinceSample });
    // One that is too old still shows until the next one's time.
    const oldest = atSample - this.#o.keptSamples;
    const most = Math.ceil(this.#o.keptSamples / LEAST_STEP_SAMPLES);
    while (this.#kept.length > most || (this.#kept.length > 1 && this.#kept[1]!.atSample <= oldest)) this.#kept.shift();
  }

  /** Newest unit whose pictures are certain. */
  get decidedUnit(): number {
    const newest = this.#kept.at(-1);
    return newest === undefined ? Number.NEGATIVE_INFINITY : Math.ceil(newest.atSample / this.#o.unitSamples) - 1;
  }

  /** Frames `from` .. `from + count` one after another, (side, side, 3) each; before the first picture they show it. Null: none came. */
  window(from: number, count: number): Uint8Array | null {
    if (this.#kept.length === 0) return null;
    const size = 3 * this.#o.side ** 2;
    const out = new Uint8Array(count * size);
    for (let i = 0, k = 0; i < count; i++) {
      const middle = (from + i + 0.5) * FRAME_SAMPLES;
      while (k + 1 < this.#kept.length && this.#kept[k + 1]!.atSample <= middle) k++;
      out.set(this.#kept[k]!.square, i * size);
    }
    return out;
  }

  /** The picture has not changed for a second, or none came. */
  frozenAt(sample: number): boolean {
    const shown = this.#kept.findLast((k) => k.atSample <= sample);
    return shown === undefined || sample - shown.stillSinceSample >= FROZEN_AFTER_SAMPLES;
  }

  /** The timeline was anchored anew: everything before is forgotten. */
  reset(): void {
    this.#kept = [];
    this.#scene.reset();
  }

  #square(picture: Picture): Uint8Array {
    const { side, region } = this.#o;
    const whole = squeezedSide(side);
    const inset = (whole - side) / 2;
    const [x, y] = [picture.width / whole, picture.height / whole];
    const seen = { x: inset * x, y: inset * y, width: side * x, height: side * y };
    const rgb = rgbSquare(picture, seen, side, new Uint8Array(3 * side * side), TAPS);
    if (region !== null) greyOutside(rgb, side, whole, region);
    return rgb;
  }
}

/** Greys out, in place, all pixels of the square whose centre lies outside of a box in fractions of the whole picture. */
function greyOutside(rgb: Uint8Array, side: number, whole: number, box: Box): void {
  const inset = (whole - side) / 2;
  const isIn = (i: number, from: number, length: number): boolean => {
    const centre = (inset + i + 0.5) / whole;
    return centre >= from && centre <= from + length;
  };
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++)
      if (!isIn(row, box.y, box.height) || !isIn(column, box.x, box.width))
        rgb.fill(GREY, 3 * (row * side + column), 3 * (row * side + column + 1));
}
