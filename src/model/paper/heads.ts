import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { PaperLayers } from "./layers.js";

/**
 * Alignment head: last scale -> logit (batch, 1); above 0: picture and sound belong together. Global mean, then 512 -> 1.
 */
export function alignment(l: PaperLayers, last: Value): Value {
  const mean = op.reduceMean(l.g, last, l.axesOf(3));
  return op.reshape(l.g, l.conv("joint/logits", mean), [-1, 1]);
}

/** Action head (section 4.7): last scale -> one logit for each class, (batch, classes); softmax of them is the answer. */
export function actions(l: PaperLayers, last: Value, classes: number): Value {
  const mean = op.reduceMean(l.g, last, l.axesOf(3));
  return op.reshape(l.g, l.conv("lb/logits", mean), [-1, classes]);
}

/** Class activation map: the alignment head on every cell, (batch, time, height, width). Its mean is the logit. */
export function activation(l: PaperLayers, last: Value): Value {
  const map = l.conv("joint/logits", last, "joint/logits of every cell");
  return l.unfolded ? op.transpose(l.g, map, [1, 0, 2, 3]) : op.squeeze(l.g, map, 1);
}
