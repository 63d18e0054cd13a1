import { type PaperOptions, paperGraph } from "./graph.js";
import type { PresetName } from "./presets.js";
import { paperVariables, sizeOfVariable } from "./variables.js";

/**
 * The training form of a preset as an ONNX file whose variables are all 0: what train/paper/onnx_net.py runs with gradients. Notes in
 * the file: preset, width, image, frames, classes. Throws RangeError for sizes that the network does not take.
 */
export function trainingGraph(preset: PresetName, options: Omit<PaperOptions, "form" | "scales"> = {}): Uint8Array {
  const { width = 1, classes = 0 } = options;
  const sizes = new Map(paperVariables(preset, { width, classes }).map((v) => [v.name, sizeOfVariable(v)]));
  const zeros = (name: string): Float32Array => new Float32Array(sizes.get(name)!);
  const graph = paperGraph(preset, zeros, { ...options, form: "training" });
  const { image, frames } = graph.sizes;
  return graph.write({ width: String(width), image: String(image), frames: String(frames), classes: String(classes) });
}
