import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { OnnxEngine, type TensorMap, tensor } from "../../../src/model/engines/onnxruntime.js";
import type { PaperGraph } from "../../../src/model/paper/graph.js";
import { spectrum } from "../../../src/model/paper/spectrum.js";
import { paperVariables, sizeOfVariable, type VariableSource } from "../../../src/model/paper/variables.js";

/** The window of section 7.5: pixels by a formula, sound by a linear congruence, in [-0.1, 0.1). */
export function testPixels(frames: number, side: number): Uint8Array {
  const pixels = new Uint8Array(frames * side * side * 3);
  let at = 0;
  for (let t = 0; t < frames; t++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) for (let c = 0; c < 3; c++) pixels[at++] = (7 * t + 3 * y + 5 * x + 11 * c) % 256;
  return pixels;
}

/** (N, 2), channels side by side. */
export function testSound(samples: number): Float32Array {
  const sound = new Float32Array(2 * samples);
  for (const channel of [0, 1]) {
    let q = channel + 1;
    for (let n = 0; n < samples; n++) {
      q = (Math.imul(1103515245, q) + 12345) & 0x7fffffff;
      sound[2 * n + channel] = 0.2 * (q / 2 ** 31 - 0.5);
    }
  }
  return sound;
}

export function channelOf(sound: Float32Array, channel: number): Float32Array {
  return Float32Array.from({ length: sound.length / 2 }, (_, n) => sound[2 * n + channel]!);
}

/** All inputs of a graph for the window of section 7.5; `sound` in place of its own. */
export function testInputs(graph: PaperGraph, sound = testSound(graph.sizes.samples)): TensorMap {
  const { frames, image, spectrum: steps } = graph.sizes;
  const heard = spectrum(channelOf(sound, 0), steps);
  const pixels = testPixels(frames, image);
  return Object.fromEntries(
    graph.inputs.map(({ name, type, shape }) => {
      const data = { video: type === "uint8" ? pixels : Float32Array.from(pixels), samples: sound, ...heard }[name];
      if (!(data instanceof Uint8Array || data instanceof Float32Array)) throw new TypeError(`input ${name}`);
      return [
        name,
        tensor(
          data,
          shape.map((d) => (d === -1 ? 1 : d)),
        ),
      ];
    }),
  );
}

export async function runGraph(graph: PaperGraph, inputs = testInputs(graph)): Promise<Record<string, Float32Array>> {
  const engine = await OnnxEngine.open(graph.write(), { threads: 2 });
  const outputs = await engine.run(inputs);
  await engine.close();
  return Object.fromEntries(graph.outputs.map(({ name }) => [name, outputs[name]!.data as Float32Array]));
}

/** Largest difference of two arrays over the largest value of the second. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  let most = 0;
  for (let i = 0; i < want.length; i++) {
    const difference = Math.abs(got[i]! - want[i]!);
    if (!(difference <= worst)) worst = difference; // also when it is not a number
    most = Math.max(most, Math.abs(want[i]!));
  }
  return worst / most;
}

/** Folder of the small bundle of section 7.5: beside the checkout, or as a fixture. Null: not there. */
export function smallBundle(): string | null {
  const root = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/");
  const places = [join(root, "test/model/fixtures/checkpoint"), join(root, "../shared/spec/checkpoint")];
  return places.find((folder) => existsSync(join(folder, "small.tf-160000.data-00000-of-00001"))) ?? null;
}

/**
 * Variables of the small bundle without its index: the data file holds them one behind the other in the bytewise order of their
 * names, so a wrong name, shape or type in `paperVariables` moves all that follow.
 */
export function smallBundleVariables(folder: string): VariableSource {
  const bytes = readFileSync(join(folder, "small.tf-160000.data-00000-of-00001"));
  const sorted = paperVariables("full", { width: 1 / 32 }).sort((a, b) => (a.name < b.name ? -1 : 1));
  const found = new Map<string, Float32Array>();
  let at = 0;
  for (const v of sorted) {
    const size = sizeOfVariable(v);
    const from = at;
    at += size * (v.dtype === "int64" ? 8 : 4);
    if (v.dtype === "float32")
      found.set(
        v.name,
        Float32Array.from({ length: size }, (_, i) => bytes.readFloatLE(from + 4 * i)),
      );
  }
  if (at !== bytes.length) throw new Error(`the small bundle has ${bytes.length} bytes, its variables ${at}`);
  return (name) => {
    const values = found.get(name);
    if (!values) throw new Error(`the small bundle lacks ${name}`);
    return values;
  };
}
