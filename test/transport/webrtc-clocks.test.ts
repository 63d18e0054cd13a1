import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EgressClock } from "../../src/transport/webrtc/egress-clock.js";
import { TrackClock } from "../../src/transport/webrtc/track-clock.js";
import { random } from "./fuzz.js";

const test = suite("WebRTC: clocks");

const ntp = (ms: number): bigint => BigInt(Math.round((3_900_000_000_000 + ms) * (2 ** 32 / 1000)));

/** Picture and sound that are captured together, from 3 s on: how far they are put apart at each moment, at most and at the end. */
function apart(everyMs: { sound: number; picture: number }, wallMs: (kind: "sound" | "picture", ms: number) => number) {
  const clock = new TrackClock();
  let worst = 0;
  let last = 0;
  for (let ms = 0; ms < 90_000; ms += 20) {
    const soundAt = clock.place("sound", ms * 48, ms);
    last = clock.place("picture", ms * 90, ms + 3) - soundAt;
    if (ms > 7000) worst = Math.max(worst, Math.abs(last));
    // Neither with the other: a report of the one kind comes up to 5 s before the other's.
    if (ms % everyMs.sound === 500) clock.report("sound", ntp(wallMs("sound", ms)), ms * 48);
    if (ms % everyMs.picture === 200) clock.report("picture", ntp(wallMs("picture", ms)), ms * 90);
  }
  return { worst, last };
}

test("a publisher's wall clock that is set moves nothing, however far apart the reports of the tracks come", () => {
  const next = random(7);
  for (const stepMs of [300, -300, 45, -45, 20_000])
    for (const everyMs of [
      { sound: 5000, picture: 1000 },
      { sound: 1000, picture: 5000 },
    ]) {
      const { worst } = apart(everyMs, (_, ms) => ms + next(4) + (ms < 30_000 ? 0 : stepMs));
      assert.ok(worst <= 40, `${stepMs} ms, ${JSON.stringify(everyMs)}: ${worst} ms apart`);
    }
});

test("another wall clock of one track alone is believed after a while, reports that are late once never", () => {
  const everyMs = { sound: 5000, picture: 1000 };
  const moved = apart(everyMs, (kind, ms) => (kind === "picture" && ms > 30_000 ? ms + 300 : ms));
  assert.ok(Math.abs(moved.last - 300) < 5, `${moved.last} ms instead of 300`);
  // Of the picture alone, and of both at once.
  for (const untilMs of [500, 600]) {
    const late = apart(everyMs, (_, ms) => (ms % 30_000 < untilMs ? ms + 300 : ms));
    assert.ok(late.worst < 5, `${late.worst} ms apart`);
  }
});

/** A browser's sound counts the samples that it got, without a gap: how far the picture is from its sound, every 20 ms; 40 s in, some are lost. */
function losing(lostMs: number, jitterMs: number, arrivals: boolean): number[] {
  const next = random(5);
  const clock = new TrackClock();
  const lateMs = (): number => next(9) / 10;
  const out: number[] = [];
  for (let ms = 0; ms < 90_000; ms += 20) {
    const soundMs = ms < 40_000 ? ms : ms - lostMs;
    if (arrivals) clock.arrived("sound", soundMs * 48, ms + 11 + next(jitterMs));
    if (arrivals) clock.arrived("picture", ms * 90, ms + 3 + next(jitterMs));
    const soundAt = clock.place("sound", soundMs * 48, ms + 11);
    out.push(clock.place("picture", ms * 90, ms + 3) - soundAt);
    if (ms % 5000 === 2500) clock.report("sound", ntp(ms + lateMs()), soundMs * 48);
    if (ms % 1000 === 200) clock.report("picture", ntp(ms + lateMs()), ms * 90);
  }
  return out;
}

test("a microphone that loses time is found out with the first report that the packets confirm, else with the fourth", () => {
  for (const lostMs of [10, 30, 263, 800])
    for (const [arrivals, jitterMs, knownMs] of [
      [true, 1, 45_000],
      [true, 50, 45_000],
      [false, 0, 60_000],
    ] as const) {
      const apart = losing(lostMs, jitterMs, arrivals);
      const at = (ms: number): string =>
        `${lostMs} ms lost, jitter ${jitterMs}, ${arrivals}: ${apart[ms / 20]} ms apart`;
      for (const ms of [39_980, knownMs, 89_980]) assert.ok(Math.abs(apart[ms / 20]!) < 3, at(ms));
    }
});

test("sound that was late for two seconds is taken back with the next report; an encoder that is late never counts", () => {
  const clock = new TrackClock();
  const [behind, apart]: [(kind: string, ms: number) => number, number[]] = [
    (kind, ms) =>
      ms >= 41_000 && ms < 43_000 && kind === "sound"
        ? 100
        : ms >= 61_000 && ms < 63_000 && kind === "picture"
          ? 200
          : 0,
    [],
  ];
  for (let ms = 0; ms < 90_000; ms += 20) {
    clock.arrived("sound", ms * 48, ms + 11 + behind("sound", ms));
    clock.arrived("picture", ms * 90, ms + 3 + behind("picture", ms));
    const soundAt = clock.place("sound", ms * 48, ms + 11);
    apart.push(clock.place("picture", ms * 90, ms + 3) - soundAt);
    if (ms % 5000 === 2500) clock.report("sound", ntp(ms + behind("sound", ms)), ms * 48);
    if (ms % 1000 === 200) clock.report("picture", ntp(ms + behind("picture", ms)), ms * 90);
  }
  for (const ms of [40_000, 48_000, 61_500, 62_500, 64_000, 89_980])
    assert.ok(Math.abs(apart[ms / 20]!) < 3, `${ms}: ${apart[ms / 20]} ms apart`);
});

test("reports that are late by various times are not believed", () => {
  const next = random(5);
  // A busy sender that writes when it sent.
  const { worst } = apart({ sound: 1000, picture: 1000 }, (_, ms) => ms + next(60));
  assert.ok(worst < 30, `${worst} ms apart`);
});

test("before the first reports a picture that waited for lost packets is where its sound is", () => {
  const next = random(11);
  for (const wrap of [0, 2 ** 32 - 90 * 200]) {
    const clock = new TrackClock();
    const jitter = (): number => 20 + next(50);
    const ticks = (ms: number, rate: number): number => (wrap + ms * rate) % 2 ** 32;
    let worst = 0;
    for (let ms = 0; ms < 4000; ms += 20) {
      const [soundMs, pictureMs] = [ms + jitter(), ms + jitter()];
      clock.arrived("sound", ticks(ms, 48), soundMs);
      clock.arrived("picture", ticks(ms, 90), pictureMs);
      const soundAt = clock.place("sound", ticks(ms, 48), soundMs);
      // The first key frame is whole after a second, and 270 ms later than it came.
      if (ms < 1000) continue;
      const pictureAt = clock.place("picture", ticks(ms, 90), pictureMs + (ms === 1000 ? 270 : 0));
      worst = Math.max(worst, Math.abs(pictureAt - soundAt));
    }
    assert.ok(worst < 15, `${worst} ms apart`);
  }
});

test("egress: the NTP time of sender reports goes on when the programme's 32-bit milliseconds wrap", () => {
  const clock = new EgressClock();
  const wallMs = 1_700_000_000_000;
  const atMs = (timeMs: number): number => {
    const at = clock.ntp(timeMs, wallMs);
    return (Number(at >> 32n) - 2_208_988_800) * 1000 + (Number(at & 0xffff_ffffn) * 1000) / 2 ** 32 - wallMs;
  };
  // Sound and picture by turns, each a little behind the other.
  for (const [timeMs, expected] of [
    [2 ** 32 - 40.5, 0],
    [2 ** 32 - 60, -19.5],
    [20.25, 60.75],
    [2 ** 32 - 10, 30.5],
    [1000, 1040.5],
  ] as const)
    assert.ok(Math.abs(atMs(timeMs) - expected) < 0.01, `${atMs(timeMs)} ms instead of ${expected}`);
});

test.run();
