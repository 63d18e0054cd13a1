import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MAX_ACCESS_UNIT_BYTES } from "../../src/transport/webrtc/h264-depacketizer.js";
import { keyFrameSize, readDescriptor, Vp8Depacketizer } from "../../src/transport/webrtc/vp8-depacketizer.js";
import { fuzz, random } from "../transport/fuzz.js";

const test = suite("WebRTC: VP8 out of RTP");
const RUNS = { numRuns: 200 };

type Packet = { timestamp: number; marker: boolean; payload: Buffer };

/** Frame header of RFC 6386, 9.1: a key frame says its size, any other frame only that it is none. */
function frameOf(key: boolean, body: Uint8Array, width = 320, height = 180): Buffer {
  if (!key) return Buffer.concat([Buffer.of(0x11, 0, 0), body]);
  const head = Buffer.of(0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 0, 0);
  head.writeUInt16LE(width, 6);
  head.writeUInt16LE(height, 8);
  return Buffer.concat([head, body]);
}

/** Descriptors of RFC 7741, 4.2, by which of its parts are there. */
type Parts = { pictureId: 0 | 7 | 15; level: boolean; temporal: boolean };
const NONE: Parts = { pictureId: 0, level: false, temporal: false };
const parts = fc.record({
  pictureId: fc.constantFrom(0 as const, 7 as const, 15 as const),
  level: fc.boolean(),
  temporal: fc.boolean(),
});

function descriptor(begins: boolean, { pictureId, level, temporal }: Parts): Buffer {
  const first = begins ? 0x10 : 0;
  if (pictureId === 0 && !level && !temporal) return Buffer.of(first);
  const bits = (pictureId > 0 ? 0x80 : 0) | (level ? 0x40 : 0) | (temporal ? 0x20 : 0);
  const id = pictureId === 15 ? [0x80 | 0x12, 0x34] : pictureId === 7 ? [0x12] : [];
  return Buffer.of(first | 0x80, bits, ...id, ...(level ? [7] : []), ...(temporal ? [0x60] : []));
}

function packetsOf(frame: Buffer, timestamp: number, bytes: number, with_: Parts = NONE): Packet[] {
  const out: Packet[] = [];
  for (let at = 0; at < frame.length; at += bytes) {
    const payload = Buffer.concat([descriptor(at === 0, with_), frame.subarray(at, at + bytes)]);
    out.push({ timestamp: timestamp >>> 0, marker: at + bytes >= frame.length, payload });
  }
  return out;
}

const body = fc.uint8Array({ minLength: 1, maxLength: 4000 });

test("frames in packets of any size, with any descriptor, come out as they were", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(body, fc.boolean(), parts), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 10, max: 1400 }),
      (frames, bytes) => {
        const depacketizer = new Vp8Depacketizer();
        const sent = frames.map(([b, key], i) => frameOf(key || i === 0, b));
        const out = sent.flatMap((frame, i) =>
          packetsOf(frame, 0xffff_f000 + i * 3000, bytes, frames[i]![2]).flatMap((p) => depacketizer.push(p)),
        );
        assert.equal(
          out.map(({ frame, key, timestamp }) => [frame.toString("hex"), key, timestamp]),
          sent.map((frame, i) => [frame.toString("hex"), frames[i]![1] || i === 0, (0xffff_f000 + i * 3000) >>> 0]),
        );
        assert.equal([depacketizer.counters.malformed, depacketizer.needsKey], [0, false]);
      },
    ),
    RUNS,
  );
});

test("nothing comes out before a key frame, and without marker bits a new timestamp ends a frame", () => {
  const depacketizer = new Vp8Depacketizer();
  const frames = [false, true, false, false].map((key) => frameOf(key, Buffer.of(1)));
  const out = frames.flatMap((frame, i) =>
    depacketizer.push({ timestamp: i * 3000, marker: false, payload: Buffer.concat([Buffer.of(0x10), frame]) }),
  );
  assert.equal(
    out.map((f) => f.timestamp),
    [3000, 6000],
  );
});

test("with any packet missing, only whole frames come out, after a loss none before a key frame, and a whole key frame at once", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 4, maxLength: 12 }), fc.nat(), (keys, at) => {
      const frames = keys.map((key, i) => frameOf(key || i === 0, Buffer.alloc(500 + 37 * i, i)));
      const packets = frames.flatMap((frame, i) => packetsOf(frame, i * 3000, 200));
      const missing = at % packets.length;
      const depacketizer = new Vp8Depacketizer();
      const out = packets.flatMap((packet, i) => {
        if (i !== missing) return depacketizer.push(packet);
        depacketizer.lost();
        return [];
      });
      const damaged = packets[missing]!.timestamp / 3000;
      let good = true;
      const expected: number[] = [];
      for (const i of frames.keys()) {
        if (i === damaged) good = false;
        else if (keys[i]! || i === 0) good = true;
        if (good) expected.push(i);
      }
      assert.equal(
        out.map((f) => f.timestamp / 3000),
        expected,
      );
      for (const { timestamp, frame } of out) assert.ok(frame.equals(frames[timestamp / 3000]!));
    }),
    RUNS,
  );
});

test("padding changes nothing; a frame that begins twice or not at all is left out", () => {
  const depacketizer = new Vp8Depacketizer();
  const empty = (timestamp: number) => ({ timestamp, marker: false, payload: Buffer.alloc(0) });
  const key = packetsOf(frameOf(true, Buffer.alloc(50)), 0, 20);
  assert.is([...key, empty(0), empty(3000)].flatMap((p) => depacketizer.push(p)).length, 1);
  assert.equal([depacketizer.counters.malformed, depacketizer.needsKey], [0, false]);
  const [first, ...rest] = packetsOf(frameOf(true, Buffer.alloc(50)), 6000, 20);
  assert.equal(
    [first!, first!, ...rest].flatMap((p) => depacketizer.push(p)),
    [],
  );
  assert.equal(
    rest.flatMap((p) => depacketizer.push({ ...p, timestamp: 9000 })),
    [],
  );
  assert.equal([depacketizer.counters.malformed > 1, depacketizer.needsKey], [true, true]);
  assert.is(packetsOf(frameOf(true, Buffer.alloc(50)), 12_000, 20).flatMap((p) => depacketizer.push(p)).length, 1);
});

test("descriptors that are cut off, and key frames that cannot be: no picture, or one that no decoder should be given", () => {
  for (const hex of ["", "90", "9080", "908092", "90f0", "90f01207", "10"])
    assert.is(readDescriptor(Buffer.from(hex, "hex")), null, hex);
  assert.equal(readDescriptor(Buffer.from("90e09234070501", "hex")), { bytes: 6, begins: true });
  assert.equal(readDescriptor(Buffer.from("1301", "hex")), { bytes: 1, begins: false }, "partition 3");
  assert.equal(keyFrameSize(frameOf(true, Buffer.of(0), 1280, 720)), { width: 1280, height: 720 });
  for (const frame of [
    frameOf(false, Buffer.alloc(20)),
    frameOf(true, Buffer.of(0), 16_383, 16_383),
    frameOf(true, Buffer.of(0), 0, 180),
    frameOf(true, Buffer.of(0)).subarray(0, 9),
    Buffer.from("100000aabbcc40018000", "hex"),
  ])
    assert.is(keyFrameSize(frame), null);
  const depacketizer = new Vp8Depacketizer();
  const huge = packetsOf(frameOf(true, Buffer.of(0), 16_383, 16_383), 0, 100);
  assert.equal(
    huge.flatMap((p) => depacketizer.push(p)),
    [],
  );
  assert.equal([depacketizer.needsKey, depacketizer.counters.units_dropped], [true, 1]);
});

test("noise and turned bytes make no exception and hold no more than one frame", () => {
  const depacketizer = new Vp8Depacketizer();
  const samples = packetsOf(frameOf(true, Buffer.alloc(3000, 7)), 0, 1000, {
    pictureId: 15,
    level: true,
    temporal: true,
  }).map((p) => p.payload);
  const next = random(3);
  let frames = 0;
  fuzz({ samples, count: 10_000, seed: 12, allowed: [] }, (payload) => {
    if (next(10) === 0) depacketizer.lost();
    for (const { frame } of depacketizer.push({ timestamp: next(4), marker: next(5) === 0, payload })) {
      frames += 1;
      assert.ok(frame.length <= MAX_ACCESS_UNIT_BYTES);
    }
  });
  assert.ok(frames > 10 && depacketizer.counters.malformed > 100, `${frames} ${depacketizer.counters.malformed}`);
});

test("a frame that never ends is cut off, in bytes and in packets", () => {
  for (const bytes of [1100, 1]) {
    const depacketizer = new Vp8Depacketizer();
    depacketizer.push({
      timestamp: 0,
      marker: false,
      payload: Buffer.concat([Buffer.of(0x10), frameOf(true, Buffer.alloc(9))]),
    });
    for (let i = 0; i < 9000; i++) depacketizer.push({ timestamp: 0, marker: false, payload: Buffer.alloc(1 + bytes) });
    assert.ok(depacketizer.counters.malformed > 0);
    assert.equal(depacketizer.push({ timestamp: 0, marker: true, payload: Buffer.of(0, 1) }), []);
    assert.is(depacketizer.needsKey, true);
  }
});

test.run();
