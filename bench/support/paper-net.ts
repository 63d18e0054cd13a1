import { type PaperGraph, type PaperOptions, paperGraph } from "../../src/model/paper/graph.js";
import { type PresetName, presets } from "../../src/model/paper/presets.js";
import { randomVariables } from "../../src/model/paper/random.js";
import type { VariableSource } from "../../src/model/paper/variables.js";

/** A network with random weights, from PRESET:1/WIDTH:IMAGE[:FRAMES], e.g. full:1/4:112. */
export type PaperNet = {
  readonly text: string;
  readonly preset: PresetName;
  readonly width: number;
  readonly source: VariableSource;
  /** Its graph in a form; weights are drawn when it is written. */
  readonly graph: (options?: Pick<PaperOptions, "form" | "ranges" | "probes">) => PaperGraph;
};

export function paperNet(text: string): PaperNet {
  const [name = "", share = "1", image = "224", frames] = text.split(":");
  if (!Object.hasOwn(presets, name))
    throw new Error(
      `${text}: allowed are PRESET:1/WIDTH:IMAGE[:FRAMES], PRESET one of ${Object.keys(presets).join(", ")}`,
    );
  const preset = name as PresetName;
  const [above, below = "1"] = share.split("/");
  const width = Number(above) / Number(below);
  const source = randomVariables(preset, { width, seed: 1 });
  const size = { width, image: Number(image), ...(frames ? { frames: Number(frames) } : {}) };
  return { text, preset, width, source, graph: (options) => paperGraph(preset, source, { ...size, ...options }) };
}
