import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BssEval, type BssScore } from "../../bench/quality/bss-eval.js";
import { Cholesky } from "../../bench/quality/cholesky.js";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { noise } from "../model/noise.js";

const FIXTURES = join(PACKAGE_ROOT, "test", "bench", "fixtures");
/** Recursions of bss-eval.py. */
const COLOURS = [
  [1.6, -0.8],
  [0.5, 0.3],
  [-0.4, -0.5],
  [1.2, -0.5],
] as const;

type Case = {
  readonly name: string;
  readonly samples: number;
  readonly sources: number;
  readonly gains: readonly number[];
  readonly delay: number;
  readonly noise: number;
  readonly smooth: number;
  readonly expected: BssScore;
};
type Fixture = { readonly seed: number; readonly cases: readonly Case[] };

function coloured(name: string, n: number, [a, b]: readonly [number, number], smooth: number): Float64Array {
  const x = noise(name, n);
  let y = new Float64Array(n);
  for (let i = 0; i < n; i++) y[i] = x[i]! + a * (y[i - 1] ?? 0) + b * (y[i - 2] ?? 0);
  for (let s = 0; s < smooth; s++)
    y = y.map((_, i) => [0, 1, 2, 3, 4].reduce((sum, t) => sum + (y[i - t] ?? 0), 0) / 5);
  return y;
}

function signals(c: Case, seed: number): { sources: Float64Array[]; estimate: Float64Array } {
  const name = `${seed}/${c.name}`;
  const sources = Array.from({ length: c.sources }, (_, k) =>
    coloured(`${name}/${k}`, c.samples, COLOURS[k]!, c.smooth),
  );
  const estimate = coloured(`${name}/noise`, c.samples, [0, 0], c.smooth).map((x) => x * c.noise);
  for (const [k, s] of sources.entries())
    for (let i = c.delay; i < c.samples; i++) {
      const at = i - c.delay;
      estimate[i]! += c.gains[k]! * (s[at]! + 0.5 * (s[at - 1] ?? 0) - 0.25 * (s[at - 2] ?? 0));
    }
  return { sources, estimate };
}

function agrees({ seed, cases }: Fixture): void {
  for (const c of cases) {
    const { sources, estimate } = signals(c, seed);
    const score = new BssEval(sources).score(estimate, 0);
    for (const key of ["sdr", "sir", "sar"] as const) {
      const difference = Math.abs(score[key] - c.expected[key]);
      assert.ok(difference < 0.01, `${c.name}, ${key}: ${score[key]} here, ${c.expected[key]} by mir_eval`);
    }
  }
}

const test = suite("BSS-eval");

test("agrees with mir_eval within 0.01 dB (values of bss-eval.py)", () => {
  const fixture = JSON.parse(readFileSync(join(FIXTURES, "bss-eval.json"), "utf8")) as Fixture;
  assert.ok(fixture.cases.length >= 6);
  agrees(fixture);
});

const found = spawnSync("python3", ["-c", "import mir_eval, numpy"], { timeout: 20_000 }).status === 0;
(found ? test : test.skip)("agrees with the mir_eval of this machine on signals of another seed", () => {
  const { status, stdout } = spawnSync("python3", [join(FIXTURES, "bss-eval.py"), "--seed", "77", "--cases", "2"], {
    timeout: 100_000,
    encoding: "utf8",
  });
  assert.is(status, 0);
  agrees(JSON.parse(stdout) as Fixture);
});

test("a filtered copy of the wanted voice is no error, however loud; a silent estimate is the worst one", () => {
  const a = noise("a", 4000);
  const b = noise("b", 4000);
  a.fill(0, 3900); // the delay must not push sound over the end
  const copy = a.map((_, i) => 0.01 * (a[i - 20] ?? 0));
  const judge = new BssEval([a, b], 64);
  const score = judge.score(copy, 0);
  assert.ok(score.sdr > 60, `SDR ${score.sdr}`);
  assert.ok(judge.score(copy, 1).sdr < -5);
  assert.equal(judge.score(new Float64Array(4000), 0), {
    sdr: Number.NEGATIVE_INFINITY,
    sir: Number.NEGATIVE_INFINITY,
    sar: Number.NEGATIVE_INFINITY,
  });
});

test("what cannot be judged is refused", () => {
  const a = noise("a", 4000);
  assert.throws(() => new BssEval([]), /1 to 4 references/);
  assert.throws(() => new BssEval([a, new Float64Array(4000)]), /reference 1 is silent/);
  assert.throws(() => new BssEval([a, a.slice(1)]), /differ in length/);
  assert.throws(() => new BssEval([a.slice(0, 100)]), /fewer than the filter/);
  const judge = new BssEval([a], 16);
  assert.throws(() => judge.score(a.slice(1), 0), /3999 samples/);
  assert.throws(() => judge.score(a, 1), /no reference 1/);
});

test("Cholesky: the solution fits the equations; a matrix that is not positive is refused", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 1000 }), (n, seed) => {
      const m = noise(`m${seed}`, n * n);
      const a = new Float64Array(n * n);
      for (let i = 0; i < n; i++)
        for (let j = 0; j < n; j++) {
          for (let k = 0; k < n; k++) a[i * n + j]! += m[i * n + k]! * m[j * n + k]!;
          if (i === j) a[i * n + j]! += 0.1;
        }
      const b = noise(`b${seed}`, n);
      const x = new Cholesky(a, n).solve(b);
      for (let i = 0; i < n; i++) {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += a[i * n + j]! * x[j]!;
        if (Math.abs(sum - b[i]!) > 1e-8) return false;
      }
      return true;
    }),
  );
  assert.throws(() => new Cholesky(Float64Array.of(1, 2, 2, 1), 2), /not positive/);
  assert.throws(() => new Cholesky(Float64Array.of(1, 2, 2), 2), /no matrix/);
});

test.run();
