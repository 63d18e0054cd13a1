import * as fc from "fast-check";
import { Subject, VirtualTimeScheduler } from "rxjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BackOff, RETRY } from "../../src/backoff.js";
import { ArrivalClock } from "../../src/channel/arrival-clock.js";
import { Epoch, TIMELINE_START_MS } from "../../src/channel/epoch.js";
import { delayPlaces, latencyPlan, MAX_LOOK_AHEAD_MS } from "../../src/channel/latency.js";
import { MediaClock } from "../../src/channel/media-clock.js";
import { SlowModel } from "../../src/channel/slow-model.js";
import { pace } from "../../src/pipeline/operators/pace.js";
import { seamCounter } from "../../src/pipeline/operators/seam.js";

const test = suite("channel clocks");
const SEED = 8;

test("within one run of a source, sound and picture get the same constant offset", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ video: fc.boolean(), stepMs: fc.nat(300), lateMs: fc.nat(400) }), {
        minLength: 1,
        maxLength: 60,
      }),
      (units) => {
        const epoch = new Epoch(true);
        let raw = 0;
        const offsets = new Set(
          units.map(({ video, stepMs, lateMs }) => {
            raw += stepMs;
            return epoch.offsetFor(video ? "video" : "sound", raw, 5000 + raw + lateMs);
          }),
        );
        assert.equal([...offsets], [TIMELINE_START_MS]);
        assert.is(epoch.discontinuities, 0);
      },
    ),
    { seed: SEED },
  );
});

test("a source that begins anew continues the timeline by the wall time that passed", () => {
  const epoch = new Epoch(true);
  epoch.offsetFor("video", 0, 10_000);
  const last = 5000 + epoch.offsetFor("video", 5000, 15_000);
  epoch.restart();
  const first = 40 + epoch.offsetFor("sound", 40, 18_000);
  assert.is(first, last + 3000);
  assert.is(60 + epoch.offsetFor("video", 60, 18_020), first + 20);
  assert.is(epoch.restarts, 1);
});

test("a channel that is started anew goes on with the timeline that its players know, whatever the source's times are", () => {
  for (const [wraps, raw] of [
    [true, 40],
    [true, 2 ** 32 - 500],
    [false, 0],
    [false, 7_200_000],
  ] as const) {
    const clock = new MediaClock(wraps, 300);
    // 90 s were on air when the process before was last heard of; the first unit comes 700 ms later and leaves 300 ms after that.
    clock.continueFrom(90_000, 5000);
    const first = clock.place({ kind: "sound", ptsMs: raw }, 5700).ptsMs;
    assert.is(first, 91_000);
    const later = wraps ? (raw + 1000) % 2 ** 32 : raw + 1000;
    assert.is(clock.place({ kind: "video", ptsMs: later + 40, dtsMs: later }, 6700).dtsMs, first + 1000);
    clock.continueFrom(1, 6700);
    assert.is(clock.place({ kind: "sound", ptsMs: later }, 6701).ptsMs, first + 1000, "only a beginning has a past");
    assert.is(clock.epoch.restarts + clock.epoch.discontinuities, 0);
  }
});

test("a jump is taken out once, and the other track may follow later", () => {
  const epoch = new Epoch(false);
  const at = (track: "video" | "sound", raw: number, wall: number): number => raw + epoch.offsetFor(track, raw, wall);
  at("video", 1000, 0);
  at("sound", 1000, 0);
  const before = at("video", 1040, 40);
  const after = at("video", 90_000, 80);
  assert.is(after, before + 40);
  assert.is(at("sound", 1060, 85), before + 20, "sound from before the jump stays where it was");
  assert.is(at("sound", 90_010, 90), after + 10);
  assert.is(epoch.discontinuities, 1);
});

test("a hole with real time in it is no jump; neither is a burst after a stall", () => {
  const epoch = new Epoch(false);
  const first = epoch.offsetFor("video", 0, 0);
  assert.is(epoch.offsetFor("video", 8000, 8000), first);
  assert.is(epoch.offsetFor("video", 8040, 14_000), first);
  assert.is(epoch.discontinuities, 0);
});

test("32-bit milliseconds wrap without anyone noticing", () => {
  const epoch = new Epoch(true);
  const end = 2 ** 32 - 20;
  const a = end + epoch.offsetFor("video", end, 0);
  const b = 20 + epoch.offsetFor("video", 20, 40);
  assert.is(b - a, 40);
});

test("tracks that begin on both sides of the wrap, and a publisher that comes back after it, keep their lip-sync", () => {
  const epoch = new Epoch(true);
  const at = (track: "video" | "sound", raw: number, wall: number): number => raw + epoch.offsetFor(track, raw, wall);
  const sound = at("sound", 2 ** 32 - 10, 0);
  assert.is(at("video", 15, 25), sound + 25);
  epoch.restart();
  const begun = at("video", 0, 1000);
  assert.is(at("sound", 7, 1300), begun + 7, "one offset for both, whatever the wall says");
  assert.is(epoch.discontinuities, 0);
});

test("the anchor is the quickest arrival; slower ones wait less", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(200), { minLength: 5, maxLength: 100 }), (jitter) => {
      const clock = new ArrivalClock();
      for (const [i, late] of jitter.entries()) clock.arrived(i * 40, 1000 + i * 40 + late);
      const least = 1000 + Math.min(...jitter);
      assert.ok(clock.anchorMs! >= least && clock.anchorMs! <= 1000 + Math.max(...jitter));
      assert.ok(clock.anchorMs! <= least + jitter.length * 40 * 0.001 + 1e-6, "rises 1 ms a second at most");
    }),
    { seed: SEED },
  );
});

test("a publisher whose clock is 300 ppm slow is followed", () => {
  const clock = new ArrivalClock();
  for (let t = 0; t < 120_000; t += 40) clock.arrived(t, t * 1.0003);
  const lag = 120_000 * 0.0003 - clock.anchorMs!;
  assert.ok(lag >= 0 && lag < 6, `${lag} ms behind`);
});

test("a path that becomes slower for good is followed within half a minute, without a jump", () => {
  for (const later of [150, 600, 950]) {
    const clock = new ArrivalClock();
    for (let t = 0; t < 20_000; t += 40) clock.arrived(t, t);
    let before = clock.anchorMs!;
    for (let t = 20_000; t < 85_000; t += 40) {
      clock.arrived(t, t + later);
      assert.ok(clock.anchorMs! - before <= 1, `${clock.anchorMs! - before} ms at once`);
      before = clock.anchorMs!;
    }
    assert.ok(later - before < 60, `${before} of ${later} ms`);
  }
});

test("the slower track says when things leave; one that ended does not", () => {
  const clock = new MediaClock(true, 300);
  const config = Buffer.alloc(1);
  const video = (ms: number) => ({ kind: "video", ptsMs: ms, dtsMs: ms, key: true, data: config, config }) as const;
  const sound = (ms: number) =>
    ({ kind: "sound", ptsMs: ms, data: config, format: { codec: "AAC", caps: "" } }) as const;
  clock.place(video(0), 1000);
  clock.place(sound(0), 1100);
  assert.is(clock.releaseAtMs(TIMELINE_START_MS), 1400);
  for (let t = 40; t < 5000; t += 40) clock.place(video(t), 1000 + t);
  assert.not(clock.has("sound", 6000));
  assert.is(clock.releaseAtMs(TIMELINE_START_MS), 1300);
});

test("a clock is quiet since the newest of either track, and before anything came, for ever", () => {
  const clock = new MediaClock(true, 300);
  assert.is(clock.quietMs(1e9), Number.POSITIVE_INFINITY);
  clock.place({ kind: "sound", ptsMs: 0 }, 1000);
  clock.place({ kind: "video", ptsMs: 0, dtsMs: 0 }, 1040);
  assert.is(clock.quietMs(1100), 60);
  clock.place({ kind: "sound", ptsMs: 60 }, 1100);
  assert.is(clock.quietMs(1100), 0);
});

test("declared latency: about 0.3, 0.8 and 2.4 s, the sum of its parts; a look-ahead of whole steps, where the model gives its voices", () => {
  const card = { kind: "stream", unitSamples: 1920, guardSamples: 4224, voices: 2 } as const;
  for (const [profile, low, high] of [
    ["low", 250, 400],
    ["balanced", 600, 800],
    ["quality", 1200, 2500],
  ] as const) {
    const plan = latencyPlan(profile, card);
    assert.ok(plan.declaredMs >= low && plan.declaredMs <= high, `${profile}: ${plan.declaredMs}`);
    assert.is(plan.declaredMs, Math.round(Object.values(plan.parts).reduce((a, b) => a + b, 0)));
    // A step is decided about when a later one was run: anything else would be waited for without being declared.
    assert.is(plan.lookAheadUnits % plan.hopUnits, 0);
    const { voices: _, ...mute } = card;
    assert.is(latencyPlan(profile, mute).declaredMs, plan.declaredMs - 40 * plan.lookAheadUnits);
  }
});

test("a channel's own look-ahead: whole steps that are no less, added to the latency; a model that decides itself has none", () => {
  const card = { kind: "stream", unitSamples: 1920, guardSamples: 4224, voices: 2 } as const;
  for (const profile of ["low", "balanced", "quality"] as const) {
    const plain = latencyPlan(profile, card);
    for (const lookAheadMs of [0, 1, 40, 41, 1200, 1201, 3999, MAX_LOOK_AHEAD_MS]) {
      const plan = latencyPlan(profile, card, { lookAheadMs });
      const ms = 40 * plan.lookAheadUnits;
      assert.is(plan.lookAheadUnits % plan.hopUnits, 0);
      assert.ok(ms >= lookAheadMs && ms < lookAheadMs + 40 * plan.hopUnits, `${profile}: ${ms} for ${lookAheadMs}`);
      assert.is(plan.declaredMs, plain.declaredMs + ms - 40 * plain.lookAheadUnits);
    }
    const { voices: _, ...mute } = card;
    assert.equal(latencyPlan(profile, mute, { lookAheadMs: 2000 }), latencyPlan(profile, mute));
  }
  for (const lookAheadMs of [-1, MAX_LOOK_AHEAD_MS + 1, Number.NaN])
    assert.throws(() => latencyPlan("quality", card, { lookAheadMs }), /a look-ahead is 0 to 4000 ms/);
});

test("the delay line has room for 120 pictures a second over the longest latency, and for a second that comes at once", () => {
  const geometry = { kind: "stream", unitSamples: 1920, guardSamples: 4800, voices: true } as const;
  const { declaredMs } = latencyPlan("quality", geometry, { lookAheadMs: MAX_LOOK_AHEAD_MS });
  const scheduler = new VirtualTimeScheduler();
  const counter = seamCounter();
  const pictures = new Subject<number>();
  const left: number[] = [];
  const limit = delayPlaces(declaredMs);
  pictures
    .pipe(pace({ releaseAtMs: (ms) => ms + declaredMs, limit, policy: "drop-oldest", counter, scheduler }))
    .subscribe((ms) => left.push(ms));
  for (let i = 0; i < 1200; i++) {
    const ms = (i * 1000) / 120;
    // What is captured in the ninth second arrives in a heap at its end.
    scheduler.schedule(() => pictures.next(ms), ms >= 8000 && ms < 9000 ? 9000 : ms);
  }
  scheduler.flush();
  assert.equal([counter.dropped, left.length], [0, 1200]);
});

test("a model that needs longer than its budget is named once a minute, a slow moment is not", () => {
  const slow = new SlowModel(320);
  const said = (engineMs: number, fromMs: number, count: number): unknown[] =>
    Array.from({ length: count }, (_, i) => slow.take(engineMs, fromMs + 400 * i)).filter((x) => x !== null);
  assert.equal(said(300, 0, 20), []);
  assert.equal(said(900, 8000, 3), [], "three of eight");
  assert.equal(said(300, 10_000, 10), []);
  assert.equal(said(650, 20_000, 100), [{ engineMs: 650, budgetMs: 320 }]);
  assert.is(said(650, 90_000, 100).length, 1);
});

test("back-off of connections doubles from 0.5..1 s to 5..10 s, and begins anew after success", () => {
  const [longest, shortest] = [1, 0].map((random) => new BackOff(RETRY, () => random));
  const waits = (backOff: BackOff) => Array.from({ length: 6 }, () => backOff.next());
  assert.equal(waits(longest!), [1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(waits(shortest!), [500, 1000, 2000, 4000, 5000, 5000]);
  longest!.reset();
  assert.is(longest!.next(), 1000);
});

test.run();
