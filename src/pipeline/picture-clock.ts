import { SAMPLE_RATE } from "./types.js";

export type PictureClockOptions = {
  /** Pictures that may wait; the oldest goes first. Default 128 (2 s at 60 a second). */
  readonly capacity?: number;
  /** A picture that has not changed for so long is frozen. Default 1 s. */
  readonly frozenAfterSamples?: number;
  /** A picture is waited for so long after its time. Default 80 ms. */
  readonly overdueSamples?: number;
};

export type ClockedPicture<T> = {
  readonly payload: T;
  /** Its own place on the timeline. */
  readonly atSample: number;
  readonly luma: LumaSignature | null;
};

export type PickedPicture<T> = {
  /** Newest picture not later than the time asked for; null while there has been none. */
  readonly picture: ClockedPicture<T> | null;
  /** The same picture as for the time before. */
  readonly repeated: boolean;
  /** It has not changed for a second (or there is none). */
  readonly frozen: boolean;
};

/**
 * Serves pictures at the model's times (picture p at p * unitSamples) from a source of any frame rate, constant or not: the newest one
 * not later than the time asked for. Pictures may be pushed in any order as long as their time has not been asked for. T is
 * what the caller wants back (a picture, crops of it, both).
 */
export class PictureClock<T> {
  readonly #capacity: number;
  readonly #frozenAfter: number;
  readonly #overdue: number;
  /** By time, oldest first. */
  readonly #waiting: ClockedPicture<T>[] = [];
  #shown: ClockedPicture<T> | null = null;
  #lastAsked = Number.NEGATIVE_INFINITY;
  /** The last picture that differed from those before it, and when it came. */
  #reference: LumaSignature | null = null;
  #changedAt = Number.NEGATIVE_INFINITY;
  readonly #counters = {
    pictures: 0,
    sorted: 0,
    tooLate: 0,
    overflowed: 0,
    picked: 0,
    repeated: 0,
    skipped: 0,
    missing: 0,
  };

  constructor({ capacity = 128, frozenAfterSamples = SAMPLE_RATE, overdueSamples = 3840 }: PictureClockOptions = {}) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new RangeError(`capacity must be a whole number above 0, not ${capacity}`);
    this.#capacity = capacity;
    this.#frozenAfter = frozenAfterSamples;
    this.#overdue = overdueSamples;
  }

  /**
   * Counters: `sorted` came out of order, `tooLate` came after their time had been served, `skipped` were never the newest (a source
   * faster than the model), `overflowed` were pushed out, `missing`: no picture was there to serve.
   */
  get counters(): Readonly<Record<string, number>> {
    return { ...this.#counters };
  }

  /** `luma` (see lumaSignature) lets `frozen` see a picture that is sent again and again; without it every new picture is a change. */
  push(atSample: number, payload: T, luma: LumaSignature | null = null): void {
    if (!Number.isFinite(atSample)) throw new RangeError(`a picture's place must be a number, not ${atSample}`);
    this.#counters.pictures++;
    if (atSample <= (this.#shown?.atSample ?? Number.NEGATIVE_INFINITY)) {
      this.#counters.tooLate++;
      return;
    }
    let at = this.#waiting.length;
    while (at > 0 && this.#waiting[at - 1]!.atSample > atSample) at--;
    if (at < this.#waiting.length) this.#counters.sorted++;
    this.#waiting.splice(at, 0, { payload, atSample, luma });
    if (this.#waiting.length > this.#capacity) {
      this.#waiting.shift();
      this.#counters.overflowed++;
    }
  }

  /** Whether `pick(atSample)` is final: a later picture is there, or `nowSample` (newest sound) says that one is overdue. */
  ready(atSample: number, nowSample: number): boolean {
    const newest = this.#waiting.at(-1) ?? this.#shown;
    return (newest !== null && newest.atSample >= atSample) || nowSample - atSample >= this.#overdue;
  }

  /** The picture for a time, never earlier than the last one asked for (going back throws RangeError). Older ones are forgotten. */
  pick(atSample: number): PickedPicture<T> {
    if (!(atSample >= this.#lastAsked))
      throw new RangeError(`a picture was asked for at ${atSample} after ${this.#lastAsked}`);
    this.#lastAsked = atSample;
    const before = this.#shown;
    let passed = 0;
    while (passed < this.#waiting.length && this.#waiting[passed]!.atSample <= atSample) passed++;
    if (passed > 0) {
      this.#shown = this.#waiting[passed - 1]!;
      this.#waiting.splice(0, passed);
      this.#counters.skipped += passed - 1;
      this.#noteChange(this.#shown);
    }
    const repeated = before !== null && this.#shown === before;
    if (this.#shown === null) this.#counters.missing++;
    else this.#counters.picked++;
    if (repeated) this.#counters.repeated++;
    return { picture: this.#shown, repeated, frozen: atSample - this.#changedAt >= this.#frozenAfter };
  }

  #noteChange({ luma, atSample }: ClockedPicture<T>): void {
    // Against the last picture that changed, not the last one: a slow fade adds up and counts in the end.
    if (luma !== null && this.#reference !== null && !lumaChanged(this.#reference, luma)) return;
    this.#reference = luma;
    this.#changedAt = atSample;
  }
}

/** Luma on a sparse grid of SIGNATURE_COLUMNS x SIGNATURE_ROWS points, row by row. */
export type LumaSignature = Uint8Array;
export const SIGNATURE_COLUMNS = 64;
export const SIGNATURE_ROWS = 36;

/** `luma`: the Y plane, `stride` bytes a row (I420: round4(width)). Any size from 1x1 on. Throws RangeError when the plane is short. */
export function lumaSignature(luma: Uint8Array, width: number, height: number, stride: number): LumaSignature {
  if (width < 1 || height < 1 || stride < width || luma.length < stride * (height - 1) + width) {
    throw new RangeError(`a luma plane of ${luma.length} bytes is no ${width}x${height} with stride ${stride}`);
  }
  const signature = new Uint8Array(SIGNATURE_COLUMNS * SIGNATURE_ROWS);
  for (let row = 0; row < SIGNATURE_ROWS; row++) {
    const from = stride * Math.floor(((row + 0.5) * height) / SIGNATURE_ROWS);
    for (let column = 0; column < SIGNATURE_COLUMNS; column++) {
      signature[row * SIGNATURE_COLUMNS + column] =
        luma[from + Math.floor(((column + 0.5) * width) / SIGNATURE_COLUMNS)]!;
    }
  }
  return signature;
}

/**
 * Whether two pictures differ by more than an encoder's noise on a still: at least 4 of the 2304 points by more than 10 of 255 (a
 * moving mouth in a face a tenth of the picture wide), or all points together by more than 1 in the mean (a fade).
 */
export function lumaChanged(a: LumaSignature, b: LumaSignature): boolean {
  if (a.length !== b.length) return true;
  let moved = 0;
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    sum += difference;
    if (difference > 10) moved++;
  }
  return moved >= 4 || sum > a.length;
}
