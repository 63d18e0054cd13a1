import { suite } from "uvu";
import * as assert from "uvu/assert";
import { levelChange, longestPause, passed, withoutSilentBegin, worstChange } from "../../bench/quality/measures.js";
import { otherClip, otherVoices, type People } from "../../bench/quality/people.js";
import { dwellFrames, dwellSound } from "../../bench/quality/pictures.js";
import { siSdr } from "../../bench/val/metrics.js";
import { mixVoices } from "../../bench/val/mixtures.js";
import { noise } from "../model/noise.js";

const RATE = 48_000;
const test = suite("quality: measures");

/** Speech-like: noise that is on in some tenths of a second. */
const voice = (name: string, seconds: number, on: (tenth: number) => boolean = () => true): Float32Array =>
  Float32Array.from(noise(name, seconds * RATE), (x, i) => (on(Math.floor(i / (RATE / 10))) ? 0.3 * x : 1e-4 * x));
const near = (x: number, expected: number, by: number): void =>
  assert.ok(Math.abs(x - expected) < by, `${x} instead of ${expected}`);

test("SI-SDR: an orthogonal error of a tenth is 20 dB, level and offset do not count", () => {
  const n = 48_000;
  const s = Float32Array.from({ length: n }, (_, i) => Math.sin((2 * Math.PI * 100 * i) / n));
  const e = Float32Array.from(
    { length: n },
    (_, i) => 0.3 * (s[i]! + 0.1 * Math.cos((2 * Math.PI * 100 * i) / n)) + 0.2,
  );
  near(siSdr(e, s), 20, 0.001);
});

test("level change, whole and by the worst second; silence is no change", () => {
  const before = voice("a", 4);
  const after = before.map((x, i) => x * (i < 3 * RATE ? 1 : 0.5));
  near(levelChange(before, after, { from: 3 * RATE, to: 4 * RATE }), -6.02, 0.01);
  near(worstChange(before, after), 6.02, 0.01);
  assert.is(worstChange(before, before), 0);
  assert.is(levelChange(new Float32Array(9), after, { from: 0, to: 9 }), 0);
  assert.is(levelChange(before, new Float32Array(before.length), { from: 0, to: RATE }), -100);
});

test("what gains let through of one voice is told apart from the other voice", () => {
  const n = RATE;
  const low = Float32Array.from({ length: n }, (_, i) => 0.3 * Math.sin((2 * Math.PI * 500 * i) / RATE));
  const high = Float32Array.from({ length: n }, (_, i) => 0.3 * Math.sin((2 * Math.PI * 5000 * i) / RATE));
  const mix = low.map((x, i) => x + high[i]!);
  const out = low.map((x, i) => 0.5 * x + 0.1 * high[i]!);
  const where = { from: 0.3 * n, to: 0.5 * n };
  near(passed(mix, out, low, where), -6.02, 0.05);
  near(passed(mix, out, high, where), -20, 0.05);
  near(passed(mix, mix, low, where), 0, 1e-9);
});

test("a mixture has the level asked for, its parts add up and nothing clips", () => {
  const on = voice("on", 3).map((x) => 3 * x);
  const others = ["b", "c"].map((name) => voice(name, 2));
  const mixed = mixVoices(on, others, -5);
  const rms = (x: Float32Array): number => Math.sqrt(x.reduce((a, v) => a + v * v, 0) / x.length);
  near(20 * Math.log10(rms(mixed.on) / rms(mixed.off)), -5, 0.1);
  near(20 * Math.log10(rms(mixed.others[0]!) / rms(mixed.others[1]!)), 0, 0.1);
  for (let i = 0; i < on.length; i += 101) {
    near(mixed.mix[i]!, mixed.on[i]! + mixed.off[i]!, 1e-6);
    near(mixed.off[i]!, mixed.others[0]![i]! + mixed.others[1]![i]!, 1e-6);
    assert.ok(Math.abs(mixed.mix[i]!) < 0.901);
  }
});

test("the longest pause that has room on both sides is found", () => {
  // Pauses: 0.2-1.2 s (too early), 2.0-2.7 s, 3.5-4.1 s.
  const x = voice("p", 7, (t) => !((t >= 2 && t < 12) || (t >= 20 && t < 27) || (t >= 35 && t < 41)));
  assert.equal(longestPause(x, 1.5, 2, 0.5), { from: 2 * RATE, to: 129_600 });
  assert.is(longestPause(x, 1.5, 2, 0.8), null);
  assert.is(longestPause(x, 1.5, 4.5, 0.5), null);
  assert.is(withoutSilentBegin(voice("q", 3, (t) => t >= 10)).length, 2 * RATE);
});

test("a stretch is played back and forth without a jump", () => {
  const x = Float32Array.from({ length: 100 * 1920 }, (_, i) => i);
  const plan = { begin: 10, from: 40, to: 50, rounds: 3, end: 80 };
  const y = dwellSound(x, plan);
  assert.is(y.length, dwellFrames(plan) * 1920);
  let steps = 0;
  for (let i = 1; i < y.length; i++) steps = Math.max(steps, Math.abs(y[i]! - y[i - 1]!));
  assert.is(steps, 1);
  assert.is(y[0], 10 * 1920);
  assert.is(y.at(-1), 80 * 1920 - 1);
});

const person = (name: string, gender: string | null) => ({
  name,
  person: name,
  gender,
  file: `${name}.mp4`,
  domain: "closeup",
  language: "en",
  seconds: 10,
});
const people: People = {
  clips: ["m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4"].map((name) => person(name, name[0]!)),
  voices: ["mv1", "fv1", "mv2", "fv2"].map((name) => person(name, name[0]!)),
};

test("who talks over: genders in turn, never the person itself, the same for one seed and for any number of voices", () => {
  const { clips } = people;
  let differs = 0;
  for (const [i, clip] of clips.entries()) {
    const three = otherVoices(people, i, 3, 1);
    assert.is(new Set([clip.person, ...three.map((v) => v.person)]).size, 4);
    assert.is(three[0]!.gender === clip.gender, i % 2 === 0);
    assert.equal(otherVoices(people, i, 1, 1), three.slice(0, 1));
    assert.is(otherClip(people, i, 1).gender === clip.gender, i % 2 === 0);
    differs += Number(otherVoices(people, i, 1, 2)[0]!.person !== three[0]!.person);
  }
  assert.ok(differs > 0, "the seed changes nothing");
});

test("with nobody else there the message says so", () => {
  assert.throws(() => otherClip({ clips: [person("m1", "m")], voices: [] }, 0, 1), /nobody but m1/);
});

test.run();
