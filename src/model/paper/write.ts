import { createHash } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { z } from "zod";
import { WINDOW_GUARD_SAMPLES, type WindowCard, windowCard } from "../card.js";
import { verifyModel } from "../cards.js";
import { writeFolder } from "../folder.js";
import type { PaperGraph } from "./graph.js";
import type { PresetName } from "./presets.js";
import { MIXTURE_RMS } from "./scaling.js";
import { FRAME_RATE, PAPER_RATE } from "./sizes.js";
import { BINS, FFT_SIZE, FLOOR_DB, STEP, WINDOW } from "./spectrum.js";

const MODEL = "model.onnx";

/** What the card says beside the graph's own sizes. */
export type PaperOrigin = {
  readonly preset: PresetName;
  readonly width: number;
  readonly form: WindowCard["paper"]["form"];
  readonly int8?: WindowCard["paper"]["int8"];
  /** Default: WINDOW_GUARD_SAMPLES. */
  readonly guardSamples?: number;
  /** Trained by gradient. */
  readonly parameters: number;
  /** Multiply-adds of one window. */
  readonly macs: number;
  readonly checkpoint: WindowCard["paper"]["checkpoint"];
  readonly training?: Readonly<Record<string, unknown>>;
  /** In the card; default: the folder's name and "1". */
  readonly name?: string | undefined;
  readonly version?: string | undefined;
};

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

function cardOf(graph: PaperGraph, origin: PaperOrigin, out: string, sha256: string): WindowCard {
  const { frames, samples, image, spectrum } = graph.sizes;
  return windowCard.parse({
    format: "sightline-model/1",
    name: origin.name ?? basename(resolve(out)),
    version: origin.version ?? "1",
    kind: "window",
    paper: {
      preset: origin.preset,
      width: origin.width,
      form: origin.form,
      ...(origin.int8 && { int8: origin.int8 }),
      side: image,
      window: { frames, samples, spectrum },
      guardSamples: origin.guardSamples ?? WINDOW_GUARD_SAMPLES,
      constants: {
        sampleRate: PAPER_RATE,
        frameRate: FRAME_RATE,
        stft: { window: WINDOW, step: STEP, size: FFT_SIZE, bins: BINS },
        floorDb: FLOOR_DB,
        rms: MIXTURE_RMS,
      },
      inputs: graph.inputs.map((p) => ({ ...p, shape: [...p.shape] })),
      outputs: graph.outputs.map((p) => ({ ...p, shape: [...p.shape] })),
      checkpoint: origin.checkpoint,
    },
    files: { step: MODEL },
    sha256: { [MODEL]: sha256 },
    parameters: origin.parameters,
    macPerWindow: origin.macs,
    training: { ...origin.training },
  } satisfies z.input<typeof windowCard>);
}

/**
 * Makes the model folder `out`/{model.onnx, card.json}; one tensor at a time is in memory. It appears whole or not at all, a model
 * that stood there before stays until then. `signal` ends it between two tensors; its reason is thrown, nothing is left. Throws
 * SL_MODEL_INVALID when something else than a model's folder stands there.
 */
export async function writePaperModel(
  out: string,
  graph: PaperGraph,
  origin: PaperOrigin,
  signal?: AbortSignal,
): Promise<WindowCard> {
  return writeFolder(out, async (folder) => {
    const card = cardOf(graph, origin, out, await writePieces(join(folder, MODEL), graph.pieces(), signal));
    await writeFile(join(folder, "card.json"), `${JSON.stringify(card, null, 2)}\n`, { flush: true });
    await verifyModel(folder); // what the disk holds is what was meant
    return card;
  });
}
