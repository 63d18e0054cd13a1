import { spawnSync } from "node:child_process";
import { getEventListeners } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { random, siSdr, speechRms } from "../../bench/val/metrics.js";
import { drawHeat } from "../../src/file/cam.js";
import { trimmedMoov } from "../../src/file/edit-list.js";
import { FileError } from "../../src/file/errors.js";
import { fileUri } from "../../src/file/gst-process.js";
import { maskPicture } from "../../src/file/mask.js";
import { Results } from "../../src/file/part-file.js";
import { type Progress, reporter } from "../../src/file/progress.js";
import { readSound } from "../../src/file/readers.js";
import { WAV_HEADER_BYTES, WavWriter, wavHeader } from "../../src/file/wav.js";
import { planesOf } from "../../src/model/faces/i420.js";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { fakeGst } from "./fake-gst.js";

const test = suite("file mode, its parts");
const talk = join(PACKAGE_ROOT, "demo", "talk.flv");

test("a WAV file holds the samples to the bit, with sizes that fit", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sightline-wav-"));
  try {
    const path = join(folder, "a.wav");
    const writer = await WavWriter.open(path, 2);
    const draw = random(1);
    const planes = [0, 1].map(() => Float32Array.from({ length: 50_000 }, () => draw() * 4 - 2));
    for (const [from, to] of [
      [0, 1],
      [1, 33_000],
      [33_000, 50_000],
    ] as const)
      await writer.write(planes.map((p) => p.subarray(from, to)));
    await writer.finish();
    const bytes = await readFile(path);
    assert.is(bytes.length, WAV_HEADER_BYTES + 50_000 * 8);
    assert.is(bytes.readUInt32LE(4), bytes.length - 8);
    assert.is(bytes.toString("latin1", WAV_HEADER_BYTES - 8, WAV_HEADER_BYTES - 4), "data");
    assert.is(bytes.readUInt32LE(WAV_HEADER_BYTES - 4), 50_000 * 8);
    for (let i = 0; i < 50_000; i++)
      for (const c of [0, 1]) assert.is(bytes.readFloatLE(WAV_HEADER_BYTES + 8 * i + 4 * c), planes[c]![i]!);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("over 4 GB a WAV file is RF64: the sizes stand in ds64", () => {
  const samples = 700_000_000;
  const h = wavHeader(2, samples);
  assert.is(h.length, WAV_HEADER_BYTES);
  assert.is(h.toString("latin1", 0, 4), "RF64");
  assert.is(h.toString("latin1", 12, 16), "ds64");
  assert.is(h.readUInt32LE(4), 0xffffffff);
  assert.is(Number(h.readBigUInt64LE(20)), WAV_HEADER_BYTES - 8 + samples * 8);
  assert.is(Number(h.readBigUInt64LE(28)), samples * 8);
  assert.is(Number(h.readBigUInt64LE(36)), samples);
  assert.is(wavHeader(2, 536_000_000).toString("latin1", 0, 4), "RIFF");
});

/** Which luma and chroma pixels a mask has greyed. */
function greyed(width: number, height: number, mask: Parameters<typeof maskPicture>[3]) {
  const planes = planesOf(width, height);
  const data = new Uint8Array(planes.byteLength).fill(7);
  maskPicture(data, width, height, mask);
  const luma = Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => (data[y * planes.yStride + x] === 128 ? "#" : ".")).join(""),
  );
  const rows = Math.ceil(height / 2);
  const columns = Math.ceil(width / 2);
  const chroma = Array.from({ length: rows }, (_, y) =>
    Array.from({ length: columns }, (_, x) => {
      const [u, v] = [planes.uOffset, planes.vOffset].map((o) => data[o + y * planes.uvStride + x]);
      assert.is(u, v);
      return u === 128 ? "#" : ".";
    }).join(""),
  );
  return { luma, chroma };
}

test("a mask greys its half, and nothing else, in all planes", () => {
  assert.equal(greyed(8, 2, "l"), { luma: ["####....", "####...."], chroma: ["##.."] });
  assert.equal(greyed(8, 2, "r"), { luma: ["....####", "....####"], chroma: ["..##"] });
  // Odd sizes: half-covered pixels are greyed, so that no part of the masked half can be seen.
  assert.equal(greyed(5, 3, "l"), { luma: ["###..", "###..", "###.."], chroma: ["##.", "##."] });
  assert.equal(greyed(5, 3, "r"), { luma: ["..###", "..###", "..###"], chroma: [".##", ".##"] });
});

test("a mask by fractions covers its box; one of the whole picture leaves nothing", () => {
  const box = { x: 0.25, y: 0.5, width: 0.5, height: 0.5 };
  assert.equal(greyed(8, 4, box), { luma: ["........", "........", "..####..", "..####.."], chroma: ["....", ".##."] });
  const all = greyed(7, 5, { x: 0, y: 0, width: 1, height: 1 });
  assert.ok([...all.luma, ...all.chroma].every((row) => !row.includes(".")));
});

test("heat is drawn where a face speaks, stays inside the picture and is not drawn for silence", () => {
  const { byteLength, vOffset, uvStride } = planesOf(64, 36);
  const grey = new Uint8Array(byteLength).fill(128);
  const face = { id: 1, score: 1, box: { x: 0.8, y: 0.7, width: 0.3, height: 0.5 }, speaking: 1 };
  const drawn = grey.slice();
  drawHeat(drawn, 64, 36, { ...face, speaking: 0 });
  assert.equal(drawn, grey);
  drawHeat(drawn, 64, 36, face);
  assert.ok(drawn[vOffset + 17 * uvStride + 30]! > 180, "red at the face");
  assert.is(drawn[vOffset], 128);
});

const be32 = (...values: number[]): Buffer => {
  const b = Buffer.alloc(4 * values.length);
  values.forEach((v, i) => {
    b.writeInt32BE(v, 4 * i);
  });
  return b;
};
const box = (type: string, ...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([be32(body.length + 8), Buffer.from(type, "latin1"), body]);
};
const trak = (handler: string, scale: number, edits?: Buffer): Buffer =>
  box(
    "trak",
    box("tkhd", Buffer.alloc(84)),
    ...(edits === undefined ? [] : [box("edts", edits)]),
    box(
      "mdia",
      box("mdhd", be32(0, 0, 0, scale, 0, 0)),
      box("hdlr", be32(0, 0), Buffer.from(handler, "latin1"), Buffer.alloc(12)),
    ),
  );
const moovOf = (...traks: Buffer[]): Buffer => box("moov", box("mvhd", be32(0, 0, 0, 1000, 0)), ...traks);

test("the sound's edit list leaves out the encoder's delay and keeps a gap before it; the picture's track stays as it is", () => {
  const video = trak("vide", 30, box("elst", be32(0, 1, 500, 0, 0x10000)));
  const gap = be32(0, 2, 250, -1, 0x10000, 900, 0, 0x10000);
  for (const [edits, gaps] of [
    [undefined, 0],
    [box("elst", gap), 1],
  ] as const) {
    const moov = moovOf(video, trak("soun", 48_000, edits));
    const fixed = trimmedMoov(moov, { delaySamples: 1600, samples: 96_000 });
    assert.is(fixed.readUInt32BE(0), fixed.length);
    assert.ok(fixed.includes(video), "the picture's track");
    const sound = fixed.indexOf("trak", fixed.indexOf(video) + video.length) - 4;
    assert.is(fixed.readUInt32BE(sound), fixed.length - sound);
    const list = fixed.indexOf("elst", sound) + 4;
    assert.is(fixed.readUInt32BE(list + 4), gaps + 1);
    const last = list + 8 + 20 * gaps;
    assert.is(Number(fixed.readBigUInt64BE(last)), 2000);
    assert.is(Number(fixed.readBigInt64BE(last + 8)), 1600);
    if (gaps === 1)
      assert.equal([Number(fixed.readBigUInt64BE(list + 8)), Number(fixed.readBigInt64BE(list + 16))], [250, -1]);
  }
  assert.throws(() => trimmedMoov(moovOf(video), { delaySamples: 1, samples: 1 }), /no sound track/);
  assert.throws(() => trimmedMoov(moovOf(video).subarray(0, 60), { delaySamples: 1, samples: 1 }), /box at/);
});

test("a file's name can hold anything without becoming a part of the pipeline", () => {
  const uri = fileUri("/a b/x'\"!; (1)$,ü.mp4");
  assert.match(uri, /^file:\/\/\/[A-Za-z0-9%/._~-]+$/);
  assert.is(decodeURIComponent(uri.slice("file://".length)), "/a b/x'\"!; (1)$,ü.mp4");
});

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sightline-results-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
const outputError = (what: RegExp) => (error: unknown) =>
  assert.ok(
    error instanceof FileError && error.code === "SL_FILE_OUTPUT" && what.test(error.message),
    `${error}, not ${what}`,
  );

test("what a process left that is gone is cleared up; a running one's and other people's files stay", () =>
  inFolder(async (folder) => {
    const gone = spawnSync("true").pid;
    const left = [`.onscreen.wav.${gone}.part`, `.cam.maps.${gone}.part`, `.cam.mp4.${gone}.old`];
    const kept = [`.onscreen.wav.${process.ppid}.part`, `.notes.txt.${gone}.part`, `x.onscreen.wav.${gone}.part`];
    // Set aside from where nothing stands now: it comes back.
    for (const name of [...left, ...kept, `.crop.mp4.${gone}.old`, "cam.mp4"])
      await writeFile(join(folder, name), name);
    await Results.open(folder);
    assert.equal((await readdir(folder)).sort(), [...kept, "cam.mp4", "crop.mp4"].sort());
    assert.is(await readFile(join(folder, "cam.mp4"), "utf8"), "cam.mp4");
  }));

test("a result whose name is taken by a folder, or by somebody else's file, is refused before the work", () =>
  inFolder(async (folder) => {
    await mkdir(join(folder, "onscreen.mp4"));
    await Results.open(folder).then(() => assert.unreachable(), outputError(/onscreen\.mp4.*folder/));
    await rmdir(join(folder, "onscreen.mp4"));
    if (process.getuid?.() !== 0) return;
    await chmod(folder, 0o1777);
    await writeFile(join(folder, "cam.mp4"), "theirs");
    process.seteuid!(65_534);
    try {
      await Results.open(folder).then(() => assert.unreachable(), outputError(/cam\.mp4.*another user/));
    } finally {
      process.seteuid!(0);
    }
  }));

test("results come all or not at all: when one cannot be put in its place, the earlier ones are back", () =>
  inFolder(async (folder) => {
    const at = (name: string): string => join(folder, name);
    await writeFile(at("onscreen.wav"), "before");
    const results = await Results.open(folder);
    for (const name of ["onscreen.wav", "offscreen.wav", "highlight.jsonl"]) await writeFile(results.part(name), "new");
    await mkdir(at("highlight.jsonl")); // meanwhile
    await results.commit().then(() => assert.unreachable(), outputError(/highlight\.jsonl/));
    await results.discard();
    assert.equal((await readdir(folder)).sort(), ["highlight.jsonl", "onscreen.wav"]);
    assert.is(await readFile(at("onscreen.wav"), "utf8"), "before");
    await rmdir(at("highlight.jsonl"));
    for (const name of ["onscreen.wav", "offscreen.wav"]) await writeFile(results.part(name), "new");
    assert.equal(await results.commit(), {
      "onscreen.wav": at("onscreen.wav"),
      "offscreen.wav": at("offscreen.wav"),
    });
    assert.equal((await readdir(folder)).sort(), ["offscreen.wav", "onscreen.wav"]);
    assert.is(await readFile(at("onscreen.wav"), "utf8"), "new");
  }));

test("a reader that is closed before its end leaves no pipe open and no listener behind", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sightline-readers-"));
  const back = fakeGst(folder, { seconds: 20, hangs: true });
  const { signal } = new AbortController();
  const open = async (): Promise<number> => (await readdir("/proc/self/fd")).length;
  try {
    let before = 0;
    for (let i = 0; i < 21; i++) {
      const track = readSound(talk, signal);
      assert.ok((await track.next()) !== null);
      track.close();
      assert.is(await track.next(), null);
      assert.is(getEventListeners(signal, "abort").length, 0);
      // The first one also opens what the process keeps.
      if (i === 0) before = await settled(open);
    }
    assert.ok((await settled(open)) <= before, `${before} descriptors, then ${await open()}`);
  } finally {
    back();
    await rm(folder, { recursive: true });
  }
});

/** A number once it stands still. */
async function settled(look: () => Promise<number>): Promise<number> {
  for (let last = -1, now = await look(); ; last = now, now = await look()) {
    if (now === last) return now;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function captured() {
  const texts = { out: "", err: "" };
  return {
    texts,
    out: { write: (t: string) => (texts.out += t) },
    err: (isTTY: boolean) => ({ isTTY, write: (t: string) => (texts.err += t) }),
  };
}
const half: Progress = { stage: "separate", seconds: 30, ofSeconds: 60, speed: 2, done: false };

test("progress: a bar on a terminal, plain lines elsewhere, results on standard output", () => {
  for (const tty of [true, false]) {
    const { texts, out, err } = captured();
    const r = reporter(false, out, err(tty));
    r.progress({ ...half, done: true });
    r.warning({ code: "SL_FILE_CUT_OFF", message: "short" });
    r.done({ files: { a: "/x/a", b: "/x/b" } });
    assert.is(texts.out, "/x/a\n/x/b\n");
    assert.match(
      texts.err,
      tty ? /\r.*\[#{15}\.{15}\] 50 % {2}0:30 \/ 1:00 {2}2\.0x/ : /^separated 0:30 of 1:00 \(50 %\)/,
    );
    assert.match(texts.err, /warning: short \[SL_FILE_CUT_OFF\]\n/);
    assert.is(texts.err.includes("\x1b"), tty);
  }
});

test("progress of less than a second is 100 % at its end", () => {
  const { texts, out, err } = captured();
  reporter(false, out, err(false)).progress({ ...half, seconds: 0.2, ofSeconds: 0.2, done: true });
  assert.match(texts.err, "(100 %)");
});

test("progress as JSON: one object a line, all on standard output", () => {
  const { texts, out, err } = captured();
  const r = reporter(true, out, err(true));
  r.progress({ ...half, stage: "onscreen.mp4" });
  r.progress({ ...half, stage: "onscreen.mp4", seconds: 31 });
  r.warning({ code: "SL_FILE_JUMP", message: "m" });
  r.done({ files: { a: "/x" }, seconds: 60 });
  const lines = texts.out.trimEnd().split("\n");
  assert.equal(
    lines.map((l) => (JSON.parse(l) as { event: string }).event),
    ["progress", "warning", "done"],
  );
  assert.is(texts.err, "");
});

test("SI-SDR of a known case: noise of a tenth, at right angles, is 20 dB, at any scale and offset", () => {
  const reference = Float32Array.of(1, -1, 1, -1);
  const estimate = (scale: number, offset: number): Float32Array =>
    Float32Array.from([1.1, -0.9, 0.9, -1.1], (x) => scale * x + offset);
  for (const [scale, offset] of [
    [1, 0],
    [0.25, 3],
    [-2, 0],
  ] as const)
    assert.ok(Math.abs(siSdr(estimate(scale, offset), reference) - 20) < 1e-4);
  assert.throws(() => siSdr(reference, new Float32Array(4)), RangeError);
});

test("the level of speech does not count its pauses", () => {
  const tone = Float32Array.from({ length: 48_000 }, (_, i) => Math.SQRT2 * 0.1 * Math.sin(i / 3));
  const halting = tone.map((x, i) => (i % 9600 < 4800 ? x : 0));
  assert.ok(Math.abs(speechRms(tone) - 0.1) < 1e-3);
  assert.ok(Math.abs(speechRms(halting) - 0.1) < 1e-3);
});

test.run();
