import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BANK_BIN_HZ, BANK_BINS } from "../../src/pipeline/filter-bank.js";
import { GainMap } from "../../src/pipeline/gain-map.js";

const test = suite("gain map");

function map(model: Float32Array, binHz: number): Float32Array {
  const bank = new Float32Array(BANK_BINS);
  new GainMap(model.length, binHz).apply(model, 0, bank, 0);
  return bank;
}

const grids = fc.tuple(fc.integer({ min: 1, max: 700 }), fc.double({ min: 5, max: 400, noNaN: true }));

test("equal gains stay equal whatever the grid: weights sum to 1", () => {
  fc.assert(
    fc.property(grids, fc.float({ min: 0, max: 1, noNaN: true }), ([bins, binHz], gain) => {
      for (const g of map(new Float32Array(bins).fill(gain), binHz))
        assert.ok(Math.abs(g - gain) < 1e-6, `${g} is not ${gain}`);
    }),
    { seed: 2, numRuns: 100 },
  );
});

test("no gain leaves the range of the model's gains", () => {
  fc.assert(
    fc.property(grids, fc.integer(), ([bins, binHz], seed) => {
      const model = Float32Array.from({ length: bins }, (_, b) => ((b * 7919 + seed) & 255) / 255);
      const low = Math.min(...model);
      const high = Math.max(...model);
      for (const g of map(model, binHz)) assert.ok(g >= low - 1e-6 && g <= high + 1e-6);
    }),
    { seed: 3, numRuns: 100 },
  );
});

test("a straight line over frequency comes out as the same line, from coarser and from finer grids", () => {
  for (const [bins, binHz] of [
    [257, 31.25],
    [1025, 21_000 / 2048],
    [BANK_BINS, BANK_BIN_HZ],
  ] as const) {
    const line = (hz: number) => hz / 24_000;
    const bank = map(
      Float32Array.from({ length: bins }, (_, b) => line(b * binHz)),
      binHz,
    );
    const nyquist = (bins - 1) * binHz;
    for (let k = 2; (k + 1) * BANK_BIN_HZ < nyquist; k++) {
      assert.ok(
        Math.abs(bank[k]! - line(k * BANK_BIN_HZ)) < (binHz < BANK_BIN_HZ ? 5e-4 : 1e-6),
        `bin ${k} of ${binHz} Hz`,
      );
    }
  }
});

test("above the model's Nyquist frequency lies the mean of its top octave", () => {
  const model = Float32Array.from({ length: 257 }, (_, b) => (b < 128 ? 0 : b % 2 ? 0.25 : 0.75)); // 8 kHz
  const bank = map(model, 31.25);
  const mean = (65 * 0.75 + 64 * 0.25) / 129;
  for (let k = Math.floor(8000 / BANK_BIN_HZ) + 1; k < BANK_BINS; k++)
    assert.ok(Math.abs(bank[k]! - mean) < 1e-6, `bin ${k}: ${bank[k]}`);
  assert.is(bank[Math.floor(2000 / BANK_BIN_HZ)], 0);
});

test("the bank's own grid passes unchanged", () => {
  const model = Float32Array.from({ length: BANK_BINS }, (_, b) => (b % 10) / 10);
  assert.equal(map(model, BANK_BIN_HZ), model);
});

test("impossible grids are refused", () => {
  for (const [bins, hz] of [
    [0, 10],
    [1.5, 10],
    [10, 0],
    [10, Number.NaN],
  ] as const)
    assert.throws(() => new GainMap(bins, hz), /gain grid/);
});

test.run();
