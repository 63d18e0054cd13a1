import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EgressClock } from "../../src/transport/webrtc/egress-clock.js";
import { joinAvc, nalType, readAvcC, splitAvc, writeAvcC } from "../../src/transport/webrtc/h264.js";
import { H264Depacketizer, MAX_ACCESS_UNIT_BYTES } from "../../src/transport/webrtc/h264-depacketizer.js";
import { packetize } from "../../src/transport/webrtc/h264-packetizer.js";
import { opusChannels, opusDurationMs, opusHead } from "../../src/transport/webrtc/opus.js";
import { ReorderBuffer, type Reordered } from "../../src/transport/webrtc/reorder.js";
import { difference16, Unwrapper32 } from "../../src/transport/webrtc/sequence.js";
import { bindingRequest, datagramKind, isAuthenticRequest } from "../../src/transport/webrtc/stun.js";
import { TrackClock } from "../../src/transport/webrtc/track-clock.js";
import { mutate, random } from "../transport/fuzz.js";

const test = suite("WebRTC: pure parts");
const RUNS = { numRuns: 200 };

/** A NAL unit of a type that a packet may carry alone. */
const nal = fc
  .tuple(
    fc.integer({ min: 0, max: 3 }),
    fc.constantFrom(1, 5, 6, 7, 8, 9, 12),
    fc.uint8Array({ minLength: 0, maxLength: 3000 }),
  )
  .map(([priority, type, body]) => Buffer.concat([Buffer.of((priority << 5) | type), body]));
const unit = fc.array(nal, { minLength: 1, maxLength: 8 });

type Packet = { timestamp: number; marker: boolean; payload: Buffer };
const packetsOf = (nals: readonly Buffer[], timestamp: number, bytes: number): Packet[] =>
  packetize(nals, bytes).map((payload, i, all) => ({ timestamp, marker: i === all.length - 1, payload }));
const KEY = Buffer.of(0x65, 1, 2, 3);

test("what is packetised and depacketised is the same, whatever the sizes, and no payload is too large", () => {
  fc.assert(
    fc.property(fc.array(unit, { minLength: 1, maxLength: 6 }), fc.integer({ min: 64, max: 1400 }), (units, bytes) => {
      const depacketizer = new H264Depacketizer();
      depacketizer.push({ timestamp: 0xffff_fff0, marker: true, payload: KEY });
      const out = units.flatMap((nals, i) =>
        packetsOf(nals, (i * 3000) >>> 0, bytes).flatMap((packet) => {
          assert.ok(packet.payload.length <= bytes);
          return depacketizer.push(packet);
        }),
      );
      assert.is(out.length, units.length);
      for (const [i, { nals, timestamp }] of out.entries()) {
        assert.is(timestamp, i * 3000);
        assert.equal(
          nals.map((n) => n.toString("hex")),
          units[i]!.map((n) => n.toString("hex")),
        );
      }
      assert.is(depacketizer.counters.malformed, 0);
    }),
    RUNS,
  );
});

test("without marker bits a new timestamp ends a unit", () => {
  const depacketizer = new H264Depacketizer();
  const out = [0, 3000, 6000].flatMap((timestamp) => depacketizer.push({ timestamp, marker: false, payload: KEY }));
  assert.equal(
    out.map((u) => u.timestamp),
    [0, 3000],
  );
});

test("with any packet missing, only whole units come out, and after a loss none before a key frame", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 4, maxLength: 12 }), fc.nat(), (keys, at) => {
      const units = keys.map((key, i) => [
        Buffer.concat([Buffer.of(key || i === 0 ? 0x65 : 0x41), Buffer.alloc(500 + 37 * i, i)]),
      ]);
      const packets = units.flatMap((nals, i) => packetsOf(nals, i * 3000, 200));
      const missing = at % packets.length;
      const depacketizer = new H264Depacketizer();
      const out = packets.flatMap((packet, i) => {
        if (i === missing) {
          depacketizer.lost();
          return [];
        }
        return depacketizer.push(packet);
      });
      const damaged = packets[missing]!.timestamp / 3000;
      let good = true;
      const allowed = new Set<number>();
      for (const [i, nals] of units.entries()) {
        if (i === damaged) good = false;
        else if (nalType(nals[0]!) === 5) good = true;
        if (good) allowed.add(i * 3000);
      }
      for (const { timestamp, nals } of out) {
        assert.ok(allowed.has(timestamp), `unit ${timestamp / 3000} came out after ${damaged} was damaged`);
        assert.ok(nals[0]!.equals(units[timestamp / 3000]![0]!));
      }
      // What lies before the damage is never held back.
      assert.ok(out.filter((u) => u.timestamp < damaged * 3000).length === damaged);
    }),
    RUNS,
  );
});

test("noise and turned bytes make no exception and hold no more than one unit", () => {
  const next = random(11);
  const good = packetsOf([KEY, Buffer.alloc(5000, 0x41), Buffer.of(0x67, 1, 2, 3), Buffer.of(0x68, 1)], 1, 1000);
  const depacketizer = new H264Depacketizer();
  let bytes = 0;
  for (let i = 0; i < 5000; i++) {
    const { payload } = good[next(good.length)]!;
    const bad = mutate(payload, next);
    if (next(10) === 0) depacketizer.lost();
    for (const { nals } of depacketizer.push({ timestamp: next(4), marker: next(5) === 0, payload: bad }))
      bytes = Math.max(
        bytes,
        nals.reduce((sum, n) => sum + n.length, 0),
      );
  }
  assert.ok(bytes <= MAX_ACCESS_UNIT_BYTES && depacketizer.counters.malformed > 100);
});

test("a unit that never ends is cut off", () => {
  const depacketizer = new H264Depacketizer();
  depacketizer.push({
    timestamp: 0,
    marker: false,
    payload: Buffer.concat([Buffer.of(0x7c, 0x85), Buffer.alloc(1100)]),
  });
  const middle = Buffer.concat([Buffer.of(0x7c, 0x05), Buffer.alloc(1100)]);
  for (let i = 0; i < 5000; i++) depacketizer.push({ timestamp: 0, marker: false, payload: middle });
  assert.ok(depacketizer.counters.malformed > 0);
  assert.is(depacketizer.needsKey, true);
});

test("avcC and avc units: written and read back", () => {
  const set = fc.uint8Array({ minLength: 4, maxLength: 60 }).map((b) => Buffer.from(b));
  fc.assert(
    fc.property(
      fc.array(set, { minLength: 1, maxLength: 3 }),
      fc.array(set, { minLength: 1, maxLength: 3 }),
      (sps, pps) => {
        const read = readAvcC(writeAvcC(sps, pps))!;
        assert.equal([read.lengthBytes, read.sps, read.pps], [4, sps, pps]);
        assert.equal(splitAvc(joinAvc([...sps, ...pps]), 4), [...sps, ...pps]);
        const cut = writeAvcC(sps, pps).subarray(0, 9);
        assert.is(readAvcC(cut), null);
      },
    ),
    RUNS,
  );
});

const values = (out: readonly Reordered<number>[]): (number | string)[] =>
  out.map((o) => (o.kind === "packet" ? o.value : `-${o.count}`));

test("packets that are shuffled within the wait come out in order, over the wrap, none lost", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 65_535 }),
      fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 60, maxLength: 200 }),
      (start, late) => {
        const buffer = new ReorderBuffer<number>({ maxWaitMs: 100, maxPackets: 64 });
        // The first one says where it begins; each other is late by up to 9 places.
        const order = late.map((by, i) => ({ i, at: i === 0 ? -1 : i + by })).sort((a, b) => a.at - b.at);
        const out = order.flatMap(({ i }, n) => buffer.push((start + i) & 0xffff, i, n));
        assert.equal(
          values(out),
          late.map((_, i) => i),
        );
        assert.is(buffer.held, 0);
      },
    ),
    RUNS,
  );
});

test("a missing packet is waited for, then told; what comes too late or twice is counted", () => {
  const buffer = new ReorderBuffer<number>({ maxWaitMs: 100, maxPackets: 8 });
  assert.equal(values(buffer.push(65_534, 0, 0)), [0]);
  assert.equal(values(buffer.push(0, 2, 10)), []);
  assert.equal(values(buffer.poll(100)), []);
  assert.equal(values(buffer.poll(111)), ["-1", 2]);
  assert.equal(values(buffer.push(65_535, 1, 112)), []);
  assert.equal(values(buffer.push(0, 2, 113)), []);
  assert.equal(buffer.counters, { reordered: 0, late: 2, lost: 1, restarts: 0 });
  for (let i = 0; i < 9; i++) buffer.push(2 + i, i, 114);
  assert.is(buffer.counters.lost, 2);
  assert.is(buffer.held, 0);
});

test("another sequence is taken up at once, or after a run of packets from the past", () => {
  const buffer = new ReorderBuffer<number>({ maxWaitMs: 100, maxPackets: 8 });
  buffer.push(10, 0, 0);
  assert.equal(values(buffer.push(30_000, 1, 1)), ["-1", 1]);
  const out = Array.from({ length: 60 }, (_, i) => values(buffer.push(29_000 + i, i, 2))).flat();
  assert.is(out[0], "-1");
  assert.equal(
    out.slice(1),
    Array.from({ length: 11 }, (_, i) => 49 + i),
  );
});

test("counters that wrap", () => {
  assert.is(difference16(3, 65_530), 9);
  assert.is(difference16(65_530, 3), -9);
  const unwrap = new Unwrapper32();
  assert.equal(
    [0xffff_fffe, 1, 0xffff_ffff, 5].map((v) => unwrap.next(v)),
    [0xffff_fffe, 2 ** 32 + 1, 2 ** 32 - 1, 2 ** 32 + 5],
  );
});

const ntp = (ms: number): bigint => BigInt(Math.round((3_900_000_000_000 + ms) * (2 ** 32 / 1000)));

test("sender reports put sound and picture on one timeline, over the wrap of both counters", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      fc.integer({ min: -300, max: 300 }),
      (soundStart, pictureStart, lateMs) => {
        const clock = new TrackClock();
        let worst = 0;
        for (let ms = 0; ms < 12_000; ms += 20) {
          const soundTicks = (soundStart + ms * 48) % 2 ** 32;
          const pictureTicks = (pictureStart + ms * 90) % 2 ** 32;
          const soundAt = clock.place("sound", soundTicks, 5000 + ms);
          // Captured at the same time, but it takes longer on its way (or shorter).
          const pictureAt = clock.place("picture", pictureTicks, 5400 + ms + lateMs);
          if (ms % 1000 === 500) {
            clock.report("sound", ntp(ms), soundTicks);
            clock.report("picture", ntp(ms), pictureTicks);
          }
          if (ms > 3000) worst = Math.max(worst, Math.abs(pictureAt - soundAt));
          assert.ok(Math.abs(soundAt - ms) < 1e-3, "the sound is never moved");
        }
        assert.ok(worst < 1, `${worst} ms apart`);
      },
    ),
    { numRuns: 60 },
  );
});

test("reports that are off by what a sender was late do not shake the picture", () => {
  const clock = new TrackClock();
  const next = random(5);
  let jumps = 0;
  for (let ms = 0; ms < 30_000; ms += 20) {
    clock.place("sound", ms * 48, ms);
    clock.place("picture", ms * 90, ms);
    if (ms % 1000 !== 0) continue;
    // Every second report is late by up to 200 ms.
    const late = (): number => (next(2) === 0 ? next(200) : next(4));
    clock.report("sound", ntp(ms + late()), ms * 48);
    clock.report("picture", ntp(ms + late()), ms * 90);
    if (ms === 10_000) jumps = clock.counters.clock_jumps;
  }
  assert.is(clock.counters.clock_jumps, jumps, "jumps after the first ten seconds");
  const apart = clock.place("picture", 30_000 * 90, 30_000) - clock.place("sound", 30_000 * 48, 30_000);
  assert.ok(Math.abs(apart) < 5, `picture and sound are ${apart} ms apart`);
});

test("timestamps that begin anew go on where the clock on the wall is", () => {
  const clock = new TrackClock();
  clock.place("picture", 0, 0);
  clock.place("picture", 90_000, 1000);
  assert.is(Math.round(clock.place("picture", 3_000_000_000, 1040)), 1040);
  assert.is(clock.counters.clock_leaps, 1);
});

test("egress: one offset for sound and picture, wraps together with the milliseconds, goes on after a new programme", () => {
  const clock = new EgressClock();
  const nearEnd = 2 ** 32 - 20;
  assert.is(clock.ticks(nearEnd, 0, 90), (nearEnd * 90) % 2 ** 32);
  assert.is(clock.ticks(20, 40, 90), 1800);
  assert.is(clock.ticks(20.5, 40, 48), 984);
  // Another programme begins at 1000 a second later: 1020 ms on the old line.
  assert.is(clock.ticks(500_000, 1040, 90), (1020 * 90) % 2 ** 32);
  assert.is(clock.ticks(500_040, 1080, 48), 1060 * 48);
});

test("Opus: lengths by the first byte, identification header", () => {
  const lengths = [0xfc, 0x00, 0x18, 0x80, 0x7b].map((toc) => opusDurationMs(Buffer.of(toc, 6)));
  assert.equal(lengths, [20, 10, 60, 2.5, 120]);
  assert.is(opusDurationMs(Buffer.alloc(0)), null);
  assert.is(opusDurationMs(Buffer.of(0x03, 0)), null);
  assert.is(opusDurationMs(Buffer.of(0xfb, 6)), 120);
  assert.is(opusChannels(opusHead(2, 312)), 2);
  assert.is(opusChannels(opusHead(1, 0)), 1);
  assert.is(opusChannels(opusHead(3, 0)), null);
  assert.is(opusChannels(opusHead(2, 312).subarray(0, 18)), null);
});

test("only a binding request made with our password passes", () => {
  const password = "abcdefghijklmnopqrstuv";
  const request = bindingRequest("ours:theirs", password, Buffer.alloc(12, 7), true);
  const known = (ufrag: string): string | null => (ufrag === "ours" ? password : null);
  assert.ok(isAuthenticRequest(request, known));
  assert.not(isAuthenticRequest(bindingRequest("ours:theirs", `${password}x`, Buffer.alloc(12, 7), true), known));
  assert.not(isAuthenticRequest(bindingRequest("other:theirs", password, Buffer.alloc(12, 7), true), known));
  const next = random(3);
  let passed = 0;
  for (let i = 0; i < 3000; i++) {
    const bad = mutate(request, next);
    if (!bad.equals(request) && isAuthenticRequest(bad, known)) passed += 1;
  }
  assert.is(passed, 0);
  assert.equal(
    [0, 1, 22, 63, 64, 128, 191, 192].map((b) => datagramKind(Buffer.of(b))),
    ["stun", "stun", "dtls", "dtls", "other", "media", "media", "other"],
  );
  assert.is(datagramKind(Buffer.alloc(0)), "other");
});

test.run();
