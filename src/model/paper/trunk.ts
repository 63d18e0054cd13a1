import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { poolPositions } from "./fractional-pool.js";
import type { PaperLayers } from "./layers.js";
import type { Preset } from "./presets.js";
import { samePads } from "./same.js";
import { COMPRESSION } from "./scaling.js";

/** Outputs of `im/conv2_2` (before fusion), `im/conv3_2` and `im/conv5_2`, all after relu: what the u-net is told. */
export type Scales = readonly [Value, Value, Value];

/** The frames of video (batch, F, side, side, 3) that a preset looks at. */
function chosen(l: PaperLayers, preset: Preset, video: Value): Value {
  const frames = video.shape[1] as number;
  switch (preset.frames) {
    case "all":
      return video;
    case "every-fourth":
      return op.strided(l.g, video, [{ axis: 1, from: 0, step: 4, count: Math.ceil(frames / 4) }]);
    case "middle":
      return op.strided(l.g, video, [{ axis: 1, from: Math.floor(frames / 2), step: 1, count: 1 }]);
  }
}

/** video (batch, F, side, side, 3) of 0..255 -> what the trunk sees of it, -1..1; the middle frame is repeated F times. */
function picture(l: PaperLayers, preset: Preset, video: Value): Value {
  const g = l.g;
  const frames = video.shape[1] as number;
  const seen = chosen(l, preset, video);
  const unfolded = l.unfolded;
  const planes = unfolded
    ? op.transpose(g, op.squeeze(g, seen, 0), [0, 3, 1, 2])
    : op.transpose(g, seen, [0, 4, 1, 2, 3]);
  const scaled = l.pixels(planes);
  if (preset.frames !== "middle") return scaled;
  return l.alike(op.expand(g, scaled, unfolded ? [frames, 1, 1, 1] : [1, 1, frames, 1, 1]), scaled);
}

/** Max pool 1 x 3 x 3, stride 1 x 2 x 2, SAME. */
function picturePool(l: PaperLayers, x: Value): Value {
  const [, height, width] = l.sizesOf(x, 3) as [number, number, number];
  const [h, w] = [samePads(height, 3, 2), samePads(width, 3, 2)];
  const y = l.unfolded
    ? op.maxPool(l.g, x, [3, 3], [2, 2], [h.before, w.before, h.after, w.after])
    : op.maxPool(l.g, x, [1, 3, 3], [1, 2, 2], [0, h.before, w.before, 0, h.after, w.after]);
  return l.note("im/pool", l.alike(y, x), 3, [
    [0, 0],
    [h.before, h.after],
    [w.before, w.after],
  ]);
}

/** samples (batch, N, 2) -> compressed (batch, 2, N, 1): sign(a) ln(1 + 255 |a|) / ln 256, each sign by a log of its own. */
function compressed(l: PaperLayers, preset: Preset, samples: Value): Value {
  const g = l.g;
  const channels = op.transpose(g, samples, [0, 2, 1]);
  const mean = op.reduceMean(g, channels, [1]);
  const heard = preset.sound === "mono" ? op.concat(g, [mean, mean], 1) : channels;
  const curve = (x: Value): Value => op.unary(g, "Log", op.add(g, op.mul(g, l.relu(x), COMPRESSION), 1));
  const both = op.sub(g, curve(heard), curve(op.unary(g, "Neg", heard)));
  return op.unsqueeze(g, op.mul(g, both, 1 / Math.log(COMPRESSION + 1)), 3);
}

/** Max over `steps` pieces of the sound's time (section 3.4): the sound at the picture's rate. */
function fractionalPool(l: PaperLayers, x: Value, steps: number): Value {
  const g = l.g;
  const { positions, longest } = poolPositions(x.shape[2] as number, steps);
  const indices = g.constant(BigInt64Array.from(positions, BigInt), [steps, longest]);
  const y = op.reduceMax(g, op.gather(g, x, indices, 2), 3);
  return l.note("sf/pool5", y, 2);
}

/** Sound stem: samples (batch, N, 2) -> (batch, 128, steps, 1). */
function soundStem(l: PaperLayers, preset: Preset, samples: Value, steps: number): Value {
  const first = l.convRelu("sf/conv1_1", compressed(l, preset, samples));
  let x = l.note("sf/pool1", op.maxPool(l.g, first, [4, 1], [4, 1]), 2);
  for (const scope of ["sf/conv2_1", "sf/conv3_1", "sf/conv4_1"]) x = l.block(scope, x);
  return l.convRelu("sf/conv5_1", fractionalPool(l, x, steps));
}

/** Sound (batch, 128, T, 1) at every place of a picture (time, height, width of `like`), or zeros where none is used. */
function everywhere(l: PaperLayers, sound: Value, like: Value): Value {
  const g = l.g;
  const [, height, width] = l.sizesOf(like, 3) as [number, number, number];
  return l.unfolded
    ? op.expand(g, op.transpose(g, sound, [2, 1, 0, 3]), [1, 1, height, width])
    : op.expand(g, op.unsqueeze(g, sound, 4), [1, 1, 1, height, width]);
}

/**
 * Fusion: 64 channels of picture and 128 of sound -> 512 -> 128, plus the picture's 64 and the last 64 of the sound.
 */
function fusion(l: PaperLayers, seen: Value, heard: Value): Value {
  const g = l.g;
  const both = l.note("im/merge", op.concat(g, [seen, heard], 1), 3);
  const half = seen.shape[1] as number;
  const shortcut = op.concat(g, [op.slice(g, both, 1, 0, half), op.slice(g, both, 1, -half)], 1);
  return l.join("im/merge_block_bn", "im/merge2", l.convRelu("im/merge1", both), { as: shortcut });
}

/**
 * Trunk (section 2.1): video (batch, F, side, side, 3) of 0..255, samples (batch, N, 2) -> the three scales. `samples` is null for a
 * preset that hears nothing: then the sound's channels are zero.
 */
export function trunk(l: PaperLayers, preset: Preset, video: Value, samples: Value | null): Scales {
  const seen = picture(l, preset, video);
  const stem = picturePool(l, l.convRelu("im/conv1", seen));
  const scale0 = l.block("im/conv2_2", l.block("im/conv2_1", stem));
  const [steps] = l.sizesOf(scale0, 3) as [number];
  const heard = samples ? everywhere(l, soundStem(l, preset, samples, steps), scale0) : silence(l, scale0);
  const fused = fusion(l, scale0, heard);
  const scale1 = l.block("im/conv3_2", l.block("im/conv3_1", fused));
  let x = scale1;
  for (const scope of ["im/conv4_1", "im/conv4_2", "im/conv5_1", "im/conv5_2"]) x = l.block(scope, x);
  return [scale0, scale1, x];
}

/** Twice as many channels of zeros as the picture has. */
function silence(l: PaperLayers, like: Value): Value {
  const none = op.mul(l.g, like, 0);
  return op.concat(l.g, [none, none], 1);
}
