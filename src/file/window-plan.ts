import { FRAME_HOP } from "../model/paper/gains.js";
import { coveredSamples, FRAME_SAMPLES } from "../model/paper/geometry.js";
import type { WindowSizes } from "../model/paper/sizes.js";
import { CROSS_FADE_SAMPLES } from "../pipeline/gain-timeline.js";

/** Where a window lies: its first picture frame, its first sample, and from which sample on it is heard. */
export type Place = { readonly frame: number; readonly atSample: number; readonly from: number };

/**
 * Where the windows of a file lie, one after another; all in samples at 48 kHz. They begin on picture frames, half a window apart; the
 * last one is moved back so that it ends with the sound. A window takes over from the one before in the middle of what both cover:
 * the ends of a window are seen by the network through padding.
 */
export class WindowPlan {
  /** What the spectrum of a window covers. */
  readonly covered: number;
  readonly #halfFrames: number;
  #count = 0;
  #last: Place | null = null;

  /**
   * `halfFrames`: distance of two windows, by default half a window.
   */
  constructor(sizes: Pick<WindowSizes, "frames" | "samples" | "spectrum">, halfFrames = sizes.frames / 2) {
    this.covered = coveredSamples(sizes);
    this.#halfFrames = halfFrames;
  }

  /** The next window, when `end` samples are there; `final`: no more come. Null: none yet, or none any more. */
  next(end: number, final = false): Place | null {
    const regular = Math.floor(this.#count * this.#halfFrames + 1e-9);
    let frame = regular;
    if (this.#end(regular) > end) {
      if (!final || (this.#last !== null && this.#end(this.#last.frame) >= end)) return null;
      const least = this.#last === null ? 0 : this.#last.frame + 1;
      frame = Math.min(regular, Math.max(least, Math.ceil((end - this.covered) / FRAME_SAMPLES)));
    }
    const atSample = Math.round(frame * FRAME_SAMPLES);
    const from =
      this.#last === null ? 0 : Math.floor((atSample + this.#end(this.#last.frame) - CROSS_FADE_SAMPLES) / 2);
    this.#count += 1;
    this.#last = { frame, atSample, from };
    return this.#last;
  }

  /** Up to here no later window has a say. */
  get certainUntil(): number {
    if (this.#last === null) return 0;
    return this.#last.atSample + Math.floor((this.covered - CROSS_FADE_SAMPLES) / 2) - FRAME_HOP;
  }

  #end(frame: number): number {
    return Math.round(frame * FRAME_SAMPLES) + this.covered;
  }
}
