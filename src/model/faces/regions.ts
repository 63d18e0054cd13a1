import type { Detection } from "../inference.js";
import { overlap } from "./blazeface.js";
import type { Rect } from "./i420.js";

/** Squares of a picture that a square-input detector is shown. They may reach over the edges (black there). */
export type Round = "whole" | "tiles";

/**
 * `whole`: one square that holds the whole picture (letterbox: faces keep their shape). `tiles`: that one, and squares as large as the
 * shorter side, overlapping, from one end of the longer side to the other, which show small faces larger (large ones they may cut).
 */
export function squaresOf(width: number, height: number, round: Round): Rect[] {
  const long = Math.max(width, height);
  const short = Math.min(width, height);
  const whole = { x: (width - long) / 2, y: (height - long) / 2, width: long, height: long };
  if (round === "whole" || long / short < 1.2) return [whole];
  // A little overlap, so that a face on a border stands whole in one of them. More than four would be a strange picture.
  const count = Math.min(4, Math.max(2, Math.ceil((long - 0.1 * short) / (0.9 * short))));
  const tiles = Array.from({ length: count }, (_, i) => {
    const at = ((long - short) * i) / (count - 1);
    return width > height ? { x: at, y: 0, width: short, height: short } : { x: 0, y: at, width: short, height: short };
  });
  return [whole, ...tiles];
}

/** Detections of one square (fractions of it) as fractions of the picture; null when the face is cut by a border that is not the picture's. */
export function toPicture(d: Detection, square: Rect, width: number, height: number): Detection | null {
  const map = (v: number, at: number, size: number, whole: number): number => (at + v * size) / whole;
  const x = map(d.x, square.x, square.width, width);
  const y = map(d.y, square.y, square.height, height);
  const w = (d.width * square.width) / width;
  const h = (d.height * square.height) / height;
  const margin = 0.01;
  const cut =
    (d.x < margin && square.x > 0.5) ||
    (d.x + d.width > 1 - margin && square.x + square.width < width - 0.5) ||
    (d.y < margin && square.y > 0.5) ||
    (d.y + d.height > 1 - margin && square.y + square.height < height - 0.5);
  if (cut) return null;
  const keypoints = d.keypoints.map((v, i) =>
    i % 2 === 0 ? map(v, square.x, square.width, width) : map(v, square.y, square.height, height),
  );
  return { x, y, width: w, height: h, score: d.score, keypoints };
}

/** One detection a face: of overlapping ones (two tiles saw it) the best stays. */
export function mergeDetections(all: readonly Detection[], sameFaceOverlap = 0.3): Detection[] {
  const box = (d: Detection): number[] => [d.x, d.y, d.width, d.height];
  const kept: Detection[] = [];
  for (const d of [...all].sort((a, b) => b.score - a.score)) {
    if (kept.every((k) => overlap(box(k), box(d)) <= sameFaceOverlap)) kept.push(d);
  }
  return kept;
}
