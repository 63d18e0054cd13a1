import { suite } from "uvu";
import * as assert from "uvu/assert";
import { OnnxEngine, tensor } from "../../src/model/engines/onnxruntime.js";
import { clockOf } from "../../src/model/live/config.js";
import { Layers } from "../../src/model/live/layers.js";
import { melBank, powerSpectrum, stepSpectrum } from "../../src/model/live/sound.js";
import { allFinite, withoutTiny } from "../../src/model/numbers.js";
import { dim } from "../../src/model/onnx/dims.js";
import { GraphBuilder } from "../../src/model/onnx/graph-builder.js";

const test = suite("spectrum inside of the graph");

/** The same tones at any rate: all below 7.5 kHz. */
const tones = Array.from({ length: 24 }, (_, i) => ({ hz: 60 + 310 * i, phase: i * i, level: 0.02 + 0.005 * (i % 5) }));
function toneSound(rate: number, seconds: number): Float32Array {
  return Float32Array.from({ length: Math.round(rate * seconds) }, (_, n) =>
    tones.reduce((s, t) => s + t.level * Math.sin((2 * Math.PI * t.hz * n) / rate + t.phase), 0),
  );
}

/** Bin k of the root-Hann transform of `size` points at 16 kHz, centred on sample `at`, by the definition. */
function bin(x: Float32Array, at: number, k: number, size: number): [number, number] {
  let [re, im] = [0, 0];
  for (let n = 0; n < size; n++) {
    const v = Math.sqrt(0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size)) * x[at - size / 2 + n]!;
    re += v * Math.cos((2 * Math.PI * k * n) / size);
    im -= v * Math.sin((2 * Math.PI * k * n) / size);
  }
  return [re, im];
}

for (const { nfft, hop } of [
  { nfft: 512, hop: 128 },
  { nfft: 640, hop: 320 },
]) {
  test(`48 kHz sound gives the numbers that its 16 kHz version gives to the transform of training (${nfft} every ${hop})`, async () => {
    const clock = clockOf({ nfft, hop, ahead: 0 });
    const { bins, kept: keep, frames } = clock;
    const g = new GraphBuilder("spectrum");
    const l = new Layers(g, new Map());
    g.output("y", stepSpectrum(l, clock, g.input("samples", "float32", [1, dim(1920)])));
    const engine = await OnnxEngine.open(g.finish(), { threads: 1 });
    const x = toneSound(48_000, 0.4);
    const slow = toneSound(16_000, 0.4);
    let kept = tensor(new Float32Array(keep), [1, keep]);
    let most = 0;
    let loudest = 0;
    for (let unit = 0; unit < 8; unit++) {
      const y = await engine.run({ samples: tensor(x.slice(unit * 1920, (unit + 1) * 1920), [1, 1920]), sound: kept });
      kept = y.sound_next!;
      const got = y.y!.data as Float32Array;
      for (let j = 0; j < frames; j++) {
        // The first window of a step that begins at s ends a hop after s.
        const centre = unit * 640 + hop - nfft / 2 + hop * j;
        if (centre < nfft / 2 || centre + nfft / 2 > slow.length) continue;
        for (const k of [0, 1, 2, 17, 64, 128, 200, 230, 240, bins - 1]) {
          const [re, im] = bin(slow, centre, k, nfft);
          const [gotRe, gotIm] = [got[j * 2 * bins + k]!, got[j * 2 * bins + bins + k]!];
          loudest = Math.max(loudest, Math.hypot(re, im));
          most = Math.max(most, Math.abs(re - gotRe), k === bins - 1 ? 0 : Math.abs(im - gotIm));
          if (k === bins - 1) assert.is(Math.abs(gotIm), 0);
        }
      }
    }
    await engine.close();
    // The window's side lobes are what is left: they fold at 8 kHz in one and at 24 kHz in the other.
    assert.ok(loudest > 1 && most < 3e-3 * loudest, `off by ${most} of ${loudest}`);
  });
}

test("power frames lie on multiples of the hop, the ends mirrored", async () => {
  const g = new GraphBuilder("power");
  g.output("y", powerSpectrum(g, g.input("samples", "float32", [1, dim(3072)]), 1536, 768));
  const engine = await OnnxEngine.open(g.finish(), { threads: 1 });
  const x = toneSound(48_000, 0.5);
  const slow = toneSound(16_000, 0.5);
  const { y } = await engine.run({ samples: tensor(x, [1, x.length]) });
  await engine.close();
  assert.equal(y!.dims, [Math.floor(x.length / 768) + 1, 257]);
  for (const t of [3, 10, 20])
    for (const k of [2, 66, 170]) {
      const [re, im] = bin(slow, t * 256, k, 512);
      const got = (y!.data as Float32Array)[t * 257 + k]!;
      assert.ok(Math.abs(Math.sqrt(got) - Math.hypot(re, im)) < 0.02, `frame ${t} bin ${k}`);
    }
});

test("mel bands overlap to one between the outermost centres, none is empty", () => {
  const bank = melBank(257, 64, 50, 8000);
  for (let b = 0; b < 64; b++)
    assert.ok(
      Array.from({ length: 257 }, (_, k) => bank[k * 64 + b]!).some((v) => v > 0),
      `band ${b}`,
    );
  for (let k = 10; k < 240; k++) {
    const sum = bank.slice(k * 64, k * 64 + 64).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sum - 1) < 1e-5, `bin ${k}: ${sum}`);
  }
});

test("numbers that slow the processor down become zeros, all others stay, and good sound is not copied", () => {
  const good = Float32Array.of(0, 1e-19, -1e-19, 1);
  assert.is(withoutTiny(good), good);
  assert.equal(withoutTiny(Float32Array.of(1e-40, -1e-30, 0.5, -3)), Float32Array.of(0, 0, 0.5, -3));
});

test("a value that is not a number is found among any others", () => {
  assert.ok(allFinite(new Float32Array(4096).fill(3.4e38)));
  for (const v of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    assert.not(allFinite(Float32Array.of(1, v, 2)));
  assert.not(allFinite(Float32Array.of(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY)));
});

test.run();
