import { execFileSync } from "node:child_process";

/** Pictures a second of everything that is cut here: one of the model's, so that cuts lie on 1920 samples. */
export const FPS = 25;

function ffmpeg(args: readonly string[]): string {
  return execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-y", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 120_000,
  }).toString();
}

const ENCODE = [
  "-an",
  "-r",
  String(FPS),
  "-c:v",
  "libx264",
  "-preset",
  "veryfast",
  "-crf",
  "16",
  "-pix_fmt",
  "yuv420p",
];
const FROM_ZERO = `setpts=N/${FPS}/TB`;
/** Sizes without odd numbers and square pixels, as the encoder and `concat` want them. */
const EVEN = `fps=${FPS},scale=trunc(iw/2)*2:trunc(ih/2)*2,setsar=1`;

function encode(input: readonly string[], graph: string, seconds: number, out: string): void {
  ffmpeg([...input, "-filter_complex", `${graph}[out]`, "-map", "[out]", "-t", seconds.toFixed(3), ...ENCODE, out]);
}

function evenSize(picture: string): { width: number; height: number } {
  const text = execFileSync(
    "ffprobe",
    ["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0", picture],
    { timeout: 20_000, encoding: "utf8" },
  );
  const [width, height] = text.trim().split(",").map(Number);
  if (!(width! > 1) || !(height! > 1)) throw new Error(`${picture} has no picture`);
  return { width: width! & ~1, height: height! & ~1 };
}

/** A card as it stands between two shots: a title bar, a photo's place, lines of text; it stands still. */
function slideGraph(picture: string, seconds: number): string {
  const { width, height } = evenSize(picture);
  const box = (x: number, y: number, w: number, h: number, colour: string): string =>
    `drawbox=x=iw*${x}:y=ih*${y}:w=iw*${w}:h=ih*${h}:color=${colour}:t=fill`;
  return [
    `color=c=0xe8e6df:s=${width}x${height}:r=${FPS}:d=${seconds}`,
    box(0, 0, 1, 0.18, "0x1f3a5f"),
    box(0.08, 0.28, 0.3, 0.44, "0x7f9f6f"),
    ...[0.3, 0.4, 0.5, 0.6].map((y) => box(0.45, y, 0.45 - y / 5, 0.04, "0x444444")),
    "setsar=1",
  ].join(",");
}

/** A slide only. */
export function slide(like: string, seconds: number, out: string): void {
  encode([], slideGraph(like, seconds), seconds, out);
}

/** The picture for some seconds, then a hard cut to a slide. */
export function slideAfter(picture: string, faceSeconds: number, slideSeconds: number, out: string): void {
  const frames = Math.round(faceSeconds * FPS);
  const face = `[0:v:0]${EVEN},tpad=stop_mode=clone:stop=${frames},trim=end_frame=${frames},${FROM_ZERO}[face]`;
  const graph = `${face};${slideGraph(picture, slideSeconds)}[slide];[face][slide]concat=n=2`;
  encode(["-i", picture], graph, faceSeconds + slideSeconds, out);
}

/** The picture with a slide in its place between two moments; its own time goes on meanwhile. */
export function slideBetween(picture: string, from: number, to: number, seconds: number, out: string): void {
  const at = (s: number): number => Math.round(s * FPS);
  const graph = [
    `[0:v:0]${EVEN},tpad=stop_mode=clone:stop=${at(seconds)},split=2[a][b]`,
    `[a]trim=end_frame=${at(from)},${FROM_ZERO}[before]`,
    `[b]trim=start_frame=${at(to)}:end_frame=${at(seconds)},${FROM_ZERO}[after]`,
    `${slideGraph(picture, to - from)}[slide]`,
    "[before][slide][after]concat=n=3",
  ].join(";");
  encode(["-i", picture], graph, seconds, out);
}

/** One picture, then a hard cut to the begin of another one, which is fitted into the size of the first. */
export function cutTo(first: string, firstSeconds: number, second: string, secondSeconds: number, out: string): void {
  const { width, height } = evenSize(first);
  const fit = `scale=${width}:${height}:force_original_aspect_ratio=decrease:force_divisible_by=2,pad=${width}:${height}:-1:-1`;
  const cut = (seconds: number): string => {
    const frames = Math.round(seconds * FPS);
    return `tpad=stop_mode=clone:stop=${frames},trim=end_frame=${frames},${FROM_ZERO}`;
  };
  const graph = `[0:v:0]${EVEN},${cut(firstSeconds)}[a];[1:v:0]fps=${FPS},${fit},setsar=1,${cut(secondSeconds)}[b];[a][b]concat=n=2`;
  encode(["-i", first, "-i", second], graph, firstSeconds + secondSeconds, out);
}

/** The picture at 1 s, held: what a frozen source sends. */
export function held(picture: string, seconds: number, out: string): void {
  const frames = Math.ceil(seconds * FPS);
  const graph = `[0:v:0]${EVEN},trim=start_frame=${FPS}:end_frame=${FPS + 1},loop=loop=${frames}:size=1,${FROM_ZERO}`;
  encode(["-i", picture], graph, seconds, out);
}

/** Frames of the source, counted at FPS: begin to `to`, `from` to `to` back and forth `rounds` times, then on from `to` to `end`. */
export type Dwell = {
  readonly begin: number;
  readonly from: number;
  readonly to: number;
  readonly rounds: number;
  readonly end: number;
};

export const dwellFrames = ({ begin, from, to, rounds, end }: Dwell): number => end - begin + 2 * rounds * (to - from);

/** The picture with a stretch of it lengthened by playing it back and forth: lips at rest, and alive. */
export function dwell(picture: string, plan: Dwell, out: string): void {
  const { begin, from, to, rounds, end } = plan;
  const cut = (a: number, b: number): string => `trim=start_frame=${a}:end_frame=${b},${FROM_ZERO}`;
  const graph = [
    `[0:v:0]${EVEN},split=4[a][b][c][d]`,
    `[a]${cut(begin, to)}[before]`,
    `[b]${cut(from, to)},reverse,${FROM_ZERO}[back]`,
    `[c]${cut(from, to)}[forth]`,
    `[back][forth]concat=n=2,loop=loop=${rounds - 1}:size=${2 * (to - from)},${FROM_ZERO}[rest]`,
    `[d]${cut(to, end)}[after]`,
    `[before][rest][after]concat=n=3,${FROM_ZERO}`,
  ].join(";");
  encode(["-i", picture], graph, dwellFrames(plan) / FPS, out);
}

/** The same cuts for sound at 48 kHz. */
export function dwellSound(x: Float32Array, { begin, from, to, rounds, end }: Dwell): Float32Array {
  const samples = 48_000 / FPS;
  const cut = (a: number, b: number): Float32Array => x.slice(a * samples, b * samples);
  const forth = cut(from, to);
  const back = forth.slice().reverse();
  const parts = [cut(begin, to), ...Array.from({ length: rounds }, () => [back, forth]).flat(), cut(to, end)];
  const out = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
