import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A folder for the clips of one test file; `remove` when done. */
export function clipFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "sightline-clip-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export const ffmpeg = (...args: string[]): void => {
  execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-y", ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    timeout: 60_000,
  });
};

export type ClipOptions = {
  size?: string;
  rate?: string;
  bFrames?: number;
  soundRate?: number;
  soundChannels?: number;
  seconds?: number;
  video?: boolean;
  sound?: boolean;
};

/** White for two frames and a beep of 50 ms at each whole second; dark and silent else. */
export function flashAndBeep(folder: string, name: string, options: ClipOptions = {}): string {
  const {
    size = "320x180",
    rate = "30",
    bFrames = 0,
    soundRate = 48_000,
    soundChannels = 2,
    seconds = 3,
    video = true,
    sound = true,
  } = options;
  const path = join(folder, name);
  if (existsSync(path)) return path;
  const lit = "lt(mod(T,1),2.5/30)";
  const picture = [
    "-f",
    "lavfi",
    "-i",
    `testsrc2=s=${size}:r=${rate},geq=lum='if(${lit},235,lum(X,Y)*0.3)':cb='if(${lit},128,cb(X,Y))':cr='if(${lit},128,cr(X,Y))'`,
  ];
  const tone = ["-f", "lavfi", "-i", `aevalsrc='if(lt(mod(t,1),0.05),0.6*sin(2*PI*1000*t),0)':s=${soundRate}`];
  ffmpeg(
    ...(video ? picture : []),
    ...(sound ? tone : []),
    ...["-t", String(seconds)],
    ...(video
      ? ["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-bf", String(bFrames), "-pix_fmt", "yuv420p"]
      : []),
    ...(sound ? ["-c:a", "aac", "-ac", String(soundChannels)] : []),
    path,
  );
  return path;
}

/** Presentation times (seconds) of the packets of one stream (`v` or `a`), in the order of the file. */
export function packetTimes(path: string, stream: "v" | "a"): number[] {
  const text = execFileSync(
    "ffprobe",
    ["-v", "error", "-select_streams", stream, "-show_entries", "packet=pts_time", "-of", "csv=p=0", path],
    { timeout: 30_000 },
  );
  return text
    .toString()
    .split("\n")
    .map((l) => Number.parseFloat(l))
    .filter((v) => Number.isFinite(v));
}

/** MD5 of each packet of the first video stream as it lies in the container. */
export function videoHashes(path: string): string[] {
  const text = execFileSync(
    "ffmpeg",
    ["-v", "error", "-i", path, "-map", "0:v", "-c", "copy", "-f", "framehash", "-hash", "md5", "-"],
    { timeout: 30_000 },
  );
  return text
    .toString()
    .split("\n")
    .filter((l) => l !== "" && !l.startsWith("#"))
    .map((l) => l.split(",").at(-1)!.trim());
}
