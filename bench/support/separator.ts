import type { SeparateOptions } from "../../src/file/separate-file.js";
import type { AnyCard } from "../../src/model/card.js";
import { findModel, readCard } from "../../src/model/cards.js";
import { OnnxFaceDetector } from "../../src/model/faces/detector.js";
import { type FaceDetector, LocalInference } from "../../src/model/inference/local.js";
import { BUILT_IN_MODELS, FACES_MODEL } from "../../src/paths.js";

/** A model of either kind for many files: what `separateFile` is given for each of them. */
export type Separator = {
  readonly card: AnyCard;
  readonly options: Pick<SeparateOptions, "inference" | "model" | "engine" | "threads" | "profile" | "lookAheadMs">;
  close(): Promise<void>;
};

/**
 * On the CPU. `wrapped`: puts something around the face detector of a stream model, which closes it; window models look for no faces.
 * @throws InferenceError SL_MODEL_INVALID
 */
export async function openSeparator(
  nameOrPath: string,
  threads: number,
  wrapped: (faces: FaceDetector) => FaceDetector = (faces) => faces,
): Promise<Separator> {
  const folder = await findModel(nameOrPath, BUILT_IN_MODELS);
  const card = await readCard(folder);
  // A window model is opened with each file.
  if (card.kind === "window")
    return { card, options: { model: folder, engine: "cpu", threads }, close: async () => undefined };
  const faces = wrapped(await OnnxFaceDetector.open(FACES_MODEL, { threads }));
  const inference = await LocalInference.open(folder, { threads, faces }).catch(async (error: unknown) => {
    await faces.close();
    throw error;
  });
  return { card, options: { inference }, close: () => inference.close() };
}
