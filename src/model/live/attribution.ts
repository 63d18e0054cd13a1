import type { Value } from "../onnx/graph-builder.js";
import * as op from "../onnx/ops.js";
import type { AttributionConfig, Clock, LiveConfig } from "./config.js";
import { EYES, type Eye, type Heard } from "./hearing.js";
import type { Layers } from "./layers.js";
import { fadingSum, sumOfTwo, withPast } from "./time.js";

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

/**
 * Whose voice is the one that belongs to the face? Both separated voices are compared with the lips as the synchrony head does, for each
 * offset up to `lags` pictures between sound and picture (feeds have them); what each picture says is added up over seconds (state
 * `evidence`), and the masks are mixed as far as each voice is believed to be the wanted one, whatever the offset ("neither" is
 * possible), and the lips are believed to speak at all. Evidence is about what was seen and heard four pictures
 * before, so the comparison needs no look-ahead and adds no latency; whether lips speak is told at once. While there is no picture
 * nothing is added and nothing forgotten: the choice outlasts a cut-away. Names and layouts are those of train/attribution.py. How a person sounds
 * is remembered elsewhere (pipeline/voice-memory.ts).
 *
 * @returns masks (1, T, bins) of the wanted voice and of the rest; confidence (1, U), 0..1: how far apart the evidence holds the two voices; and what
 * they were made of, for who decides otherwise or later: belief in each voice (2, U), how well each fits the lips in that picture (2, U), as evidence,
 * and the logit of lips that speak (1, U)
 */
export function attribute(
  l: Layers,
  c: LiveConfig,
  a: AttributionConfig,
  clock: Clock,
  { eyes, hasPicture }: { readonly eyes: readonly Value[]; readonly hasPicture: Value },
  { voices, said, absent }: Heard,
): { gain: Value; rest: Value; confidence: Value; belief: Value; fit: Value; lips: Value } {
  const g = l.g;
  const seen = eyes.map((features, i) => lips(l, c, a, features, EYES[i]!));
  const each = seen.map((own, i) => evidence(l, a, { ...own, hasPicture }, said[i]!, EYES[i]!));
  const found = op.mul(
    g,
    each.reduce((sum, e) => op.add(g, sum, e)),
    hasPicture,
  );
  // What is left after a picture; all of it where there is none.
  const keep = op.add(g, op.mul(g, hasPicture, scalar(l, "att.keeping") - 1), 1);
  const total = fadingSum(l, found, op.unary(g, "Log", keep), "evidence");
  const talking = talk(l, c, seen[0]!);
  const speaks = openness(l, talking, hasPicture);
  const against = op.concat(g, new Array<Value>(2 * a.lags + 1).fill(absent), 0);
  const belief = believe(l, a, op.add(g, total, against));
  const ones = g.constant(new Float32Array(clock.frames).fill(1), [1, 1, clock.frames]);
  const wanted = op.mul(g, belief, speaks);
  const weight = op.reshape(g, op.mul(g, wanted, ones), [2, -1, 1]);
  const gain = sumOfTwo(l, op.mul(g, weight, voices));
  // What lips have shown, without the absence: a voice that is alone is not known to be this face's.
  const sure = believe(l, a, total);
  const apart = op.sub(g, op.slice(g, sure, 0, 0, 1), op.slice(g, sure, 0, 1, 2));
  return {
    gain,
    rest: op.sub(g, sumOfTwo(l, voices), gain),
    confidence: op.reshape(g, op.unary(g, "Abs", apart), [1, -1]),
    belief: op.reshape(g, belief, [2, -1]),
    fit: fitNow(l, a, found, total),
    lips: op.reshape(g, talking, [1, -1]),
  };
}

const scalar = (l: Layers, name: string): number => l.raw(name, [])[0]!;

/**
 * What one picture adds: lips (U, hidden), voices (2, lags + U, dim) -> (2 * offsets, U, 1), both voices for each offset, from the sound
 * earliest to the sound latest. The later of the two meets what the other one was before, so no offset needs look-ahead.
 */
function evidence(
  l: Layers,
  a: AttributionConfig,
  { rows, hasPicture }: Seen & { readonly hasPicture: Value },
  said: Value,
  eye: Eye,
): Value {
  const g = l.g;
  const unit = op.unitRows(g, l.linear(rows, `${eye.weights}.vo`, a.hidden, a.dim));
  const moved = moving(l, a, unit, hasPicture, eye);
  const lipsBefore = `${eye.states}lips_before`;
  const lipsVector = withPast(l, moved, [1, a.lags, a.dim], lipsBefore, 1);
  /** Rows that stood `back` pictures before the newest ones. */
  const before = (x: Value, back: number): Value => op.slice(g, x, 1, a.lags - back, back === 0 ? undefined : -back);
  const fits = offsets(a).map((k) =>
    op.reduceMean(g, op.mul(g, before(lipsVector, Math.max(0, k)), before(said, Math.max(0, -k))), [2]),
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
