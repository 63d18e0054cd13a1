import type { DecodedPicture } from "../channel/decode.js";
import { rgbSquare } from "../model/faces/i420.js";
import { FRAME_SAMPLES, squeezedSide } from "../model/paper/geometry.js";
import { type Mask, maskSquare } from "./mask.js";
import { type PictureOptions, readPictures, type Track } from "./readers.js";

export type FramePicturesOptions<T> = {
  readonly input: string;
  /** How pictures are decoded. */
  readonly reading: PictureOptions;
  /** What a frame of the model is made of a picture of the file; called for those that are needed only. */
  readonly make: (picture: DecodedPicture) => T;
  /** Time of a picture to its sample at 48 kHz. */
  readonly toSample: (ptsMs: number) => number;
};

/**
 * The pictures of a file at a window model's rate: 29.97 a second, each the newest of the file at its middle (dropped or doubled, as
 * ffmpeg does it). Holds those of the present window only.
 */
export class FramePictures<T> {
  readonly #o: FramePicturesOptions<T>;
  readonly #track: Track<DecodedPicture>;
  readonly #frames = new Map<number, T>();
  #made = 0;
  #next: DecodedPicture | null = null;
  #now: T | null = null;

  constructor(options: FramePicturesOptions<T>) {
    this.#o = options;
    this.#track = readPictures(options.input, { leastStepMs: 0, ...options.reading });
  }

  get fault(): string | null {
    return this.#track.fault;
  }

  /** False when there is no picture at all. */
  async begin(): Promise<boolean> {
    this.#next = await this.#track.next();
    if (this.#next === null) return false;
    this.#now = this.#o.make(this.#next);
    return true;
  }

  /** Frames `from` .. `from + count`, which must not go back; what lies before `from` is forgotten. */
  async window(from: number, count: number): Promise<T[]> {
    for (const frame of this.#frames.keys()) if (frame < from) this.#frames.delete(frame);
    for (; this.#made < from + count; this.#made++) {
      let picture: DecodedPicture | null = null;
      while (this.#next !== null && this.#o.toSample(this.#next.ptsMs) <= (this.#made + 0.5) * FRAME_SAMPLES) {
        picture = this.#next;
        this.#next = await this.#track.next();
      }
      if (picture !== null) this.#now = this.#o.make(picture);
      if (this.#made >= from) this.#frames.set(this.#made, this.#now!);
    }
    return Array.from({ length: count }, (_, i) => this.#frames.get(from + i)!);
  }

  close(): void {
    this.#track.close();
    this.#frames.clear();
  }
}

export type WindowPicturesOptions = {
  readonly input: string;
  readonly side: number;
  readonly mask: Mask | null;
  readonly toSample: (ptsMs: number) => number;
  readonly signal?: AbortSignal | undefined;
};

/** What a separating network sees: the whole picture squeezed, the middle cut out, RGB (side, side, 3). */
export class WindowPictures extends FramePictures<Uint8Array> {
  constructor({ input, side, mask, toSample, signal }: WindowPicturesOptions) {
    const whole = squeezedSide(side);
    const offset = (whole - side) / 2;
    const make = ({ data, width, height, fullRange }: DecodedPicture): Uint8Array => {
      const picture = { atSample: 0, width, height, data, fullRange };
      const rgb = rgbSquare(picture, { x: offset, y: offset, width: side, height: side }, side);
      if (mask !== null) maskSquare(rgb, side, whole, mask);
      return rgb;
    };
    super({ input, reading: { squeeze: { width: whole, height: whole }, signal }, make, toSample });
  }
}
