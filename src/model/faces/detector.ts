import { OnnxEngine, tensor } from "../engines/onnxruntime.js";
import { type Detection, InferenceError } from "../inference.js";
import { BLAZEFACE_BOXES, BLAZEFACE_INPUT, BLAZEFACE_SCORES, decodeBlazeFace, FACE_DETECTOR } from "./blazeface.js";

/** BlazeFace in this process (fits `FaceDetector` of inference/local.ts). `side` is fixed by the file: 256 for back, 128 for front. */
export class OnnxFaceDetector {
  private constructor(
    private readonly engine: OnnxEngine,
    readonly side: number,
  ) {}

  /**
   * Loads and tries the file that `src/tools/assets.ts` wrote.
   * @throws InferenceError SL_MODEL_INVALID when it is missing or something else
   */
  static async open(path: string, options: { threads: number; side?: number }): Promise<OnnxFaceDetector> {
    const side = options.side ?? (path.includes("front") ? 128 : FACE_DETECTOR.side);
    const engine = await OnnxEngine.open(path, { threads: options.threads }, path);
    const detector = new OnnxFaceDetector(engine, side);
    try {
      await detector.detect(new Uint8Array(side * side * 3), side);
    } catch (e) {
      await engine.close();
      throw new InferenceError(
        "SL_MODEL_INVALID",
        `${path} is not a face detector for ${side} x ${side}: ${String(e)}`,
      );
    }
    return detector;
  }

  /** @param rgb side * side * 3 bytes; boxes come back as fractions of that square */
  async detect(rgb: Uint8Array, side: number): Promise<readonly Detection[]> {
    if (side !== this.side || rgb.length !== side * side * 3) {
      throw new InferenceError(
        "SL_INFERENCE_FAILED",
        `the face detector takes ${this.side} x ${this.side} RGB, not ${rgb.length} bytes for side ${side}`,
      );
    }
    const out = await this.engine.run({ [BLAZEFACE_INPUT]: tensor(rgb, [1, side, side, 3]) });
    const scores = out[BLAZEFACE_SCORES]?.data;
    const boxes = out[BLAZEFACE_BOXES]?.data;
    if (!(scores instanceof Float32Array) || !(boxes instanceof Float32Array)) {
      throw new InferenceError("SL_INFERENCE_FAILED", "the face detector gave no scores or boxes");
    }
    return decodeBlazeFace(scores, boxes, { side });
  }

  close(): Promise<void> {
    return this.engine.close();
  }
}
