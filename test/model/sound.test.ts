import { suite } from "uvu";
import * as assert from "uvu/assert";
import { OnnxEngine, tensor } from "../../src/model/engines/onnxruntime.js";
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

/** Bin k of the 512-point root-Hann transform at 16 kHz, centred on sample `at`, by the definition. */
function bin(x: Float32Array, at: number, k: number): [number, number] {
  let [re, im] = [0, 0];
  for (let n = 0; n < 512; n++) {
    const v = Math.sqrt(0.5 - 0.5 * Math.cos((2 * Math.PI * n) / 512)) * x[at - 256 + n]!;
    re += v * Math.cos((2 * Math.PI * k * n) / 512);
    im -= v * Math.sin((2 * Math.PI * k * n) / 512);
  }
  return [re, im];
}

test("48 kHz sound gives the numbers that its 16 kHz version gives to the 512-point transform of training", async () => {
  const g = new GraphBuilder("spectrum");
  const l = new Layers(g, new Map());
  g.output("y", stepSpectrum(l, g.input("samples", "float32", [1, dim(1920)])));
  const engine = await OnnxEngine.open(g.finish(), { threads: 1 });
  const x = toneSound(48_000, 0.4);
  const slow = toneSound(16_000, 0.4);
  let kept = tensor(new Float32Array(1152), [1, 1152]);
  let most = 0;
  let loudest = 0;
  for (let unit = 0; unit < 8; unit++) {
    const y = await engine.run({ samples: tensor(x.slice(unit * 1920, (unit + 1) * 1920), [1, 1920]), sound: kept });
    kept = y.sound_next!;
    const got = y.y!.data as Float32Array;
    for (let j = 0; j < 5; j++) {
      // Frame j of a step that begins at s is centred on s - 384 + 384 j; at 16 kHz a third of it.
      const centre = unit * 640 - 128 + 128 * j;
      if (centre < 256 || centre + 256 > slow.length) continue;
      for (const k of [0, 1, 2, 17, 64, 128, 200, 230, 240, 256]) {
        const [re, im] = bin(slow, centre, k);
        loudest = Math.max(loudest, Math.hypot(re, im));
        most = Math.max(most, Math.abs(re - got[j * 514 + k]!), k === 256 ? 0 : Math.abs(im - got[j * 514 + 257 + k]!));
        if (k === 256) assert.is(Math.abs(got[j * 514 + 513]!), 0);
      }
    }
  }
  await engine.close();
  // The window's side lobes are what is left: they fold at 8 kHz in one and at 24 kHz in the other.
  assert.ok(loudest > 1 && most < 3e-3 * loudest, `off by ${most} of ${loudest}`);
});

test("power frames lie on multiples of the hop, the ends mirrored", async () => {
  const g = new GraphBuilder("power");
  g.output("y", powerSpectrum(g, g.input("samples", "float32", [1, dim(3072)]), 768));
  const engine = await OnnxEngine.open(g.finish(), { threads: 1 });
  const x = toneSound(48_000, 0.5);
  const slow = toneSound(16_000, 0.5);
  const { y } = await engine.run({ samples: tensor(x, [1, x.length]) });
  await engine.close();
  assert.equal(y!.dims, [Math.floor(x.length / 768) + 1, 257]);
  for (const t of [3, 10, 20])
    for (const k of [2, 66, 170]) {
      const [re, im] = bin(slow, t * 256, k);
      const got = (y!.data as Float32Array)[t * 257 + k]!;
      assert.ok(Math.abs(Math.sqrt(got) - Math.hypot(re, im)) < 0.02, `frame ${t} bin ${k}`);
    }
});

test("mel bands overlap to one between the outermost centres, none is empty", () => {
  const bank = melBank(64, 50, 8000);
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
