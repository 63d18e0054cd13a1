import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  decodeGains,
  decodeStep,
  encodeGains,
  encodeStep,
  errorHeader,
  finiteFaces,
  fromChild,
  ProtocolError,
  toChild,
} from "../../src/model/inference/protocol.js";
import { type Detection, InferenceError } from "../../src/model/inference.js";
import { encodeFrame, FrameReader } from "../../src/transport/ipc/frame.js";

const test = suite("inference protocol");

const floats = fc.float32Array({ minLength: 0, maxLength: 50, noNaN: true });
const request = fc.record({
  session: fc.string({ minLength: 1, maxLength: 30 }),
  track: fc.integer(),
  reset: fc.boolean(),
  soundOf: fc.option(fc.integer()),
  personOf: fc.option(fc.integer()),
  atSample: fc.integer(),
  units: fc.integer({ min: 1, max: 60 }),
  samples: floats,
  crops: fc.uint8Array({ maxLength: 40 }),
  hasPicture: fc.boolean(),
  voices: fc.boolean(),
  memory: fc.option(fc.float32Array({ minLength: 1, maxLength: 20, noNaN: true })),
});

/** Through the framing, in pieces, as on a socket: payloads then lie at any alignment. */
function carried(header: object, payload: Uint8Array, cut: number): { header: unknown; payload: Buffer } {
  const bytes = encodeFrame(header, payload);
  const reader = new FrameReader<unknown>();
  const at = cut % bytes.length;
  const frames = [...reader.push(bytes.subarray(0, at)), ...reader.push(bytes.subarray(at))];
  assert.is(frames.length, 1);
  return frames[0]!;
}

test("a step arrives as it was sent", () => {
  fc.assert(
    fc.property(request, fc.nat(5000), (sent, cut) => {
      const { header, payload } = encodeStep(sent, 7, 100);
      const got = carried(header, payload, cut);
      const parsed = toChild.parse(got.header);
      if (parsed.t !== "step") throw new Error(parsed.t);
      assert.equal(decodeStep(parsed, got.payload), {
        ...sent,
        crops: sent.hasPicture ? sent.crops : new Uint8Array(0),
      });
    }),
    { seed: 2, numRuns: 200 },
  );
});

test("gains arrive as they were sent", () => {
  const data = Float32Array.from({ length: 15 }, (_, i) => i / 15);
  const result = {
    gains: { atSample: -3840, hopSamples: 384, frames: 5, bins: 3, binHz: 31.25, data },
    confidence: 0.25,
    engineMs: 1.5,
  };
  const some = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => i / n);
  const voices = { count: 2, masks: some(30), belief: some(4), fit: some(4), lips: some(2), speaker: some(12) };
  for (const sent of [
    { ...result, voices: null },
    { ...result, voices },
    { ...result, voices: { ...voices, speaker: some(0) } },
  ]) {
    const { header, payload } = encodeGains(sent, 9);
    const got = carried(header, payload, 11);
    const parsed = fromChild.parse(got.header);
    if (parsed.t !== "gains") throw new Error(parsed.t);
    assert.equal(decodeGains(parsed, got.payload), sent);
  }
});

test("lengths that do not fit are refused", () => {
  fc.assert(
    fc.property(request, fc.integer({ min: -8, max: 8 }), (sent, change) => {
      const { header, payload } = encodeStep(sent, 7, 100);
      if (change === 0) return;
      const bytes = change < 0 ? payload.subarray(0, change) : Buffer.concat([payload, Buffer.alloc(change)]);
      if (bytes.length === payload.length) return;
      assert.throws(
        () => decodeStep(header, bytes),
        (e: unknown) => e instanceof ProtocolError,
      );
    }),
    { seed: 3, numRuns: 100 },
  );
  const gains = {
    t: "gains" as const,
    id: 1,
    atSample: 0,
    hopSamples: 1,
    frames: 2,
    bins: 2,
    binHz: 1,
    confidence: null,
    voices: 0,
    units: 1,
    speaker: 3,
    engineMs: 0,
  };
  for (const [voices, length] of [
    [0, 15],
    [2, 16],
    [2, 4 * (4 + 8 + 2 + 2 + 1 + 6) + 4],
  ] as const)
    assert.throws(
      () => decodeGains({ ...gains, voices }, Buffer.alloc(length)),
      (e: unknown) => e instanceof ProtocolError,
    );
});

test("headers out of their limits are not requests", () => {
  const { header } = encodeStep(
    {
      session: "a",
      track: 1,
      reset: true,
      atSample: 0,
      units: 1,
      samples: new Float32Array(1),
      crops: new Uint8Array(1),
      hasPicture: true,
      soundOf: null,
      personOf: null,
      memory: null,
    },
    1,
    100,
  );
  assert.ok(toChild.safeParse(header).success);
  const bad: Record<string, unknown>[] = [
    { units: 0 },
    { units: 5000 },
    { samples: -1 },
    { samples: 1e9 },
    { atSample: 0.5 },
    { session: "" },
    { session: "x".repeat(201) },
    { deadlineMs: 0 },
    { deadlineMs: 1e9 },
    { id: -1 },
    { extra: 1 },
    { t: "steps" },
  ];
  for (const change of bad) assert.not.ok(toChild.safeParse({ ...header, ...change }).success, JSON.stringify(change));
  assert.not.ok(toChild.safeParse({ t: "detect", id: 1, side: 4096, deadlineMs: 1 }).success);
});

test("an error keeps its code; anything else is a failure; messages are short", () => {
  const known = errorHeader(new InferenceError("SL_INFERENCE_LATE", "x".repeat(9000)), 4);
  assert.ok(known.t === "error" && known.code === "SL_INFERENCE_LATE" && known.message.length === 500);
  const other = errorHeader(new TypeError("oops"), 4);
  assert.ok(other.t === "error" && other.code === "SL_INFERENCE_FAILED" && other.message === "oops");
});

test("detections with numbers that JSON cannot carry are left out", () => {
  const face: Detection = { x: 0, y: 0, width: 1, height: 1, score: 1, keypoints: new Array<number>(12).fill(0.5) };
  assert.equal(finiteFaces([face, { ...face, x: Number.NaN }, { ...face, keypoints: [Number.POSITIVE_INFINITY] }]), [
    face,
  ]);
});

test.run();
