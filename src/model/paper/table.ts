import type { Preset } from "./presets.js";

/**
 * The tables of sections 2.1 and 2.2 of the spec, row by row: every convolution and every stand-alone norm with its TensorFlow
 * scope, kernel, channels and stride. Variables (variables.ts) and graphs (trunk.ts, unet.ts) both come from here; the wiring
 * between rows is the graph's.
 */
export type NormRow = {
  readonly kind: "norm";
  readonly scope: string;
  readonly channels: number;
  readonly gamma: boolean;
  /** Batch renormalisation: four more variables in the file; at inference an ordinary norm. */
  readonly renorm: boolean;
  readonly epsilon: number;
};

export type ConvRow = {
  readonly kind: "conv";
  readonly scope: string;
  /** Time, height, width of the picture; time, width of the sound; time, frequency of the u-net. */
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly from: number;
  readonly to: number;
  /** Norm without bias (`SCOPE/BatchNorm`), or null: bias without norm. */
  readonly norm: NormRow | null;
  /** A transposed convolution; TensorFlow keeps its weights kernel x out x in. */
  readonly transposed: boolean;
};

export type Row = ConvRow | NormRow;

/** Narrowest network: the 64 channels of the first layers become 2 (the small bundle of section 7.5). */
const MAX_DIVISOR = 32;

/** Channel counts at a width: c(64) = 64 * width. Throws RangeError unless width is 1, 1/2, 1/4 ... 1/32. */
export function channelsAt(width: number): (channels: number) => number {
  const divisor = 1 / width;
  if (!Number.isInteger(Math.log2(divisor)) || divisor < 1 || divisor > MAX_DIVISOR)
    throw new RangeError(`width ${width}: allowed are 1, 1/2, 1/4, 1/8, 1/16 and 1/${MAX_DIVISOR}`);
  return (channels) => channels / divisor;
}

const TRUNK_EPSILON = 1e-3;
const UNET_EPSILON = 1e-5;

type Kernel = readonly number[];

/** Rows of trunk, fusion and alignment head, and of the head that tells `classes` of action apart, if there are any. */
export function trunkRows(preset: Preset, width: number, classes = 0): Row[] {
  const c = channelsAt(width);
  const { gamma } = preset;
  const norm = (scope: string, channels: number, renorm: boolean): NormRow => ({
    kind: "norm",
    scope,
    channels,
    gamma,
    renorm,
    epsilon: TRUNK_EPSILON,
  });
  const conv = (scope: string, kernel: Kernel, from: number, to: number, stride: Kernel, bias = false): ConvRow => ({
    kind: "conv",
    scope,
    kernel,
    stride,
    from,
    to,
    norm: bias ? null : norm(`${scope}/BatchNorm`, to, false),
    transposed: false,
  });
  /** SCOPE_short (where the channels change), SCOPE_1, SCOPE_2 with bias, and SCOPE_bn of the sum. */
  const block = (scope: string, kernel: Kernel, from: number, to: number, stride: Kernel): Row[] => {
    const one = kernel.map(() => 1);
    return [
      ...(from === to ? [] : [conv(`${scope}_short`, one, from, to, stride)]),
      conv(`${scope}_1`, kernel, from, to, stride),
      conv(`${scope}_2`, kernel, to, to, one, true),
      norm(`${scope}_bn`, to, true),
    ];
  };
  const last: Kernel = preset.fineCam ? [1, 1, 1] : [1, 2, 2];
  return [
    conv("sf/conv1_1", [65, 1], 2, c(64), [4, 4]),
    ...block("sf/conv2_1", [15, 1], c(64), c(128), [4, 1]),
    ...block("sf/conv3_1", [15, 1], c(128), c(128), [4, 1]),
    ...block("sf/conv4_1", [15, 1], c(128), c(256), [4, 1]),
    conv("im/conv1", [5, 7, 7], 3, c(64), [2, 2, 2]),
    ...block("im/conv2_1", [3, 3, 3], c(64), c(64), [1, 1, 1]),
    ...block("im/conv2_2", [3, 3, 3], c(64), c(64), [2, 2, 2]),
    conv("sf/conv5_1", [3, 1], c(256), c(128), [1, 1]),
    conv("im/merge1", [1, 1, 1], c(64) + c(128), c(512), [1, 1, 1]),
    conv("im/merge2", [1, 1, 1], c(512), c(128), [1, 1, 1], true),
    norm("im/merge_block_bn", c(128), true),
    ...block("im/conv3_1", [3, 3, 3], c(128), c(128), [1, 1, 1]),
    ...block("im/conv3_2", [3, 3, 3], c(128), c(128), [1, 1, 1]),
    ...block("im/conv4_1", [3, 3, 3], c(128), c(256), [2, 2, 2]),
    ...block("im/conv4_2", [3, 3, 3], c(256), c(256), [1, 1, 1]),
    ...block("im/conv5_1", [3, 3, 3], c(256), c(512), last),
    ...block("im/conv5_2", [3, 3, 3], c(512), c(512), [1, 1, 1]),
    conv("joint/logits", [1, 1, 1], c(512), 1, [1, 1, 1], true),
    ...(classes > 0 ? [conv("lb/logits", [1, 1, 1], c(512), classes, [1, 1, 1], true)] : []),
  ];
}

/** Rows of the u-net. Without a trunk (`unet_pit`) no picture features join it, so some layers take fewer channels. */
export function unetRows(preset: Preset, width: number): ConvRow[] {
  const c = channelsAt(width);
  const row = (
    scope: string,
    from: number,
    to: number,
    stride: Kernel,
    kind: "down" | "up" | "head" = "down",
  ): ConvRow => ({
    kind: "conv",
    scope,
    kernel: [4, 4],
    stride,
    from,
    to,
    norm:
      kind === "head"
        ? null
        : {
            kind: "norm",
            scope: `${scope}/BatchNorm`,
            channels: to,
            gamma: true,
            renorm: true,
            epsilon: UNET_EPSILON,
          },
    transposed: kind !== "down",
  });
  // Channels of the trunk's three scales, where they join the u-net.
  const [v0, v1, v2] = preset.parts.trunk ? [c(64), c(128), c(512)] : [0, 0, 0];
  return [
    row("gen/conv1", 2, c(64), [1, 2]),
    row("gen/conv2", c(64), c(128), [1, 2]),
    row("gen/conv3", c(128), c(256), [2, 2]),
    row("gen/conv4", c(256) + v0, c(512), [2, 2]),
    row("gen/conv5", c(512) + v1, c(512), [2, 2]),
    row("gen/conv6", c(512) + v2, c(512), [2, 2]),
    row("gen/conv7", c(512), c(512), [2, 2]),
    row("gen/conv8", c(512), c(512), [2, 2]),
    row("gen/conv9", c(512), c(512), [2, 2]),
    row("gen/deconv1", c(512), c(512), [2, 2], "up"),
    row("gen/deconv2", c(512) + c(512), c(512), [2, 2], "up"),
    row("gen/deconv3", c(512) + c(512), c(512), [2, 2], "up"),
    row("gen/deconv4", c(512) + c(512), c(512), [2, 2], "up"),
    row("gen/deconv5", c(512) + c(512) + v2, c(512), [2, 2], "up"),
    row("gen/deconv6", c(512) + c(512) + v1, c(256), [2, 2], "up"),
    row("gen/deconv7", c(256) + c(256) + v0, c(128), [2, 2], "up"),
    row("gen/deconv8", c(128) + c(128), c(64), [1, 2], "up"),
    row("gen/fg", c(64) + c(64), 2, [1, 2], "head"),
    row("gen/bg", c(64) + c(64), 2, [1, 2], "head"),
  ];
}

/** All rows of a preset, in the order of the spec. */
export function paperRows(preset: Preset, width: number, classes = 0): Row[] {
  return [
    ...(preset.parts.trunk ? trunkRows(preset, width, classes) : []),
    ...(preset.parts.unet ? unetRows(preset, width) : []),
  ];
}

/** Shape of a convolution's weights as TensorFlow keeps them: kernel x in x out, transposed kernel x out x in. */
export function weightShape(row: ConvRow): number[] {
  return [...row.kernel, ...(row.transposed ? [row.to, row.from] : [row.from, row.to])];
}
