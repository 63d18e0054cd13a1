import type { WindowCard } from "../card.js";
import { checkLive, loadWindow } from "../cards.js";
import type { EngineReport } from "../engines/names.js";
import type { SelectOptions } from "../engines/select.js";
import {
  InferenceError,
  type SourceMap,
  type WindowAnswer,
  type WindowInference,
  type WindowRequest,
} from "../inference.js";
import { allFinite } from "../numbers.js";
import { FRAME_CENTRE, FRAME_HOP, windowGains } from "../paper/gains.js";
import { PAPER_RATE } from "../paper/sizes.js";
import { BINS, FFT_SIZE } from "../paper/spectrum.js";
import { type ActivationMap, PaperWindow } from "../paper/window.js";

/** Windows that may wait at once; more is a caller that does not listen to its answers. */
const MAX_WAITING = 16;

/** A network of Owens & Efros 2018 in this process, for windows one after another: inside the inference child, and in tests. */
export class LocalWindows implements WindowInference {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  private constructor(private readonly model: PaperWindow) {}

  /** Throws SL_MODEL_INVALID also for a network that hears only or that cannot separate: a channel cannot do anything with it. */
  static async open(folder: string, options: Omit<SelectOptions, "trial" | "what">): Promise<LocalWindows> {
    const loaded = await loadWindow(folder);
    checkLive(loaded.card);
    return new LocalWindows(await PaperWindow.open(loaded, options));
  }

  get card(): WindowCard {
    return this.model.card;
  }

  get engines(): EngineReport {
    return this.model.engines;
  }

  window(request: WindowRequest): Promise<WindowAnswer> {
    if (this.#closed) return Promise.reject(new InferenceError("SL_INFERENCE_DOWN", "the model is closed"));
    if (this.#waiting >= MAX_WAITING)
      return Promise.reject(new InferenceError("SL_INFERENCE_LATE", `${MAX_WAITING} windows are waiting`));
    this.#waiting += 1;
    const mine = this.#tail
      .then(() => this.#run(request))
      .finally(() => {
        this.#waiting -= 1;
      });
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  async #run({ atSample, pictures, left, right }: WindowRequest): Promise<WindowAnswer> {
    const { side, window } = this.card.paper;
    const size = 3 * side * side;
    if (pictures.length !== window.frames * size)
      throw new RangeError(`a window needs ${window.frames} pictures of ${size} bytes, not ${pictures.length} bytes`);
    if (!allFinite(left) || !allFinite(right))
      throw new InferenceError("SL_INFERENCE_FAILED", "samples hold values that are not finite");
    const each = Array.from({ length: window.frames }, (_, i) => pictures.subarray(i * size, (i + 1) * size));
    const { voices, logit, cam, engineMs } = await this.model.run({ pictures: each, left, right });
    const data = windowGains(voices!.on, voices!.off);
    const grid = { hopSamples: FRAME_HOP, frames: voices!.on.frames, bins: BINS, binHz: PAPER_RATE / FFT_SIZE };
    return { gains: { atSample: atSample + FRAME_CENTRE, ...grid, data }, logit: logit!, map: meanOf(cam!), engineMs };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#tail;
    await this.model.close();
  }
}

/** Over the window's time. */
function meanOf({ frames, height, width, data }: ActivationMap): SourceMap {
  const mean = new Float32Array(height * width);
  for (let i = 0; i < data.length; i++) mean[i % mean.length]! += data[i]! / frames;
  return { height, width, data: mean };
}
