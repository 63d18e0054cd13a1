import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Evaluate } from "../../src/file/evaluate.js";
import { separateFile } from "../../src/file/separate-file.js";
import type { FaceDetector } from "../../src/model/inference/local.js";
import type { Detection } from "../../src/model/inference.js";
import type { Separator } from "../support/separator.js";
import { siSdr } from "../val/metrics.js";
import { writeClip } from "../val/mixtures.js";
import { readMono } from "../val/read-mono.js";

/** The product as it is, and the same network with the first mouth crop (of a window model: picture) held still and no policy in between. */
export const WAYS = {
  product: {},
  frozen: { picture: "frozen", policy: "off" },
} as const satisfies Record<string, Evaluate>;
export type Way = keyof typeof WAYS;
export const WAY_NAMES = Object.keys(WAYS) as readonly Way[];

export type Separated = {
  /** The on-screen sound, mono, as long as the input. */
  readonly sound: Float32Array;
  /** Share of the steps in which the product separated. */
  readonly share: number;
};

const MOST_REMEMBERED = 50_000;

/** Detections by what was looked at: the same picture is often shown under several sounds. */
export class RememberingFaces implements FaceDetector {
  readonly #inner: FaceDetector;
  readonly #known = new Map<string, readonly Detection[]>();

  constructor(inner: FaceDetector) {
    this.#inner = inner;
  }

  async detect(rgb: Uint8Array, side: number): Promise<readonly Detection[]> {
    const key = createHash("sha1").update(rgb).digest("base64");
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const found = await this.#inner.detect(rgb, side);
    if (this.#known.size >= MOST_REMEMBERED) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(key, found);
    return found;
  }

  close(): Promise<void> {
    this.#known.clear();
    return this.#inner.close();
  }
}

/** A folder for one item, and the product run on what lies in it. */
export class Bench {
  readonly folder = mkdtempSync(join(tmpdir(), "sightline-quality-"));
  readonly #separator: Separator;
  #runs = 0;

  constructor(separator: Separator) {
    this.#separator = separator;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A picture with a sound beside it, through decoding, faces, model, gains and stitching of `sightline separate`. */
  async separate(picture: string, sound: Float32Array, way: Way): Promise<Separated> {
    const run = ++this.#runs;
    const input = this.path(`input${run}.mov`);
    const out = this.path(`out${run}`);
    writeClip(picture, sound, input);
    const report = await separateFile({ input, out, ...this.#separator.options, mp4: false, evaluate: WAYS[way] });
    const kept = readMono(report.files["onscreen.wav"]!, report.channels);
    const removed = readMono(report.files["offscreen.wav"]!, report.channels);
    rmSync(input);
    rmSync(out, { recursive: true });
    // Both together are the input, in its place: else the scores would measure a shift.
    const both = Float32Array.from(kept, (x, i) => x + removed[i]!);
    const exact = siSdr(both, sound);
    if (!(exact > 60) || Math.abs(kept.length - sound.length) > 2048)
      throw new Error(`the stems do not add up to the input (${exact.toFixed(1)} dB, ${kept.length} samples)`);
    const whole = new Float32Array(sound.length);
    whole.set(kept.subarray(0, whole.length));
    return { sound: whole, share: (report.modes.separated ?? 0) / Math.max(1, report.steps) };
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
