import { execFileSync } from "node:child_process";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RealFft } from "../src/pipeline/fft.js";
import { DEVICE_FLAGS, launchChromium, WEBRTC_FLAGS } from "../test/browser/chromium.js";
import { BssEval } from "./quality/bss-eval.js";
import { BROWSER_PAGE, type BrowserRun, CODE_BITS, codeSide } from "./support/browser-page.js";
import { DEMO_CLIP, ROOT } from "./support/clip.js";
import { machine, mean, median, percentile, printTable, type Row, row } from "./support/numbers.js";
import { Product, shippedModels } from "./support/product.js";
import { clipFolder } from "./support/session.js";

/**
 * Headless Chromium publishes a talking head from files as its camera and microphone by WHIP, and plays what comes back by WHEP:
 * glass-to-glass and mouth-to-ear latency, lip-sync, and how far the off-screen voice is taken out of what the page plays.
 *
 *     npx tsx bench/browser.ts [--seconds 40] [--size 640x360]
 *
 * Pictures carry numbers, and Chromium says how far apart it plays sound and picture itself: WebRTC leaves them as they come while they
 * are less than 30 ms apart (`kMinDeltaMs`, video/stream_synchronization.cc), so where within that a run ends is chance. What Sightline adds
 * is measured without a player, to a millisecond, by bench/lip-sync.ts.
 *
 * Exit status 1: a promise was broken.
 */
const { values: args } = parseArgs({
  options: { seconds: { type: "string", default: "40" }, size: { type: "string", default: "640x360" } },
});
const seconds = Number(args.seconds);
if (!(seconds >= 20 && seconds <= 300)) throw new RangeError("--seconds: 20 to 300");
const [width, height] = args.size.split("x").map(Number) as [number, number];
if (!(width >= 160 && height >= 90)) throw new RangeError("--size: WIDTHxHEIGHT, at least 160x90");
/** Seconds between two beeps: so far apart that latency cannot be taken for another one. */
const PERIOD = 3;
const RATE = 16_000;
/** Seconds at the start of a run that are left out: jitter buffers and the channel's clock find their place. */
const SETTLING = 8;

const folder = clipFolder();
const ffmpeg = (path: string, ...args: string[]): string => {
  if (!existsSync(path)) {
    const part = path.replace(/(\.\w+)$/, ".part$1");
    execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-y", ...args, part], { timeout: 240_000 });
    renameSync(part, path);
  }
  return path;
};
const side = codeSide(width);
/** The number of a picture in white squares (see browser-page.ts); 720 pictures, so that parity is that of the bits below. */
const bit = (k: number): string => `mod(floor(n/${2 ** k}),2)`;
const parity = `mod(${Array.from({ length: CODE_BITS }, (_, k) => bit(k)).join("+")},2)`;
const squares = Array.from({ length: CODE_BITS + 1 }, (_, k) => {
  const lit = k < CODE_BITS ? bit(k) : parity;
  return `drawbox=x=${k * side}:y=0:w=${side}:h=${side}:t=fill:color=white:enable='${lit}'`;
});
const filmed = ["-i", DEMO_CLIP, "-an", "-t", "24", "-vf"];
const scaled = `fps=30,scale=${width}:${height}:flags=bilinear`;
const camera = ffmpeg(join(folder, `camera-plain-${args.size}.y4m`), ...filmed, `${scaled},format=yuv420p`);
const numbered = ffmpeg(
  join(folder, `camera-numbered-${args.size}.y4m`),
  ...filmed,
  [`${scaled},drawbox=x=0:y=0:w=iw:h=${side}:t=fill:color=black`, ...squares, "format=yuv420p"].join(),
);
const talk = ffmpeg(
  join(folder, "microphone-talk.wav"),
  ...["-i", DEMO_CLIP, "-vn", "-t", "24", "-ac", "1", "-ar", "48000"],
);
const beep = ffmpeg(
  join(folder, "microphone-beep.wav"),
  ...["-i", talk, "-filter_complex"],
  `[0:a]asetnsamples=480,volume='if(gt(mod(t,${PERIOD}),${PERIOD - 0.06})+lt(mod(t,${PERIOD}),0.09),0,0.25)':eval=frame[t];` +
    `aevalsrc='if(lt(mod(t,${PERIOD}),0.05),0.6*sin(2*PI*1000*t),0)':s=48000:c=mono:d=24[b];[t][b]amix=inputs=2:normalize=0[a]`,
  ...["-map", "[a]", "-ac", "1", "-ar", "48000"],
);

const { models, what } = await shippedModels(folder);
const product = await Product.start({
  models,
  channels: {
    bypass: { key: "bypass", profile: "low", bypass: true },
    low: { key: "low", profile: "low", strengthPercent: 0 },
    balanced: { key: "balanced", profile: "balanced", strengthPercent: 0 },
    clean: { key: "clean", profile: "balanced" },
  },
});
const rest = [width, height, CODE_BITS];
const rows: Row[] = [];
try {
  await product.ready();
  const bare = report(
    "two peers without Sightline",
    await inBrowser(numbered, beep, ["", "", seconds, false, ...rest]),
    null,
  );
  for (const channel of ["bypass", "low", "balanced"])
    report(`channel \`${channel}\``, await through(channel, numbered, beep, false), bare);
  await cleaned();
  console.log(`${machine()}; Chromium, ${args.size} at 30 a second, ${seconds} s each, model ${what}`);
  process.exitCode = printTable("Browser to browser", rows);
} finally {
  await product.stop();
}

async function inBrowser(camera: string, microphone: string, order: readonly unknown[]): Promise<BrowserRun> {
  const files = [`--use-file-for-fake-video-capture=${camera}`, `--use-file-for-fake-audio-capture=${microphone}`];
  const { browser, close } = await launchChromium([...WEBRTC_FLAGS, ...DEVICE_FLAGS, ...files]);
  try {
    const page = await browser.newPage();
    // Camera and worklets want a secure origin: 127.0.0.1 is one.
    await page.goto(`http://127.0.0.1:${product.ports.http}/healthz`);
    return (await page.evaluate(`(${BROWSER_PAGE})(${JSON.stringify(order)})`)) as BrowserRun;
  } finally {
    await close();
  }
}

function through(channel: string, camera: string, microphone: string, record: boolean): Promise<BrowserRun> {
  const base = `http://127.0.0.1:${product.ports.media}`;
  return inBrowser(camera, microphone, [
    `${base}/whip/${channel}`,
    `${base}/whep/${channel}`,
    seconds,
    record,
    ...rest,
  ]);
}

/** Milliseconds from each beep of the microphone to the same beep in what is played; they come far enough apart to be told. */
function earDelays({ before, after }: BrowserRun): number[] {
  const first = (before.beeps[0] ?? 0) + 1000 * SETTLING;
  return before.beeps.flatMap((from) => {
    const to = after.beeps.find((t) => t >= from);
    return from < first || to === undefined || to - from >= 1000 * PERIOD - 200 ? [] : [to - from];
  });
}

/** The same for the pictures, each known by its number: one that is not shown is missing, and moves no other. */
function glassDelays({ before, after }: BrowserRun): number[] {
  const first = (before.pictures[0]?.[1] ?? 0) + 1000 * SETTLING;
  const takenAt = new Map<number, number>();
  const out: number[] = [];
  let at = 0;
  for (const [number, shown] of after.pictures) {
    for (; at < before.pictures.length && before.pictures[at]![1] <= shown; at++) takenAt.set(...before.pictures[at]!);
    const taken = takenAt.get(number);
    // A number comes again after 24 s.
    if (taken !== undefined && taken >= first && shown - taken < 5000) out.push(shown - taken);
  }
  return out;
}

/** @returns the lip-sync error without what Chromium says that its own playout adds */
function report(name: string, run: BrowserRun, bare: number | null): number {
  const [glass, ear] = [glassDelays(run), earDelays(run)];
  const ms = (v: number): string => `${v.toFixed(0)} ms`;
  const enough = glass.length >= 10 * (seconds - SETTLING) && ear.length >= (seconds - SETTLING) / PERIOD / 2;
  const { after, encoded, targetKbps, decoded, dropped } = run;
  const error = mean(ear) - mean(glass);
  const playout = median(run.playout.slice(SETTLING));
  const rest = error - playout;
  rows.push(
    row(
      `${name}: glass to glass p50 / p95, mouth to ear p50 / p95`,
      `${[median(glass), percentile(glass, 0.95), median(ear), percentile(ear, 0.95)].map(ms).join(" / ")} (${run.codec} ${run.width}; pictures captured ${run.before.frames}, encoded ${encoded} for ${targetKbps} kbit/s, decoded ${decoded}, dropped ${dropped}, shown ${after.frames}, not to be read ${after.unread}; ${run.lost} packets lost, ${(run.concealed / 48).toFixed(0)} ms of sound made up)`,
      "",
      enough ? null : false,
    ),
    row(
      `${name}: lip-sync error end to end (sound late: +)`,
      `${error.toFixed(1)} ms`,
      "within 40 ms",
      Math.abs(error) < 40,
    ),
    row(
      `${name}: without Chromium's own playout (${playout.toFixed(1)} ms by its account)`,
      `${rest.toFixed(1)} ms${bare === null ? "" : `, ${(rest - bare).toFixed(1)} ms more than without Sightline`}`,
    ),
  );
  return rest;
}

/** What the page plays of a channel that separates, against what it would have played: both by the two voices that were mixed. */
async function cleaned(): Promise<void> {
  // A run that was not cleaned must say what the channel was doing meanwhile.
  const modes = new Map<string, number>();
  const look = (): void => {
    product
      .status("clean")
      .then((s) => {
        const mode = s === null ? "no status" : [s.mode, s.reason].filter((x) => x !== null).join(" ");
        modes.set(mode, (modes.get(mode) ?? 0) + 1);
      })
      .catch(() => undefined);
  };
  const timer = setInterval(look, 1000);
  const run = await through("clean", camera, talk, true).finally(() => clearInterval(timer));
  const voices = ["on-screen", "off-screen"].map((name) => read(join(ROOT, "demo", `${name}.flac`)));
  const clip = voices[0]!.map((v, i) => v + voices[1]![i]!);
  const scores = (text: string): number[] => {
    const heard = resample(Buffer.from(text, "base64"));
    const out: number[] = [];
    // Piece by piece: the browser's jitter buffer may stretch the sound a little in between.
    const length = 5 * RATE;
    for (let at = 8 * RATE; at + length <= heard.length; at += length) {
      const piece = heard.slice(at, at + length);
      const shift = offsetIn(clip, piece);
      const parts = voices.map((v) => Float32Array.from({ length }, (_, i) => v[(shift + i) % v.length]!));
      if (parts.every((p) => p.some((x) => x !== 0))) out.push(new BssEval(parts).score(piece, 0).sir);
    }
    return out;
  };
  const [input, clean] = [scores(run.input!), scores(run.clean!)];
  const gain = mean(clean) - mean(input);
  rows.push(
    row(
      "off-screen voice against the on-screen one (SIR) in what the page plays, `?stem=input` / cleaned",
      `${mean(input).toFixed(1)} / ${mean(clean).toFixed(1)} dB, mean of ${clean.length} pieces of 5 s; seconds by mode: ${[...modes].map(([mode, n]) => `${mode} ${n}`).join(", ")}`,
      "at least 3 dB better",
      clean.length >= 2 && gain >= 3,
    ),
  );
}

function read(path: string): Float32Array {
  const bytes = execFileSync("ffmpeg", ["-v", "error", "-i", path, "-ac", "1", "-ar", `${RATE}`, "-f", "f32le", "-"], {
    maxBuffer: 64 * 1024 * 1024,
  });
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

function resample(pcm: Buffer): Float32Array {
  const from = ["-f", "s16le", "-ar", "48000", "-ac", "1", "-i", "-"];
  const bytes = execFileSync("ffmpeg", ["-v", "error", ...from, "-ac", "1", "-ar", `${RATE}`, "-f", "f32le", "-"], {
    input: pcm,
    maxBuffer: 64 * 1024 * 1024,
  });
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** Where in a clip that goes round and round the piece begins, a filter's few taps early: the peak of the circular cross-correlation. */
function offsetIn(clip: Float32Array, piece: Float32Array): number {
  const fft = new RealFft(2 ** Math.ceil(Math.log2(clip.length + piece.length)));
  const [round, heard] = [new Float64Array(fft.size), new Float64Array(fft.size)];
  for (let i = 0; i < clip.length + piece.length; i++) round[i] = clip[i % clip.length]!;
  heard.set(piece);
  const [A, B] = [new Float64Array(2 * fft.bins), new Float64Array(2 * fft.bins)];
  fft.forward(round, A);
  fft.forward(heard, B);
  for (let k = 0; k < 2 * fft.bins; k += 2) {
    const [re, im] = [A[k]! * B[k]! + A[k + 1]! * B[k + 1]!, A[k + 1]! * B[k]! - A[k]! * B[k + 1]!];
    [A[k], A[k + 1]] = [re, im];
  }
  const found = new Float64Array(fft.size);
  fft.inverse(A, found);
  let best = 0;
  for (let i = 1; i < clip.length; i++) if (found[i]! > found[best]!) best = i;
  return (best + clip.length + 32) % clip.length;
}
