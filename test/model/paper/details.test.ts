import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { poolBoundaries, poolPositions } from "../../../src/model/paper/fractional-pool.js";
import { presets } from "../../../src/model/paper/presets.js";
import { legacyMatrix, legacyTaps, resizePicture } from "../../../src/model/paper/resize.js";
import { samePads, transposedCrop } from "../../../src/model/paper/same.js";
import { levelled, MIXTURE_RMS } from "../../../src/model/paper/scaling.js";
import { framesOf, samplesOf, windowSizes } from "../../../src/model/paper/sizes.js";
import { BINS, spectrum, spectrumFrames, waveform } from "../../../src/model/paper/spectrum.js";
import { channelOf, relativeError, testSound } from "./support.js";

const test = suite("details of TensorFlow");

test("lengths of windows (section 1.3)", () => {
  assert.is(framesOf(2.135), 63);
  assert.is(framesOf(4.2), 125);
  for (const [frames, samples, spectra, used] of [
    [63, 44_144, 128, 128],
    [125, 87_588, 257, 256],
    [248, 173_774, 514, 512],
    [494, 346_146, 1027, 1024],
  ] as const) {
    assert.is(samplesOf(frames), samples);
    assert.is(spectrumFrames(samples), spectra);
    assert.is(windowSizes(presets.full, { frames }).spectrum, used);
  }
  assert.is(samplesOf(126), 88_288);
  assert.is(spectrumFrames(1343), 0);
  assert.is(spectrumFrames(1344), 1);
});

test("SAME pads put the odd zero behind; a transposed convolution crops likewise", () => {
  assert.equal(samePads(224, 7, 2), { out: 112, before: 2, after: 3 });
  assert.equal(samePads(32, 3, 2), { out: 16, before: 0, after: 1 });
  assert.equal(samePads(7, 1, 2), { out: 4, before: 0, after: 0 });
  assert.equal(transposedCrop([4, 4], [2, 2]), [1, 1, 1, 1]);
  assert.equal(transposedCrop([4, 4], [1, 2]), [1, 1, 2, 1]);
});

test("fractional pool: the release's boundaries", () => {
  assert.equal(poolBoundaries(44, 16), [0, 3, 5, 8, 11, 14, 16, 19, 22, 25, 27, 30, 33, 36, 38, 41, 44]);
  assert.equal(
    poolBoundaries(86, 32),
    [
      0, 3, 5, 8, 11, 13, 16, 19, 21, 24, 27, 29, 32, 35, 37, 40, 43, 46, 48, 51, 54, 56, 59, 62, 64, 67, 70, 72, 75,
      78, 80, 83, 86,
    ],
  );
  const pieces = poolBoundaries(170, 62).flatMap((b, i, all) => (i === 0 ? [] : [b - all[i - 1]!]));
  assert.is(pieces.join(""), "32333233233323332333233323332333233323323332333233323332333233");
});

test("fractional pool: as many outputs as the picture has, pieces of two lengths that cover everything", () => {
  for (let frames = 8; frames <= 1199; frames++) {
    const { samples } = windowSizes(presets.shift, { frames });
    const pooled = Math.floor((samePads(samples, 65, 4).out - 4) / 4) + 1;
    const from = [4, 4, 4].reduce((n, stride) => samePads(n, 15, stride).out, pooled);
    const to = Math.ceil(Math.ceil(frames / 2) / 2);
    const ratio = (from - 1) / to;
    assert.is(Math.floor(from / ratio), to, `${frames} frames`);
    const bounds = poolBoundaries(from, to);
    assert.is(bounds.at(-1), from);
    const short = Math.floor(from / to);
    for (let i = 0; i < to; i++) {
      const piece = bounds[i + 1]! - bounds[i]!;
      assert.ok(piece === short || piece === short + 1, `${frames} frames, piece ${i}: ${piece}`);
    }
  }
  const { positions, longest } = poolPositions(44, 16);
  assert.is(longest, 3);
  assert.equal(positions.slice(0, 6), [0, 1, 2, 3, 4, 4]);
  assert.throws(() => poolBoundaries(3, 4), /1 <= to <= from/);
});

test("legacy resize: an enlargement by four repeats the last value three times", () => {
  const taps = legacyTaps(16, 64);
  const at = (i: number): number => taps[i]!.lower + taps[i]!.weight * (taps[i]!.upper - taps[i]!.lower);
  assert.is(at(0), 0);
  assert.is(at(1), 0.25);
  assert.is(at(60), 15);
  assert.equal([at(61), at(62), at(63)], [15, 15, 15]);
  const m = legacyMatrix(16, 64);
  for (let i = 0; i < 64; i++) {
    let sum = 0;
    for (let k = 0; k < 16; k++) sum += m[k * 64 + i]!;
    assert.is(sum, 1);
  }
  // Down by 1.6: positions 0, 1.6, 3.2, ... and no averaging.
  const small = resizePicture(
    Uint8Array.from({ length: 8 }, (_, i) => 10 * i),
    { height: 1, width: 8 },
    { height: 1, width: 5 },
    1,
  );
  assert.ok(relativeError(small, [0, 16, 32, 48, 64]) < 1e-6);
  const column = resizePicture(Float32Array.of(0, 1, 100, 101), { height: 2, width: 1 }, { height: 4, width: 1 }, 2);
  assert.equal([...column], [0, 1, 50, 51, 100, 101, 100, 101]);
  assert.throws(
    () => resizePicture(new Uint8Array(5), { height: 2, width: 2 }, { height: 1, width: 1 }, 1),
    /5 values/,
  );
});

test("spectrum and back: 1.5 times as the release does it, else the same sound", () => {
  const x = channelOf(testSound(44_144), 0);
  const s = spectrum(x);
  const exact = waveform(s, { releaseExact: true });
  const right = waveform(s);
  assert.is(right.length, 44_016);
  const steady = (y: Float32Array): Float32Array => y.slice(1008, 44_016 - 1008);
  assert.ok(
    relativeError(
      steady(exact),
      steady(x.subarray(0, 44_016)).map((v) => 1.5 * v),
    ) < 1e-5,
  );
  for (const [at, cover] of [
    [0, 0],
    [336, 0.25],
    [672, 1.25],
    [1008, 1.5],
  ] as const)
    assert.ok(Math.abs(exact[at]! - cover * x[at]!) < 1e-6, `sample ${at}`);
  // Unit gain but for the outermost 6 ms.
  const inner = (y: Float32Array): Float32Array => y.slice(140, 44_016 - 140);
  assert.ok(relativeError(inner(right), inner(x)) < 1e-5);
  assert.is(spectrum(x, 5).frames, 5);
  assert.throws(() => waveform({ ...s, frames: 127 }), /127 frames of 1025 bins/);
});

test("silence is -100 dB, and phases of the real bins are 0 or +pi", () => {
  const quiet = spectrum(new Float32Array(2000));
  assert.ok(quiet.db.every((v) => v === -100));
  fc.assert(
    fc.property(fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 1344, maxLength: 1344 }), (x) => {
      const s = spectrum(x);
      for (const b of [0, BINS - 1]) assert.ok(s.phase[b] === 0 || s.phase[b] === Math.fround(Math.PI));
      assert.ok(s.db.every((v) => v >= -100));
    }),
    { numRuns: 20 },
  );
});

test("level: root mean square of a mixture, and the gain that leads back", () => {
  const x = testSound(1000).map((v) => v * 3);
  const { samples, gain } = levelled(x);
  const rms = Math.sqrt(samples.reduce((a, v) => a + v * v, 0) / samples.length);
  assert.ok(Math.abs(rms - MIXTURE_RMS) < 1e-6);
  assert.ok(Math.abs(MIXTURE_RMS - 0.141421356) < 1e-9);
  assert.ok(
    relativeError(
      samples.map((v) => v / gain),
      x,
    ) < 1e-6,
  );
  assert.equal([...levelled(new Float32Array(4)).samples], [0, 0, 0, 0]);
});

test.run();
