import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ffmpeg } from "./clip.js";

export type Ivf = {
  readonly width: number;
  readonly height: number;
  readonly frames: readonly { atMs: number; data: Buffer }[];
};

/** VP8 of the flash-and-beep picture: a white flash at each whole second, a key frame each second. */
export function vp8Frames(folder: string, size: string, seconds: number): Ivf {
  const path = join(folder, `${size}-${seconds}.ivf`);
  ffmpeg(...flashPicture(size), "-t", String(seconds), ...VP8, path);
  return readIvf(readFileSync(path));
}

/** As a browser does: no frame that is not shown, key frames where they are set. */
export const VP8 = [
  ...["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-g", "30"],
  ...["-b:v", "800k", "-pix_fmt", "yuv420p"],
];

export const flashPicture = (size: string): string[] => {
  const lit = "lt(mod(T,1),2.5/30)";
  return [
    ...["-f", "lavfi", "-i"],
    `testsrc2=s=${size}:r=30,geq=lum='if(${lit},235,lum(X,Y)*0.3)':cb='if(${lit},128,cb(X,Y))':cr='if(${lit},128,cr(X,Y))'`,
  ];
};

/** IVF: a 32-byte header, then 12 bytes (length, time in units of the header's time base) in front of each frame. */
function readIvf(bytes: Buffer): Ivf {
  const unitMs = (1000 * bytes.readUInt32LE(20)) / bytes.readUInt32LE(16);
  const frames: { atMs: number; data: Buffer }[] = [];
  for (let at = bytes.readUInt16LE(6); at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    const atMs = Math.round(Number(bytes.readBigUInt64LE(at + 4)) * unitMs);
    frames.push({ atMs, data: bytes.subarray(at + 12, at + 12 + length) });
    at += 12 + length;
  }
  return { width: bytes.readUInt16LE(12), height: bytes.readUInt16LE(14), frames };
}
