import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FaceTracker, type Sighting, type Track } from "../../src/model/faces/tracker.js";

const test = suite("face tracker");
const ROUND = 9600; // five detections a second
const SECOND = 48_000;

const face = (x: number, y = 200, half = 50, score = 0.9): Sighting => ({ pose: { x, y, half }, score });
/** Feeds `rounds` detections and moves on to the last one. */
function feed(tracker: FaceTracker, from: number, rounds: number, at: (round: number) => Sighting[]): readonly Track[] {
  let tracks: readonly Track[] = [];
  for (let r = from; r < from + rounds; r++) {
    tracker.see(r * ROUND, at(r));
    tracks = tracker.advance(r * ROUND);
  }
  return tracks;
}
/** Repeatable noise in -1..1. */
const noise = (n: number): number => {
  const s = Math.sin(n * 12.9898 + 4.1) * 43758.5453;
  return 2 * (s - Math.floor(s)) - 1;
};

test("a sure face is followed at once, an unsure one after its second sighting", () => {
  assert.is(feed(new FaceTracker(), 0, 1, () => [face(100)]).length, 1);
  const tracker = new FaceTracker();
  assert.is(feed(tracker, 0, 1, () => [face(100, 200, 50, 0.55)]).length, 0);
  assert.is(feed(tracker, 1, 1, () => [face(103, 200, 50, 0.55)]).length, 1);
  const flicker = new FaceTracker();
  assert.is(feed(flicker, 0, 6, (r) => [face(r * 400, 200, 50, 0.55)]).length, 0);
});

test("a still face with a detector's noise keeps its id, and its box stands almost still", () => {
  const tracker = new FaceTracker();
  let steps = 0;
  let wander = 0;
  let last: Sighting | undefined;
  let before: Track | undefined;
  for (let unit = 0; unit < 750; unit++) {
    if (unit % 5 === 0) {
      const k = unit / 5;
      const seen = face(300 + 1.2 * noise(k), 200 + 1.2 * noise(k + 999), 50 + noise(k + 5000));
      tracker.see(unit * 1920, [seen]);
      if (last && unit > 50) wander += Math.hypot(seen.pose.x - last.pose.x, seen.pose.y - last.pose.y);
      last = seen;
    }
    const [track] = tracker.advance(unit * 1920);
    assert.is(track?.id, 1);
    assert.ok(Math.abs(track!.pose.x - 300) < 2.5 && Math.abs(track!.pose.half - 50) < 2.5);
    if (before && unit > 50) steps += Math.hypot(track!.pose.x - before.pose.x, track!.pose.y - before.pose.y);
    before = track;
  }
  assert.ok(steps < 0.5 * wander, `the box moved by ${steps} pixels, the sightings by ${wander}`);
});

test("a face that crosses the picture is followed: the mouth stays in the crop", () => {
  // One half size a second is a fast walk across the picture; 0.3 to 2.
  for (const speed of [0.3, 1, 2]) {
    const tracker = new FaceTracker();
    for (let unit = 0; unit < 200; unit++) {
      const x = 100 + (speed * 50 * unit) / 25;
      if (unit % 5 === 0) tracker.see(unit * 1920, [face(x)]);
      const [track] = tracker.advance(unit * 1920);
      assert.is(track?.id, 1);
      // Lag: 2 / FOLLOW + the age of the sighting (up to 0.2 s).
      assert.ok(
        Math.abs(track!.pose.x - x) / 50 <= speed * 0.36 + 0.05,
        `${speed}: ${(track!.pose.x - x) / 50} at ${unit}`,
      );
    }
  }
});

test("the box never overshoots a step and arrives", () => {
  const tracker = new FaceTracker();
  feed(tracker, 0, 5, () => [face(100)]);
  let before = 100;
  for (let unit = 25; unit < 75; unit++) {
    if (unit % 5 === 0) tracker.see(unit * 1920, [face(120)]);
    const x = tracker.advance(unit * 1920)[0]!.pose.x;
    assert.ok(x >= before - 1e-9 && x <= 120 + 1e-9);
    before = x;
  }
  assert.ok(Math.abs(before - 120) < 0.1);
});

test("one outlier is not followed; a jump that a second sighting confirms is", () => {
  const tracker = new FaceTracker();
  feed(tracker, 0, 5, () => [face(100)]);
  feed(tracker, 5, 1, () => [face(138)]);
  const after = feed(tracker, 6, 3, () => [face(100)]);
  assert.is(after[0]?.id, 1);
  assert.ok(Math.abs(after[0]!.pose.x - 100) < 1e-6);
  const moved = feed(tracker, 9, 6, () => [face(138)]);
  assert.is(moved[0]?.id, 1);
  assert.ok(Math.abs(moved[0]!.pose.x - 138) < 1);
});

test("two faces that stay apart keep their ids whatever the order of the detections", () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { minLength: 10, maxLength: 30 }),
      fc.integer({ min: 120, max: 400 }),
      (flips, apart) => {
        const tracker = new FaceTracker();
        let left = 0;
        flips.forEach((flip, r) => {
          const two = [face(200 + 4 * noise(r)), face(200 + apart + 4 * noise(r + 77))];
          tracker.see(r * ROUND, flip ? two.reverse() : two);
          const tracks = tracker.advance(r * ROUND);
          if (tracks.length !== 2) throw new Error(`${tracks.length} tracks`);
          const [first] = [...tracks].sort((a, b) => a.pose.x - b.pose.x);
          if (r === 0) left = first!.id;
          if (first!.id !== left) throw new Error("ids were swapped");
        });
      },
    ),
    { seed: 11, numRuns: 60 },
  );
});

test("a face not seen for more than a second is gone; a shorter gap keeps it", () => {
  const tracker = new FaceTracker();
  feed(tracker, 0, 5, () => [face(100)]);
  const last = 4 * ROUND;
  assert.is(tracker.advance(last + SECOND).length, 1);
  tracker.see(last + SECOND, [face(104)]);
  assert.is(tracker.advance(last + SECOND)[0]?.id, 1);
  assert.is(tracker.advance(last + 2 * SECOND + 1).length, 0);
  tracker.see(last + 3 * SECOND, [face(100)]);
  assert.is(tracker.advance(last + 3 * SECOND)[0]?.id, 2);
});

test("after a cut all tracks are gone and ids are new", () => {
  const tracker = new FaceTracker();
  feed(tracker, 0, 3, () => [face(100), face(400)]);
  tracker.clear();
  assert.equal(tracker.advance(3 * ROUND), []);
  assert.equal(
    feed(tracker, 3, 1, () => [face(100)]).map((t) => t.id),
    [3],
  );
});

test("at most four faces, none too small, no face twice", () => {
  const many = Array.from({ length: 9 }, (_, i) => face(100 + 200 * i, 200, 30 + 5 * i));
  const tracks = feed(new FaceTracker(), 0, 3, () => many);
  assert.equal(tracks.map((t) => Math.round(t.pose.half)).sort(), [55, 60, 65, 70]);
  assert.is(feed(new FaceTracker(), 0, 3, () => [face(100, 100, 8)]).length, 0);
  const twice = new FaceTracker();
  feed(twice, 0, 1, () => [face(100)]);
  assert.is(feed(twice, 1, 3, () => [face(100), face(112, 205, 52)]).length, 1);
});

test("how often it is asked does not change where a box is", () => {
  const moves = fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 3, maxLength: 12 });
  fc.assert(
    fc.property(moves, fc.integer({ min: 1, max: 40 }), (steps, often) => {
      const [coarse, fine] = [new FaceTracker(), new FaceTracker()];
      let x = 300;
      steps.forEach((step, r) => {
        x += step;
        for (let i = 0; i < often; i++) fine.advance(r * ROUND - ROUND + Math.floor(((i + 1) * ROUND) / often));
        coarse.advance(r * ROUND);
        coarse.see(r * ROUND, [face(x)]);
        fine.see(r * ROUND, [face(x)]);
      });
      const [a] = coarse.advance(steps.length * ROUND);
      const [b] = fine.advance(steps.length * ROUND);
      return a!.id === b!.id && Math.abs(a!.pose.x - b!.pose.x) < 1e-6;
    }),
    { seed: 5, numRuns: 100 },
  );
});

test("whatever a detector says, poses are finite, ids grow, and there are at most four", () => {
  const value = fc.oneof(fc.double(), fc.double({ min: -50, max: 700, noNaN: true }));
  const sighting = fc.record({
    pose: fc.record({ x: value, y: value, half: value }),
    score: fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constant(Number.NaN)),
  });
  const rounds = fc.array(
    fc.record({ late: fc.integer({ min: -ROUND, max: 4 * ROUND }), seen: fc.array(sighting, { maxLength: 8 }) }),
  );
  fc.assert(
    fc.property(rounds, (all) => {
      const tracker = new FaceTracker();
      let newest = 0;
      all.forEach(({ late, seen }, r) => {
        tracker.see(r * ROUND - late, seen);
        const tracks = tracker.advance(r * ROUND);
        if (tracks.length > 4 || new Set(tracks.map((t) => t.id)).size !== tracks.length) throw new Error("tracks");
        for (const t of tracks) {
          const { x, y, half } = t.pose;
          if (![x, y, half].every(Number.isFinite) || half <= 0) throw new Error(`pose ${x} ${y} ${half}`);
          if (t.seenAtSample < r * ROUND - SECOND) throw new Error("kept too long");
          newest = Math.max(newest, t.id);
        }
      });
    }),
    { seed: 23, numRuns: 300 },
  );
});

test.run();
