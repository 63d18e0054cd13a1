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

/** Decoded gray 16x16 means with their presentation times, and the first of each run of light pictures (seconds). */
function flashes(path: string): number[] {
  const times = frameTimes(path);
  const raw = decoded(path, [
    "-map",
    "0:v",
    "-vf",
    "scale=16:16,format=gray",
    "-fps_mode",
    "passthrough",
    "-f",
    "rawvideo",
  ]);
  const out: number[] = [];
  let wasLight = false;
  for (let i = 0; (i + 1) * 256 <= raw.length && i < times.length; i++) {
    const light = raw.subarray(i * 256, (i + 1) * 256).reduce((a, b) => a + b, 0) / 256 > 170;
    if (light && !wasLight) out.push(times[i]!);
    wasLight = light;
  }
  return out;
}

function frameTimes(path: string): number[] {
  const text = execFileSync(
    "ffprobe",
    ["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0", path],
    { timeout: 30_000 },
  );
  return text
    .toString()
    .split("\n")
    .map((l) => Number.parseFloat(l))
    .filter((v) => Number.isFinite(v));
}

const decoded = (path: string, output: readonly string[]): Buffer =>
  execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-i", path, ...output, "-"], {
    timeout: 30_000,
    maxBuffer: 256 * 1024 * 1024,
  });

/** Begin of each beep (seconds): first sample over 0.15 after half a second of silence. */
function beepTimes(path: string): number[] {
  const start = frameOfFirstSound(path);
  const raw = decoded(path, ["-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "f32le"]);
  const out: number[] = [];
  let last = Number.NEGATIVE_INFINITY;
  for (let n = 0; n < raw.length / 4; n++) {
    if (Math.abs(raw.readFloatLE(4 * n)) <= 0.15) continue;
    if (n - last > 24_000) out.push(start + n / 48_000);
    last = n;
  }
  return out;
}

/** Time of the first decoded sample: what the decoder skips (priming told by the container) is left out of both. */
function frameOfFirstSound(path: string): number {
  const text = execFileSync(
    "ffprobe",
    [
      "-v",
      "error",
      "-select_streams",
      "a",
      "-read_intervals",
      "%+#1",
      "-show_entries",
      "frame=pts_time",
      "-of",
      "csv=p=0",
      path,
    ],
    { timeout: 30_000 },
  );
  return Number.parseFloat(text.toString());
}

/** Sound after picture, in milliseconds, for each flash that has a beep within 300 ms; the first second is left out. */
export function lipSyncMs(path: string): number[] {
  const beeps = beepTimes(path);
  return flashes(path)
    .slice(1)
    .flatMap((flash) => {
      const beep = beeps.find((b) => Math.abs(b - flash) < 0.3);
      return beep === undefined ? [] : [(beep - flash) * 1000];
    });
}
