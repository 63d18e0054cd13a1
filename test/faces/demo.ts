import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import type { Picture } from "../../src/pipeline/types.js";

/** Tests run from the repository's root, from source or compiled. */
const root = `${process.cwd()}/`;

/** Pictures of the demonstration clip (a drawn head, studio-range I420), 25 a second from second `from` on. */
export async function demoPictures(count: number, width = 640, height = 360, from = 0): Promise<Picture[]> {
  const filter = `fps=25,scale=${width}:${height},format=yuv420p`;
  const args = ["-nostdin", "-v", "error", "-threads", "1", "-ss", String(from), "-i", `${root}demo/talk.flv`, "-an"];
  const { stdout } = await promisify(execFile)(
    "ffmpeg",
    [...args, "-vf", filter, "-frames:v", String(count), "-f", "rawvideo", "-"],
    { encoding: "buffer", maxBuffer: 1 << 28, timeout: 60_000 },
  );
  const size = (width * height * 3) / 2;
  return Array.from({ length: count }, (_, i) => ({
    atSample: i * 1920,
    width,
    height,
    fullRange: false,
    data: new Uint8Array(stdout.subarray(i * size, (i + 1) * size)),
  }));
}

/** Where the drawn mouth is at a time of the clip: centre x, y and width, as fractions of the picture. */
export async function demoMouth(seconds: number): Promise<{ x: number; y: number; width: number }> {
  const truth = JSON.parse(await readFile(`${root}demo/truth.json`, "utf8")) as {
    fps: number;
    framesPerEntry: number;
    mouth: [number, number, number, number][];
  };
  const entry = truth.mouth[Math.round((seconds * truth.fps) / truth.framesPerEntry)]!;
  return { x: entry[0] / 1280, y: entry[1] / 720, width: entry[2] / 1280 };
}

/** A grey picture (width a multiple of 8, even height) with the luma that `luma` gives. */
export function drawn(width: number, height: number, luma: (x: number, y: number) => number, atSample = 0): Picture {
  const data = new Uint8Array((width * height * 3) / 2).fill(128);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data[y * width + x] = luma(x, y);
  return { atSample, width, height, fullRange: true, data };
}
