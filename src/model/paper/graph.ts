import { type Dim, dim } from "../onnx/dims.js";
import { type ElementType, GraphBuilder, type Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import { actions, activation, alignment } from "./heads.js";
import type { Ranges } from "./int8.js";
import { type Form, type Level, PaperLayers } from "./layers.js";
import { type PresetName, presets } from "./presets.js";
import { type WindowSizes, windowSizes } from "./sizes.js";
import { BINS } from "./spectrum.js";
import { paperRows } from "./table.js";
import { trunk } from "./trunk.js";
import { type Part, unet } from "./unet.js";
import type { VariableSource } from "./variables.js";

export type PaperOptions = {
  /** 1 (default), 1/2 ... 1/32 of every inner channel count. */
  readonly width?: number;
  /** Side of the square pictures; default 224. */
  readonly image?: number;
  /** Pictures of a window; default the preset's own 63 or 125. */
  readonly frames?: number;
  /** Default "folded". */
  readonly form?: Form;
  /** Type of the pictures, values 0..255 in either; default "uint8". */
  readonly pixels?: "uint8" | "float32";
  /** Also give the trunk's three scales. Default false. */
  readonly scales?: boolean;
  /** Also tell so many classes of action apart (a preset with a trunk). Default 0. */
  readonly classes?: number;
  /** Needed by form `int8`: what `probes` showed (calibrate.ts). */
  readonly ranges?: Ranges;
  /** Unfolded: also give the least and the largest value at each place that form `int8` asks about, as KEY/least and KEY/most. Default false. */
  readonly probes?: boolean;
  /** Tensors of the unfolded form by their name in its file, in place of the source's variables (forms `unfolded` and `int8`). */
  readonly tensors?: (name: string) => Float32Array;
};

/** -1 in a shape is the free batch of the training form. */
export type TensorInfo = { readonly name: string; readonly type: ElementType; readonly shape: readonly number[] };

export type PaperGraph = {
  readonly sizes: WindowSizes;
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /** Every row of the tables, in the order of the nodes. */
  readonly levels: readonly Level[];
  /** Values of the trained tensors as the file keeps them; in the training form these are the trainable parameters. */
  readonly parameters: number;
  /** Multiply-adds of the convolutions of one window. */
  readonly macs: number;
  /**
   * The ONNX file (opset 17, float32); `notes` stand in it beside preset and form. Only now the source is asked. Throws
   * SL_MODEL_INVALID for variables that do not fit.
   */
  write(notes?: Readonly<Record<string, string>>): Uint8Array<ArrayBuffer>;
  /** The same file one tensor after another, for whoever streams it to a disk. */
  pieces(): Generator<Uint8Array>;
};

const info = (v: Value): TensorInfo => ({
  name: v.name,
  type: v.type,
  shape: v.shape.map((d) => (typeof d === "number" ? d : -1)),
});

/**
 * A network of Owens & Efros 2018 as ONNX. Inputs and outputs, in this order, those that the preset has:
 *
 * in: video (B, F, side, side, 3) 0..255; samples (B, N, 2) float32, the stereo mixture at 21 kHz; db and phase (B, S, 1025) float32,
 * the mixture's spectrum (spectrum.ts), S a multiple of 128.
 * out: fg_db, fg_phase, bg_db, bg_phase (B, S, 1025); logit (B, 1); cam (B, T, h, w); and if asked for classes (B, classes), scale0,
 * scale1, scale2 (B, C, T, h, w), in the forms unfolded and int8 (T, C, h, w).
 *
 * B is 1, in the training form any number. Throws RangeError for sizes that the network does not take.
 */
export function paperGraph(name: PresetName, source: VariableSource, options: PaperOptions = {}): PaperGraph {
  const preset = presets[name];
  const form = options.form ?? "folded";
  const sizes = windowSizes(preset, options);
  const g = new GraphBuilder(`paper_${name}`);
  const probes: [string, Value][] = [];
  const l = new PaperLayers(g, paperRows(preset, options.width ?? 1, options.classes), source, form, {
    ...(options.ranges && { ranges: options.ranges }),
    ...(options.tensors && { tensors: options.tensors }),
    ...(options.probes && { probe: (key: string, value: Value) => probes.push([key, value]) }),
  });
  const batch: Dim = form === "training" ? dim(1) : 1;
  const inputs: Value[] = [];
  const outputs: Value[] = [];
  const input = (what: string, type: ElementType, shape: readonly number[]): Value => {
    const value = g.input(what, type, [batch, ...shape]);
    inputs.push(value);
    return value;
  };
  const output = (what: string, value: Value): void => {
    outputs.push(g.output(what, value));
  };

  const { frames, samples, image, spectrum } = sizes;
  const video = preset.parts.trunk ? input("video", options.pixels ?? "uint8", [frames, image, image, 3]) : null;
  const sound = video && preset.sound !== "none" ? input("samples", "float32", [samples, 2]) : null;
  const mixture: Part | null = preset.parts.unet
    ? { db: input("db", "float32", [spectrum, BINS]), phase: input("phase", "float32", [spectrum, BINS]) }
    : null;

  const scales = video ? trunk(l, preset, video, sound) : null;
  if (mixture) {
    const { fg, bg } = unet(l, mixture, scales);
    output("fg_db", fg.db);
    output("fg_phase", fg.phase);
    output("bg_db", bg.db);
    output("bg_phase", bg.phase);
  }
  if (scales) {
    output("logit", alignment(l, scales[2]));
    output("cam", activation(l, scales[2]));
    if (options.classes) output("classes", actions(l, scales[2], options.classes));
    if (options.scales) for (const [i, scale] of scales.entries()) output(`scale${i}`, scale);
  }
  for (const [key, value] of probes) {
    const { least, most } = op.extremes(g, value);
    output(`${key}/least`, least);
    output(`${key}/most`, most);
  }
  return {
    sizes,
    inputs: inputs.map(info),
    outputs: outputs.map(info),
    levels: l.levels,
    parameters: g.parameters,
    macs: g.macs.perUnit + g.macs.fixed,
    write: (notes = {}) => g.finish({ preset: name, form, ...notes }),
    pieces: () => g.pieces({ preset: name, form }),
  };
}
