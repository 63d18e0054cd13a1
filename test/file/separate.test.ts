import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { siSdr } from "../../bench/val/metrics.js";
import { decode } from "../../bench/val/mixtures.js";
import type { FileError } from "../../src/file/errors.js";
import { type SeparateOptions, type SeparateReport, separateFile } from "../../src/file/separate-file.js";
import { WAV_HEADER_BYTES } from "../../src/file/wav.js";
import { OnnxFaceDetector } from "../../src/model/faces/detector.js";
import { LocalInference } from "../../src/model/inference/local.js";
import { buildLive } from "../../src/model/live/build.js";
import { PACKAGE_ROOT } from "../../src/paths.js";
import type { Highlight } from "../../src/pipeline/types.js";
import { buildFaceModels } from "../../src/tools/assets.js";
import { FlvReader, type FlvTag, flvHeader, flvTag, SCRIPT } from "../../src/transport/flv/tag.js";
import { clipFolder, ffmpeg, flashAndBeep, packetTimes, videoHashes } from "../gst/clip.js";
import { noiseLive } from "../model/noise.js";
import { fakeGst } from "./fake-gst.js";

/** A model of random weights: what it separates means nothing, but every step of the way is the real one. */
const folder = clipFolder();
const at = (name: string): string => join(folder.path, name);
const talk = join(PACKAGE_ROOT, "demo", "talk.flv");
let inference: LocalInference;
/** The head, separated as it is. */
let living: SeparateReport;

const test = suite("file mode");
test.before(async () => {
  await buildLive(noiseLive(), { name: "tiny", version: "1" }, at("model"));
  const [, back] = await buildFaceModels(at("faces"));
  const faces = await OnnxFaceDetector.open(back!, { threads: 1 });
  inference = await LocalInference.open(at("model"), { threads: 1, faces });
  // A head that speaks, four seconds, stereo, with the edit lists of an MP4.
  ffmpeg("-i", talk, "-t", "4", "-c", "copy", at("head.mp4"));
  living = await separate(at("head.mp4"));
});
test.after(async () => {
  await inference.close();
  folder.remove();
});

let runs = 0;
const separate = (input: string, options: Partial<SeparateOptions> = {}): Promise<SeparateReport> =>
  separateFile({
    input,
    out: at(`out${++runs}`),
    inference,
    mp4: false,
    signal: AbortSignal.timeout(60_000),
    ...options,
  });

function wav(path: string, channels: number): Float32Array[] {
  const bytes = readFileSync(path).subarray(WAV_HEADER_BYTES);
  const count = bytes.length / (4 * channels);
  return Array.from({ length: channels }, (_, c) =>
    Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(4 * (i * channels + c))),
  );
}
const stems = (r: SeparateReport) =>
  [wav(r.files["onscreen.wav"]!, r.channels), wav(r.files["offscreen.wav"]!, r.channels)] as const;
/** The first channel of the on-screen stem. */
const stems0 = (r: SeparateReport): Float32Array => stems(r)[0][0]!;
const highlights = (r: SeparateReport): Highlight[] =>
  readFileSync(r.files["highlight.jsonl"]!, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Highlight);

/** The file's sound as ffmpeg decodes it, by channel. */
function decoded(path: string, channels: number): Float32Array[] {
  const { stdout } = spawnSync(
    "ffmpeg",
    ["-v", "error", "-nostdin", "-i", path, "-map", "0:a:0", "-f", "f32le", "-ar", "48000", "-"],
    { maxBuffer: 1 << 28, timeout: 60_000 },
  );
  const count = stdout.length / (4 * channels);
  return Array.from({ length: channels }, (_, c) =>
    Float32Array.from({ length: count }, (_, i) => stdout.readFloatLE(4 * (i * channels + c))),
  );
}

const peak = (x: Float32Array): number => x.reduce((m, v) => Math.max(m, Math.abs(v)), 0);

/** The two stems add up to the decoded input, sample by sample from the first one on. */
function addsUp(r: SeparateReport, path: string): void {
  const [on, off] = stems(r);
  const input = decoded(path, r.channels);
  assert.is(on.length, input.length);
  for (const [c, samples] of input.entries()) {
    assert.ok(Math.abs(on[c]!.length - samples.length) <= 1024, `${on[c]!.length} samples of ${samples.length}`);
    let worst = 0;
    for (let i = 0; i < Math.min(samples.length, on[c]!.length); i++)
      worst = Math.max(worst, Math.abs(on[c]![i]! + off[c]![i]! - samples[i]!));
    assert.ok(worst < 1e-6, `differs by ${worst}`);
  }
}

async function refused(job: Promise<unknown>, code: FileError["code"], what: RegExp): Promise<void> {
  const error: unknown = await job.then(
    () => null,
    (e: unknown) => e,
  );
  assert.ok(error instanceof Error, "it was taken");
  assert.is((error as FileError).code, code, String(error));
  assert.match(error.message, what);
}

test("a visible head is separated: the stems add up to the input, channels and length are kept", () => {
  const r = living;
  assert.is(r.channels, 2);
  assert.ok((r.modes.separated ?? 0) > 0.8 * r.steps, JSON.stringify(r.modes));
  addsUp(r, at("head.mp4"));
  const [, off] = stems(r);
  assert.ok(peak(off[0]!) > 0.01, "nothing was turned down");
  assert.equal(readdirSync(join(r.files["onscreen.wav"]!, "..")).sort(), [
    "highlight.jsonl",
    "offscreen.wav",
    "onscreen.wav",
  ]);
});

test("highlights say who was seen where, one line a step", () => {
  const truth = JSON.parse(readFileSync(join(PACKAGE_ROOT, "demo", "truth.json"), "utf8")) as { box: number[][] };
  const r = living;
  const lines = highlights(r);
  assert.is(lines.length, r.steps);
  const [x, y, w, h] = truth.box[10]!;
  const faces = lines[6]!.faces;
  assert.is(faces.length, 1);
  const { box } = faces[0]!;
  const middle = [(box.x + box.width / 2) * 1280, (box.y + box.height / 2) * 720];
  assert.ok(middle[0]! > x! && middle[0]! < x! + w! && middle[1]! > y! && middle[1]! < y! + h!, String(middle));
  for (const [i, line] of lines.entries()) {
    assert.is(line.atSample, (i * 5 + 4) * 1920, "that of the picture its faces were found in");
    assert.ok(line.faces.every((f) => f.speaking >= 0 && f.speaking <= 1));
  }
});

test("the same file gives the same bytes each time", async () => {
  const again = await separate(at("head.mp4"));
  for (const name of ["onscreen.wav", "highlight.jsonl"])
    assert.ok(readFileSync(living.files[name]!).equals(readFileSync(again.files[name]!)), name);
});

test("keeping the off-screen voice fills the other file; no strength takes nothing out", async () => {
  const on = stems(living);
  const off = await separate(at("head.mp4"), { keep: "off-screen" });
  addsUp(off, at("head.mp4"));
  const other = stems0(off);
  const worst = on[0][0]!.reduce((m, v, i) => Math.max(m, Math.abs(v - other[i]!)), 0);
  // Both are limited to 40 dB of attenuation, each on its own side.
  assert.ok(worst < 0.05, `on-screen stems differ by ${worst}`);
  const none = stems(await separate(at("head.mp4"), { strengthPercent: 0 }));
  assert.ok(peak(none[1][0]!) < 1e-6);
});
test("when nobody is visible the sound is left as it is, and the highlights say why", async () => {
  const path = flashAndBeep(folder.path, "beep.mp4", { bFrames: 2, soundChannels: 1 });
  const r = await separate(path);
  assert.is(r.channels, 1);
  assert.is(r.modes.separated, undefined);
  assert.ok(highlights(r).every((h) => h.mode === "bypass" && h.reason !== null));
  assert.ok(siSdr(stems(r)[0][0]!, decoded(path, 1)[0]!) > 60);
  addsUp(r, path);
});

test("a masked head counts as nobody; with the other half masked it is seen", async () => {
  const masked = await separate(at("head.mp4"), { mask: { x: 0.2, y: 0, width: 0.6, height: 1 } });
  assert.is(masked.modes.separated, undefined);
  assert.ok(peak(stems(masked)[1][0]!) < 1e-4);
  const seen = await separate(at("head.mp4"), { mask: { x: 0, y: 0, width: 0.2, height: 1 } });
  assert.ok((seen.modes.separated ?? 0) > 0.8 * seen.steps);
});

test("44.1 kHz sound, Matroska, MPEG-TS and FLV keep their length", async () => {
  for (const [name, options] of [
    ["rate.mp4", { soundRate: 44_100 }],
    ["box.mkv", { rate: "30000/1001" }],
    ["stream.ts", {}],
    ["tags.flv", {}],
  ] as const) {
    const path = flashAndBeep(folder.path, name, options);
    const r = await separate(path);
    assert.ok(Math.abs(r.seconds - 3) < 0.06, `${name}: ${r.seconds} s`);
    assert.equal(r.warnings, [], name);
  }
});

/** Seconds from the first sample to the beginning of each beep. */
function beeps(samples: Float32Array): number[] {
  const found: number[] = [];
  for (let i = 0; i < samples.length; i++) {
    if (Math.abs(samples[i]!) < 0.15) continue;
    found.push(i / 48_000);
    i += 24_000;
  }
  return found;
}

test("onscreen.mp4 has the very pictures of the input at their times, and beeps where the input beeps", async () => {
  for (const bFrames of [0, 2]) {
    const path = flashAndBeep(folder.path, `sync${bFrames}.mp4`, { bFrames });
    const r = await separate(path, { mp4: true });
    const made = r.files["onscreen.mp4"]!;
    assert.equal(videoHashes(made), videoHashes(path));
    const [from, to] = [packetTimes(path, "v"), packetTimes(made, "v")];
    assert.is(to.length, from.length);
    for (const [i, t] of from.entries()) assert.ok(Math.abs(t - to[i]!) < 0.001, `picture ${i}: ${t} and ${to[i]}`);
    const [before, after] = [beeps(decode(path, 3)), beeps(decode(made, 3))];
    assert.is(after.length, before.length);
    for (const [i, t] of before.entries())
      assert.ok(Math.abs(t - after[i]!) < 0.002, `beep ${i}: ${t} and ${after[i]}`);
  }
});

test("cam.mp4 shows the head with heat and has the sound", async () => {
  const r = await separate(at("head.mp4"), { cam: true });
  const made = r.files["cam.mp4"]!;
  assert.ok(Math.abs(packetTimes(made, "v").length - packetTimes(at("head.mp4"), "v").length) <= 1);
  const sound = decode(made, 4);
  const mono = stems(r)[0];
  const mean = Float32Array.from(mono[0]!, (v, i) => (v + mono[1]![i]!) / 2);
  assert.ok(siSdr(sound, mean) > 10, "the sound of cam.mp4 is out of place");
});

test("sound without pictures is kept to the bit, with the reason", async () => {
  const path = flashAndBeep(folder.path, "sound.m4a", { video: false });
  const warnings: string[] = [];
  const r = await separate(path, { mp4: true, onWarning: (w) => warnings.push(w.code) });
  assert.equal(warnings, ["SL_FILE_NO_PICTURE"]);
  assert.is(r.files["onscreen.mp4"], undefined);
  addsUp(r, path);
  assert.ok(peak(stems(r)[1][0]!) < 1e-4);
});

test("of a file that was cut off, what is there is used, and it is said", async () => {
  ffmpeg("-i", at("head.mp4"), "-c", "copy", "-movflags", "+faststart", at("cut.mp4"));
  truncateSync(at("cut.mp4"), Math.round(readFileSync(at("cut.mp4")).length * 0.4));
  const r = await separate(at("cut.mp4"), { mp4: true });
  assert.ok(r.seconds > 0.8 && r.seconds < 2.5, `${r.seconds} s`);
  assert.ok(r.warnings.some((w) => w.code === "SL_FILE_CUT_OFF"));
  assert.ok(existsSync(r.files["onscreen.mp4"]!));
});

test("a change of the picture's size in mid-file is said, with its place", async () => {
  const seconds = 2;
  const part = (name: string, ...picture: string[]): FlvTag[] => {
    ffmpeg("-i", at("head.mp4"), "-t", String(seconds), "-preset", "ultrafast", ...picture, "-c:a", "aac", at(name));
    return [...new FlvReader().push(readFileSync(at(name)))].filter((tag) => tag.type !== SCRIPT);
  };
  const first = part("one.flv", "-c:v", "libx264");
  const second = part("two.flv", "-c:v", "libx264", "-vf", "scale=320:-2").map((tag) => ({
    ...tag,
    timestampMs: tag.timestampMs + 1000 * seconds,
  }));
  writeFileSync(at("resized.flv"), Buffer.concat([flvHeader(), ...[...first, ...second].map(flvTag)]));
  const r = await separate(at("resized.flv"));
  const said = r.warnings.find((w) => w.code === "SL_FILE_RESIZED");
  const place = Number(/changes at ([0-9.]+) s/.exec(said?.message ?? "")?.[1]);
  assert.ok(Math.abs(place - seconds) < 0.3, JSON.stringify(r.warnings));
});

test("what cannot be separated is refused with its code, and no file is left", async () => {
  writeFileSync(at("junk.mp4"), Buffer.alloc(50_000, "not media "));
  writeFileSync(at("empty.mp4"), "");
  flashAndBeep(folder.path, "silent.mp4", { sound: false });
  const out = at("never");
  await refused(separate(at("gone.mp4"), { out }), "SL_FILE_MISSING", /gone\.mp4/);
  await refused(separate(at("junk.mp4"), { out }), "SL_FILE_NOT_MEDIA", /junk\.mp4/);
  await refused(separate(at("empty.mp4"), { out }), "SL_FILE_NOT_MEDIA", /empty\.mp4/);
  await refused(separate(folder.path, { out }), "SL_FILE_NOT_MEDIA", /not a file/);
  await refused(separate(at("silent.mp4"), { out }), "SL_FILE_NO_SOUND", /silent\.mp4/);
  assert.not(existsSync(out));
  await refused(separate(at("head.mp4"), { out: at("junk.mp4") }), "SL_FILE_OUTPUT", /junk\.mp4/);
});

test("an output folder that may not be written to is refused", async () => {
  if (process.getuid?.() === 0) return;
  const out = at("locked");
  await separate(at("head.mp4"), { out });
  chmodSync(out, 0o500);
  await refused(separate(at("head.mp4"), { out }), "SL_FILE_OUTPUT", /locked/).finally(() => chmodSync(out, 0o700));
});

test("stopped half-way nothing new is left, and earlier results stay", async () => {
  const out = at("kept");
  const first = await separate(at("head.mp4"), { out });
  const before = readFileSync(first.files["onscreen.wav"]!);
  const stop = new AbortController();
  const onProgress = (p: { seconds: number }): void => {
    if (p.seconds > 1) stop.abort();
  };
  await refused(separate(talk, { out, signal: stop.signal, onProgress, mp4: true }), "SL_FILE_STOPPED", /nothing was/);
  assert.equal(readdirSync(out).sort(), ["highlight.jsonl", "offscreen.wav", "onscreen.wav"]);
  assert.ok(readFileSync(first.files["onscreen.wav"]!).equals(before));
});

test("stopped while a file without pictures is waited for, or when it was read: nothing is left", async () => {
  const out = at("stopped");
  for (const hangs of [true, false]) {
    const back = fakeGst(folder.path, { seconds: 1, hangs });
    try {
      const stop = new AbortController();
      // What was read is used first: the reader waits for more when the signal comes.
      const onProgress = ({ done }: { done: boolean }): void => {
        if (hangs) setTimeout(() => stop.abort(), 300);
        else if (done) stop.abort();
      };
      await refused(separate(talk, { out, signal: stop.signal, onProgress }), "SL_FILE_STOPPED", /nothing was/);
      assert.not(existsSync(out), `${hangs}`);
    } finally {
      back();
    }
  }
});

test("with a frozen picture every step is separated, otherwise than with the living one", async () => {
  const frozen = await separate(at("head.mp4"), { evaluate: { picture: "frozen", policy: "off" } });
  assert.is(frozen.modes.separated, frozen.steps);
  const other = stems0(living);
  const difference = stems0(frozen).reduce((m, v, i) => Math.max(m, Math.abs(v - other[i]!)), 0);
  assert.ok(difference > 0, "the picture makes no difference");
});
test("a picture that lies, with a tag that says so, is seen upright", async () => {
  ffmpeg("-i", at("head.mp4"), "-vf", "transpose=cclock", "-c:a", "copy", "-c:v", "libx264", at("lying.mp4"));
  ffmpeg("-i", at("lying.mp4"), "-c", "copy", "-metadata:s:v:0", "rotate=270", at("tagged.mp4"));
  const tagged = highlights(await separate(at("tagged.mp4")));
  const boxes = (all: readonly Highlight[]) => all.flatMap((h) => h.faces.slice(0, 1).map((f) => f.box));
  const [seen, wanted] = [boxes(tagged), boxes(highlights(living))];
  assert.ok(wanted.length > 5 && seen.length >= wanted.length - 2, `a face in ${seen.length} of ${wanted.length}`);
  for (const side of ["x", "y", "width", "height"] as const)
    assert.ok(Math.abs(seen.at(-1)![side] - wanted.at(-1)![side]) < 0.06, `${side} of ${JSON.stringify(seen.at(-1))}`);
});

test("a hole in the sound while the picture goes on: silence there, and the pictures behind it stay beside their sound", async () => {
  const hole = "between(t,1.2,3.7)";
  ffmpeg("-i", talk, "-t", "8", "-c:v", "copy", "-af", `aselect='not(${hole})'`, "-c:a", "aac", at("hole.mkv"));
  const r = await separate(at("hole.mkv"));
  assert.ok(Math.abs(r.seconds - 8) < 0.2, `${r.seconds} s`);
  const on = stems(r)[0][0]!;
  assert.is(peak(on.subarray(1.5 * 48_000, 3.5 * 48_000)), 0);
  assert.ok(peak(on.subarray(4 * 48_000)) > 0.01);
  assert.equal(
    r.warnings.filter((w) => w.code === "SL_FILE_JUMP"),
    [],
  );
});

test("over a jump of the times in both tracks (a recording behind another) the pictures stay beside their sound", async () => {
  // The picture ends before the sound; what follows does 11 minutes later, which is no hole any more that is filled.
  ffmpeg(
    "-t",
    "3.2",
    "-i",
    at("head.mp4"),
    "-i",
    at("head.mp4"),
    "-map",
    "0:v",
    "-map",
    "1:a",
    "-c",
    "copy",
    at("first.mp4"),
  );
  writeFileSync(at("jump.txt"), "file first.mp4\nduration 664\nfile head.mp4\n");
  ffmpeg("-f", "concat", "-i", at("jump.txt"), "-c", "copy", at("jump.mkv"));
  const r = await separate(at("jump.mkv"));
  assert.ok(Math.abs(r.seconds - 8) < 0.3, `${r.seconds} s`);
  assert.ok(
    r.warnings.some((w) => w.code === "SL_FILE_JUMP"),
    JSON.stringify(r.warnings),
  );
  const lines = highlights(r);
  const part = (from: number, to: number) =>
    lines.filter((h) => h.atSample >= from * 48_000 && h.atSample < to * 48_000);
  for (const [from, to] of [
    [0.5, 3],
    [4.7, 7.5],
  ] as const) {
    const seen = part(from, to);
    const separated = seen.filter((h) => h.mode === "separated" && h.faces.length === 1).length;
    assert.ok(separated > 0.8 * seen.length, `${from} to ${to} s: ${seen.map((h) => h.reason ?? h.mode).join(" ")}`);
  }
});

test("a result never takes the place of its input", async () => {
  copyFileSync(at("head.mp4"), at("onscreen.mp4"));
  const before = readFileSync(at("onscreen.mp4"));
  await refused(separate(at("onscreen.mp4"), { out: folder.path }), "SL_FILE_OUTPUT", /would be overwritten.*--out/);
  assert.ok(readFileSync(at("onscreen.mp4")).equals(before));
});

test.run();
