import type { Inference } from "../model/inference.js";
import { MissingPackageError } from "../optional.js";

export type OpenModelOptions = {
  /** Threads inside one operator of the engine. Default 1, which is best for the shipped model. */
  readonly threads?: number;
};

/**
 * Opens a streaming model with the face detector, in this process: `live`, the shipped one, or the path of a folder with a `card.json`.
 * Close it when done. Its steps block the event loop for some milliseconds each.
 *
 * @throws MissingPackageError when onnxruntime-node cannot be loaded; InferenceError SL_MODEL_INVALID when the model is not sound
 */
export async function openModel(model = "live", { threads = 1 }: OpenModelOptions = {}): Promise<Inference> {
  const [{ findModel }, { EngineError }, { OnnxFaceDetector }, { LocalInference }, { BUILT_IN_MODELS, FACES_MODEL }] =
    await Promise.all([
      import("../model/cards.js"),
      import("../model/engines/engine.js"),
      import("../model/faces/detector.js"),
      import("../model/inference/local.js"),
      import("../paths.js"),
    ]);
  const folder = await findModel(model, BUILT_IN_MODELS);
  try {
    // Strict: what else can run models is several times slower, and would hold the caller's event loop for as long.
    const faces = await OnnxFaceDetector.open(FACES_MODEL, { threads, strict: true });
    return await LocalInference.open(folder, { threads, faces, strict: true }).catch(async (error: unknown) => {
      await faces.close();
      throw error;
    });
  } catch (error) {
    const lacking = error instanceof EngineError && ["not-installed", "does-not-load"].includes(error.reason);
    throw lacking ? new MissingPackageError("onnxruntime-node", "running models", error) : error;
  }
}
