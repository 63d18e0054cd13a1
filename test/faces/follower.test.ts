import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { OnnxFaceDetector } from "../../src/model/faces/detector.js";
import { FaceFollower } from "../../src/model/faces/follower.js";
import { cropMouth, poseOf } from "../../src/model/faces/mouth-crop.js";
import type { Detection } from "../../src/model/inference.js";
import type { Picture } from "../../src/pipeline/types.js";
import { buildFaceModels } from "../../src/tools/assets.js";
import { demoMouth, demoPictures, drawn } from "./demo.js";

const UNIT = 1920;
const SIDE = 16;

/** A picture with a white square of 40 pixels as "face" on a texture; `mark` is the grey inside of its mouth region. */
function scene(atSample: number, faceX: number | null, mark = 250, shade = 0, size = 320): Picture {
  return drawn(
    size,
    240,
    (x, y) => {
      if (faceX !== null && x >= faceX && x < faceX + 40 && y >= 100 && y < 140) {
        return Math.abs(x - faceX - 20) < 9 && Math.abs(y - 129) < 6 ? mark : 250;
      }
      return 40 + ((x >> 4) % 4) * 20 + shade;
    },
    atSample,
  );
}

/** Finds what is almost white in the RGB square: a real, if simple, detector, so that only the follower is under test. */
class WhiteDetector {
  calls = 0;
  underWay = 0;
  most = 0;
  #gate: Promise<void> = Promise.resolve();
  #open: () => void = () => {};

  hold(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }
  release(): void {
    this.#open();
  }

  async detectFaces(rgb: Uint8Array, side: number): Promise<readonly Detection[]> {
    this.calls++;
    this.underWay++;
    this.most = Math.max(this.most, this.underWay);
    await this.#gate;
    this.underWay--;
    let [left, right, top, bottom] = [side, -1, side, -1];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        if (rgb[3 * (y * side + x)]! < 225) continue;
        [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
      }
    }
    if (right < 0) return [];
    const box = { x: left / side, y: top / side, width: (right + 1 - left) / side, height: (bottom + 1 - top) / side };
    const at = (x: number, y: number): number[] => [box.x + x * box.width, box.y + y * box.height];
    const keypoints = [at(0.3, 0.35), at(0.7, 0.35), at(0.5, 0.55), at(0.5, 0.75), at(0, 0.4), at(1, 0.4)].flat();
    return [{ ...box, score: 0.9, keypoints }];
  }
}

const make = (inference: Pick<WhiteDetector, "detectFaces">): FaceFollower =>
  new FaceFollower({ inference, side: SIDE, detectorSide: 128 });

/** One picture a unit from `from` to `to`, each settled. */
async function play(
  follower: FaceFollower,
  from: number,
  to: number,
  picture: (unit: number) => Picture,
): Promise<void> {
  for (let unit = from; unit < to; unit++) {
    follower.push(picture(unit));
    await follower.settle();
  }
}

const test = suite("face follower");

test("every unit has the crop of its picture, and a face found in the first one is there from then on", async () => {
  const follower = make(new WhiteDetector());
  // The mouth's grey tells which picture a crop came from.
  await play(follower, 0, 50, (u) => scene(u * UNIT, 140, 180 + u));
  assert.equal(follower.tracksAt(0), [1]);
  const { crops, hasPicture, repeated } = follower.cropsFor(1, 0, 50);
  assert.ok(hasPicture && repeated === 0 && crops.length === 50 * SIDE * SIDE);
  // The middle of the crop lies in the marked part.
  for (let u = 0; u < 50; u++) assert.is(crops[u * SIDE * SIDE + 8 * SIDE + 8], 180 + u);
  const [face] = follower.facesAt(20 * UNIT + 100);
  assert.ok(face && face.box.x > 0.35 && face.box.x + face.box.width < 0.65 && face.score === 0.9);
});

test("a crop is the very one that cropMouth makes of the detector's box", async () => {
  const detector = new WhiteDetector();
  const follower = new FaceFollower({ inference: detector, side: SIDE, detectorSide: 320 });
  const picture = scene(0, 140);
  follower.push(picture);
  await follower.settle();
  // Letterboxed: 320 x 240 stands in a square of 320, 40 pixels from its top.
  const half = poseOf(
    {
      x: 140 / 320,
      y: 100 / 240,
      width: 40 / 320,
      height: 40 / 240,
      score: 1,
      keypoints: [152, 114, 168, 114, 160, 122, 160, 130, 140, 116, 180, 116].map((v, i) => v / (i % 2 ? 240 : 320)),
    },
    320,
    240,
  );
  assert.equal(follower.cropsFor(1, 0, 1).crops, cropMouth(picture, half, SIDE));
});

test("a unit shows the newest picture that is not later than its begin, at any picture rate", async () => {
  for (const every of [1600, 3200, 2002, 960]) {
    const follower = make(new WhiteDetector());
    const times = Array.from({ length: 40 }, (_, i) => i * every + (i % 3) * 50);
    for (const [i, at] of times.entries()) {
      follower.push(scene(at, 140, 180 + i));
      await follower.settle();
    }
    const last = Math.floor(times.at(-1)! / UNIT);
    const first = Math.max(1, last - 30);
    const { crops } = follower.cropsFor(1, first, last - first + 1);
    for (let u = first; u <= last; u++) {
      const newest = times.findLastIndex((t) => t <= u * UNIT);
      assert.is(crops[(u - first) * SIDE * SIDE + 8 * SIDE + 8], 180 + newest, `unit ${u} at one picture in ${every}`);
    }
  }
});

test("units that no picture came for repeat the newest one; later pictures replace what was not decided", async () => {
  const follower = make(new WhiteDetector());
  await play(follower, 0, 5, (u) => scene(u * UNIT, 140, 180 + u));
  const grey = (unit: number): number => follower.cropsFor(1, unit, 1).crops[8 * SIDE + 8]!;
  assert.is(follower.decidedUnit, 4);
  assert.is(grey(8), 184);
  follower.push(scene(7 * UNIT + 5, 140, 200));
  assert.is(follower.decidedUnit, 7);
  assert.is(grey(7), 184);
  assert.is(grey(8), 200);
  follower.push(scene(6 * UNIT, 140, 220));
  assert.is(follower.counters.pictures_late, 1);
  assert.is(grey(8), 200);
});

test("one detection at a time, five a second of the timeline, and push does not wait for it", async () => {
  const detector = new WhiteDetector();
  const follower = make(detector);
  await play(follower, 0, 100, (u) => scene(u * UNIT, 140 + (u % 5)));
  assert.is(detector.calls, 20);
  detector.hold();
  for (let u = 100; u < 120; u++) follower.push(scene(u * UNIT, 140 + (u % 5)));
  assert.is(detector.underWay, 1);
  assert.is(detector.most, 1);
  detector.release();
  await follower.settle();
  assert.is(follower.cropsFor(1, 119, 1).hasPicture, true);
});

test("after a cut the old face is gone at once, the new one has a new id, and a detection of before does not count", async () => {
  const detector = new WhiteDetector();
  const follower = make(detector);
  await play(follower, 0, 13, (u) => scene(u * UNIT, 60));
  assert.equal(follower.tracksAt(12), [1]);
  const other = (unit: number): Picture =>
    drawn(320, 240, (x, y) => (x >= 220 && x < 260 && y >= 100 && y < 140 ? 250 : (y * 200) / 240), unit * UNIT);
  const before = detector.calls;
  await play(follower, 13, 14, other);
  assert.is(follower.counters.cuts, 1);
  assert.is(detector.calls, before + 1);
  assert.equal(follower.tracksAt(12), [1]);
  assert.equal(follower.tracksAt(13), [2]);
  assert.is(follower.cropsFor(1, 13, 1).hasPicture, false);
  // A detection that began before the next cut ends after it.
  await play(follower, 14, 18, other);
  detector.hold();
  follower.push(other(18));
  follower.push(scene(19 * UNIT, null));
  detector.release();
  await follower.settle();
  assert.is(follower.counters.cuts, 2);
  assert.equal(follower.tracksAt(19), []);
});

test("a hand before the lens is no cut: the face stays the one that was followed", async () => {
  const follower = make(new WhiteDetector());
  const hand = (unit: number): Picture =>
    drawn(
      320,
      240,
      (x, y) => {
        if (x >= 140 && x < 180 && y >= 100 && y < 140) return 250;
        // Moves fast over the lower two fifths of the picture.
        return y > 145 && unit % 3 === 0 ? 200 : 40 + ((x >> 4) % 4) * 20;
      },
      unit * UNIT,
    );
  await play(follower, 0, 20, hand);
  assert.is(follower.counters.cuts, 0);
  assert.equal(follower.tracksAt(19), [1]);
});

test("a flash is no cut", async () => {
  const follower = make(new WhiteDetector());
  await play(follower, 0, 20, (u) => scene(u * UNIT, 140, 250, u === 10 ? 60 : 0));
  assert.is(follower.counters.cuts, 0);
  assert.equal(follower.tracksAt(19), [1]);
});

test("a picture that stands for a second is frozen, noise of an encoder or none; a moving mouth is not", async () => {
  const follower = make(new WhiteDetector());
  const noisy = (u: number): Picture => {
    const picture = scene(u * UNIT, 140);
    for (let i = u % 7; i < 320 * 240; i += 7) picture.data[i]! += (i * 13 + u) % 3 === 0 ? 1 : 0;
    return picture;
  };
  await play(follower, 0, 60, noisy);
  for (const u of [0, 20, 30, 59])
    assert.is(follower.frozenAt(u), true, "nothing has moved yet: a still from the beginning");
  // Only the mouth moves: 16 x 8 pixels of 320 x 240.
  const talking = (u: number): Picture => {
    const picture = scene(u * UNIT, 140);
    for (let y = 122; y < 130; y++) picture.data.fill(u % 4 < 2 ? 60 : 250, y * 320 + 152, y * 320 + 168);
    return picture;
  };
  for (let u = 60; u < 140; u++) {
    await play(follower, u, u + 1, talking);
    assert.is(follower.frozenAt(u), false, `unit ${u}`);
  }
  // No pictures any more: frozen a second later.
  assert.is(follower.frozenAt(139 + 20), false);
  assert.is(follower.frozenAt(139 + 30), true);
});

test("nothing is known without pictures, before the first one, or three seconds back", async () => {
  const follower = make(new WhiteDetector());
  assert.equal([follower.frozenAt(0), follower.tracksAt(0), follower.facesAt(0)], [true, [], []]);
  const none = follower.cropsFor(1, 0, 2);
  assert.ok(!none.hasPicture && none.repeated === 2 && none.crops.every((v) => v === 110));
  await play(follower, 10, 200, (u) => scene(u * UNIT, 140 + (u % 5)));
  assert.equal(follower.tracksAt(9), []);
  assert.equal(follower.tracksAt(100), []);
  assert.equal(follower.tracksAt(130), [1]);
  const look = follower.cropsFor(1, 100, 50);
  assert.ok(look.hasPicture && look.repeated === 25);
  assert.equal(look.crops.subarray(0, SIDE * SIDE), look.crops.subarray(25 * SIDE * SIDE, 26 * SIDE * SIDE));
  follower.reset();
  assert.equal([follower.frozenAt(150), follower.tracksAt(150)], [true, []]);
  follower.push(scene(0, 140));
  await follower.settle();
  assert.equal(follower.tracksAt(0), [2]);
});

test("a detector that fails is counted, asked again, and breaks nothing; after a second it is a fault", async () => {
  const real = new WhiteDetector();
  let failing = true;
  const follower = make({
    detectFaces: (rgb, side) => (failing ? Promise.reject(new Error("down")) : real.detectFaces(rgb, side)),
  });
  await play(follower, 0, 20, (u) => scene(u * UNIT, 140));
  assert.is(follower.counters.detection_failures, 4);
  assert.is(follower.detectionFault, null, "a face that is not found again is followed for as long");
  await play(follower, 20, 30, (u) => scene(u * UNIT, 140));
  assert.is(follower.detectionFault, "SL_INFERENCE_FAILED");
  failing = false;
  await play(follower, 30, 40, (u) => scene(u * UNIT, 140));
  assert.equal(follower.tracksAt(39), [1]);
  assert.is(follower.detectionFault, null);
  // By the time the face is given up it is known that nobody could be looked for.
  failing = true;
  for (let u = 40; u < 80; u++) {
    await play(follower, u, u + 1, (i) => scene(i * UNIT, 140));
    if (follower.tracksAt(u).length === 0) assert.is(follower.detectionFault, "SL_INFERENCE_FAILED", `unit ${u}`);
  }
  assert.equal(follower.tracksAt(79), []);
});

test("what no face can be (far away, huge, no number) is not followed, and costs nothing", async () => {
  for (const wild of [1e300, -1e300, 1e9, Number.NaN, Number.POSITIVE_INFINITY]) {
    const face = { x: wild, y: 0.4, width: 0.2, height: 0.2, score: 0.9, keypoints: new Array<number>(12).fill(0.5) };
    const detections = [face, { ...face, x: 0.4, width: wild }, { ...face, x: 0.4, keypoints: [wild, wild] }];
    const follower = new FaceFollower({ inference: { detectFaces: async () => detections }, side: SIDE });
    for (let i = 0; i < 4; i++) {
      follower.push(scene(i * 9600, 100));
      await follower.settle();
    }
    assert.equal(follower.facesAt(3 * 9600), []);
    assert.is(follower.counters.detections, 4);
  }
});

test("a small face in a wide picture is found in tiles", async () => {
  const detector = new WhiteDetector();
  const sizes = new Set<number>();
  const follower = new FaceFollower({
    inference: {
      detectFaces: async (rgb, side) => {
        const found = await detector.detectFaces(rgb, side);
        // Sees only what is larger than a fifth of its input.
        const large = found.filter((f) => f.width > 0.2);
        for (const f of large) sizes.add(Math.round(f.width * 100));
        return large;
      },
    },
    side: SIDE,
    detectorSide: 128,
  });
  // 40 pixels are 0.17 of the height of 240 and 0.12 of the width: 0.2 is reached by neither; 60 x 60 only in a tile.
  const wide = (u: number): Picture =>
    drawn(432, 240, (x, y) => (x >= 60 && x < 120 && y >= 90 && y < 150 ? 250 : 60 + (u % 3)), u * UNIT);
  await play(follower, 0, 60, wide);
  assert.equal(follower.tracksAt(30), [1]);
  assert.ok(
    [...sizes].every((s) => s >= 24 && s <= 27),
    [...sizes].join(),
  );
});

test("odd sizes, size changes and broken pictures: the first are taken, the last refused", async () => {
  const follower = make(new WhiteDetector());
  follower.push(scene(0, 140));
  await follower.settle();
  follower.push(scene(UNIT, 140, 250, 0, 640));
  await follower.settle();
  assert.is(follower.counters.cuts, 1);
  assert.throws(() => follower.push({ ...scene(2 * UNIT, 140), data: new Uint8Array(10) }), RangeError);
  assert.throws(() => follower.push({ ...scene(2 * UNIT, 140), width: 0 }), RangeError);
  const odd = { atSample: 3 * UNIT, width: 333, height: 241, fullRange: true, data: new Uint8Array(121_968).fill(100) };
  follower.push(odd);
  await follower.settle();
  assert.is(follower.counters.pictures, 3);
});

test("the demonstration clip: one face from the first picture on, its mouth in the middle of the crop, frozen only until it moves", async () => {
  const folder = mkdtempSync(join(tmpdir(), "follower-"));
  const [, back] = await buildFaceModels(folder);
  const detector = await OnnxFaceDetector.open(back!, { threads: 1 });
  try {
    const follower = new FaceFollower({
      inference: { detectFaces: (rgb, side) => detector.detect(rgb, side) },
      side: 64,
    });
    const pictures = await demoPictures(75, 640, 360, 2);
    for (const picture of pictures) {
      follower.push(picture);
      await follower.settle();
    }
    for (let u = 0; u < 75; u++) {
      assert.equal(follower.tracksAt(u), [1], `unit ${u}`);
      assert.is(follower.frozenAt(u), u === 0, "of the first picture nobody knows yet that it moves");
      const [face] = follower.facesAt(u * UNIT);
      const mouth = await demoMouth(2 + u / 25);
      const half = face!.box.height / 2;
      const x = ((mouth.x - face!.box.x - face!.box.width / 2) * 16) / 9 / half;
      const y = (mouth.y - face!.box.y) / half - 1;
      // The crop reaches from -0.7 to 0.7 and from -0.3 to 1.1: its middle is at 0 and 0.4.
      assert.ok(Math.abs(x) < 0.3 && Math.abs(y - 0.4) < 0.35, `mouth at ${x}, ${y} in unit ${u}`);
    }
  } finally {
    await detector.close();
    await rm(folder, { recursive: true });
  }
});

test.run();
