import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DecodedPicture, type DecodedSound, PictureDecoder, SoundDecoder } from "../../src/channel/decode.js";
import { FlvUnits } from "../../src/channel/source/flv-units.js";
import { PullSource } from "../../src/channel/source/pull.js";
import type { SourceUnit, VideoUnit } from "../../src/channel/units.js";
import { FlvReader } from "../../src/transport/flv/tag.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { clipFolder, ffmpeg, flashAndBeep, packetTimes } from "./clip.js";
import { withThreads } from "./threads.js";
import { within } from "./within.js";

withThreads();
const test = suite("ingest");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

type Decoded = { units: SourceUnit[]; pictures: DecodedPicture[]; sound: DecodedSound[] };

/** Decodes units as a channel does; ends when nothing more comes out. */
async function decode(feed: (push: (unit: SourceUnit) => void) => Promise<void>): Promise<Decoded> {
  const out: Decoded = { units: [], pictures: [], sound: [] };
  const fail = (f: { message: string }) => assert.unreachable(f.message);
  const pictures = new PictureDecoder((p) => out.pictures.push(p), { onFault: fail });
  const sound = new SoundDecoder((s) => out.sound.push(s), { onFault: fail });
  await feed((unit) => {
    out.units.push(unit);
    if (unit.kind === "video") pictures.push({ ...unit, ptsMs: unit.ptsMs + 1000, dtsMs: unit.dtsMs + 1000 });
    else sound.push({ ...unit, ptsMs: unit.ptsMs + 1000 });
  });
  for (let before = -1; before !== out.pictures.length + out.sound.length; ) {
    before = out.pictures.length + out.sound.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  pictures.close();
  sound.close();
  return out;
}

const flvUnits = (path: string) => async (push: (unit: SourceUnit) => void) => {
  const reader = new FlvReader();
  const units = new FlvUnits();
  for (const tag of reader.push(readFileSync(path))) {
    const unit = units.read(tag);
    if (unit === null || unit.kind === "vp8") continue;
    push(unit);
    // Quicker than real time, but not so quick that the queue behind the decoder, where the newest win, comes into play.
    if (unit.kind === "video") await new Promise((resolve) => setTimeout(resolve, 12));
  }
};

const pulled = (path: string) => (push: (unit: SourceUnit) => void) =>
  within(
    15_000,
    new Promise<void>((resolve, reject) => {
      const source = new PullSource(pathToFileURL(path).href, {
        onUnit: push,
        onRestart: () => {},
        onFault: (what, fault) => reject(new Error(`${what}: ${fault.message}`)),
        onState: (state, code, detail) => {
          if (state === "ended") {
            source.close();
            resolve();
          }
          if (state === "back-off") reject(new Error(`${code} ${detail}`));
        },
      });
      source.start();
    }),
  );

const videoPts = (d: Decoded): number[] => d.units.flatMap((u) => (u.kind === "video" ? [u.ptsMs] : []));
const close = (a: readonly number[], b: readonly number[], toleranceMs: number): void => {
  assert.is(a.length, b.length);
  for (const [i, value] of a.entries())
    assert.ok(Math.abs(value - b[i]!) <= toleranceMs, `${i}: ${value} instead of ${b[i]}`);
};

/** Time of the first sample over half the beep's height after a silence. */
function beeps(sound: readonly DecodedSound[]): number[] {
  const out: number[] = [];
  let silentSince = Number.NEGATIVE_INFINITY;
  for (const block of sound) {
    for (const [i, v] of block.channels[0]!.entries()) {
      const atMs = block.ptsMs + i / 48;
      if (Math.abs(v) > 0.15) {
        if (atMs - silentSince > 500 || out.length === 0) out.push(atMs);
        silentSince = atMs;
      }
    }
  }
  return out;
}

test("B-frames at 29.97: every access unit with its PTS, pictures in order, flash and beep together", async () => {
  const clip = flashAndBeep(folder.path, "bf.flv", { rate: "30000/1001", bFrames: 2 });
  const d = await decode(flvUnits(clip));
  close(
    videoPts(d),
    packetTimes(clip, "v").map((t) => t * 1000),
    0.6,
  );
  assert.ok(
    d.units.some((u) => u.kind === "video" && u.ptsMs > u.dtsMs),
    "the clip has reordering",
  );
  const shown = d.pictures.map((p) => p.ptsMs);
  assert.equal(
    shown,
    [...shown].sort((a, b) => a - b),
  );
  assert.ok(
    shown.length >= videoPts(d).length - 4,
    `${shown.length} pictures of ${videoPts(d).length}; the decoder keeps the last ones`,
  );
  assert.is(d.pictures[0]!.data.length, 320 * 180 * 1.5);
  const flashes = d.pictures.filter(
    (p, i) => p.data[0]! > 170 && !(d.pictures[i - 1] !== undefined && d.pictures[i - 1]!.data[0]! > 170),
  );
  close(
    beeps(d.sound).slice(1, 3),
    flashes.slice(1, 3).map((p) => p.ptsMs),
    35,
  );
});

test("44.1 kHz mono comes as 48 kHz mono, in place and of the right length", async () => {
  const clip = flashAndBeep(folder.path, "mono.flv", { soundRate: 44_100, soundChannels: 1, video: false });
  const d = await decode(flvUnits(clip));
  assert.is(d.sound[0]!.channels.length, 1);
  const samples = d.sound.reduce((n, s) => n + s.channels[0]!.length, 0);
  assert.ok(Math.abs(samples / 48_000 - 3) < 0.05, `${samples} samples`);
  // The clip's own AAC begins one frame early (encoder priming), which FLV writes as shifted timestamps.
  const reference = packetTimes(clip, "a")[0]! * 1000 + 1000;
  assert.ok(Math.abs(d.sound[0]!.ptsMs - reference) < 1);
  const times = beeps(d.sound);
  close(
    times.slice(1).map((t, i) => t - times[i]!),
    times.slice(1).map(() => 1000),
    1.5,
  );
});

test("5.1 is mixed down to stereo", async () => {
  const clip = flashAndBeep(folder.path, "surround.mp4", { soundChannels: 6, video: false, seconds: 1 });
  const d = await decode(pulled(clip));
  assert.ok(d.sound.length > 20);
  assert.ok(d.sound.every((s) => s.channels.length === 2));
});

for (const name of ["odd.mp4", "odd.ts", "odd.mkv"]) {
  test(`${name}: a file gives its packets at their times; odd sizes keep the I420 layout`, async () => {
    const clip = flashAndBeep(folder.path, name, { size: "318x182", rate: "25", bFrames: 2, seconds: 2 });
    const d = await decode(pulled(clip));
    const expected = packetTimes(clip, "v").map((t) => t * 1000);
    const got = videoPts(d);
    close(
      got.map((t) => t - got[0]!),
      expected.map((t) => t - expected[0]!),
      1,
    );
    assert.ok(d.pictures.length >= got.length - 4, `${d.pictures.length} of ${got.length}`);
    assert.is(d.pictures[0]!.data.length, 320 * 182 + 2 * 160 * 91);
    assert.ok(
      Math.abs(beeps(d.sound)[1]! - 1000 - d.pictures.find((p, i) => i > 10 && p.data[0]! > 170)!.ptsMs + 1000) < 50,
    );
  });
}

test("pictures over 1920x1080 are made smaller, 60 a second are thinned out", async () => {
  const path = join(folder.path, "big.flv");
  ffmpeg(
    "-f",
    "lavfi",
    "-i",
    "color=gray:s=2560x1440:r=60",
    "-t",
    "1",
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    path,
  );
  const d = await decode(flvUnits(path));
  assert.is(videoPts(d).length, 60);
  assert.equal([d.pictures[0]!.width, d.pictures[0]!.height], [1920, 1080]);
  assert.ok(d.pictures.length > 5 && d.pictures.length <= 31, `${d.pictures.length} pictures`);
  assert.is(d.pictures[0]!.fullRange, false);
});

test("pictures that nobody has time for leak away, but for the newest few: they do not pile up", async () => {
  const path = flashAndBeep(folder.path, "many.flv", { seconds: 5 });
  let taken = false;
  const got: number[] = [];
  const decoder = new PictureDecoder(
    ({ ptsMs }) => got.push(ptsMs),
    { onFault: () => {} },
    () => taken,
  );
  const units: VideoUnit[] = [];
  await flvUnits(path)((unit) => unit.kind === "video" && units.push(unit));
  for (const unit of units) {
    decoder.push(unit);
    await new Promise((resolve) => setTimeout(resolve, 8));
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  taken = true;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  decoder.close();
  assert.ok(got.length > 0 && got.length <= 8, `${got.length} of ${units.length} pictures waited`);
  assert.ok(got.at(-1)! > 4500, `the newest is of ${got.at(-1)} ms`);
});

test("a change of rate and channels in mid-stream goes on with the new format", async () => {
  const a = flashAndBeep(folder.path, "mono.flv", { soundRate: 44_100, soundChannels: 1, video: false });
  const b = flashAndBeep(folder.path, "stereo.flv", { soundChannels: 2, video: false, seconds: 1 });
  const d = await decode(async (push) => {
    await flvUnits(a)(push);
    await flvUnits(b)((unit) => push({ ...unit, ptsMs: unit.ptsMs + 3200 }));
  });
  assert.equal([...new Set(d.sound.map((s) => s.channels.length))], [1, 2]);
  const last = d.sound.at(-1)!;
  assert.ok(last.ptsMs > 5000, `${last.ptsMs}`);
});

test("a burst after a stall of the network is no decoder that cannot keep up: no unit is left out, with B-frames neither", async () => {
  const clip = flashAndBeep(folder.path, "burst.flv", { seconds: 2, bFrames: 2 });
  const pictures = new PictureDecoder(() => {}, { onFault: (f) => assert.unreachable(f.message) });
  const reader = new FlvUnits();
  const units = [...new FlvReader().push(readFileSync(clip))]
    .map((tag) => reader.read(tag))
    .filter((unit) => unit?.kind === "video");
  for (const unit of units.slice(0, 15)) {
    pictures.push(unit);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  await new Promise((resolve) => setTimeout(resolve, 800));
  for (const unit of units.slice(15)) pictures.push(unit);
  assert.is(pictures.counters.picture_units_dropped, 0);
  await new Promise((resolve) => setTimeout(resolve, 500));
  pictures.close();
});

test.run();
