import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { heatMap } from "../../../src/file/cam-map.js";
import { cropFromMap, loudestCell } from "../../../src/model/paper/cam-crop.js";
import { cropped, shifted, slidingMap, validMaps } from "../../../src/model/paper/cam-sliding.js";
import { zoom, zoomPixels } from "../../../src/model/paper/spline.js";
import type { ActivationMap } from "../../../src/model/paper/window.js";
import { PACKAGE_ROOT } from "../../../src/paths.js";

/** What NumPy and SciPy give: test/model/paper/fixtures/cam.py. */
type Crop = Record<"height" | "width" | "row" | "column" | "x" | "y" | "side", number> & { readonly map: number[] };
type Sliding = Record<"side" | "net" | "cells" | "maps" | "frames", number> &
  Record<"picture" | "crops" | "shifts" | "exact", number[]>;
type Answers = {
  readonly zoom: Readonly<Record<"map" | "cubic" | "picture" | "pixels3" | "pixels1", number[]>>;
  readonly crop: readonly Crop[];
  readonly sliding: Sliding;
  readonly percentile: number;
  readonly maps: readonly number[];
};
const answers = JSON.parse(
  readFileSync(join(PACKAGE_ROOT, "test", "model", "paper", "fixtures", "cam.json"), "utf8"),
) as Answers;

const test = suite("maps beside SciPy");

const worst = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  assert.is(a.length, b.length);
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
};

test("splines: maps and 8-bit pictures to other sizes", () => {
  const { map, cubic, picture, pixels1, pixels3 } = answers.zoom;
  const got = zoom(Float32Array.from(map), { height: 5, width: 4 }, { height: 11, width: 13 });
  assert.ok(worst(got, cubic) < 2e-6, `${worst(got, cubic)}`);
  const [pixels, size] = [Uint8Array.from(picture), { height: 7, width: 9 }];
  assert.is(worst(zoomPixels(pixels, size, { height: 16, width: 12 }, 3), pixels3), 0);
  assert.is(worst(zoomPixels(pixels, size, { height: 5, width: 20 }, 1), pixels1), 0);
  // The same cut out of the middle of a larger square.
  const square = Uint8Array.from({ length: 3 * 9 * 9 }, (_, i) => (37 * i * i) % 256);
  const cut = Uint8Array.from({ length: 3 * 5 * 5 }, (_, i) => {
    const [row, rest] = [Math.floor(i / 15), i % 15];
    return square[3 * ((2 + row) * 9 + 3) + rest]!;
  });
  const [from, to] = [5, 12].map((side) => ({ height: side, width: side }));
  assert.equal(cropped(square, 9, { x: 3, y: 2, side: 5 }, 12), zoomPixels(cut, from!, to!, 1));
  assert.equal([...zoom([3, 4], { height: 2, width: 1 }, { height: 3, width: 2 }, 1, 1)], [3, 3, 3.5, 3.5, 4, 4]);
  assert.throws(() => zoom([1], { height: 2, width: 1 }, { height: 2, width: 2 }), /1 values for 2 x 1 x 1/);
});

test("crop from the map: the cell, and a square inside the frame", () => {
  for (const { map, row, column, x, y, side, ...frame } of answers.crop) {
    const cam: ActivationMap = { frames: 8, height: 14, width: 14, data: Float32Array.from(map) };
    assert.equal(loudestCell(cam), { row, column });
    assert.equal(cropFromMap(cam, frame), { x, y, side }, `${frame.height} x ${frame.width}`);
  }
  // A frame that holds no square of 224 pixels.
  const cam: ActivationMap = { frames: 1, height: 2, width: 2, data: Float32Array.of(0, 0, 0, 9) };
  assert.equal(cropFromMap(cam, { height: 120, width: 200 }), { x: 80, y: 0, side: 120 });
});

test("limits of the heat: the 97th percentile, or a fixed one", () => {
  const map: ActivationMap = { frames: 3, height: 5, width: 4, data: Float32Array.from(answers.maps) };
  const heat = heatMap(map)!;
  assert.ok(Math.abs(heat.low - answers.percentile / 2) < 1e-6);
  assert.ok(Math.abs(heat.high - answers.percentile - 0.001) < 1e-6);
  assert.equal([heatMap(map, 35)!.low, heatMap(map, 35)!.high], [17.5, 35.001]);
  assert.is(heatMap({ ...map, data: map.data.map(() => 2) }), null);
});

/** The formula of cam.py in place of a network. */
function network(
  { net, cells, maps }: Sliding,
  seen: Uint8Array,
  left: Float32Array,
  right: Float32Array,
): ActivationMap {
  const block = net / cells;
  const means = new Float64Array(cells * cells);
  for (let row = 0; row < net; row++)
    for (let column = 0; column < net; column++)
      for (let c = 0; c < 3; c++)
        means[Math.floor(row / block) * cells + Math.floor(column / block)]! +=
          seen[3 * (row * net + column) + c]! / (3 * block * block);
  // numpy.array_split: the first pieces are one longer.
  const longer = left.length % maps;
  const piece = Math.floor(left.length / maps);
  const data: number[] = [];
  for (let t = 0, at = 0; t < maps; t++) {
    const end = at + piece + (t < longer ? 1 : 0);
    let loud = 0;
    for (let n = at; n < end; n++) loud += (left[n]! + right[n]!) / (end - at);
    for (const mean of means) data.push((mean - 128) * loud);
    at = end;
  }
  return { frames: maps, height: cells, width: cells, data: Float32Array.from(data) };
}

test("sliding crops, with and without moved sound, as the release counts and as it should", async () => {
  const s = answers.sliding;
  const sound = (channel: number): Float32Array =>
    Float32Array.from({ length: 87_588 }, (_, n) => ((n * (channel + 3)) % 1000) / 1000 - 0.5);
  const picture = Uint8Array.from(s.picture);
  let runs = 0;
  const of = async (shifts: boolean, releaseExact: boolean): Promise<number[]> => {
    const frames = Array.from({ length: s.frames }, () => picture);
    const made = await slidingMap(
      { frames, side: s.side, left: sound(0), right: sound(1) },
      {
        shifts,
        releaseExact,
        side: s.net,
        map: async (pictures, left, right) => {
          runs++;
          assert.is(pictures.length, s.frames);
          return network(s, pictures[0]!, left, right);
        },
      },
    );
    assert.equal([made.frames, made.height, made.width], [s.maps, s.side, s.side]);
    const some: number[] = [];
    for (let t = 0; t < s.maps; t += 5)
      for (let y = 0; y < s.side; y += 3)
        for (let x = 0; x < s.side; x += 7) some.push(made.data[(t * s.side + y) * s.side + x]!);
    return some;
  };
  for (const [name, shifts, exact, expected] of [
    ["crops", false, false, 25],
    ["shifts", true, false, 125],
    ["exact", true, true, 26], // no moved sound counts; only the first run is made to know the number of maps
  ] as const) {
    runs = 0;
    const got = await of(shifts, exact);
    const largest = Math.max(...s[name].map(Math.abs));
    assert.ok(largest > 0.1);
    assert.ok(worst(got, s[name]) < 1e-4 * largest, `${name}: ${worst(got, s[name])} of ${largest}`);
    assert.is(runs, expected);
  }
});

test("moved sound: later sound comes first, silence where the window has none", () => {
  const x = Float32Array.from({ length: 63_000 }, (_, n) => n + 1);
  const [later, earlier] = [shifted(x, 2), shifted(x, -2)];
  assert.equal([later[0], later[20_999], later[21_000]], [42_001, 63_000, 0]);
  assert.equal([earlier[0], earlier[41_999], earlier[42_000], earlier[62_999]], [0, 0, 1, 21_000]);
  assert.equal([...shifted(x.subarray(0, 5), 1)], [0, 0, 0, 0, 0]);
  assert.equal([...shifted(x.subarray(0, 5), -1)], [0, 0, 0, 0, 0]);
  assert.equal(validMaps(16, -1, 125 / 16), { from: 4, to: 16 });
  assert.equal(validMaps(16, 2, 125 / 16), { from: 0, to: 8 });
  assert.equal(validMaps(8, 1, 1), { from: 0, to: 0 });
});

test.run();
