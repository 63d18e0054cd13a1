import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readSound } from "../../src/file/readers.js";
import { type SeparateOptions, type SeparateReport, separateFile } from "../../src/file/separate-file.js";
import { WAV_HEADER_BYTES } from "../../src/file/wav.js";
import { WindowPictures } from "../../src/file/window-pictures.js";
import { loadWindow } from "../../src/model/cards.js";
import { importCheckpoint } from "../../src/model/checkpoint/import.js";
import { windowGains, windowGrid } from "../../src/model/paper/gains.js";
import { waveform } from "../../src/model/paper/spectrum.js";
import { type Mixture, PaperWindow, type WindowResult } from "../../src/model/paper/window.js";
import { BANK_BINS, BANK_HOP, BANK_SIZE, FilterBank } from "../../src/pipeline/filter-bank.js";
import { GainMap } from "../../src/pipeline/gain-map.js";
import { Resampler } from "../../src/pipeline/resample.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";
import { paperBundle } from "../model/checkpoint/paper-bundle.js";
import { saveBundle, writeBundle } from "../model/checkpoint/write-bundle.js";
import { fakeGst } from "./fake-gst.js";

/** Random weights: what is separated means nothing, but every step of the way is the real one. Pictures of 32 pixels, width 1/32. */
const SIDE = 32;
const FRAME = 48_000 / 29.97;
/** Where the windows of 6 s lie (half a window apart, the last one moved back), by hand: 31.5 frames, and ceil((288000 - 100608) / FRAME). */
const FRAMES = [0, 31, 63, 94, 118];
const folder = clipFolder();
const at = (name: string): string => join(folder.path, name);
const clip = at("clip.mkv");
let model: PaperWindow;
let sound: Float32Array[];
let plain: SeparateReport;
/** Of the whole clip, one by one. */
let direct: WindowResult[];

const test = suite("file mode with window models");
test.before(async () => {
  for (const preset of ["full", "cam", "unet_pit"] as const) {
    saveBundle(at(preset), writeBundle(paperBundle(preset, false)));
    await importCheckpoint(at(preset), preset, at(`model-${preset}`), { image: SIDE });
  }
  model = await PaperWindow.open(await loadWindow(at("model-full")), { threads: 1 });
  // Pictures that move, two different channels of noise and tones; sound and picture both from 0 on.
  ffmpeg(
    ...["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30000/1001"],
    ...[
      "-f",
      "lavfi",
      "-i",
      "anoisesrc=a=0.2:r=48000:seed=1",
      "-f",
      "lavfi",
      "-i",
      "aevalsrc=0.3*sin(880*t*(1+t)):s=48000",
    ],
    ...["-filter_complex", "[1][2]join=inputs=2:channel_layout=stereo[a]", "-map", "0:v", "-map", "[a]", "-t", "6"],
    ...["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "pcm_f32le", clip],
  );
  sound = await heard(clip);
  plain = await separate({ cam: true, mp4: true });
  direct = await windows();
});
test.after(async () => {
  await model.close();
  folder.remove();
});

let runs = 0;
const separate = (options: Partial<SeparateOptions> = {}): Promise<SeparateReport> =>
  separateFile({
    input: clip,
    out: at(`out${++runs}`),
    model: at("model-full"),
    mp4: false,
    threads: 1,
    signal: AbortSignal.timeout(150_000),
    ...options,
  });

function wav(path: string, channels: number): Float32Array[] {
  const bytes = readFileSync(path).subarray(WAV_HEADER_BYTES);
  const count = bytes.length / (4 * channels);
  return Array.from({ length: channels }, (_, c) =>
    Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(4 * (i * channels + c))),
  );
}
const on = (r: SeparateReport): Float32Array[] => wav(r.files["onscreen.wav"]!, r.channels);
const off = (r: SeparateReport): Float32Array[] => wav(r.files["offscreen.wav"]!, r.channels);

/** The input's sound, whole. */
async function heard(path: string): Promise<Float32Array[]> {
  const track = readSound(path);
  const pieces: (readonly Float32Array[])[] = [];
  for (let p = await track.next(); p !== null; p = await track.next()) pieces.push(p.channels);
  const length = pieces.reduce((n, p) => n + p[0]!.length, 0);
  return pieces[0]!.map((_, c) => {
    const all = new Float32Array(length);
    let n = 0;
    for (const p of pieces) {
      all.set(p[c]!, n);
      n += p[c]!.length;
    }
    return all;
  });
}

/** All windows of the clip, straight from the whole sound. */
async function windows(mixture: Mixture = "mean", frames = FRAMES): Promise<WindowResult[]> {
  const pictures = new WindowPictures({ input: clip, side: SIDE, mask: null, toSample: (ms) => Math.round(ms * 48) });
  const resampler = new Resampler(7, 16);
  const results: WindowResult[] = [];
  try {
    assert.ok(await pictures.begin());
    for (const frame of frames) {
      const [left, right] = sound.map((c) => resampler.run(c, Math.round(frame * FRAME), 44_144));
      results.push(
        await model.run({ pictures: await pictures.window(frame, 63), left: left!, right: right! }, mixture),
      );
    }
  } finally {
    pictures.close();
  }
  return results;
}

const worst = (a: Float32Array, b: Float32Array, from = 0, until = a.length): number => {
  let most = 0;
  for (let i = from; i < until; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
};
const sin2 = (n: number, from: number, length: number): number =>
  Math.sin((Math.PI / 2) * Math.min(1, Math.max(0, (n - from) / length))) ** 2;

async function refused(job: Promise<unknown>, code: string, what: RegExp): Promise<void> {
  const error: unknown = await job.then(
    () => null,
    (e: unknown) => e,
  );
  assert.ok(error instanceof Error, "it was taken");
  assert.is((error as Error & { code: string }).code, code, String(error));
  assert.match((error as Error).message, what);
}

test("the stems add up to the input sample by sample; channels and length are kept", () => {
  assert.is(plain.channels, 2);
  assert.is(plain.steps, FRAMES.length);
  assert.equal(plain.modes, { separated: FRAMES.length });
  assert.ok(Math.abs(plain.samples - 288_000) < 1000);
  const [a, b] = [on(plain), off(plain)];
  for (const c of [0, 1]) {
    assert.is(a[c]!.length, sound[c]!.length);
    const sum = a[c]!.map((v, i) => v + b[c]![i]!);
    assert.ok(worst(sum, sound[c]!) < 1e-6);
    assert.ok(worst(a[c]!, sound[c]!) > 0.01, "nothing was turned down");
  }
});

test("the gains are those of the windows, cross-faded in the middle of their overlaps; sample 0 is sample 0", () => {
  const results = direct;
  const map = new GainMap(1025, 21_000 / 2048);
  // Gains of one window at a time, linear between its frames; outermost frames hold on.
  const rows = results.map(({ voices }) => {
    const gains = windowGains(voices!.on, voices!.off);
    return Array.from({ length: 128 }, (_, f) => {
      const row = new Float32Array(BANK_BINS);
      map.apply(gains, 1025 * f, row, 0);
      return row;
    });
  });
  const at48 = (f: number): number => Math.round(f * FRAME);
  const bank = new FilterBank(2);
  const gainsAt = (centre: number, out: Float32Array): void => {
    for (const [w, frame] of FRAMES.entries()) {
      // A window takes over on the last of its own frames that is not after the middle of the overlap less half of the fade.
      const middle = w === 0 ? 0 : Math.floor((at48(frame) + at48(FRAMES[w - 1]!) + 100_608 - 3072) / 2);
      const begin = at48(frame) + 1536;
      const from = begin + 768 * Math.floor((middle - begin) / 768);
      const weight = w === 0 ? 1 : sin2(centre, from, 3072);
      if (weight === 0) continue;
      const position = Math.min(127, Math.max(0, (centre - begin) / 768));
      const f = Math.min(126, Math.floor(position));
      for (let k = 0; k < BANK_BINS; k++) {
        const [a, b] = [rows[w]![f]![k]!, rows[w]![f + 1]![k]!];
        out[k] = (1 - weight) * (w === 0 ? 0 : out[k]!) + weight * (a + (position - f) * (b - a));
      }
    }
  };
  const length = sound[0]!.length;
  const padded = sound.map((c) => {
    const p = new Float32Array(Math.ceil(length / BANK_HOP) * BANK_HOP + BANK_SIZE);
    p.set(c);
    return p;
  });
  const want = padded.map((p) => new Float32Array(p.length));
  const count = bank.process(padded, 0, padded[0]!.length, gainsAt, want);
  assert.ok(count >= length);
  const got = on(plain);
  for (const c of [0, 1]) {
    // The first 50 ms, and a frame, come from 1 by the pipeline's ramp.
    const difference = worst(got[c]!, want[c]!, 2400 + BANK_SIZE);
    assert.ok(difference < 2e-5, `channel ${c} differs by ${difference}`);
  }
});

test("grids of a window: frames where they belong, the outermost one holds on", () => {
  const gains = Float32Array.from({ length: 3 * 1025 }, (_, i) => Math.floor(i / 1025) / 4);
  const grid = windowGrid(gains, 1000, -1024, 1000 + 1536 + 3 * 768);
  assert.equal([grid.hopSamples, grid.bins, (grid.atSample - 2536) % 768], [768, 1025, 0]);
  assert.ok(grid.atSample <= -1024 && grid.atSample > -1024 - 768);
  assert.is(grid.atSample + (grid.frames - 1) * 768, 2536 + 3 * 768);
  const at = (sample: number): number => grid.data[((sample - grid.atSample) / 768) * 1025]!;
  assert.equal([2536 - 768, 2536, 2536 + 768, 2536 + 2 * 768, 2536 + 3 * 768].map(at), [0, 0, 0.25, 0.5, 0.5]);
});

test("an impulse stays where it is: 48 kHz, 21 kHz, back to 48 kHz", () => {
  const [down, up] = [new Resampler(7, 16), new Resampler(16, 7)];
  for (const position of [800, 801, 807, 1600]) {
    const x = new Float32Array(2400);
    // Band-limited, else nothing of an impulse is left to compare: a bell of 0.4 ms.
    for (let n = 0; n < x.length; n++) x[n] = Math.exp(-(((n - position) / 10) ** 2));
    const low = down.run(x, 0, 1050);
    const back = up.run(low, 0, 2400);
    assert.ok(worst(back, x) < 2e-4, `at ${position}: ${worst(back, x)}`);
    for (let m = 0; m < low.length; m++)
      assert.ok(Math.abs(low[m]! - Math.exp(-((((m * 16) / 7 - position) / 10) ** 2))) < 2e-4);
  }
  const tone = (hz: number) => Float32Array.from({ length: 9600 }, (_, n) => Math.sin((2 * Math.PI * hz * n) / 48_000));
  const loudest = (x: Float32Array): number => x.slice(500, -500).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  assert.ok(Math.abs(loudest(down.run(tone(4990), 0, 4200)) - 1) < 1e-3);
  assert.ok(loudest(down.run(tone(12_000), 0, 4200)) < 1e-4, "folded back");
});

test("--paper gives the predicted voices window by window, at the input's level", async () => {
  const report = await separate({ paper: true });
  assert.is(report.channels, 1);
  assert.is(report.samples, sound[0]!.length);
  const results = direct;
  const upsample = new Resampler(16, 7);
  for (const [name, got] of [
    ["on", on(report)[0]!],
    ["off", off(report)[0]!],
  ] as const) {
    const want = new Float32Array(report.samples);
    for (const [w, { voices, gain }] of results.entries()) {
      const start = Math.round(FRAMES[w]! * FRAME);
      const before = w === 0 ? 0 : Math.round(FRAMES[w - 1]! * FRAME);
      const from = w === 0 ? 0 : Math.floor((start + before + 100_608 - 3072) / 2);
      const y = upsample.run(waveform(voices![name]), 0, 100_608);
      for (let n = from; n < Math.min(want.length, start + y.length); n++) {
        const weight = w === 0 ? 1 : sin2(n, from, 3072);
        want[n] = (1 - weight) * want[n]! + (weight * y[n - start]!) / gain;
      }
    }
    const scale = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    assert.ok(worst(got, want) < 1e-4 * scale, `${name}: ${worst(got, want)} of ${scale}`);
  }
});

test("--release-exact: left channel, the release's level and seams, clipped", async () => {
  const report = await separate({ paper: true, releaseExact: true });
  const frames = [0, 31, 63, 95, 118]; // half of 2.135 s is 31.99 frames
  const results = await windows("left", frames);
  const upsample = new Resampler(16, 7);
  const want = new Float32Array(report.samples);
  let filled = 0;
  for (const [w, { voices }] of results.entries()) {
    const start = Math.round(frames[w]! * FRAME);
    const y = upsample.run(waveform(voices!.on, { releaseExact: true }), 0, 100_608);
    for (let n = filled; n < Math.min(want.length, start + y.length); n++)
      want[n] = Math.max(-1, Math.min(1, y[n - start]!));
    filled = start + y.length;
  }
  assert.ok(worst(on(report)[0]!, want) < 1e-4, String(worst(on(report)[0]!, want)));
});

test("cam.mp4 has the pictures of the input, warmed where the map is high; onscreen.mp4 has the sound", () => {
  const probe = (path: string): string =>
    execFileSync(
      "ffprobe",
      [
        "-v",
        "error",
        "-show_entries",
        "stream=codec_type,width,height,nb_read_packets",
        "-count_packets",
        "-of",
        "csv=p=0",
        path,
      ],
      { timeout: 30_000 },
    ).toString();
  assert.match(probe(plain.files["cam.mp4"]!), /video,320,180,1(79|80)/);
  assert.match(probe(plain.files["cam.mp4"]!), /audio/);
  assert.match(probe(plain.files["onscreen.mp4"]!), /video,320,180,180/);
  const pictures = (path: string): Buffer =>
    execFileSync(
      "ffmpeg",
      ["-v", "error", "-nostdin", "-i", path, "-frames:v", "20", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
      {
        maxBuffer: 1 << 28,
        timeout: 30_000,
      },
    );
  const [before, after] = [pictures(clip), pictures(plain.files["cam.mp4"]!)];
  let changed = 0;
  for (let i = 0; i < before.length; i++) if (Math.abs(before[i]! - after[i]!) > 40) changed++;
  assert.ok(changed > 0.002 * before.length && changed < 0.9 * before.length, `${changed} of ${before.length}`);
  assert.equal(readdirSync(join(plain.files["cam.mp4"]!, "..")).sort(), [
    "cam.mp4",
    "highlight.jsonl",
    "offscreen.wav",
    "onscreen.mp4",
    "onscreen.wav",
  ]);
});

test("a mask greys half of what the network sees out, and changes what it hears", async () => {
  const pictures = new WindowPictures({ input: clip, side: SIDE, mask: "r", toSample: (ms) => Math.round(ms * 48) });
  await pictures.begin();
  const [first] = await pictures.window(0, 1);
  pictures.close();
  for (let y = 0; y < SIDE; y++) {
    const row = first!.subarray(3 * SIDE * y, 3 * SIDE * (y + 1));
    assert.ok(row.subarray(3 * (SIDE / 2)).every((v) => v === 128));
  }
  assert.ok(first!.some((v, i) => i % (3 * SIDE) < 3 * (SIDE / 2) && Math.abs(v - 128) > 50));
  const masked = on(await separate({ mask: "r" }))[0]!;
  assert.ok(worst(masked, on(plain)[0]!) > 1e-5);
});

test("a network without pictures separates sound alone; off-screen may be what onscreen.mp4 keeps", async () => {
  const report = await separate({ model: at("model-unet_pit"), keep: "off-screen" });
  const [a, b] = [on(report), off(report)];
  assert.ok(
    worst(
      a[0]!.map((v, i) => v + b[0]![i]!),
      sound[0]!,
    ) < 1e-6,
  );
});

test("what cannot be done is said, and nothing is left", async () => {
  await refused(separate({ model: at("model-cam") }), "SL_FILE_MODEL", /preset cam\) has no u-net.*--preset full/);
  await refused(separate({ model: at("model-unet_pit"), cam: true }), "SL_FILE_MODEL", /no class activation map/);
  ffmpeg("-i", clip, "-t", "1.5", "-c", "copy", at("short.mkv"));
  await refused(separate({ input: at("short.mkv") }), "SL_FILE_TOO_SHORT", /1\.\d+ s of sound.*2\.10 s/);
  assert.not(existsSync(at(`out${runs}`)));
  // Longer than what is kept in memory.
  ffmpeg("-stream_loop", "3", "-i", clip, "-vn", "-c", "copy", at("blind.mkv"));
  const blind = await separate({ input: at("blind.mkv") });
  assert.equal(
    blind.warnings.map((w) => w.code),
    ["SL_FILE_NO_PICTURE"],
  );
  assert.ok(blind.seconds > 20);
  assert.ok(worst(sound[1]!, on(blind)[1]!) < 1e-6);
  assert.ok(
    on(blind)[1]!
      .slice(-48_000)
      .some((v) => Math.abs(v) > 0.1),
  );
  await refused(separate({ input: at("blind.mkv"), paper: true }), "SL_FILE_MODEL", /no pictures/);
});

test("stopped while a file without pictures is waited for: nothing is left", async () => {
  const back = fakeGst(folder.path, { seconds: 1, hangs: true });
  const stop = new AbortController();
  const onProgress = (): void => void setTimeout(() => stop.abort(), 300);
  try {
    const error: unknown = await separate({ out: at("stopped"), signal: stop.signal, onProgress }).catch((e) => e);
    assert.is((error as { code?: string }).code, "SL_FILE_STOPPED", String(error));
    assert.not(existsSync(at("stopped")));
  } finally {
    back();
  }
});

test.run();
