import { suite } from "uvu";
import * as assert from "uvu/assert";
import { StillFaces } from "../../src/model/faces/still-face.js";

const test = suite("still faces");
const SIDE = 80;
const UNIT = 1920;

/** A crop of some texture with a mouth that is `open` rows high, and an encoder's noise. */
function crop(open: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
    const [x, y] = [i % SIDE, Math.floor(i / SIDE)];
    const isMouth = Math.abs(x - 40) < 14 && Math.abs(y - 45) < open;
    return (isMouth ? 40 : 120 + ((x >> 3) % 3) * 20) + ((i * 7919 + seed * 104_729) % 5);
  });
}

test("a photograph is still after two seconds, a person who speaks never is", () => {
  const faces = new StillFaces();
  for (let u = 0; u < 100; u++) {
    const still = faces.look(
      [
        { id: 1, grey: crop(4 + (u % 6), u) },
        { id: 2, grey: crop(5, u) },
      ],
      u * UNIT,
    );
    assert.is(still.has(1), false);
    assert.is(still.has(2), u * UNIT >= 96_000, `picture ${u}`);
  }
});

test("one movement begins the two seconds anew; a face that was away is another one", () => {
  const faces = new StillFaces();
  const isStill = (u: number, open: number): boolean => faces.look([{ id: 1, grey: crop(open, u) }], u * UNIT).has(1);
  for (let u = 0; u < 60; u++) isStill(u, 5);
  assert.is(isStill(60, 5), true);
  assert.is(isStill(61, 12), false);
  for (let u = 62; u < 111; u++) assert.is(isStill(u, 12), false);
  assert.is(isStill(111, 12), true);
  faces.look([], 112 * UNIT);
  assert.is(isStill(113, 12), false);
});

test.run();
