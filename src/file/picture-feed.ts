import type { FaceFollower } from "../model/faces/follower.js";
import type { AudioTimeline } from "../pipeline/timeline.js";
import { SAMPLE_RATE } from "../pipeline/types.js";
import { type Mask, maskPicture } from "./mask.js";
import type { readPictures } from "./readers.js";

/** As far as times may run apart without being a jump (AudioTimeline). */
const MAX_AHEAD_SAMPLES = SAMPLE_RATE;

/** Gives the follower the pictures that a step needs, no more. */
export class PictureFeed {
  readonly #pictures: ReturnType<typeof readPictures>;
  readonly #follower: FaceFollower;
  readonly #timeline: AudioTimeline;
  readonly #mask: Mask | null;
  #next: Awaited<ReturnType<ReturnType<typeof readPictures>["next"]>> = null;
  seen = false;
  /** Seconds at which pictures of another size than the first begin; null: none came. */
  resizedAt: number | null = null;
  #size = "";

  constructor(
    pictures: ReturnType<typeof readPictures>,
    follower: FaceFollower,
    timeline: AudioTimeline,
    mask: Mask | null,
  ) {
    this.#pictures = pictures;
    this.#follower = follower;
    this.#timeline = timeline;
    this.#mask = mask;
  }

  get fault(): string | null {
    return this.#pictures.fault;
  }

  /** False when there is no picture at all. */
  async begin(): Promise<boolean> {
    this.#next = await this.#pictures.next();
    this.seen = this.#next !== null;
    return this.seen;
  }

  /**
   * Until the picture of a unit is certain, or no more come. One far ahead of the sound waits: perhaps the sound is about to jump to its
   * time, and then its place is another.
   */
  async advanceTo(unit: number): Promise<void> {
    while (this.#next !== null && this.#follower.decidedUnit < unit) {
      const { ptsMs, data, width, height, fullRange } = this.#next;
      const atSample = this.#timeline.toSample(BigInt(Math.round(ptsMs * 1e6)))!;
      if (atSample - this.#timeline.nextSample > MAX_AHEAD_SAMPLES) return;
      this.#noteSize(`${width}x${height}`, ptsMs);
      if (this.#mask !== null) maskPicture(data, width, height, this.#mask);
      this.#follower.push({ atSample, data, width, height, fullRange });
      // Detections are waited for, so that the same file gives the same result each time.
      await this.#follower.settle();
      this.#next = await this.#pictures.next();
    }
  }

  #noteSize(size: string, ptsMs: number): void {
    if (this.#size === "") this.#size = size;
    else if (size !== this.#size) this.resizedAt ??= ptsMs / 1000;
  }
}
