import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RealFft } from "../../src/pipeline/fft.js";
import { noise } from "./signals.js";

const test = suite("fft");

for (const size of [4, 8, 64, 2048]) {
  test(`size ${size} agrees with the definition of the transform`, () => {
    const fft = new RealFft(size);
    const x = Float64Array.from(noise(size, size));
    const spectrum = new Float64Array(size + 2);
    fft.forward(x, spectrum);
    let worst = 0;
    for (let k = 0; k < fft.bins; k++) {
      let re = 0;
      let im = 0;
      for (let n = 0; n < size; n++) {
        const angle = (-2 * Math.PI * ((k * n) % size)) / size;
        re += x[n]! * Math.cos(angle);
        im += x[n]! * Math.sin(angle);
      }
      worst = Math.max(worst, Math.abs(re - spectrum[2 * k]!), Math.abs(im - spectrum[2 * k + 1]!));
    }
    assert.ok(worst < 1e-10, `worst difference ${worst}`);
  });

  test(`size ${size}: the inverse gives the signal back`, () => {
    const fft = new RealFft(size);
    const x = Float64Array.from(noise(size, 7));
    const spectrum = new Float64Array(size + 2);
    const y = new Float64Array(size);
    fft.forward(x, spectrum);
    fft.inverse(spectrum, y);
    for (let n = 0; n < size; n++) assert.ok(Math.abs(x[n]! - y[n]!) < 1e-13, `sample ${n}`);
  });
}

test("sizes that are no power of two and arrays too short are refused", () => {
  for (const size of [0, 2, 3, 12, 1000, 2.5, Number.NaN]) assert.throws(() => new RealFft(size), /power of two/);
  assert.throws(() => new RealFft(8).forward(new Float64Array(7), new Float64Array(10)), /too short/);
  assert.throws(() => new RealFft(8).inverse(new Float64Array(9), new Float64Array(8)), /too short/);
});

test.run();
