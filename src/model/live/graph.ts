import { dim } from "../onnx/dims.js";
import { GraphBuilder, type Work } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { Weights } from "../weights.js";
import { attribute } from "./attribution.js";
import { bands } from "./bands.js";
import { blindFilms, films } from "./conditions.js";
import { type AttributionConfig, clockOf, type LiveConfig, UNIT } from "./config.js";
import { hear } from "./hearing.js";
import { Layers, type State } from "./layers.js";
import { lite } from "./lite.js";
import { shown, student } from "./picture-front-end.js";
import { melBank, powerSpectrum, stepSpectrum } from "./sound.js";

export type BuiltGraph = {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly states: readonly State[];
  readonly parameters: number;
  /** Multiply-adds of products and convolutions; a unit of the step graph is 40 ms, of the voice graph 64 ms. */
  readonly work: Work;
};

/** The network of a step. */
export type StepGraphs = {
  /** What is heard, the same for every face; null: the separator is told of the face, and all is one graph. */
  readonly sound: BuiltGraph | null;
  readonly step: BuiltGraph;
};

/** Tensors that the first graph gives the second, beside `voices`, by eye. */
const SAID = ["said", "second_said"] as const;

/**
 * The live network for streaming (ONNX opset 17, computed in float32) for any number U of units. All of it together:
 *
 * in: samples (1, U * 1920) float32 at 48 kHz; crops (1, U, side, side) uint8; has_picture (1, 1), memory (1, edim),
 * has_memory (1, 1) float32; every state NAME, at the start filled with its `init`.
 * out: gain and rest (1, U * frames, bins), masks 0..1 of the wanted voice and of the rest; every state as NAME_next; with attribution
 * confidence (1, U), 0..1, and what gain was mixed from: voices (2, U * frames, bins), the masks of both, and belief (2, U) in each. For
 * another decision than that (pipeline/voices.ts): fit (2, U), how well each voice fits the lips in that picture, lips (1, U), the logit of
 * lips that speak, and, where the model has that part, speaker (2, U, n): vectors that added up say who it is that speaks.
 *
 * With attribution these are two graphs. The first one takes samples and gives voices, and what the second one compares with lips (`Heard`); it knows no
 * face, and is run once for all. The second one takes that, and all else.
 *
 * For a call that begins at sample s, frame i belongs to the sound centred on s + firstFrameOffset + i * hop (clockOf). A call with
 * U = 2 gives what two calls with U = 1 give.
 */
export function stepGraphs(c: LiveConfig, weights: Weights): StepGraphs {
  const a = c.attribution;
  if (a === undefined) return { sound: null, step: toldGraph(c, weights) };
  return { sound: soundGraph(c, a, weights), step: faceGraph(c, a, weights) };
}

function soundGraph(c: LiveConfig, a: AttributionConfig, weights: Weights): BuiltGraph {
  const { g, l } = begun("sound", weights);
  const sep = c.separator;
  const clock = clockOf(sep);
  const samples = g.input("samples", "float32", [1, dim(UNIT)]);
  const spectrum = stepSpectrum(l, clock, samples);
  const { gain, rest } =
    sep.kind === "band" ? bands(l, sep, clock, spectrum) : lite(l, sep, clock, spectrum, blindFilms(l, sep));
  const { voices, said, absent, speaker } = hear(l, a, clock, { masks: [gain, rest], samples });
  g.output("voices", voices);
  said.forEach((vectors, i) => {
    g.output(SAID[i]!, vectors);
  });
  g.output("absent", absent);
  if (speaker !== null) g.output("speaker", speaker);
  return finished(g, l);
}

function faceGraph(c: LiveConfig, a: AttributionConfig, weights: Weights): BuiltGraph {
  const { g, l } = begun("live", weights);
  const { pictures, hasPicture } = looking(c, l);
  const clock = clockOf(c.separator);
  const eyes = a.eyes === 2 ? ["student", "student.second"] : ["student"];
  const heard = {
    voices: g.input("voices", "float32", [2, dim(clock.frames), clock.bins]),
    said: eyes.map((_, i) => g.input(SAID[i]!, "float32", [2, dim(1, a.lags), a.dim])),
    absent: g.input("absent", "float32", [2, dim(1), 1]),
  };
  const features = eyes.map((name) => student(l, c, pictures, name));
  const outputs = attribute(l, c, a, clock, { eyes: features, hasPicture }, heard);
  for (const [name, value] of Object.entries(outputs)) g.output(name, value);
  return finished(g, l);
}

function toldGraph(c: LiveConfig, weights: Weights): BuiltGraph {
  const { g, l } = begun("live", weights);
  const sep = c.separator;
  if (sep.kind !== "lite") throw new TypeError("a separator of kind `band` can be told nothing");
  const samples = g.input("samples", "float32", [1, dim(UNIT)]);
  const { pictures, ...told } = looking(c, l);
  const clock = clockOf(sep);
  const on = films(l, c, sep, { features: student(l, c, pictures), ...told });
  const { gain, rest } = lite(l, sep, clock, stepSpectrum(l, clock, samples), on);
  g.output("gain", gain);
  g.output("rest", rest);
  return finished(g, l);
}

function begun(name: string, weights: Weights): { g: GraphBuilder; l: Layers } {
  const g = new GraphBuilder(name, { halves: true });
  return { g, l: new Layers(g, weights) };
}

const finished = (g: GraphBuilder, l: Layers): BuiltGraph => ({
  bytes: g.finish(),
  states: l.states,
  parameters: g.parameters,
  work: g.macs,
});

/** The inputs that are of a face. */
function looking(c: LiveConfig, l: Layers) {
  const { g } = l;
  const crops = g.input("crops", "uint8", [1, dim(1), c.side, c.side]);
  const hasPicture = g.input("has_picture", "float32", [1, 1]);
  const memory = g.input("memory", "float32", [1, c.edim]);
  const hasMemory = g.input("has_memory", "float32", [1, 1]);
  return { pictures: shown(l, c, crops, hasPicture), hasPicture, memory, hasMemory };
}

/** 512 points every 256 at 16 kHz, whatever the separator's clock is. */
const VOICE_WINDOW = 1536;
const VOICE_HOP = 768;
const VOICE_BINS = 257;
const MELS = 64;

/** The voice encoder: samples (1, n) float32 at 48 kHz, some seconds of one voice (n >= 24000) -> memory (1, edim). */
export function voiceGraph(c: LiveConfig, weights: Weights): BuiltGraph {
  const { g, l } = begun("voice", weights);
  const H = c.voiceHidden;
  // U = four frames: two convolutions of stride 2 follow. Any n runs; only the symbol in the file is that of multiples.
  const samples = g.input("samples", "float32", [1, dim(4 * VOICE_HOP)]);
  const bands = op.matMul(
    g,
    powerSpectrum(g, samples, VOICE_WINDOW, VOICE_HOP),
    g.constant(melBank(VOICE_BINS, MELS, 50, 8000), [VOICE_BINS, MELS]),
  );
  const log = op.unary(g, "Log", op.add(g, bands, 1e-5));
  const level = op.div(g, op.sub(g, log, op.reduceMean(g, log, [0, 1])), 2.5);
  const rows = op.gelu(g, l.linear(level, "enc.inp", MELS, H));
  let h = op.reshape(g, op.transpose(g, rows, [1, 0]), [1, H, -1]);
  for (const [name, kernel, stride] of [
    ["c1", 5, 2],
    ["c2", 5, 2],
    ["c3", 3, 1],
  ] as const) {
    const w = g.weight(`enc.${name}.weight`, [H, H, kernel], l.raw(`enc.${name}.weight`, [H, H, kernel]));
    h = op.gelu(g, op.conv(g, h, w, l.vector(`enc.${name}.bias`, H), { strides: [stride] }));
  }
  const mean = op.reduceMean(g, h, [2]);
  const apart = op.sub(g, h, mean);
  const deviation = op.unary(g, "Sqrt", op.add(g, op.reduceMean(g, op.mul(g, apart, apart), [2]), 1e-5));
  const pooled = op.reshape(g, op.concat(g, [mean, deviation], 1), [1, 2 * H]);
  const y = l.linear(pooled, "enc.out", 2 * H, c.edim);
  g.output("memory", op.mul(g, op.unitRows(g, y), 4));
  return finished(g, l);
}
