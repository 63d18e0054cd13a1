import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Decision } from "../../src/pipeline/face-policy.js";
import { BANK_HOP, BANK_SIZE } from "../../src/pipeline/filter-bank.js";
import { GainRenderer, type Rendered, type StepSound } from "../../src/pipeline/gain-renderer.js";
import type { GainGrid } from "../../src/pipeline/types.js";
import { concat, errorDb, largestStep, noise, sine, sweep } from "./signals.js";

const test = suite("renderer");
const model = { unitSamples: 1920, guardSamples: 4224, lookBackSamples: 100_800 };
const FIRST = -3840;

/** The grid that a model with 5 frames a unit gives for a step; `value(sample, bin)`. */
function gridFor(step: { atSample: number; units: number }, value: (sample: number, bin: number) => number): GainGrid {
  const [hopSamples, bins, frames] = [384, 65, 5 * step.units];
  const atSample = step.atSample + FIRST;
  const data = Float32Array.from({ length: frames * bins }, (_, i) =>
    value(atSample + Math.floor(i / bins) * hopSamples, i % bins),
  );
  return { atSample, hopSamples, frames, bins, binHz: 125, data };
}

type Run = { kept: Float32Array[]; removed: Float32Array[]; steps: StepSound[]; renderer: GainRenderer };

/** File mode: everything through, in blocks of the given sizes (repeated), gains at once, rendered as soon as possible in pieces. */
function run(
  input: readonly Float32Array[],
  {
    blocks = [4800],
    renders = [1e9],
    hopUnits = 2,
    value = (() => 1) as (sample: number, bin: number) => number,
    controls = {},
  } = {},
): Run {
  const renderer = new GainRenderer({ model, channels: input.length, controls });
  const length = input[0]!.length;
  const steps: StepSound[] = [];
  const pieces: Rendered[] = [];
  let r = 0;
  const drain = (until: () => number) => {
    for (let step = renderer.nextStep(hopUnits); step !== null; step = renderer.nextStep(hopUnits)) {
      steps.push(step);
      renderer.acceptGains(gridFor(step, value));
    }
    while (renderer.renderedSamples < until()) {
      const piece = renderer.render(Math.min(until(), renderer.renderedSamples + renders[r++ % renders.length]!), {
        removed: true,
      });
      if (piece !== null) pieces.push(piece);
    }
  };
  for (let at = 0, b = 0; at < length; b++) {
    const count = Math.min(blocks[b % blocks.length]!, length - at);
    renderer.pushAudio({ atSample: at, channels: input.map((x) => x.subarray(at, at + count)) });
    at += count;
    drain(() => renderer.gainsUntil);
  }
  renderer.finish();
  drain(() => renderer.gainsUntil);
  assert.is(renderer.gainsUntil, length, "the gains of the last steps cover the end");
  assert.is(renderer.renderedSamples, length);
  let at = 0;
  for (const { kept, removed } of pieces) {
    assert.is(kept.atSample, at);
    assert.is(removed!.atSample, at);
    at += kept.channels[0]!.length;
  }
  const join = (pick: (piece: Rendered) => readonly Float32Array[]) =>
    input.map((_, c) => concat(pieces.map((piece) => pick(piece)[c]!)));
  return { kept: join((p) => p.kept.channels), removed: join((p) => p.removed!.channels), steps, renderer };
}

const wild = (sample: number, bin: number) => 0.5 + 0.5 * Math.sin(sample / 1234 + bin / 3);
const sizes = (max: number) => fc.array(fc.integer({ min: 1, max }), { minLength: 1, maxLength: 5 });

test("the output is the same to the bit however sound and rendering are cut into blocks", () => {
  const input = [noise(20_000, 1), noise(20_000, 2)];
  const whole = run(input, { value: wild });
  assert.is(whole.renderer.mode.mode, "separated");
  fc.assert(
    fc.property(sizes(6000), sizes(3000), (blocks, renders) => {
      const cut = run(input, { value: wild, blocks, renders });
      assert.equal(cut.kept, whole.kept);
      assert.equal(cut.removed, whole.removed);
    }),
    { seed: 6, numRuns: 15 },
  );
});

test("identity gains give the input back better than -90 dB, to its last sample, at any length", () => {
  for (const length of [1, 255, 1000, 1024, 20_001]) {
    const input = [noise(length, 3)];
    const { kept } = run(input, { blocks: [777] });
    assert.is(kept[0]!.length, length);
    assert.ok(errorDb(input[0]!, kept[0]!) < -130, `${length}: ${errorDb(input[0]!, kept[0]!)} dB`);
  }
});

test("kept + removed is the input to float rounding, whatever the gains", () => {
  const input = [noise(20_000, 4), noise(20_000, 5)];
  const { kept, removed } = run(input, { value: wild });
  for (let c = 0; c < 2; c++) {
    for (let n = 0; n < 20_000; n++)
      assert.ok(Math.abs(kept[c]![n]! + removed[c]![n]! - input[c]![n]!) < 1.2e-7, `sample ${n}`);
  }
});

test("on-screen and off-screen are complements", () => {
  const input = [noise(20_000, 6)];
  const controls = { attenuationLimitDb: 200 };
  const on = run(input, { value: wild, controls });
  const off = run(input, { value: wild, controls: { ...controls, keep: "off-screen" } });
  assert.ok(errorDb(on.removed[0]!, off.kept[0]!) < -110);
});

test("zero gains leave what the attenuation limit lets through", () => {
  const input = [noise(48_000, 7)];
  const { kept, renderer } = run(input, { value: () => 0, controls: { attenuationLimitDb: 20 } });
  assert.ok(
    errorDb(
      input[0]!.map((x) => x * 0.1),
      kept[0]!,
    ) < -90,
  );
  const { inDb, outDb, removedDb } = renderer.levels;
  assert.ok(Math.abs(inDb - outDb - 20) < 0.1, `${inDb} ${outDb}`);
  assert.ok(Math.abs(inDb + 20 * Math.log10(0.9) - removedDb) < 0.1);
  assert.ok(Math.abs(inDb - 10 * Math.log10(1 / 3)) < 0.6, `uniform noise is at -4.8 dB, shown as ${inDb}`);
});

test("gains act where they belong: a gate at sample 24000 cuts the sound there, within a frame", () => {
  const input = [noise(48_000, 8)];
  const { kept } = run(input, { value: (sample) => (sample < 24_000 ? 1 : 0), controls: { attenuationLimitDb: 200 } });
  assert.ok(errorDb(input[0]!.subarray(0, 24_000 - BANK_SIZE), kept[0]!.subarray(0, 24_000 - BANK_SIZE)) < -90);
  assert.ok(Math.max(...kept[0]!.subarray(24_000 + BANK_SIZE).map(Math.abs)) < 1e-4);
});

test("steps are contiguous, begin at multiples of the hop, hold the mean of the channels and zeros beyond the end", () => {
  const input = [noise(20_000, 9), noise(20_000, 10)];
  const { steps } = run(input, { hopUnits: 4, blocks: [999] });
  let at = 0;
  for (const step of steps) {
    assert.is(step.atSample, at);
    assert.is(step.units, 4);
    for (let i = 0; i < step.samples.length; i++) {
      const n = at + i;
      const mean = n < 20_000 ? (input[0]![n]! + input[1]![n]!) / 2 : 0;
      assert.ok(Math.abs(step.samples[i]! - mean) < 1e-6);
    }
    at += 4 * 1920;
  }
  assert.ok(at - model.guardSamples >= 20_000);
});

test("when the hop changes one shorter step leads back to its multiples", () => {
  const renderer = new GainRenderer({ model, channels: 1 });
  renderer.pushAudio({ atSample: 0, channels: [new Float32Array(48_000)] });
  const begins = [1, 4, 4, 2, 8].map((hop) => {
    const step = renderer.nextStep(hop)!;
    return [step.atSample / 1920, step.units];
  });
  assert.equal(begins, [
    [0, 1],
    [1, 3],
    [4, 4],
    [8, 2],
    [10, 6],
  ]);
});

test("a look-back ends where the next step begins and is whole units of the newest sound", () => {
  const renderer = new GainRenderer({ model, channels: 1 });
  const input = noise(240_000, 11);
  renderer.pushAudio({ atSample: 0, channels: [input] });
  assert.is(renderer.lookBack(0).units, 0);
  const short = renderer.lookBack(3 * 1920);
  assert.equal([short.atSample, short.units], [0, 3]);
  const full = renderer.lookBack(100 * 1920);
  assert.equal([full.atSample, full.units], [(100 - 53) * 1920, 53]);
  assert.equal(full.samples, input.subarray(full.atSample, 100 * 1920));
  assert.throws(() => renderer.lookBack(240_001), /not in the ring/);
});

for (const [name, input] of [
  ["a sine of 100 Hz", sine(96_000, 100)],
  ["a sine of 1 kHz", sine(96_000, 1000)],
  ["a sweep", sweep(96_000, 60, 12_000)],
] as const) {
  test(`when gains vanish and return nothing clicks: ${name} never steps further than the input does`, () => {
    const renderer = new GainRenderer({ model, channels: 1 });
    const parts: Float32Array[] = [];
    const modes = new Set<string>();
    for (let at = 0; at < input.length; at += 480) {
      renderer.pushAudio({ atSample: at, channels: [input.subarray(at, at + 480)] });
      for (let step = renderer.nextStep(2); step !== null; step = renderer.nextStep(2)) {
        const there =
          !(step.atSample > 20_000 && step.atSample < 30_000) && !(step.atSample > 50_000 && step.atSample < 70_000);
        if (there) renderer.acceptGains(gridFor(step, () => 0.05));
      }
      const piece = renderer.render(at + 480 - 9600);
      if (piece !== null) parts.push(piece.kept.channels[0]!);
      modes.add(renderer.mode.mode);
    }
    const out = concat(parts);
    assert.ok(Math.max(...out.subarray(60_000, 66_000)) > 0.45, "bypass was reached");
    assert.ok(Math.max(...out.subarray(44_000, 48_000)) < 0.05, "and separation before it");
    assert.equal([...modes].sort(), ["bypass", "late", "separated"]);
    assert.ok(largestStep(out) <= largestStep(input), `${largestStep(out)} > ${largestStep(input)}`);
  });
}

test("decisions of all kinds in turn never stall file mode, and leave the sound alone where they say so", () => {
  const input = noise(192_000, 12);
  const renderer = new GainRenderer({ model, channels: 1, controls: { attenuationLimitDb: 200 } });
  const parts: Float32Array[] = [];
  const kinds = [null, "SL_NO_FACE", null, "SL_PICTURE_FROZEN", "SL_NO_FACE", null] as const;
  const follow = () => {
    for (let step = renderer.nextStep(4); step !== null; step = renderer.nextStep(4)) {
      const gains = gridFor(step, () => 0);
      const reason = kinds[Math.floor(step.atSample / 38_400)] ?? null;
      const decision: Decision = {
        layout: gains,
        gains: reason === null ? gains : null,
        mute: false,
        reason,
        speaking: new Map(),
      };
      renderer.acceptDecision(decision);
    }
    const piece = renderer.render(renderer.gainsUntil);
    if (piece !== null) parts.push(piece.kept.channels[0]!);
  };
  for (let at = 0; at < input.length; at += 9600) {
    renderer.pushAudio({ atSample: at, channels: [input.subarray(at, at + 9600)] });
    follow();
    assert.ok(renderer.pushedSamples - renderer.renderedSamples < 9600 + 4 * 1920 + 4224 + BANK_SIZE);
  }
  renderer.finish();
  follow();
  const out = concat(parts);
  assert.is(out.length, input.length);
  assert.is(renderer.counters.timesLate, 0);
  for (let segment = 0; segment < 5; segment++) {
    const from = segment * 38_400 + FIRST + 4500;
    const to = (segment + 1) * 38_400 + FIRST - 2000;
    const db = errorDb(input.subarray(Math.max(0, from), to), out.subarray(Math.max(0, from), to));
    if (kinds[segment] === null) assert.ok(Math.abs(db) < 0.1, `segment ${segment} is silenced: ${db}`);
    else assert.ok(db < -90, `segment ${segment} is left alone: ${db}`);
  }
});

test("a caller who never renders is told so, and nothing is lost or grown", () => {
  const renderer = new GainRenderer({ model, channels: 1, ringSamples: 120_000 });
  const block = new Float32Array(48_000);
  renderer.pushAudio({ atSample: 0, channels: [block] });
  renderer.pushAudio({ atSample: 48_000, channels: [block] });
  assert.throws(() => renderer.pushAudio({ atSample: 96_000, channels: [block] }), /2\.0 s of sound wait/);
  assert.is(
    renderer.render(1e9)!.kept.channels[0]!.length,
    Math.floor(96_000 / BANK_HOP) * BANK_HOP - BANK_SIZE + BANK_HOP,
  );
  renderer.pushAudio({ atSample: 96_000, channels: [block] });
  assert.is(renderer.nextStep(1)!.atSample, 13 * 1920); // the ring holds the newest 120320 samples
  assert.is(renderer.counters.stepsSkipped, 1);
});

test("holes in the sound, wrong layouts and sound after the end are refused; NaN and Inf become 0", () => {
  const renderer = new GainRenderer({ model, channels: 1 });
  assert.throws(() => renderer.pushAudio({ atSample: 5, channels: [new Float32Array(5)] }), /where 0/);
  assert.throws(() => renderer.pushAudio({ atSample: 0, channels: [] }), RangeError);
  renderer.pushAudio({ atSample: 0, channels: [Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, 0.5)] });
  renderer.finish();
  assert.is(renderer.counters.samplesRepaired, 2);
  assert.throws(() => renderer.pushAudio({ atSample: 3, channels: [new Float32Array(5)] }), /was the end/);
  const out = renderer.render(10)!.kept.channels[0]!;
  assert.is(out.length, 3);
  assert.ok(Math.abs(out[2]! - 0.5) < 1e-6);
  assert.is(renderer.render(10), null);
});

test("when no step ever separates, gainsUntil goes on with the steps all the same", () => {
  const renderer = new GainRenderer({
    model: { unitSamples: 1920, guardSamples: 4224, lookBackSamples: 99_840 },
    channels: 1,
  });
  for (let at = 0; at < 12 * 48_000; at += 1920) {
    renderer.pushAudio({ atSample: at, channels: [new Float32Array(1920)] });
    const step = renderer.nextStep(4);
    if (step === null) continue;
    const layout = { atSample: step.atSample - 3840, hopSamples: 384, frames: 5 * step.units, bins: 129, binHz: 62.5 };
    renderer.acceptDecision({ layout, gains: null, mute: false, reason: "SL_NO_FACE", speaking: new Map() });
    renderer.render(renderer.gainsUntil);
    const wanted = layout.atSample + (layout.frames - 1) * layout.hopSamples - BANK_SIZE / 2 - BANK_HOP;
    assert.ok(renderer.renderedSamples >= wanted, `${renderer.renderedSamples} of ${wanted} at ${at}`);
  }
});

test("a mute is silence, whatever the operator's controls are, and says so; beside a bypass nothing is lost", () => {
  const input = noise(192_000, 14);
  for (const controls of [{}, { attenuationLimitDb: 12 }, { strengthPercent: 50 }, { keep: "off-screen" as const }]) {
    const renderer = new GainRenderer({ model, channels: 1, controls });
    const kept: Float32Array[] = [];
    const modes = new Set<string>();
    for (let at = 0; at < input.length; at += 9600) {
      renderer.pushAudio({ atSample: at, channels: [input.subarray(at, at + 9600)] });
      for (let step = renderer.nextStep(4); step !== null; step = renderer.nextStep(4)) {
        const layout = gridFor(step, () => 0);
        renderer.acceptDecision({ layout, gains: null, mute: true, reason: "SL_NO_FACE", speaking: new Map() });
      }
      if (at === 96_000) renderer.bypassFrom(120_000, "SL_BYPASS_OPERATOR");
      const piece = renderer.render(renderer.gainsUntil);
      if (piece === null) continue;
      kept.push(piece.kept.channels[0]!);
      modes.add(`${renderer.mode.mode} ${renderer.mode.reason}`);
    }
    const out = Float32Array.from(kept.flatMap((k) => [...k]));
    assert.ok(
      out.subarray(12_000, 115_000).every((v) => v === 0),
      JSON.stringify(controls),
    );
    assert.ok(out.subarray(130_000).some((v) => v !== 0));
    for (let i = 130_000; i < out.length; i++) assert.ok(Math.abs(out[i]! - input[i]!) < 1e-6);
    assert.equal([...modes].slice(-2), ["muted SL_NO_FACE", "bypass SL_BYPASS_OPERATOR"]);
  }
});

test.run();
