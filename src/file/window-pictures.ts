import type { DecodedPicture } from "../channel/decode.js";
import { rgbSquare } from "../model/faces/i420.js";
import { type Mask, maskSquare } from "./mask.js";
import { readPictures, type Track } from "./readers.js";
import { FRAME_SAMPLES } from "./window-plan.js";

/** A picture is squeezed to 8/7 of the network's side, of which it sees the middle (256 and 224 as published). */
export const squeezedSide = (side: number): number => side + 2 * Math.round(side / 14);

export type WindowPicturesOptions = {
  readonly input: string;
  readonly side: number;
  readonly mask: Mask | null;
  /** Time of a picture to its sample at 48 kHz. */
  readonly toSample: (ptsMs: number) => number;
  readonly signal?: AbortSignal | undefined;
};

/**
 * The pictures of a file as a window model wants them: 29.97 a second, each the nearest one of the file (dropped or doubled, as ffmpeg
 * does it), squeezed, the middle cut out, RGB. Holds those of the present window only.
 */
export class WindowPictures {
  readonly #o: WindowPicturesOptions;
  readonly #track: Track<DecodedPicture>;
  readonly #whole: number;
  readonly #frames = new Map<number, Uint8Array>();
  #made = 0;
  #next: DecodedPicture | null = null;
  #rgb: Uint8Array | null = null;

  constructor(options: WindowPicturesOptions) {
    const { input, side, signal } = options;
    this.#o = options;
    this.#whole = squeezedSide(side);
    const squeeze = { width: this.#whole, height: this.#whole };
    this.#track = readPictures(input, { squeeze, signal, leastStepMs: 0 });
  }

  get fault(): string | null {
    return this.#track.fault;
  }

  /** False when there is no picture at all. */
  async begin(): Promise<boolean> {
    this.#next = await this.#track.next();
    if (this.#next === null) return false;
    this.#rgb = this.#square(this.#next);
    return true;
  }

  /** Frames `from` .. `from + count`, which must not go back; what lies before `from` is forgotten. */
  async window(from: number, count: number): Promise<Uint8Array[]> {
    for (const frame of this.#frames.keys()) if (frame < from) this.#frames.delete(frame);
    for (; this.#made < from + count; this.#made++) {
      let picture: DecodedPicture | null = null;
      while (this.#next !== null && this.#o.toSample(this.#next.ptsMs) <= (this.#made + 0.5) * FRAME_SAMPLES) {
        picture = this.#next;
        this.#next = await this.#track.next();
      }
      if (picture !== null) this.#rgb = this.#square(picture);
      if (this.#made >= from) this.#frames.set(this.#made, this.#rgb!);
    }
    return Array.from({ length: count }, (_, i) => this.#frames.get(from + i)!);
  }

  close(): void {
    this.#track.close();
    this.#frames.clear();
  }

  #square({ data, width, height, fullRange }: DecodedPicture): Uint8Array {
    const { side, mask } = this.#o;
    const offset = (this.#whole - side) / 2;
    const rgb = rgbSquare(
      { atSample: 0, width, height, data, fullRange },
      { x: offset, y: offset, width: side, height: side },
      side,
    );
    if (mask !== null) maskSquare(rgb, side, this.#whole, mask);
    return rgb;
  }
}
