import { type Engine, tensor } from "../engines/engine.js";
import { openSmall } from "../engines/select.js";
import { type Detection, InferenceError } from "../inference.js";
import { BLAZEFACE_BOXES, BLAZEFACE_INPUT, BLAZEFACE_SCORES, decodeBlazeFace, FACE_DETECTOR } from "./blazeface.js";

/** BlazeFace in this process (fits `FaceDetector` of inference/local.ts). `side` is fixed by the file: 256 for back, 128 for front. */
export class OnnxFaceDetector {
  private constructor(
    private readonly engine: Engine,
    readonly side: number,
  ) {}

  /**
   * Loads and tries the file that `src/tools/assets.ts` wrote. It runs on the CPU; where onnxruntime-node does not load, in what stands in
   * for it (openEngine), or with `strict` not at all.
   * @throws InferenceError SL_MODEL_INVALID when it is missing or something else; EngineError when no engine loads
   */
  static async open(
    path: string,
    options: { threads: number; side?: number; strict?: boolean },
  ): Promise<OnnxFaceDetector> {
    const { threads, strict = false } = options;
    const side = options.side ?? (path.includes("front") ? 128 : FACE_DETECTOR.side);
    const trial = { [BLAZEFACE_INPUT]: tensor(new Uint8Array(side * side * 3), [1, side, side, 3]) };
    const engine = await openSmall(path, { threads, strict, trial, what: path });
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
