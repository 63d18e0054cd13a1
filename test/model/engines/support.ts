import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { streamCard } from "../../../src/model/card.js";
import { type TensorMap, tensor } from "../../../src/model/engines/engine.js";
import { stepTrial } from "../../../src/model/engines/trial-inputs.js";
import { paperGraph } from "../../../src/model/paper/graph.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { testInputs } from "../paper/support.js";

export type Net = { readonly name: string; readonly bytes: Uint8Array; readonly inputs: TensorMap };

export const root = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/");
export const shipped = (file: string): string => `${root}models/live/${file}`;

/** The shipped streaming network and its voice encoder (1.02 s of a chirp). */
export function liveNets(): Net[] {
  const card = streamCard.parse(JSON.parse(readFileSync(shipped("card.json"), "utf8")));
  const n = 16 * 3072;
  const chirp = Float32Array.from({ length: n }, (_, i) => 0.3 * Math.sin((i * i) / 2e5));
  return [
    { name: "live", bytes: new Uint8Array(readFileSync(shipped(card.files.step))), inputs: stepTrial(card) },
    {
      name: "voice",
      bytes: new Uint8Array(readFileSync(shipped(card.files.voice!))),
      inputs: { samples: tensor(chirp, [1, n]) },
    },
  ];
}

/** The paper's network with every layer: 32 pixels, 1/32 of the channels. */
export function paperNet(
  form: "training" | "folded" | "unfolded" = "folded",
  preset: "full" | "shift" = "full",
  frames?: number,
): Net {
  const size = { width: 1 / 32, image: 32, ...(frames ? { frames } : {}) } as const;
  const graph = paperGraph(preset, randomVariables(preset, { width: size.width, seed: 7 }), { ...size, form });
  return { name: `${preset}, ${form}`, bytes: graph.write(), inputs: testInputs(graph) };
}

/** Options of node for a process in which onnxruntime-node is not installed. */
export const withoutOnnxRuntime: readonly string[] = ((): string[] => {
  const hook = `export async function resolve(specifier, context, next) {
    if (specifier !== "onnxruntime-node") return next(specifier, context);
    throw Object.assign(new Error("Cannot find package 'onnxruntime-node'"), { code: "ERR_MODULE_NOT_FOUND" });
  }`;
  const url = (source: string): string => `data:text/javascript,${encodeURIComponent(source)}`;
  return ["--import", url(`import { register } from "node:module"; register(${JSON.stringify(url(hook))});`)];
})();
