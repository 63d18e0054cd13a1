import { createHash } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { z } from "zod";
import { type WindowCard, windowCard } from "../card.js";
import { verifyModel } from "../cards.js";
import { writeFolder } from "../folder.js";
import { type PaperGraph, paperGraph } from "../paper/graph.js";
import type { PresetName } from "../paper/presets.js";
import { MIXTURE_RMS } from "../paper/scaling.js";
import { FRAME_RATE, SAMPLE_RATE } from "../paper/sizes.js";
import { BINS, FFT_SIZE, FLOOR_DB, STEP, WINDOW } from "../paper/spectrum.js";
import type { VariableSource } from "../paper/variables.js";
import { type Checkpoint, openCheckpoint } from "./checkpoint.js";
import { fits, type Match, matchVariables, misfitText } from "./match.js";
import { invalid } from "./shards.js";

const MODEL = "model.onnx";
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

/** Writes the pieces one after another and syncs; SHA-256 of all. */
async function writePieces(path: string, pieces: Iterable<Uint8Array>, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, "wx");
  try {
    for (const piece of pieces) {
      signal?.throwIfAborted();
      hash.update(piece);
      for (let at = 0; at < piece.length; ) at += (await file.write(piece, at)).bytesWritten;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}

type CardParts = {
  name: string;
  version: string;
  form: "folded" | "unfolded";
  match: Match;
  macs: number;
  sha256: string;
};

function cardOf(graph: PaperGraph, checkpoint: Checkpoint, step: number | null, parts: CardParts): WindowCard {
  const { frames, samples, image, spectrum } = graph.sizes;
  return windowCard.parse({
    format: "sightline-model/1",
    name: parts.name,
    version: parts.version,
    kind: "window",
    paper: {
      preset: parts.match.preset,
      width: parts.match.width,
      form: parts.form,
      side: image,
      window: { frames, samples, spectrum },
      constants: {
        sampleRate: SAMPLE_RATE,
        frameRate: FRAME_RATE,
        stft: { window: WINDOW, step: STEP, size: FFT_SIZE, bins: BINS },
        floorDb: FLOOR_DB,
        rms: MIXTURE_RMS,
      },
      inputs: graph.inputs.map((p) => ({ ...p, shape: [...p.shape] })),
      outputs: graph.outputs.map((p) => ({ ...p, shape: [...p.shape] })),
      checkpoint: { name: basename(checkpoint.prefix), step, indexSha256: checkpoint.indexSha256 },
    },
    files: { step: MODEL },
    sha256: { [MODEL]: parts.sha256 },
    parameters: parts.match.parameters,
    macPerWindow: parts.macs,
  } satisfies z.input<typeof windowCard>);
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
    const graph = paperGraph(preset, sourceOf(checkpoint), { ...sizes, form });
    // The network's operations are the same in every form; the folded one counts no helper convolutions.
    const { macs } = paperGraph(preset, sourceOf(checkpoint), sizes);
    verifyOthers(checkpoint, match);
    const step = variables.some((v) => v.name === STEP_VARIABLE) ? checkpoint.readInteger(STEP_VARIABLE) : null;
    const card = await writeFolder(out, async (folder) => {
      const sha256 = await writePieces(join(folder, MODEL), graph.pieces(), options.signal);
      const name = options.name ?? basename(resolve(out));
      const made = cardOf(graph, checkpoint, step, {
        name,
        version: options.version ?? "1",
        form,
        match,
        macs,
        sha256,
      });
      await writeFile(join(folder, "card.json"), `${JSON.stringify(made, null, 2)}\n`, { flush: true });
      await verifyModel(folder); // what the disk holds is what was meant
      return made;
    });
    return { card, match };
  } finally {
    checkpoint.close();
  }
}
