import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { DecodedPicture } from "../channel/decode.js";
import { i420Of, rgbOf } from "../model/faces/i420.js";
import { zoomPixels } from "../model/paper/spline.js";
import type { Remake } from "./cam.js";
import type { CamLine } from "./cam-pass.js";

/** Side of the pictures, as the published network takes them. */
const SIDE = 224;

/**
 * The square from which the sound comes, as large as a network takes it (spec section 5, "crop from CAM"): of each picture what the newest
 * line of cam.jsonl that begins not later says. Pictures are decoded as the network saw them.
 */
export class CropPictures implements Remake {
  readonly #reader: ReturnType<typeof createInterface>;
  readonly #lines: AsyncIterator<string>;
  #now: CamLine | null = null;
  #next: CamLine | null = null;
  #ended = false;

  constructor(path: string) {
    this.#reader = createInterface({ input: createReadStream(path) });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  async make(picture: DecodedPicture, sample: number): Promise<DecodedPicture> {
    const { width, height } = picture;
    const { crop } = (await this.#lineAt(sample)) ?? { crop: { x: 0, y: 0, width: 1, height: 1 } };
    const [x, y] = [Math.round(crop.x * width), Math.round(crop.y * height)];
    const size = { width: Math.round(crop.width * width), height: Math.round(crop.height * height) };
    const rgb = rgbOf(picture);
    const cut = new Uint8Array(3 * size.width * size.height);
    for (let row = 0; row < size.height; row++) {
      const from = 3 * ((y + row) * width + x);
      cut.set(rgb.subarray(from, from + 3 * size.width), 3 * row * size.width);
    }
    const seen = zoomPixels(cut, size, { width: SIDE, height: SIDE }, 3);
    return { ...picture, width: SIDE, height: SIDE, data: i420Of(seen, SIDE, SIDE), fullRange: false };
  }

  async #lineAt(sample: number): Promise<CamLine | null> {
    for (;;) {
      if (this.#next === null && !this.#ended) {
        const { done, value } = await this.#lines.next();
        if (done) this.#ended = true;
        else this.#next = JSON.parse(value) as CamLine;
      }
      if (this.#next === null || this.#next.from > Math.max(0, sample)) return this.#now;
      this.#now = this.#next;
      this.#next = null;
    }
  }

  close(): void {
    this.#reader.close();
  }
}
