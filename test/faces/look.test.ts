import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { KnownPeople } from "../../src/channel/known-people.js";
import { likeness, lookOf } from "../../src/model/faces/look.js";
import { noise } from "../model/noise.js";

const test = suite("looks");

const SIDE = 80;
const crop = (name: string, gain = 1, offset = 0): Uint8Array => {
  const cells = noise(name, 100);
  return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
    const cell = Math.floor(i / SIDE / 8) * 10 + Math.floor((i % SIDE) / 8);
    return Math.round(128 + offset + gain * 60 * cells[cell]!);
  });
};

test("a look is blind to light and contrast, and not to who it is", () => {
  const anna = lookOf(crop("anna"), SIDE);
  assert.ok(likeness(anna, lookOf(crop("anna", 0.4, 30), SIDE)) > 0.99);
  assert.ok(likeness(anna, lookOf(crop("ben"), SIDE)) < 0.5);
});

test("several crops are looked at together; nothing to see is like nothing", () => {
  const two = new Uint8Array(2 * SIDE * SIDE);
  two.set(crop("anna"));
  two.set(crop("ben"), SIDE * SIDE);
  const both = lookOf(two, SIDE);
  const [a, b] = [lookOf(crop("anna"), SIDE), lookOf(crop("ben"), SIDE)];
  assert.ok(both.every((v, i) => Math.abs(v - (a[i]! + b[i]!) / 2) < 1e-3));
  const grey = lookOf(new Uint8Array(SIDE * SIDE).fill(110), SIDE);
  assert.is(likeness(grey, a), 0);
});

const look = lookOf(crop("anna"), SIDE);
const chains = new Set([0]);
const nobody: ReadonlySet<number> = new Set();

test("people are found by their look as long as the sound goes on, for a minute", () => {
  const people = new KnownPeople();
  people.know(1, 0, 0, look, 4);
  assert.equal(people.find(look, chains, nobody), { track: 1, chain: 0 });
  assert.is(people.find(look, new Set([1]), nobody), null, "another chain");
  assert.is(people.find(look, chains, new Set([1])), null, "is somebody else");
  assert.is(people.find(lookOf(crop("ben"), SIDE), chains, nobody), null);
  people.keepOnly(chains, 60 * 48_000);
  assert.ok(people.has(1));
  people.keepOnly(chains, 60 * 48_000 + 1);
  assert.not(people.has(1));
  people.know(2, 0, 0, look, 4);
  people.keepOnly(new Set([5]), 1);
  assert.equal(people.tracks, []);
});

test("of two that are as good as alike, the one seen last is found", () => {
  const people = new KnownPeople();
  people.know(1, 0, 0, look, 4);
  people.know(2, 0, 9, lookOf(crop("anna", 0.9, 3), SIDE), 4);
  assert.is(people.find(look, chains, nobody)?.track, 2);
  people.know(1, 0, 10, look, 4);
  assert.is(people.find(look, chains, nobody)?.track, 1);
  people.know(3, 0, 11, lookOf(crop("ben"), SIDE), 4);
  assert.is(people.find(look, chains, nobody)?.track, 1);
});

test("eight people are remembered, those seen last", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { minLength: 1, maxLength: 60 }), (seen) => {
      const people = new KnownPeople();
      seen.forEach((track, i) => {
        people.know(track, 0, i, look, 4);
      });
      const last = [...new Set([...seen].reverse())].slice(0, 8);
      assert.equal([...people.tracks].sort(), last.sort());
    }),
    { seed: 5 },
  );
});

test("a step that shows nothing of the face keeps the look there was; a new chain begins a new one", () => {
  const people = new KnownPeople();
  people.know(1, 0, 0, null, 4);
  assert.not(people.has(1));
  people.know(1, 0, 0, look, 4);
  people.know(1, 0, 7, null, 4);
  assert.is(people.lastSeen(1), 7);
  people.know(1, 1, 8, null, 4);
  assert.is(people.find(look, new Set([1]), nobody), null);
});

test.run();
