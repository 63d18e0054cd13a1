import { planesOf } from "../model/faces/i420.js";
import type { Box } from "../pipeline/types.js";

/** What must not be seen: the left or right half, or a box in fractions of the picture. */
export type Mask = "l" | "r" | Box;

const HALVES: Record<"l" | "r", Box> = {
  l: { x: 0, y: 0, width: 0.5, height: 1 },
  r: { x: 0.5, y: 0, width: 0.5, height: 1 },
};
const GREY = 128;

export const maskBox = (mask: Mask): Box => (typeof mask === "string" ? HALVES[mask] : mask);

/**
 * Greys the masked part out, in place, before faces are looked for: who stands there counts as off-screen (Owens & Efros 2018,
 * section 4.2, mask half of the picture to choose between two speakers). Half-covered pixels are greyed, too.
 */
export function maskPicture(data: Uint8Array, width: number, height: number, mask: Mask): void {
  const box = maskBox(mask);
  const { yStride, uvStride, uOffset, vOffset } = planesOf(width, height);
  const fill = (offset: number, stride: number, w: number, h: number): void => {
    const left = Math.max(0, Math.floor(box.x * w + 1e-6));
    const right = Math.min(w, Math.ceil((box.x + box.width) * w - 1e-6));
    const bottom = Math.min(h, Math.ceil((box.y + box.height) * h - 1e-6));
    for (let row = Math.max(0, Math.floor(box.y * h + 1e-6)); row < bottom; row++) {
      if (right > left) data.fill(GREY, offset + row * stride + left, offset + row * stride + right);
    }
  };
  fill(0, yStride, width, height);
  for (const offset of [uOffset, vOffset]) fill(offset, uvStride, Math.ceil(width / 2), Math.ceil(height / 2));
}

/** The same for an RGB picture (height, width, 3). */
export function maskRgb(rgb: Uint8Array, width: number, height: number, mask: Mask): void {
  const box = maskBox(mask);
  const left = Math.floor(box.x * width + 1e-6);
  const right = Math.min(width, Math.ceil((box.x + box.width) * width - 1e-6));
  const bottom = Math.min(height, Math.ceil((box.y + box.height) * height - 1e-6));
  for (let row = Math.floor(box.y * height + 1e-6); row < bottom; row++)
    rgb.fill(GREY, 3 * (row * width + left), 3 * (row * width + right));
}

/**
 * The same for an RGB square (side, side, 3) whose pixel 0 is pixel `offset` of the whole picture squeezed to `whole` x `whole`: what a
 * window model sees. `l` greys the left half of the square out, `r` the right one, as the release does.
 */
export function maskSquare(rgb: Uint8Array, side: number, whole: number, mask: Mask): void {
  const box = maskBox(mask);
  const offset = (whole - side) / 2;
  const clip = (v: number): number => Math.min(side, Math.max(0, v - offset));
  const left = clip(Math.floor(box.x * whole + 1e-6));
  const right = clip(Math.ceil((box.x + box.width) * whole - 1e-6));
  const bottom = clip(Math.ceil((box.y + box.height) * whole - 1e-6));
  for (let row = clip(Math.floor(box.y * whole + 1e-6)); row < bottom; row++)
    rgb.fill(GREY, 3 * (row * side + left), 3 * (row * side + Math.max(left, right)));
}
