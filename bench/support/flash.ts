import { execFileSync } from "node:child_process";

/** Decodes a recording with ffmpeg and gives the PTS (milliseconds) of each picture whose upper left corner has just turned white. */
export function flashesMs(flvPath: string): number[] {
  const text = execFileSync(
    "ffmpeg",
    [
      ...["-v", "error", "-nostdin", "-copyts", "-i", flvPath, "-map", "0:v"],
      ...["-vf", "crop=iw/16:ih/16:iw/32:ih/32,signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-"],
      ...["-f", "null", "-"],
    ],
    { stdio: ["ignore", "pipe", "ignore"], timeout: 240_000, maxBuffer: 64 * 1024 * 1024 },
  ).toString();
  const begins: number[] = [];
  let white = true; // a recording that begins in the flash has lost its beginning
  for (const [, time, level] of text.matchAll(/pts_time:(-?[\d.]+)\s+lavfi\.signalstats\.YAVG=([\d.]+)/g)) {
    const now = Number(level) > 128;
    if (now && !white) begins.push(Number(time) * 1000);
    white = now;
  }
  return begins;
}

/** For each flash the distance to the nearest beep: positive when the sound is late. Pairs further apart than 300 ms are left out. */
export function lipSyncMs(flashes: readonly number[], beeps: readonly number[]): number[] {
  return flashes.flatMap((flash) => {
    const nearest = beeps.reduce(
      (a, b) => (Math.abs(b - flash) < Math.abs(a - flash) ? b : a),
      Number.POSITIVE_INFINITY,
    );
    return Math.abs(nearest - flash) < 300 ? [nearest - flash] : [];
  });
}
