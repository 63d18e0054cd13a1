import { type FileHandle, open } from "node:fs/promises";
import { planesOf } from "../model/faces/i420.js";
import { FRAME_SAMPLES, squeezedSide } from "../model/paper/geometry.js";
import type { ActivationMap } from "../model/paper/window.js";
import type { Heat } from "./cam.js";
import type { Place } from "./window-plan.js";

/** A map's share of its largest values that is cut off, the least spread that is drawn, and how much of the picture it may hide. */
const PERCENTILE = 0.97;
const LEAST_SPREAD = 0.001;
const MOST_OPAQUE = 0.35;

/** Piecewise linear (position, value) of red, green, blue: the release's "jet". */
const JET = [
  [0, 0, 0.35, 0, 0.66, 1, 0.89, 1, 1, 0.5],
  [0, 0, 0.125, 0, 0.375, 1, 0.64, 1, 0.91, 0, 1, 0],
  [0, 0.5, 0.11, 1, 0.34, 1, 0.65, 0, 1, 0],
] as const;

/** Colour (0..255) of v in 0..1, in 256 steps (spec section 5). */
export function jet(v: number): readonly [red: number, green: number, blue: number] {
  const x = Math.min(255, Math.floor(256 * v)) / 255;
  const [red, green, blue] = JET.map((points) => {
    for (let i = 2; i < points.length; i += 2) {
      const [x0, y0, x1, y1] = points.slice(i - 2, i + 2);
      if (x <= x1!) return Math.floor(255 * (y0! + ((x - x0!) / (x1! - x0!)) * (y1! - y0!)));
    }
    return Math.floor(255 * points.at(-1)!);
  });
  return [red!, green!, blue!];
}

/** |map| with the limits between which heat goes from 0 to 1; null when it is too even to be drawn. */
export type HeatMap = ActivationMap & { readonly low: number; readonly high: number };

/** Limits: half of the 97th percentile of |map| of the window, and the percentile itself; `limit`: a value in place of the percentile. */
export function heatMap(map: ActivationMap, limit: number | null = null): HeatMap | null {
  const data = map.data.map((v) => Math.abs(v));
  const sorted = data.slice().sort();
  if (sorted.at(-1)! - sorted[0]! <= LEAST_SPREAD) return null;
  const position = PERCENTILE * (sorted.length - 1);
  const below = sorted[Math.floor(position)]!;
  const top = limit ?? below + (position % 1) * (sorted[Math.ceil(position)]! - below);
  return { ...map, data, low: 0.5 * top, high: top + LEAST_SPREAD };
}

/** The map at a part of the window (0..1), linear between the two nearest maps, as heat 0..1 that is not clipped yet: (height, width). */
function heatOf({ frames, height, width, data, low, high }: HeatMap, part: number): Float32Array {
  const t = Math.min(Math.max(0, part) * frames, frames - 1);
  const first = Math.floor(t);
  const cells = height * width;
  const next = Math.min(first + 1, frames - 1) * cells - first * cells;
  return Float32Array.from({ length: cells }, (_, i) => {
    const a = data[first * cells + i]!;
    return (a + (t - first) * (data[first * cells + next + i]! - a) - low) / (high - low);
  });
}

/** Where the pixels of one side lie between the cells of a map, corners aligned; pixels from `begin` on were seen by the network. */
function taps(pixels: number, cells: number, inset: number) {
  const begin = Math.ceil(inset * pixels);
  const count = Math.ceil((1 - inset) * pixels) - begin;
  const lower = new Int32Array(count);
  const weight = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const x = ((begin + i) / Math.max(1, pixels - 1) - inset) / (1 - 2 * inset);
    const position = Math.min(1, Math.max(0, x)) * (cells - 1);
    lower[i] = Math.min(Math.floor(position), Math.max(0, cells - 2));
    weight[i] = position - lower[i]!;
  }
  return { begin, count, lower, weight };
}

/** Y, Cb, Cr of the 256 colours, BT.601; drawn is what the release draws in RGB: blending is linear in either. */
function palette(fullRange: boolean): Float32Array {
  const out = new Float32Array(3 * 256);
  const [scale, base] = fullRange ? [1, 0] : [219 / 255, 16];
  const chroma = fullRange ? 1 : 224 / 255;
  for (let i = 0; i < 256; i++) {
    const [r, g, b] = jet(i / 255);
    const y = 0.299 * r + 0.587 * g + 0.114 * b;
    out.set([base + scale * y, 128 + (chroma * (b - y)) / 1.772, 128 + (chroma * (r - y)) / 1.402], 3 * i);
  }
  return out;
}
const PALETTES = { true: palette(true), false: palette(false) };

/** Draws the heat into an I420 picture, in place: `inset` is the share of the picture, on each side, that the network did not see. */
export function drawMap(
  picture: { readonly data: Uint8Array; readonly width: number; readonly height: number; readonly fullRange: boolean },
  map: HeatMap,
  part: number,
  inset: number,
): void {
  const { data, width, height } = picture;
  const { yStride, uvStride, uOffset, vOffset } = planesOf(width, height);
  const colours = PALETTES[`${picture.fullRange}`];
  const heat = heatOf(map, part);
  const line = new Float32Array(map.width);
  const paint = (
    w: number,
    h: number,
    stride: number,
    planes: readonly (readonly [offset: number, part: number])[],
  ) => {
    const rows = taps(h, map.height, inset);
    const columns = taps(w, map.width, inset);
    for (let r = 0; r < rows.count; r++) {
      const upper = rows.lower[r]! * map.width;
      const below = Math.min(rows.lower[r]! + 1, map.height - 1) * map.width;
      for (let i = 0; i < line.length; i++)
        line[i] = heat[upper + i]! + rows.weight[r]! * (heat[below + i]! - heat[upper + i]!);
      for (let c = 0; c < columns.count; c++) {
        const left = columns.lower[c]!;
        const a = line[left]!;
        const v = Math.min(1, a + columns.weight[c]! * (line[Math.min(left + 1, line.length - 1)]! - a));
        if (!(v > 0)) continue;
        const colour = 3 * Math.min(255, Math.floor(256 * v));
        const opacity = Math.min(v, MOST_OPAQUE);
        const at = (rows.begin + r) * stride + columns.begin + c;
        for (const [offset, plane] of planes)
          data[offset + at] = data[offset + at]! + opacity * (colours[colour + plane]! - data[offset + at]!);
      }
    }
  };
  paint(width, height, yStride, [[0, 0]]);
  const chroma = [
    [uOffset, 1],
    [vOffset, 2],
  ] as const;
  paint(Math.ceil(width / 2), Math.ceil(height / 2), uvStride, chroma);
}

/** Doubles before the values: from, atSample, frames, height, width. */
const HEAD_BYTES = 5 * 8;

/** Keeps the maps of all windows in a file until the pictures are drawn. */
export class ActivationWriter {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open(path: string): Promise<ActivationWriter> {
    return new ActivationWriter(await open(path, "w"));
  }

  async write({ from, atSample }: Place, { frames, height, width, data }: ActivationMap): Promise<void> {
    const head = Float64Array.of(from, atSample, frames, height, width);
    await this.#file.write(new Uint8Array(head.buffer));
    await this.#file.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }

  async finish(): Promise<void> {
    await this.#file.close();
  }

  /** After a failure. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => undefined);
  }
}

type Record = { readonly from: number; readonly atSample: number; readonly map: ActivationMap };

export type HeatOptions = {
  /** Share of the picture, on each side, that the network did not see. */
  readonly inset: number;
  /** Pictures of a window. */
  readonly frames: number;
  /** Value of full heat; default: the 97th percentile of the window (the release's `--max_cam_thresh` without adaptation). */
  readonly limit?: number | null;
};

/** What a separating network does not see on each side: it looks at the middle 7/8. */
export function insetOf(side: number): number {
  const whole = squeezedSide(side);
  return (whole - side) / 2 / whole;
}

/** The class activation map of the window that is heard, drawn as the release draws it (spec section 5). */
export class ActivationHeat implements Heat {
  readonly #path: string;
  readonly #o: HeatOptions;
  readonly #windowSamples: number;
  #file: FileHandle | null = null;
  #at = 0;
  #now: (Record & { readonly heat: HeatMap | null }) | null = null;
  #next: Record | null = null;

  /** `path`: what ActivationWriter wrote. */
  constructor(path: string, options: HeatOptions) {
    this.#path = path;
    this.#o = options;
    this.#windowSamples = options.frames * FRAME_SAMPLES;
  }

  async draw(data: Uint8Array, width: number, height: number, sample: number, fullRange: boolean): Promise<void> {
    if (this.#file === null) {
      this.#file = await open(this.#path, "r");
      this.#next = await this.#read(this.#file);
    }
    while (this.#next !== null && this.#next.from <= Math.max(0, sample)) {
      this.#now = { ...this.#next, heat: heatMap(this.#next.map, this.#o.limit) };
      this.#next = await this.#read(this.#file);
    }
    const now = this.#now;
    if (now === null || now.heat === null) return;
    drawMap({ data, width, height, fullRange }, now.heat, (sample - now.atSample) / this.#windowSamples, this.#o.inset);
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }

  async #read(file: FileHandle): Promise<Record | null> {
    const head = new Float64Array(5);
    const { bytesRead } = await file.read(new Uint8Array(head.buffer), 0, HEAD_BYTES, this.#at);
    if (bytesRead < HEAD_BYTES) return null;
    const [from, atSample, frames, height, width] = [...head] as [number, number, number, number, number];
    const values = new Float32Array(frames * height * width);
    await file.read(new Uint8Array(values.buffer), 0, values.byteLength, this.#at + HEAD_BYTES);
    this.#at += HEAD_BYTES + values.byteLength;
    return { from, atSample, map: { frames, height, width, data: values } };
  }
}
