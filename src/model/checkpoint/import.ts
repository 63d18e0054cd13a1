import { basename } from "node:path";
import type { WindowCard } from "../card.js";
import { paperGraph } from "../paper/graph.js";
import { type PresetName, presets } from "../paper/presets.js";
import type { VariableSource } from "../paper/variables.js";
import { writePaperModel } from "../paper/write.js";
import { type Checkpoint, openCheckpoint } from "./checkpoint.js";
import { fits, type Match, matchVariables, misfitText } from "./match.js";
import { invalid } from "./shards.js";

const STEP_VARIABLE = "global_step";

export type ImportOptions = {
  /** In the card; default: the folder's name. */
  readonly name?: string;
  /** In the card; default "1". */
  readonly version?: string;
  /** Default "unfolded": onnxruntime computes it faster. */
  readonly form?: "folded" | "unfolded";
  /** Side of the pictures; default 224. */
  readonly image?: number;
  /** Pictures of a window; default the preset's. */
  readonly frames?: number;
  /**
   * Type of the pictures, values 0..255. Default: float32 for networks without a u-net, which are shown whole frames that were resized
   * without rounding (spec section 3.3); uint8 for all others.
   */
  readonly pixels?: "uint8" | "float32";
  /** Leave variables out that neither the network nor its training knows. Default false: they are a fault. */
  readonly ignoreUnknown?: boolean;
  /** Ends the import between two tensors; its reason is thrown, nothing is left. */
  readonly signal?: AbortSignal;
};

export type Imported = { readonly card: WindowCard; readonly match: Match };

/** Values as the graph asks for them; a value that is not finite is a fault. */
function sourceOf(checkpoint: Checkpoint): VariableSource {
  return (name) => {
    const values = checkpoint.read(name);
    if (!values.every(Number.isFinite))
      throw invalid(checkpoint.prefix, `variable ${name} holds a value that is not finite`);
    return values;
  };
}

/** What the network does not need is verified all the same: a damaged file is not trusted for the rest. */
function verifyOthers(checkpoint: Checkpoint, { ignored, unknown }: Match): void {
  for (const name of ignored) checkpoint.verify(name);
  const left = new Set(unknown);
  for (const v of checkpoint.variables) if (left.has(v.name) && v.verifiable) checkpoint.verify(v.name);
}

/**
 * Makes a model folder of a TensorFlow checkpoint: `out`/{model.onnx, card.json}. Every byte of both files is verified, those of
 * variables too that are left out; one tensor at a time is in memory. `out` appears whole or not at all, a model that stood there
 * before stays until then. Throws SL_MODEL_INVALID (file, variable, expected and found) and RangeError for sizes that the network
 * does not take.
 */
export async function importCheckpoint(
  prefix: string,
  preset: PresetName,
  out: string,
  options: ImportOptions = {},
): Promise<Imported> {
  const checkpoint = openCheckpoint(prefix);
  try {
    const { variables } = checkpoint;
    const match = matchVariables(preset, variables);
    if (!fits(match, options.ignoreUnknown)) throw invalid(checkpoint.prefix, misfitText(match, variables));
    const form = options.form ?? "unfolded";
    const sizes = {
      width: match.width,
      ...(options.image !== undefined && { image: options.image }),
      ...(options.frames !== undefined && { frames: options.frames }),
    };
    const pixels = options.pixels ?? (presets[preset].parts.unet ? "uint8" : "float32");
    const graph = paperGraph(preset, sourceOf(checkpoint), { ...sizes, form, pixels });
    // The network's operations are the same in every form; the folded one counts no helper convolutions.
    const { macs } = paperGraph(preset, sourceOf(checkpoint), sizes);
    verifyOthers(checkpoint, match);
    const step = variables.some((v) => v.name === STEP_VARIABLE) ? checkpoint.readInteger(STEP_VARIABLE) : null;
    const origin = {
      preset,
      width: match.width,
      form,
      parameters: match.parameters,
      macs,
      checkpoint: { name: basename(checkpoint.prefix), step, indexSha256: checkpoint.indexSha256 },
      name: options.name,
      version: options.version,
    } as const;
    const card = await writePaperModel(out, graph, origin, options.signal);
    return { card, match };
  } finally {
    checkpoint.close();
  }
}
