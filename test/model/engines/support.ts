import { fileURLToPath } from "node:url";
import { type LoadedStream, loadStream } from "../../../src/model/cards.js";
import { type TensorMap, tensor } from "../../../src/model/engines/engine.js";
import { OnnxEngine } from "../../../src/model/engines/onnxruntime.js";
import { faceTrial, soundTrial, stepTrial } from "../../../src/model/engines/trial-inputs.js";
import { heardOf } from "../../../src/model/inference/step-network.js";
import { paperGraph } from "../../../src/model/paper/graph.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { testInputs } from "../paper/support.js";

export type Net = { readonly name: string; readonly bytes: Uint8Array; readonly inputs: TensorMap };

export const root = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/");

/** The networks of a step, each with inputs of a first step; what the second takes of the first is the CPU's. */
export async function stepNetworks({ card, sound, step }: LoadedStream): Promise<Net[]> {
  const { name } = card;
  if (sound === null) return [{ name, bytes: step, inputs: stepTrial(card) }];
  const first = { name: `${name}, ${card.files.sound}`, bytes: sound, inputs: soundTrial(card) };
  const engine = await OnnxEngine.open(sound, { threads: 1 });
  const heard = heardOf(await engine.run(first.inputs));
  await engine.close();
  return [first, { name: `${name}, ${card.files.step}`, bytes: step, inputs: faceTrial(card, heard) }];
}

/** The shipped streaming network and its voice encoder (1.02 s of a chirp). */
export async function liveNets(): Promise<Net[]> {
  const model = await loadStream(`${root}models/live`);
  const n = 16 * 3072;
  const chirp = Float32Array.from({ length: n }, (_, i) => 0.3 * Math.sin((i * i) / 2e5));
  return [
    ...(await stepNetworks(model)),
    { name: "voice", bytes: model.voice!, inputs: { samples: tensor(chirp, [1, n]) } },
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
