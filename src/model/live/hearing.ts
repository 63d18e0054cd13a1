import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { AttributionConfig, Clock } from "./config.js";
import type { Layers } from "./layers.js";
import { melBank, powerFrames } from "./sound.js";
import { fadingSum, sumOfTwo, withPast } from "./time.js";

/** The synchrony head's spectrum in samples at 48 kHz (32 ms every 10 ms), its bins to 8 kHz, its frames a picture. */
const WINDOW = 1536;
const HOP = 480;
const BINS = 257;
const PER_PICTURE = 4;
/** Under every mel band; and what the head divides levels by. */
const FLOOR = 1e-5;
const SPREAD = 2.5;
/** Of the mean level, a picture. */
const FOLLOW = 0.98;
/** Share of the sound below which a voice counts as absent, and how much that counts. */
const PRESENT = 0.1;
const ABSENT_WEIGHT = 2;

/** An eye: where its weights stand, and what its states' names begin with. */
export type Eye = { readonly weights: string; readonly states: string };
export const EYES: readonly Eye[] = [
  { weights: "att", states: "" },
  { weights: "att.second", states: "second_" },
];

/** What the blind separator gave: masks (1, T, bins) each, no one knows whose; `samples` (1, U * 1920): the sound of the step. */
export type BlindVoices = { readonly masks: readonly [Value, Value]; readonly samples: Value };

/** What is heard of the two voices, the same for every face: it is worked out once a step. */
export type Heard = {
  /** Masks (2, T, bins). */
  readonly voices: Value;
  /** For each eye, both voices as it compares them with lips: (2, lags + U, dim), the past before the step first. */
  readonly said: readonly Value[];
  /** (2, U, 1), 0 or less: what speaks against a voice that is next to nothing beside the other. */
  readonly absent: Value;
};

/** Who speaks, by each voice, (2, U, speaker); null: the model has no such part. */
export type Who = { readonly speaker: Value | null };

/** Both voices as the synchrony heads of `eyes` eyes hear them, four pictures late. Names and layouts are those of train/attribution.py. */
export function hear(l: Layers, a: AttributionConfig, clock: Clock, { masks, samples }: BlindVoices): Heard & Who {
  const g = l.g;
  const both = op.concat(g, masks, 0);
  const { level, energy } = levels(l, a, clock, both, samples);
  const flat = againstMean(l, a, level);
  const said = EYES.slice(0, a.eyes).map((eye) => {
    const rows = voices(l, a, flat, eye);
    const vector = l.linear(rows, `${eye.weights}.ao`, a.hidden, a.dim);
    return withPast(l, vector, [2, a.lags, a.dim], `${eye.states}voices_before`, 1);
  });
  return {
    voices: both,
    said,
    absent: absence(l, energy),
    speaker: a.speaker === 0 ? null : speakers(l, a, flat),
  };
}

/**
 * Energies (2, U, 1) of the two voices -> what speaks against each, 0 or less: one that is next to nothing beside the other is what the
 * separator left over of it, looks like it, and must not share its belief. A voice alone then passes whole.
 */
function absence(l: Layers, energy: Value): Value {
  const g = l.g;
  const present = fadingSum(l, energy, g.scalar(Math.log(FOLLOW)), "presence");
  const share = op.div(g, op.add(g, present, 1e-6), op.add(g, sumOfTwo(l, present), 2e-6));
  const below = op.binary(g, "Min", op.unary(g, "Log", op.mul(g, share, 1 / PRESENT)), 0);
  return op.mul(g, below, ABSENT_WEIGHT);
}

/**
 * Masks (2, T, bins) and the step's sound -> log mel (2, 4 U, bands) of the two voices, 100 frames a second, and their energies
 * (2, U, 1): the mixture's power in 32 ms
 * windows (as the synchrony head was trained) under the masks. The windows lie where the masks do, in the past; the sound up to
 * there is kept.
 */
function levels(
  l: Layers,
  a: AttributionConfig,
  clock: Clock,
  masks: Value,
  samples: Value,
): { level: Value; energy: Value } {
  const g = l.g;
  const past = WINDOW / 2 - clock.firstFrameOffset;
  const all = op.concat(g, [l.state("heard_sound", [1, past]), samples], 1);
  l.keep("heard_sound", op.slice(g, all, 1, -past));
  const power = powerFrames(g, op.slice(g, all, 1, 0, clock.firstFrameOffset + WINDOW / 2 - HOP), WINDOW, HOP);
  const share = op.matMul(g, op.mul(g, masks, masks), g.constant(betweenBins(clock.bins, BINS), [clock.bins, BINS]));
  const perMask = PER_PICTURE / clock.frames;
  const heard = op.mul(g, op.reshape(g, share, [2, -1, 1, BINS]), op.reshape(g, power, [1, -1, perMask, BINS]));
  const perUnit = PER_PICTURE * BINS;
  const energy = op.mul(g, op.reduceMean(g, op.reshape(g, heard, [2, -1, perUnit]), [2]), perUnit);
  const bank = g.constant(melBank(BINS, a.bands, 50, 7600), [BINS, a.bands]);
  const level = op.unary(g, "Log", op.add(g, op.matMul(g, op.reshape(g, heard, [2, -1, BINS]), bank), FLOOR));
  return { level, energy };
}

/** Levels (2, 4 U, bands) -> (2, bands, 4 U), taken against a mean that follows in about 2 s. */
function againstMean(l: Layers, a: AttributionConfig, level: Value): Value {
  const g = l.g;
  const units = op.reshape(g, level, [2, -1, PER_PICTURE * a.bands]);
  const now = op.reduceMean(g, units, [2]);
  // Digital silence, as before the beginning, does not count.
  const above = op.mul(g, op.add(g, now, -Math.log(FLOOR)), 1000);
  const counts = op.binary(g, "Min", op.binary(g, "Max", above, 0), 1);
  const sums = fadingSum(
    l,
    op.concat(g, [op.mul(g, now, counts), counts], 2),
    g.scalar(Math.log(FOLLOW)),
    "level_sums",
  );
  const mean = op.div(g, op.slice(g, sums, 2, 0, 1), op.add(g, op.slice(g, sums, 2, 1, 2), 1e-6));
  const flat = op.reshape(g, op.div(g, op.sub(g, units, mean), SPREAD), [2, -1, a.bands]);
  return op.transpose(g, flat, [0, 2, 1]);
}

/** Levels (2, bands, 4 U) without their mean -> rows (2, U, hidden), four pictures late. */
function voices(l: Layers, a: AttributionConfig, flat: Value, { weights, states }: Eye): Value {
  const g = l.g;
  const { hidden: h } = a;
  // Of the four new frames a picture, the newest is not needed yet: the window of the last row ends one before it.
  const x = withPast(l, flat, [2, a.bands, 4], `${states}voice_past`);
  const beside = op.slice(g, withOther(l, x), 2, 0, -1);
  const first = op.gelu(g, l.conv(beside, `${weights}.a1`, [h, 2 * a.bands, 5], 2));
  const y = withPast(l, first, [2, h, 3], `${states}voice_past2`);
  const z = withPast(l, op.gelu(g, l.conv(y, `${weights}.a2`, [h, h, 5], 2)), [2, h, 4], `${states}voice_past3`);
  const rows = op.add(g, op.slice(g, z, 2, 2, -2), op.gelu(g, l.conv(z, `${weights}.a3`, [h, h, 5])));
  const late = withPast(l, rows, [2, h, 1], `${states}voice_late`);
  return op.transpose(g, op.slice(g, late, 2, 0, -1), [0, 2, 1]);
}

/** x (2, n, T) -> (2, 2 n, T): each voice with the other one, which leaks into it, beside it. */
function withOther(l: Layers, x: Value): Value {
  const g = l.g;
  return op.concat(g, [x, op.concat(g, [op.slice(g, x, 0, 1, 2), op.slice(g, x, 0, 0, 1)], 0)], 1);
}

/** Frames that convolutions of 5 reach back, every second one taken; size and number of the convolutions along pictures. */
const REACH = 3;
const KERNEL = 5;
const BLOCKS = 3;

/** Levels without their mean (2, bands, 4 U) -> (2, U, a.speaker): added up over a second or more they say who speaks. */
function speakers(l: Layers, a: AttributionConfig, flat: Value): Value {
  const g = l.g;
  const { hidden: h, bands } = a;
  const x = withPast(l, withOther(l, flat), [2, 2 * bands, REACH], "speaker_past");
  const first = op.gelu(g, l.conv(x, "att.speaker.a1", [h, 2 * bands, KERNEL], 2));
  const y = withPast(l, first, [2, h, REACH], "speaker_past2");
  let z = op.gelu(g, l.conv(y, "att.speaker.a2", [h, h, KERNEL], 2));
  const even = (i: number): Value => l.norm(op.transpose(g, z, [0, 2, 1]), `att.speaker.norms.${i}`, h);
  for (let i = 0; i < BLOCKS; i++) {
    const before = withPast(l, op.transpose(g, even(i), [0, 2, 1]), [2, h, KERNEL - 1], `speaker_block${i}`);
    z = op.add(g, z, op.gelu(g, l.conv(before, `att.speaker.convs.${i}`, [h, h, KERNEL])));
  }
  return l.linear(even(BLOCKS), "att.speaker.out", h, a.speaker);
}

/** (of, to): values at `of` bins from 0 to 8 kHz -> at `to` bins, linear. */
function betweenBins(of: number, to: number): Float32Array {
  const w = new Float32Array(of * to);
  for (let k = 0; k < to; k++) {
    const x = (k * (of - 1)) / (to - 1);
    const i = Math.min(of - 2, Math.floor(x));
    w[i * to + k] = 1 - (x - i);
    w[(i + 1) * to + k] = x - i;
  }
  return w;
}
