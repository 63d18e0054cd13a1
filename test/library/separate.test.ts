import { readFileSync } from "node:fs";
import { join } from "node:path";
import { from, lastValueFrom, Subject, toArray } from "rxjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readPictures, readSound } from "../../src/file/readers.js";
import { separateFile } from "../../src/file/separate-file.js";
import { WAV_HEADER_BYTES } from "../../src/file/wav.js";
import {
  type Inference,
  InferenceError,
  interleave,
  LibraryError,
  type MediaIn,
  type MediaOut,
  type PictureIn,
  SeparationSession,
  type SoundIn,
  type SoundOut,
  separate,
  separateAll,
} from "../../src/index.js";
import { OnnxFaceDetector } from "../../src/model/faces/detector.js";
import { LocalInference } from "../../src/model/inference/local.js";
import { buildLive } from "../../src/model/live/build.js";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { buildFaceModels } from "../../src/tools/assets.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";
import { noise, noiseLive } from "../model/noise.js";

/** A model of random weights: what it separates means nothing, but every step of the way is the real one. */
const folder = clipFolder();
const at = (name: string): string => join(folder.path, name);
const forgotten: string[] = [];
let model: LocalInference;

const test = suite("library: separate");
test.before(async () => {
  await buildLive(noiseLive(), { name: "tiny", version: "1" }, at("model"));
  const [, back] = await buildFaceModels(at("faces"));
  const faces = await OnnxFaceDetector.open(back!, { threads: 1 });
  model = await LocalInference.open(at("model"), { threads: 1, faces });
});
test.after(async () => {
  await model.close();
  folder.remove();
});

/** The model with a look at what is asked of it, or with another answer. */
const wrapped = (changes: Partial<Inference>): Inference => ({
  card: model.card,
  step: (request) => model.step(request),
  remember: (session, samples) => model.remember(session, samples),
  detectFaces: (rgb, side) => model.detectFaces(rgb, side),
  forget: (session, track) => {
    forgotten.push(`${session} ${track ?? "all"}`);
    model.forget(session, track);
  },
  close: async () => {},
  ...changes,
});

const isSound = (out: MediaOut): out is SoundOut => out.kind === "sound";
/** Kept sound of one channel, whole; checks that blocks are contiguous. */
function whole(results: readonly MediaOut[], which: "kept" | "removed" = "kept", channel = 0): Float32Array {
  const parts = results.filter(isSound);
  let next = 0;
  for (const { atSample, kept } of parts) {
    assert.is(atSample, next);
    next += kept[0]!.length;
  }
  return Float32Array.from(parts.flatMap((part) => [...part[which]![channel]!]));
}

function noiseSound(seconds: number, rate = 48_000, name = "sound"): SoundIn[] {
  const samples = Float32Array.from(noise(name, seconds * rate), (v) => v * 0.1);
  const block = rate / 100;
  return Array.from({ length: seconds * 100 }, (_, i) => ({
    kind: "sound",
    ptsMs: 5000 + i * 10,
    channels: [samples.slice(i * block, (i + 1) * block)],
    sampleRate: rate,
  }));
}

test("a clip gives the very samples that file mode writes, and highlights and gains with them", async () => {
  ffmpeg("-i", join(PACKAGE_ROOT, "demo", "talk.flv"), "-t", "3", "-c", "copy", at("head.mp4"));
  const report = await separateFile({
    input: at("head.mp4"),
    out: at("out"),
    inference: model,
    profile: "balanced",
    mp4: false,
  });
  const sounds: SoundIn[] = [];
  const pictures: PictureIn[] = [];
  const sound = readSound(at("head.mp4"));
  for (let s = await sound.next(); s !== null; s = await sound.next()) sounds.push({ kind: "sound", ...s });
  const reader = readPictures(at("head.mp4"));
  for (let p = await reader.next(); p !== null; p = await reader.next()) pictures.push({ kind: "picture", ...p });
  const media = [...interleave(sounds, pictures)];
  assert.is(media.length, sounds.length + pictures.length);

  const results = await lastValueFrom(separateAll(media, { model, removed: true }).pipe(toArray()));
  for (const [which, file] of [
    ["kept", "onscreen.wav"],
    ["removed", "offscreen.wav"],
  ] as const) {
    const bytes = readFileSync(report.files[file]!).subarray(WAV_HEADER_BYTES);
    const got = whole(results, which);
    assert.is(got.length, report.samples);
    for (let n = 0; n < got.length; n++)
      if (got[n] !== bytes.readFloatLE(4 * n * report.channels)) assert.unreachable(`${file} differs at sample ${n}`);
  }
  const highlights = results.filter((r) => r.kind === "highlight");
  const gains = results.filter((r) => r.kind === "gains");
  assert.is(highlights.length, report.steps);
  assert.is(gains.length, report.modes.separated ?? 0);
  assert.ok(gains.length > 10, `${gains.length} steps with gains`);
  assert.ok(highlights.some((h) => h.faces.length === 1 && h.faces[0]!.speaking > 0));
  // The operator, whose source pushes everything at once, gives the same.
  const pushed = await lastValueFrom(from(media).pipe(separate({ model, removed: true }), toArray()));
  assert.equal(whole(pushed), whole(results));
});

test("without pictures the sound stays as it is, to the last sample, and says why", async () => {
  const sounds = noiseSound(3);
  const results = await lastValueFrom(separateAll(sounds, { model }).pipe(toArray()));
  const got = whole(results);
  assert.is(got.length, 3 * 48_000);
  const input = sounds.flatMap((s) => [...s.channels[0]!]);
  for (let n = 0; n < got.length; n++) if (Math.abs(got[n]! - input[n]!) > 1e-5) assert.unreachable(`sample ${n}`);
  const last = results.filter(isSound).at(-1)!;
  assert.equal([last.mode, last.reason, last.removed], ["bypass", "SL_NO_VIDEO", null]);
  assert.ok(Math.abs(results.filter(isSound)[0]!.ptsMs - 5000) < 0.001, "times are the input's");
});

test("who sends no pictures stays a second and a step behind, however long", async () => {
  const session = new SeparationSession({ model });
  const block = [Float32Array.from(noise("long", 960), (v) => v * 0.1)];
  let given = 0;
  let worst = 0;
  for (let i = 0; i < 2000; i++) {
    const out = await session.take({ kind: "sound", ptsMs: i * 20, channels: block });
    for (const { atSample, kept } of out.filter(isSound)) given = atSample + kept[0]!.length;
    worst = Math.max(worst, ((i + 1) * 960 - given) / 48);
  }
  assert.ok(worst > 1000 && worst <= 1400, `${worst} ms behind`);
  assert.is(session.counters.sound_forced_out, 0);
  session.close();
});

test("the longest blocks that are allowed are taken, one after the other", async () => {
  const samples = Float32Array.from(noise("long", 20 * 48_000), (v) => v * 0.1);
  const blocks = [0, 1].map(
    (i): SoundIn => ({
      kind: "sound",
      ptsMs: i * 10_000,
      channels: [samples.subarray(i * 480_000, (i + 1) * 480_000)],
    }),
  );
  const session = new SeparationSession({ model });
  const out: MediaOut[] = [];
  for (const block of blocks) out.push(...(await session.take(block)));
  out.push(...(await session.finish()));
  assert.is(session.counters.sound_forced_out, 0, "all of it waits for its gains");
  const got = whole(out);
  assert.is(got.length, samples.length);
  for (let n = 0; n < got.length; n++) if (Math.abs(got[n]! - samples[n]!) > 1e-5) assert.unreachable(`sample ${n}`);
});

test("16 kHz stereo comes out at 48 kHz, at its own time and to its end", async () => {
  const results = await lastValueFrom(
    separateAll(
      noiseSound(2, 16_000).map((s) => ({ ...s, channels: [s.channels[0]!, s.channels[0]!] })),
      { model },
    ).pipe(toArray()),
  );
  const last = results.filter(isSound).at(-1)!;
  assert.is(last.kept.length, 2);
  const endMs = last.ptsMs + last.kept[0]!.length / 48;
  assert.ok(Math.abs(endMs - 7000) < 0.03, `ends at ${endMs} ms`);
});

test("16 kHz by a clock that is slow is put right bit by bit, without holes", async () => {
  const block = [Float32Array.from(noise("slow", 160), (v) => 0.1 * Math.sign(v) + 0.1 * v)];
  const session = new SeparationSession({ model });
  const longest = { samples: 0, now: 0 };
  let end = { sample: 0, ptsMs: 0 };
  const look = (out: readonly MediaOut[]): void => {
    for (const { atSample, ptsMs, kept } of out.filter(isSound)) {
      end = { sample: atSample + kept[0]!.length, ptsMs: ptsMs + kept[0]!.length / 48 };
      for (const v of kept[0]!) {
        longest.now = Math.abs(v) < 1e-3 ? longest.now + 1 : 0;
        longest.samples = Math.max(longest.samples, longest.now);
      }
    }
  };
  const pieces = 15_000;
  for (let i = 0; i < pieces; i++)
    look(await session.take({ kind: "sound", ptsMs: i * 10.002, channels: block, sampleRate: 16_000 }));
  look(await session.finish());
  assert.ok(longest.samples < 240, `silent for ${longest.samples / 48} ms`);
  // 30 ms slow: all but what the timeline allows was made up for.
  assert.ok(Math.abs(end.sample / 48 - pieces * 10.002) < 6, `${end.sample / 48} ms of sound`);
});

test("a model that fails is a state with its code: the sound passes, and is separated again afterwards", async () => {
  const face = {
    x: 0.3,
    y: 0.3,
    width: 0.4,
    height: 0.4,
    score: 0.9,
    keypoints: [0.4, 0.4, 0.6, 0.4, 0.5, 0.5, 0.5, 0.6, 0.3, 0.4, 0.7, 0.4],
  };
  const failing = wrapped({
    detectFaces: async () => [face],
    step: (request) =>
      request.atSample >= 96_000 && request.atSample < 192_000
        ? Promise.reject(new InferenceError("SL_INFERENCE_FAILED", "no"))
        : model.step(request),
  });
  const pictures = Array.from({ length: 175 }, (_, i): PictureIn => {
    const data = Uint8Array.from(noise(`p${i}`, 64 * 36 * 1.5), (v) => Math.floor(128 + v * 40));
    return { kind: "picture", ptsMs: 5000 + i * 40, width: 64, height: 36, data };
  });
  const results = await lastValueFrom(
    separateAll(interleave(noiseSound(7), pictures), { model: failing }).pipe(toArray()),
  );
  assert.is(whole(results).length, 7 * 48_000);
  const codes = results.filter((r) => r.kind === "highlight").map((h) => h.reason);
  assert.ok(codes.includes("SL_INFERENCE_FAILED"), codes.join(" "));
  const sounds = results.filter(isSound);
  assert.ok(sounds.some((s) => s.mode === "bypass" && s.reason === "SL_INFERENCE_FAILED"));
  // What has no gains leaves without waiting for the ring to be full.
  assert.ok(sounds.every((s) => s.kept[0]!.length < 48_000));
});

test("bad pieces are refused with what is allowed; the stream ends with that error", async () => {
  const good = noiseSound(1)[0]!;
  const picture: PictureIn = { kind: "picture", ptsMs: 0, width: 6, height: 4, data: new Uint8Array(36) };
  const bad: readonly [unknown, RegExp][] = [
    [{ ...good, ptsMs: Number.NaN }, /ptsMs must be a number/],
    [{ ...good, channels: [] }, /1 to 8 Float32Arrays/],
    [{ ...good, channels: [new Float32Array(3), new Float32Array(4)] }, /equal length/],
    [{ ...good, channels: [[0, 1]] }, /Float32Arrays/],
    [{ ...good, sampleRate: 47_999 }, /simple ratio/],
    [{ ...good, sampleRate: 0 }, /8000 to 192000/],
    [{ ...picture, data: new Uint8Array(35) }, /has 36 bytes/],
    [{ ...picture, width: 0 }, /sides are whole/],
    [{ ...picture, rotation: 45 }, /0, 90, 180, 270/],
    [{ ...picture, ptsMs: Number.POSITIVE_INFINITY }, /a picture at/],
    [{ kind: "text" }, /allowed: sound, picture/],
  ];
  for (const [piece, text] of bad) {
    const error = await lastValueFrom(separateAll([good, piece as MediaIn], { model }).pipe(toArray())).then(
      () => null,
      (e: unknown) => e,
    );
    assert.instance(error, LibraryError, String(error));
    assert.match((error as LibraryError).message, text);
  }
});

test("a source that is faster than the model for too long ends with SL_QUEUE_FULL; unsubscribing frees the model's states", async () => {
  const error = await lastValueFrom(
    from(noiseSound(2)).pipe(separate({ model: wrapped({}), maxWaiting: 50 }), toArray()),
  ).catch((e: unknown) => e);
  assert.is((error as { code?: string }).code, "SL_QUEUE_FULL");
  const before = forgotten.length;
  const source = new Subject<MediaIn>();
  const subscription = source.pipe(separate({ model: wrapped({}) })).subscribe();
  assert.ok(source.observed);
  subscription.unsubscribe();
  assert.not.ok(source.observed);
  assert.is(forgotten.length, before + 1);
});

test.run();
