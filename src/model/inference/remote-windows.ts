import type { WindowCard } from "../card.js";
import type { WindowAnswer, WindowInference, WindowRequest } from "../inference.js";
import { InferenceConnection } from "./connection.js";
import { decodeAnswer, encodeWindow } from "./window-frames.js";

/** A window is of use for about as long as the profile with the longest way waits for it. */
const DEADLINE_MS = 1000;

/** A model that is called with whole windows in the inference child, as seen by a channel; of one session the newest window waits. */
export class RemoteWindows extends InferenceConnection<WindowCard> implements WindowInference {
  async window(request: WindowRequest): Promise<WindowAnswer> {
    const { side, window } = this.card.paper;
    const [pictures, samples] = [3 * window.frames * side * side, window.samples];
    if (request.pictures.length !== pictures || request.left.length !== samples || request.right.length !== samples)
      throw new RangeError(
        `a window of ${this.card.name} has ${pictures} bytes of pictures and twice ${samples} samples`,
      );
    this.checkUp();
    const { header, payload } = encodeWindow(request, this.nextId(), DEADLINE_MS);
    return this.ask<WindowAnswer>(header, payload, (answer, bytes) =>
      answer.t === "window" ? decodeAnswer(answer, bytes) : null,
    );
  }
}
