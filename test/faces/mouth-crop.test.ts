import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkPicture, planesOf, rgbSquare } from "../../src/model/faces/i420.js";
import { cropMouth, type FacePose, faceRect, mouthSquare, poseOf } from "../../src/model/faces/mouth-crop.js";
import type { Detection } from "../../src/model/inference.js";
import { drawn } from "./demo.js";

const test = suite("mouth crops");

/** The pose whose mouth square begins at x, y and is `size` wide. */
const poseFor = (x: number, y: number, size: number): FacePose => {
  const half = size / 1.4;
  return { x: x + 0.7 * half, y: y + 0.3 * half, half };
};

const texture = (x: number, y: number): number => (x * 37 + y * 91 + ((x * y) % 29) * 5) % 256;

test("the square reaches 0.7 half sizes to the sides, 0.3 up and 1.1 down", () => {
  const square = mouthSquare({ x: 100, y: 50, half: 10 });
  assert.equal(
    [square.x, square.y, square.width, square.height].map((v) => Math.round(v * 1e9) / 1e9),
    [93, 47, 14, 14],
  );
  const box = faceRect({ x: 100, y: 50, half: 10 });
  assert.is(box.height, 20);
  assert.ok(Math.abs(box.x + box.width / 2 - 100) < 1e-9);
});

test("a square on whole pixels, as wide as the crop, is copied", () => {
  const picture = drawn(96, 64, texture);
  const crop = cropMouth(picture, poseFor(16, 8, 32), 32);
  for (let y = 0; y < 32; y++) for (let x = 0; x < 32; x++) assert.is(crop[y * 32 + x], texture(16 + x, 8 + y));
});

test("shrinking by a whole factor gives the mean of each block", () => {
  const picture = drawn(96, 96, texture);
  const crop = cropMouth(picture, poseFor(6, 3, 48), 16);
  for (let y = 0; y < 16; y++) {
    for (let x = 0; x < 16; x++) {
      let sum = 0;
      for (let b = 0; b < 3; b++) for (let a = 0; a < 3; a++) sum += texture(6 + 3 * x + a, 3 + 3 * y + b);
      assert.ok(Math.abs(crop[y * 16 + x]! - sum / 9) <= 0.51);
    }
  }
});

test("a ramp stays a ramp at any position and size, larger or smaller", () => {
  const picture = drawn(160, 120, (x, y) => x + y / 2);
  const position = fc.double({ min: 10, max: 40, noNaN: true });
  fc.assert(
    fc.property(position, position, fc.double({ min: 8, max: 70, noNaN: true }), (x, y, size) => {
      const crop = cropMouth(picture, poseFor(x, y, size), 16);
      for (const [i, j] of [
        [0, 0],
        [15, 0],
        [7, 9],
        [15, 15],
      ] as const) {
        // Pixel i covers [i, i + 1] and has the value of its begin: the mean over a cell is half a pixel less than its centre.
        const expected = x + ((i + 0.5) * size) / 16 - 0.5 + (y + ((j + 0.5) * size) / 16 - 0.5) / 2;
        // Luma of the odd rows is cut down by half a step.
        if (Math.abs(crop[j * 16 + i]! - expected) > 1.01) return false;
      }
      return true;
    }),
    { seed: 7, numRuns: 150 },
  );
});

test("outside of the picture the crop is 110, in both ranges of luma; the edge is mixed by its share", () => {
  for (const fullRange of [true, false]) {
    const picture = { ...drawn(64, 64, () => (fullRange ? 200 : Math.round(16 + (200 * 219) / 255))), fullRange };
    const crop = cropMouth(picture, poseFor(-16, 0, 32), 16);
    assert.is(crop[0], 110);
    assert.ok(Math.abs(crop[15]! - 200) <= 1);
    assert.is(crop[7], 110);
    assert.ok(Math.abs(crop[8]! - 200) <= 1);
    const shifted = cropMouth(picture, poseFor(-15, 0, 32), 16);
    assert.ok(Math.abs(shifted[7]! - 155) <= 1, `half of each: ${shifted[7]}`);
    assert.ok(cropMouth(picture, poseFor(-500, -900, 32), 16).every((v) => v === 110));
    assert.ok(cropMouth(picture, poseFor(1e9, 20, 32), 16).every((v) => v === 110));
  }
});

test("studio range is stretched and clipped", () => {
  const levels = [0, 16, 126, 235, 255];
  const picture = { ...drawn(64, 64, (x) => levels[Math.floor(x / 8)] ?? 0), fullRange: false };
  const crop = cropMouth(picture, poseFor(0, 0, 40), 5);
  assert.equal([...crop.subarray(0, 5)], [0, 0, 128, 255, 255]);
});

test("a crop holds values of the picture or of the border, wherever it lies", () => {
  const picture = drawn(48, 48, (x, y) => 60 + ((x * 7 + y * 13) % 101));
  const any = fc.double({ min: -200, max: 200, noNaN: true });
  fc.assert(
    fc.property(any, any, fc.double({ min: 0.1, max: 300, noNaN: true }), (x, y, half) => {
      const crop = cropMouth(picture, { x, y, half }, 8);
      return crop.length === 64 && crop.every((v) => v >= 60 && v <= 160);
    }),
    { seed: 3, numRuns: 300 },
  );
});

test("the pose scales with the picture and is mirrored with it", () => {
  const face: Detection = {
    x: 0.3,
    y: 0.2,
    width: 0.2,
    height: 0.2,
    score: 0.9,
    keypoints: [0.36, 0.27, 0.45, 0.27, 0.42, 0.32, 0.41, 0.36, 0.31, 0.29, 0.5, 0.29],
  };
  const one = poseOf(face, 500, 500);
  const two = poseOf(face, 1000, 1000);
  assert.ok(Math.abs(two.x - 2 * one.x) + Math.abs(two.y - 2 * one.y) + Math.abs(two.half - 2 * one.half) < 1e-9);
  const mirrored = poseOf(
    { ...face, x: 1 - face.x - face.width, keypoints: face.keypoints.map((v, i) => (i % 2 === 0 ? 1 - v : v)) },
    500,
    500,
  );
  assert.ok(Math.abs(mirrored.x - (500 - one.x)) < 1e-9 && Math.abs(mirrored.half - one.half) < 1e-9);
});

test("planes lie as GStreamer lays them, odd sizes included", () => {
  // gst-video-info.c: stride = round up 4, chroma stride = round up 4 of half the even width, heights rounded up to even.
  assert.equal(planesOf(640, 360), {
    yStride: 640,
    uvStride: 320,
    uOffset: 230_400,
    vOffset: 288_000,
    byteLength: 345_600,
  });
  assert.equal(planesOf(333, 241), {
    yStride: 336,
    uvStride: 168,
    uOffset: 81_312,
    vOffset: 101_640,
    byteLength: 121_968,
  });
  assert.throws(
    () => checkPicture({ atSample: 0, width: 333, height: 241, fullRange: true, data: new Uint8Array(121_967) }),
    RangeError,
  );
  assert.throws(
    () => checkPicture({ atSample: 0, width: 0, height: 241, fullRange: true, data: new Uint8Array(9) }),
    RangeError,
  );
  assert.throws(
    () => checkPicture({ atSample: Number.NaN, width: 2, height: 2, fullRange: true, data: new Uint8Array(90) }),
    RangeError,
  );
});

test("RGB for the detector: colours of BT.601 and BT.709, black outside", () => {
  // Pure red: Y 81, Cb 90, Cr 240 (601); Y 63, Cb 102, Cr 240 (709).
  for (const [height, y, u, v] of [
    [64, 81, 90, 240],
    [720, 63, 102, 240],
  ] as const) {
    const { uOffset, vOffset, byteLength } = planesOf(64, height);
    const data = new Uint8Array(byteLength);
    data.fill(y, 0, uOffset).fill(u, uOffset, vOffset).fill(v, vOffset);
    const picture = { atSample: 0, width: 64, height, fullRange: false, data };
    const rgb = rgbSquare(picture, { x: -64, y: 0, width: 128, height: 128 }, 16);
    assert.equal([...rgb.subarray(0, 3)], [0, 0, 0]);
    const [r, g, b] = rgb.subarray(45, 48) as unknown as [number, number, number];
    assert.ok(r >= 252 && g <= 4 && b <= 4, `${r} ${g} ${b}`);
  }
});

test.run();
