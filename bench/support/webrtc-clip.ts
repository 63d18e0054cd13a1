import { execFileSync } from "node:child_process";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { DEMO_CLIP } from "./clip.js";

/**
 * The demonstration's talking head as WebRTC carries it (H.264 without B-frames, a key frame a second, Opus), any number of seconds: a
 * white patch in the upper left corner for two pictures and a beep of 1 kHz for 50 ms (the speech is silent around it) at every whole
 * second. Made once per folder, at about twenty times real time.
 */
export function webRtcTalk(folder: string, seconds: number, size = "640x360"): string {
  // In Matroska the picture would begin 7 ms late: Opus begins at -6.5 ms, and all is moved until nothing is negative.
  const path = join(folder, `webrtc-${size}-${seconds}.mp4`);
  if (existsSync(path)) return path;
  const [width, height] = size.split("x").map(Number) as [number, number];
  const patch = `x=0:y=0:w=${Math.round(width / 8)}:h=${Math.round(height / 8)}:t=fill`;
  const graph = [
    `[0:v]fps=30,scale=${width}:${height}:flags=bilinear,setpts=N/30/TB,drawbox=${patch}:color=black,drawbox=${patch}:color=white:enable='lt(mod(n,30),2)',format=yuv420p[v]`,
    `[0:a]aresample=48000,asetpts=N/SR/TB,aformat=channel_layouts=stereo,asetnsamples=480,volume='if(gt(mod(t,1),0.94)+lt(mod(t,1),0.09),0,0.8)':eval=frame[talk]`,
    `aevalsrc='if(lt(mod(t,1),0.05),0.5*sin(2*PI*1000*t),0)':s=48000:c=stereo:d=${seconds}[beep]`,
    "[talk][beep]amix=inputs=2:normalize=0:duration=shortest[a]",
  ];
  const part = `${path}.part`;
  execFileSync(
    "ffmpeg",
    [
      ...["-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", DEMO_CLIP, "-filter_complex", graph.join(";")],
      ...["-map", "[v]", "-map", "[a]", "-t", String(seconds), "-c:v", "libx264", "-preset", "veryfast", "-bf", "0"],
      ...["-g", "30", "-sc_threshold", "0", "-b:v", "800k", "-c:a", "libopus", "-b:a", "96k", "-f", "mp4", part],
    ],
    { stdio: ["ignore", "ignore", "inherit"], timeout: 600_000 },
  );
  renameSync(part, path);
  return path;
}
