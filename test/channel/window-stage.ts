import { join } from "node:path";
import { importCheckpoint } from "../../src/model/checkpoint/import.js";
import { i420Of } from "../../src/model/faces/i420.js";
import { LocalWindows } from "../../src/model/inference/local-windows.js";
import type { Picture } from "../../src/pipeline/types.js";
import { paperBundle } from "../model/checkpoint/paper-bundle.js";
import { saveBundle, writeBundle } from "../model/checkpoint/write-bundle.js";
import { noise } from "../model/noise.js";

/** Random weights, width 1/32, pictures of 32 pixels: what is separated means nothing, every step of the way is the real one. */
export async function windowModel(folder: string, preset: "full" | "shift" | "unet_pit" = "full"): Promise<string> {
  const [prefix, model] = [join(folder, preset), join(folder, `model-${preset}`)];
  saveBundle(prefix, writeBundle(paperBundle(preset, false)));
  await importCheckpoint(prefix, preset, model, { image: 32 });
  return model;
}

export const openWindows = async (folder: string): Promise<LocalWindows> =>
  LocalWindows.open(await windowModel(folder), { threads: 1 });

/** A grey picture of 64 x 36 with a bar that stands elsewhere in each. */
export function barPicture(index: number, atSample: number): Picture {
  const rgb = new Uint8Array(3 * 64 * 36).fill(60);
  for (let row = 0; row < 36; row++)
    for (let x = 0; x < 16; x++)
      rgb.fill(220, 3 * (row * 64 + ((7 * index + x) % 64)), 3 * (row * 64 + ((7 * index + x) % 64)) + 3);
  return { atSample, width: 64, height: 36, data: i420Of(rgb, 64, 36), fullRange: false };
}

/** Two channels of noise, not the same. */
export const stereoNoise = (samples: number): Float32Array[] =>
  ["left", "right"].map((name) => Float32Array.from(noise(name, samples), (v) => 0.2 * v));
