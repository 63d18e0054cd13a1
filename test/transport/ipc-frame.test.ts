import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeFrame, type Frame, FrameError, FrameReader, MAX_FRAME_BYTES } from "../../src/transport/ipc/frame.js";
import { fuzz, inPieces, random } from "./fuzz.js";

const test = suite("ipc frame");

const frames: Frame<object>[] = [
  { header: { t: "attach", channel: "one" }, payload: Buffer.alloc(0) },
  { header: { t: "out", tagType: 9, timestampMs: 40 }, payload: Buffer.from("1701000000", "hex") },
  { header: { t: "keyFrame" }, payload: Buffer.alloc(0) },
];
const bytes = Buffer.concat(frames.map((frame) => encodeFrame(frame.header, frame.payload)));

test("frames come back as they were written, whatever the pieces", () => {
  const next = random(31);
  for (const most of [1, 2, 7, 100]) {
    const reader = new FrameReader<object>();
    const out: Frame<object>[] = [];
    inPieces(bytes, most, next, (piece) => out.push(...reader.push(piece)));
    assert.equal(out, frames);
  }
});

test("every prefix reads without an error, and the rest completes it", () => {
  for (let n = 0; n <= bytes.length; n++) {
    const reader = new FrameReader<object>();
    assert.equal([...reader.push(bytes.subarray(0, n)), ...reader.push(bytes.subarray(n))], frames);
  }
});

test("lengths over the limits and headers that are no objects are refused", () => {
  const isFrameError = (e: unknown) => e instanceof FrameError;
  const frame = (length: number, headerLength: number, header: string) => {
    const out = Buffer.alloc(6 + header.length);
    out.writeUInt32BE(length);
    out.writeUInt16BE(headerLength, 4);
    out.write(header, 6, "latin1");
    return out;
  };
  for (const bad of [
    frame(MAX_FRAME_BYTES + 1, 2, "{}"),
    frame(1, 0, ""),
    frame(4, 3, "{}"),
    frame(4, 2, "{]"),
    frame(4, 2, "12"),
    frame(4, 2, "[]"),
    frame(6, 4, "null"),
    frame(2, 0, ""),
  ]) {
    assert.throws(() => new FrameReader().push(bad), isFrameError, bad.toString("hex"));
  }
  assert.throws(() => encodeFrame({ text: "x".repeat(70_000) }), isFrameError);
});

test("100000 mutations give frames or a FrameError, never more bytes than came in", () => {
  const result = fuzz({ samples: [bytes], count: 100_000, seed: 32, allowed: [FrameError] }, (mutated) => {
    let size = 0;
    for (const frame of new FrameReader<object>().push(mutated)) size += frame.payload.length + 6;
    assert.ok(size <= mutated.length);
  });
  assert.ok(result.taken > 1000 && result.refused > 1000, JSON.stringify(result));
});

test.run();
