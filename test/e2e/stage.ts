import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clip, makeClip } from "../../bench/support/clip.js";
import { noiseModels, Product, type ProductOptions } from "../../bench/support/product.js";

/** A small talking head: eight seconds, with B-frames, so that decoding and presentation order differ. */
export const SMALL = { size: "640x360", bFrames: 2, videoKbps: 800, seconds: 8 } as const;

/** What the tests of one file share: a folder with the clip and a model of next to no cost, removed by `close`. */
export class Stage {
  readonly clip: Clip;
  #products: Product[] = [];
  #closers: (() => unknown)[] = [];

  private constructor(
    readonly folder: string,
    readonly models: string,
  ) {
    this.clip = makeClip(folder, SMALL);
  }

  static async open(): Promise<Stage> {
    const folder = mkdtempSync(join(tmpdir(), "sightline-e2e-"));
    return new Stage(folder, await noiseModels(folder, "tiny"));
  }

  /** A product that is ready; ended by `clear`. */
  async product(options: ProductOptions): Promise<Product> {
    const product = await Product.start({ models: this.models, ...options });
    this.#products.push(product);
    await product.ready();
    await product.listen();
    return product;
  }

  add<T>(thing: T, close: (thing: T) => unknown): T {
    this.#closers.push(() => close(thing));
    return thing;
  }

  /** Ends what was added, newest first. */
  async closeAdded(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  /** After each test: ends what it opened. */
  async clear(): Promise<void> {
    await this.closeAdded();
    for (const product of this.#products.splice(0)) await product.stop();
  }

  async close(): Promise<void> {
    await this.clear();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
