import { z } from "zod";
import { bandLayout } from "../../src/model/live/bands.js";
import { type LiveConfig, liveConfig } from "../../src/model/live/config.js";
import type { WeightFile, Weights, WeightTensor } from "../../src/model/weights.js";

/** The hash of train/parity_live.py: values in -1..1 from name and index. */
export function noise(name: string, n: number): Float64Array {
  let seed = 2166136261;
  for (const b of new TextEncoder().encode(name)) seed = Math.imul(seed ^ b, 16777619) >>> 0;
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let x = (Math.imul(i, 2654435761) + seed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
    x = (x ^ (x >>> 16)) >>> 0;
    out[i] = x / 2 ** 31 - 1;
  }
  return out;
}

export function noiseWeight(name: string, shape: readonly number[]): WeightTensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const v = noise(name, count);
  // A share.
  if (name === "att.keeping") return { shape, data: Float32Array.of(0.99 + 0.005 * v[0]!) };
  const scale = Math.sqrt((name.includes("lstm") ? 1 : 3) / shape.slice(1).reduce((a, b) => a * b, 1));
  const positive = name.endsWith("running_var") || (name.endsWith("weight") && shape.length === 1);
  const value = positive
    ? (x: number) => 1 + 0.3 * x
    : name.includes("weight")
      ? (x: number) => x * scale
      : (x: number) => 0.3 * x;
  return { shape, data: Float32Array.from(v, value) };
}

const shapes = z.record(z.string(), z.array(z.int()));
export function noiseWeights(shapesJson: string): Weights {
  return new Map(
    Object.entries(shapes.parse(JSON.parse(shapesJson))).map(([name, shape]) => [name, noiseWeight(name, shape)]),
  );
}

/** Shapes of every tensor of a live model with this configuration. */
export function liveShapes(c: LiveConfig): Record<string, number[]> {
  const out: Record<string, number[]> = {};
  const linear = (name: string, from: number, to: number): void => {
    out[`${name}.weight`] = [to, from];
    out[`${name}.bias`] = [to];
  };
  const norm = (name: string, n: number): void => {
    out[`${name}.weight`] = [n];
    out[`${name}.bias`] = [n];
  };
  const conv = (name: string, shape: number[], bias = shape[0]!): void => {
    out[`${name}.weight`] = shape;
    out[`${name}.bias`] = [bias];
  };
  const lstm = (name: string, n: number): void => {
    for (const k of ["ih", "hh"]) {
      out[`${name}.lstm.weight_${k}_l0`] = [4 * n, n];
      out[`${name}.lstm.bias_${k}_l0`] = [4 * n];
    }
  };
  const two = c.attribution?.eyes === 2;
  for (const eye of two ? ["student", "student.second"] : ["student"]) {
    [2, ...c.widths].slice(0, 4).forEach((from, i) => {
      const to = c.widths[i]!;
      conv(`${eye}.conv.${i}`, [to, from, 3, 3]);
      norm(`${eye}.norm.${i}`, to);
      out[`${eye}.norm.${i}.running_mean`] = [to];
      out[`${eye}.norm.${i}.running_var`] = [to];
    });
    out[`${eye}.taps.0`] = [c.widths[1], 3];
    out[`${eye}.taps.1`] = [c.widths[2], 3];
    linear(`${eye}.flat`, c.widths[3] * (c.side / 16) ** 2, c.hidden);
    norm(`${eye}.n1`, c.hidden);
    conv(`${eye}.k1`, [c.hidden, c.hidden, 5]);
    conv(`${eye}.k2`, [c.hidden, c.hidden, 3]);
    linear(`${eye}.out`, c.hidden, c.vdim);
  }
  const { width: C, blocks, nfft } = c.separator;
  const film = (name: string): void => {
    if (c.attribution) out[`${name}.bias`] = [2 * C];
    else linear(name, c.vhidden + 66, 2 * C);
  };
  if (c.attribution) {
    const { hidden: h, dim, bands, speaker } = c.attribution;
    for (const eye of two ? ["att", "att.second"] : ["att"]) {
      norm(`${eye}.v0`, c.vdim);
      conv(`${eye}.v1`, [h, c.vdim, 5]);
      conv(`${eye}.v2`, [h, h, 5]);
      conv(`${eye}.a1`, [h, 2 * bands, 5]);
      conv(`${eye}.a2`, [h, h, 5]);
      conv(`${eye}.a3`, [h, h, 5]);
      for (const name of ["vo", "ao"]) linear(`${eye}.${name}`, h, dim);
      out[`${eye}.usual`] = [dim];
    }
    if (speaker > 0) {
      conv("att.speaker.a1", [h, 2 * bands, 5]);
      conv("att.speaker.a2", [h, h, 5]);
      for (let i = 0; i < 3; i++) conv(`att.speaker.convs.${i}`, [h, h, 5]);
      for (let i = 0; i < 4; i++) norm(`att.speaker.norms.${i}`, h);
      linear("att.speaker.out", h, speaker);
    }
    conv("att.q1", [32, c.vdim, 5]);
    linear("att.q2", 32, 1);
    for (const name of ["scale", "fit", "neither", "keeping", "open"]) out[`att.${name}`] = [];
  } else {
    norm("sep.picture.norm", c.vdim);
    linear("sep.picture.inp", c.vdim, c.vhidden);
    conv("sep.picture.conv", [c.vhidden, c.vhidden, 3]);
    lstm("sep.picture.rnn", c.vhidden);
    linear("sep.voice.0", c.edim, 64);
  }
  if (c.separator.kind === "band") {
    const { count, widest } = bandLayout(nfft / 2 + 1);
    const H = c.separator.hidden;
    out["sep.inp"] = [count, widest * (c.separator.ahead + 1), C];
    out["sep.pos"] = [count, C];
    norm("sep.n0", C);
    norm("sep.n3", C);
    out["sep.o1"] = [count, 2 * C, 2 * C];
    out["sep.b1"] = [count, 2 * C];
    out["sep.o2"] = [count, 2 * C, 2 * widest];
    out["sep.b2"] = [count, 2 * widest];
    for (let k = 0; k < blocks; k++) {
      const b = `sep.blocks.${k}`;
      norm(`${b}.n1`, C);
      lstm(`${b}.rnn`, C);
      linear(`${b}.o`, C, C);
      norm(`${b}.n2`, C);
      linear(`${b}.m1`, C, 16);
      linear(`${b}.m2`, 16 * count, H);
      lstm(`${b}.full`, H);
      linear(`${b}.m3`, 2 * H, 16 * count);
      linear(`${b}.m4`, 16, C);
    }
  } else {
    const bands = nfft / 4 + 17;
    conv("sep.inp", [C, 2 * bands, c.separator.ahead + 1]);
    norm("sep.n0", C);
    linear("sep.out", 2 * C, 2 * bands);
    for (let k = 0; k < blocks; k++) {
      lstm(`sep.rnns.${k}`, C);
      norm(`sep.norms.${k}`, C);
      film(`sep.films.${k}`);
    }
  }
  const H = c.voiceHidden;
  linear("enc.inp", 64, H);
  conv("enc.c1", [H, H, 5]);
  conv("enc.c2", [H, H, 5]);
  conv("enc.c3", [H, H, 3]);
  linear("enc.out", 2 * H, c.edim);
  return out;
}

const tiny = { side: 32, widths: [4, 6, 8, 8], hidden: 16, vdim: 12, vhidden: 10, edim: 8 };
/** Told picture and memory. */
export const tinyLite: LiveConfig = liveConfig.parse({ ...tiny, separator: { kind: "lite", width: 16, blocks: 2 } });
/** Told nothing; its two voices are told apart afterwards. */
export const tinyBand: LiveConfig = liveConfig.parse({
  ...tiny,
  separator: { kind: "band", width: 8, blocks: 2, hidden: 12 },
  attribution: { hidden: 12, dim: 8, bands: 16, lags: 2, speaker: 6 },
});

/** A whole weight file of hashed noise. */
export function noiseLive(c: LiveConfig = tinyLite): WeightFile {
  const tensors = new Map(Object.entries(liveShapes(c)).map(([name, shape]) => [name, noiseWeight(name, shape)]));
  return { tensors, notes: { config: JSON.stringify(c) } };
}
