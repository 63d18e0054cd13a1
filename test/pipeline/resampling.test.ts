import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SoundConverter } from "../../src/pipeline/sound-at-48k.js";
import { rateFault, StreamResampler } from "../../src/pipeline/stream-resampler.js";

const test = suite("resampling to 48 kHz");

const tone = (rate: number, seconds: number): Float32Array =>
  Float32Array.from({ length: rate * seconds }, (_, n) => Math.sin((2 * Math.PI * 440 * n) / rate));

test("resampling does not depend on how the sound is cut, and does not move it", () => {
  for (const rate of [8000, 16_000, 44_100, 96_000]) {
    const input = tone(rate, 0.2);
    const once = new StreamResampler(rate, 1).push([input])[0]!;
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 700 }), { maxLength: 30 }), (cuts) => {
        const pieces = new StreamResampler(rate, 1);
        const out: number[] = [];
        let at = 0;
        for (const cut of [...cuts, input.length]) {
          out.push(...pieces.push([input.subarray(at, at + cut)])[0]!);
          at = Math.min(input.length, at + cut);
        }
        assert.equal(Float32Array.from(out), once);
      }),
      { numRuns: 20 },
    );
    // Away from the edges the tone is the same tone.
    const ideal = tone(48_000, 0.2);
    const margin = Math.ceil((40 * 48_000) / Math.min(rate, 48_000));
    let worst = 0;
    for (let n = margin; n < once.length - margin; n++) worst = Math.max(worst, Math.abs(once[n]! - ideal[n]!));
    assert.ok(worst < 1e-3, `${rate} Hz: ${worst}`);
    assert.ok(once.length > 9600 - 2 * margin, `${once.length} samples`);
  }
});

test("pieces of any length with jittering times come out as one sound, each where it belongs", () => {
  for (const rate of [16_000, 24_000, 44_100]) {
    const input = tone(rate, 2);
    const whole = new StreamResampler(rate, 1).push([input])[0]!;
    fc.assert(
      fc.property(
        fc.array(fc.record({ length: fc.integer({ min: 1, max: 2000 }), lateMs: fc.integer({ min: -19, max: 19 }) }), {
          maxLength: 40,
        }),
        (cuts) => {
          const converter = new SoundConverter();
          const out: number[] = [];
          let at = 0;
          for (const { length, lateMs } of [...cuts, { length: input.length, lateMs: 0 }]) {
            const piece = input.subarray(at, at + length);
            const taken = converter.take({
              ptsMs: 5000 + (1000 * at) / rate + lateMs,
              channels: [piece],
              sampleRate: rate,
            });
            const belongsMs = 5000 + out.length / 48 + lateMs;
            assert.ok(Math.abs(taken.ptsMs - belongsMs) < 1e-6, `${taken.ptsMs} ms, not ${belongsMs}`);
            out.push(...taken.channels[0]!);
            at = Math.min(input.length, at + length);
          }
          assert.equal(Float32Array.from(out), whole);
        },
      ),
      { numRuns: 10 },
    );
  }
});

test("another rate, another number of channels and a jump of the times begin anew; 48 kHz passes to the bit", () => {
  const converter = new SoundConverter();
  const seconds = (rate: number, channels = 1) => Array.from({ length: channels }, () => tone(rate, 1));
  assert.is(converter.take({ ptsMs: 0, channels: seconds(44_100), sampleRate: 44_100 }).ptsMs, 0);
  const at48k = seconds(48_000, 2);
  const passed = converter.take({ ptsMs: 1000, channels: at48k });
  assert.is(passed.channels, at48k);
  assert.is(converter.finish(), null);
  assert.is(converter.take({ ptsMs: 2000, channels: seconds(24_000), sampleRate: 24_000 }).ptsMs, 2000);
  const stereo = converter.take({ ptsMs: 3000, channels: seconds(24_000, 2), sampleRate: 24_000 });
  assert.equal([stereo.ptsMs, stereo.channels.length], [3000, 2]);
  const later = converter.take({ ptsMs: 9000, channels: seconds(24_000, 2), sampleRate: 24_000 });
  assert.is(later.ptsMs, 9000);
  const rest = converter.finish()!;
  assert.ok(Math.abs(rest.ptsMs + rest.channels[0]!.length / 48 - 10_000) < 1e-6, "to the end of the input");
});

test("rates that cannot be brought to 48 kHz are named with what is allowed", () => {
  assert.is(rateFault(44_100), null);
  for (const rate of [0, -1, Number.NaN, 7999, 192_001, 44_101, 16_000.5])
    assert.match(rateFault(rate)!, /allowed are 8000 to 192000 Hz/);
  assert.throws(() => new StreamResampler(44_101, 1), RangeError);
});

test.run();
