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
  const { findModel } = await import("../model/cards.js");
  const { BUILT_IN_MODELS, FACES_MODEL } = await import("../paths.js");
  const folder = await findModel(model, BUILT_IN_MODELS);
  const [{ OnnxFaceDetector }, { LocalInference }] = await Promise.all([
    import("../model/faces/detector.js"),
    import("../model/inference/local.js"),
  ]).catch((cause: unknown) => {
    throw new MissingPackageError("onnxruntime-node", "running models", cause);
  });
  const faces = await OnnxFaceDetector.open(FACES_MODEL, { threads });
  return LocalInference.open(folder, { threads, faces }).catch(async (error: unknown) => {
    await faces.close();
    throw error;
  });
}
