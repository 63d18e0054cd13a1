import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { AttributionConfig, Clock, LiveConfig } from "./config.js";
import type { Layers } from "./layers.js";
import { melBank, powerFrames } from "./sound.js";

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
/** Of whether the lips spoke, a picture; and the size of the layer that tells it. */
const LATELY = 0.92;
/** `lips_lately` of a face that is new: its lips count as speaking until they have been seen to rest. */
const BEGUN = 1.5;
const TALK = 32;
/** Probabilities of speaking lips at which nothing and all of the voice passes. */
const SHUT = 0.5;
const OPEN = 0.9;
/** Of belief, for every picture that sound and picture are apart. */
const LAG_COST = 0.5;
/** Of the lips' mean vector that stays, of its sums a picture, and the pictures that everybody's mean counts for (train/attribution.py). */
const STATIC = 0.3;
const MEAN_KEPT = 0.996;
const USUAL_FOR = 25;
/** Share of the sound below which a voice counts as absent, and how much that counts. */
const PRESENT = 0.1;
const ABSENT_WEIGHT = 2;

/** An eye: where its weights stand, and what its states' names begin with. */
type Eye = { readonly weights: string; readonly states: string };
const FIRST: Eye = { weights: "att", states: "" };
const SECOND: Eye = { weights: "att.second", states: "second_" };

/** What the blind separator gave: masks (1, T, bins) each, no one knows whose; `samples` (1, U * 1920): the sound of the step. */
export type BlindVoices = { readonly masks: readonly [Value, Value]; readonly samples: Value };

/**
 * Whose voice is the one that belongs to the face? Both separated voices are compared with the lips as the synchrony head does, for each
 * offset up to `lags` pictures between sound and picture (feeds have them); what each picture says is added up over seconds (state
 * `evidence`), and the masks are mixed as far as each voice is believed to be the wanted one, whatever the offset ("neither" is
 * possible), and the lips are believed to speak at all. Evidence is about what was seen and heard four pictures
 * before, so the comparison needs no look-ahead and adds no latency; whether lips speak is told at once. While there is no picture
 * nothing is added and nothing forgotten: the choice outlasts a cut-away. Names and layouts are those of train/attribution.py. A voice
 * memory is not used yet.
 *
 * @returns masks (1, T, bins) of the wanted voice and of the rest; confidence (1, U), 0..1: how far apart the evidence holds the two voices; and what
 * they were made of, for who decides otherwise or later: masks of both voices (2, T, bins), belief in each (2, U), how well each fits the lips in that picture
 * (2, U), as evidence, and the logit of lips that speak (1, U)
 */
export function attribute(
  l: Layers,
  c: LiveConfig,
  a: AttributionConfig,
  clock: Clock,
  { eyes, hasPicture }: { readonly eyes: readonly Value[]; readonly hasPicture: Value },
  { masks, samples }: BlindVoices,
): { gain: Value; rest: Value; confidence: Value; voices: Value; belief: Value; fit: Value; lips: Value } {
  const g = l.g;
  const both = op.concat(g, masks, 0);
  const { level, energy } = levels(l, a, clock, both, samples);
  const flat = againstMean(l, a, level);
  const seen = lips(l, c, a, eyes[0]!, FIRST);
  const each = eyes.map((features, i) => {
    const eye = i === 0 ? FIRST : SECOND;
    const own = i === 0 ? seen : lips(l, c, a, features, eye);
    return evidence(l, a, { ...own, hasPicture }, voices(l, a, flat, eye), eye);
  });
  const found = op.mul(
    g,
    each.reduce((sum, e) => op.add(g, sum, e)),
    hasPicture,
  );
  // What is left after a picture; all of it where there is none.
  const keep = op.add(g, op.mul(g, hasPicture, scalar(l, "att.keeping") - 1), 1);
  const total = fadingSum(l, found, op.unary(g, "Log", keep), "evidence");
  const talking = talk(l, c, seen);
  const speaks = openness(l, talking, hasPicture);
  const absent = op.concat(g, new Array<Value>(2 * a.lags + 1).fill(absence(l, energy)), 0);
  const belief = believe(l, a, op.add(g, total, absent));
  const ones = g.constant(new Float32Array(clock.frames).fill(1), [1, 1, clock.frames]);
  const wanted = op.mul(g, belief, speaks);
  const weight = op.reshape(g, op.mul(g, wanted, ones), [2, -1, 1]);
  const gain = sumOfTwo(l, op.mul(g, weight, both));
  // What lips have shown, without the absence: a voice that is alone is not known to be this face's.
  const sure = believe(l, a, total);
  const apart = op.sub(g, op.slice(g, sure, 0, 0, 1), op.slice(g, sure, 0, 1, 2));
  return {
    gain,
    rest: op.sub(g, sumOfTwo(l, both), gain),
    confidence: op.reshape(g, op.unary(g, "Abs", apart), [1, -1]),
    voices: both,
    belief: op.reshape(g, belief, [2, -1]),
    fit: fitNow(l, a, found, total),
    lips: op.reshape(g, talking, [1, -1]),
  };
}

const scalar = (l: Layers, name: string): number => l.raw(name, [])[0]!;

/** x (2, ...) -> (1, ...). */
const sumOfTwo = (l: Layers, x: Value): Value => op.add(l.g, op.slice(l.g, x, 0, 0, 1), op.slice(l.g, x, 0, 1, 2));

/**
 * What one picture adds: lips (U, hidden), voices (2, U, hidden) -> (2 * offsets, U, 1), both voices for each offset, from the sound
 * earliest to the sound latest. The later of the two meets what the other one was before, so no offset needs look-ahead.
 */
function evidence(
  l: Layers,
  a: AttributionConfig,
  { rows, hasPicture }: Seen & { readonly hasPicture: Value },
  heard: Value,
  eye: Eye,
): Value {
  const g = l.g;
  const unit = op.unitRows(g, l.linear(rows, `${eye.weights}.vo`, a.hidden, a.dim));
  const moved = moving(l, a, unit, hasPicture, eye);
  const lipsBefore = `${eye.states}lips_before`;
  const lipsVector = withPast(l, moved, [1, a.lags, a.dim], lipsBefore, 1);
  const said = l.linear(heard, `${eye.weights}.ao`, a.hidden, a.dim);
  const voiceVector = withPast(l, said, [2, a.lags, a.dim], `${eye.states}voices_before`, 1);
  /** Rows that stood `back` pictures before the newest ones. */
  const before = (x: Value, back: number): Value => op.slice(g, x, 1, a.lags - back, back === 0 ? undefined : -back);
  const fits = offsets(a).map((k) =>
    op.reduceMean(g, op.mul(g, before(lipsVector, Math.max(0, k)), before(voiceVector, Math.max(0, -k))), [2]),
  );
  const fit = op.mul(g, op.concat(g, fits, 0), a.dim);
  return op.mul(g, op.add(g, fit, -scalar(l, "att.fit")), scalar(l, "att.scale"));
}

/**
 * Lips (U, dim) -> (1, U, dim), less most of their mean so far: it says whose face this is and not how the lips move, is the same in every
 * picture, and added up over seconds it would outweigh them.
 */
function moving(l: Layers, a: AttributionConfig, unit: Value, hasPicture: Value, eye: Eye): Value {
  const g = l.g;
  const row = op.reshape(g, unit, [1, -1, a.dim]);
  const one = op.add(g, op.mul(g, op.slice(g, row, 2, 0, 1), 0), 1);
  const keep = op.add(g, op.mul(g, hasPicture, MEAN_KEPT - 1), 1);
  const counted = op.mul(g, op.concat(g, [row, one], 2), hasPicture);
  const sums = fadingSum(l, counted, op.unary(g, "Log", keep), `${eye.states}lips_mean`);
  const usual = l.raw(`${eye.weights}.usual`, [a.dim]).map((v) => v * USUAL_FOR);
  const seen = op.add(g, op.slice(g, sums, 2, 0, -1), g.constant(usual, [1, 1, a.dim]));
  const mean = op.div(g, seen, op.add(g, op.slice(g, sums, 2, -1), USUAL_FOR));
  return op.sub(g, row, op.mul(g, mean, 1 - STATIC));
}

/** Pictures that the sound may be late by. */
const offsets = (a: AttributionConfig): number[] => Array.from({ length: 2 * a.lags + 1 }, (_, i) => i - a.lags);

/** Evidence (2 * offsets, U, 1) -> belief (2, U, 1) in each voice; what is missing to 1 is the belief in neither. */
function believe(l: Layers, a: AttributionConfig, total: Value): Value {
  const g = l.g;
  const costs = offsets(a).map((k) => -LAG_COST * Math.abs(k));
  const all = Math.log(costs.reduce((sum, cost) => sum + Math.exp(cost), 0));
  const prior = g.constant(Float32Array.from(costs.flatMap((cost) => [cost - all, cost - all])), [
    2 * costs.length,
    1,
    1,
  ]);
  const neither = op.add(g, op.mul(g, op.slice(g, total, 0, 0, 1), 0), scalar(l, "att.neither"));
  const shares = op.softmax(g, op.concat(g, [op.add(g, total, prior), neither], 0), 0);
  const byOffset = op.reshape(g, op.slice(g, shares, 0, 0, -1), [costs.length, 2, -1, 1]);
  return op.reshape(g, op.mul(g, op.reduceMean(g, byOffset, [0]), costs.length), [2, -1, 1]);
}

/** Evidence of each picture and its sum, (2 * offsets, U, 1) -> what the picture says of each voice (2, U), at the offsets that the sum believes in. */
function fitNow(l: Layers, a: AttributionConfig, found: Value, total: Value): Value {
  const g = l.g;
  const costs = offsets(a).map((k) => -LAG_COST * Math.abs(k));
  const byOffset = (x: Value): Value => op.reshape(g, x, [costs.length, 2, -1]);
  const cost = g.constant(Float32Array.from(costs), [costs.length, 1, 1]);
  const shares = op.softmax(g, op.add(g, byOffset(total), cost), 0);
  const mean = op.reduceMean(g, op.mul(g, shares, byOffset(found)), [0]);
  return op.reshape(g, op.mul(g, mean, costs.length), [2, -1]);
}

/** Logit (U, 1) of "these lips speak now" -> (1, U, 1), 0..1: opens at once, closes in about half a second; 1 without a picture. */
function openness(l: Layers, now: Value, hasPicture: Value): Value {
  const g = l.g;
  const z = op.reshape(g, now, [1, -1, 1]);
  const lately = fadingSum(l, op.mul(g, z, 1 - LATELY), g.scalar(Math.log(LATELY)), "lips_lately", BEGUN);
  const speaks = op.unary(g, "Sigmoid", op.add(g, op.binary(g, "Max", z, lately), scalar(l, "att.open")));
  const wide = op.mul(g, op.add(g, speaks, -SHUT), 1 / (OPEN - SHUT));
  const open = op.binary(g, "Min", op.binary(g, "Max", wide, 0), 1);
  return op.add(g, op.mul(g, op.add(g, open, -1), hasPicture), 1);
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

/** Rows (U, hidden), four pictures late; the features (U + 4, vdim) with those before them, not late. */
type Seen = { readonly rows: Value; readonly features: Value };

/** Features (U, vdim) -> what this eye makes of them. */
function lips(l: Layers, c: LiveConfig, a: AttributionConfig, features: Value, { weights, states }: Eye): Seen {
  const g = l.g;
  const even = l.norm(features, `${weights}.v0`, c.vdim);
  const first = l.causal(even, `${weights}.v1`, c.vdim, a.hidden, 5, `${states}seen_past`);
  const last = l.causal(op.gelu(g, first.y), `${weights}.v2`, a.hidden, a.hidden, 5, `${states}seen_past2`);
  return { rows: op.add(g, op.slice(g, last.rows, 0, 2, -2), op.gelu(g, last.y)), features: first.rows };
}

/** Logit (U, 1) of speaking lips. */
function talk(l: Layers, c: LiveConfig, { features }: Seen): Value {
  return l.linear(op.gelu(l.g, l.taps(features, "att.q1", c.vdim, TALK, 5)), "att.q2", TALK, 1);
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
  // The other voice, which leaks into it, is heard beside it.
  const other = op.concat(g, [op.slice(g, x, 0, 1, 2), op.slice(g, x, 0, 0, 1)], 0);
  const beside = op.slice(g, op.concat(g, [x, other], 1), 2, 0, -1);
  const first = op.gelu(g, conv(l, beside, `${weights}.a1`, [h, 2 * a.bands, 5], 2));
  const y = withPast(l, first, [2, h, 3], `${states}voice_past2`);
  const z = withPast(l, op.gelu(g, conv(l, y, `${weights}.a2`, [h, h, 5], 2)), [2, h, 4], `${states}voice_past3`);
  const rows = op.add(g, op.slice(g, z, 2, 2, -2), op.gelu(g, conv(l, z, `${weights}.a3`, [h, h, 5], 1)));
  const late = withPast(l, rows, [2, h, 1], `${states}voice_late`);
  return op.transpose(g, op.slice(g, late, 2, 0, -1), [0, 2, 1]);
}

/** The newest of x, time along `axis`, behind the last ones, which are the state `kept` of this shape. */
function withPast(l: Layers, x: Value, shape: readonly [number, number, number], kept: string, axis = 2): Value {
  const all = op.concat(l.g, [l.state(kept, shape), x], axis);
  l.keep(kept, op.slice(l.g, all, axis, -shape[axis]!));
  return all;
}

function conv(l: Layers, x: Value, name: string, shape: readonly [number, number, number], stride: number): Value {
  const weight = l.g.weight(`${name}.weight`, [...shape], l.raw(`${name}.weight`, shape));
  return op.conv(l.g, x, weight, l.vector(`${name}.bias`, shape[0]), { strides: [stride] });
}

/** x (N, U, n) added up over time with the state `kept`, which begins as `init`; a unit later exp(rate) of it is left. */
function fadingSum(l: Layers, x: Value, rate: Value, kept: string, init = 0): Value {
  const g = l.g;
  const count = op.cumSum(g, op.add(g, op.mul(g, x, 0), 1), 1);
  const fade = op.unary(g, "Exp", op.mul(g, count, rate));
  const since = op.cumSum(g, op.div(g, x, fade), 1);
  const before = l.state(kept, [x.shape[0] as number, 1, x.shape[2] as number], init);
  const total = op.mul(g, fade, op.add(g, since, before));
  l.keep(kept, op.slice(g, total, 1, -1));
  return total;
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
