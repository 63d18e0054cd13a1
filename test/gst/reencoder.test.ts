import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CodecStage } from "../../src/channel/codec-stage.js";
import { type DecodedPicture, PictureDecoder } from "../../src/channel/decode.js";
import { pictureSize } from "../../src/channel/format-info.js";
import { PictureReencoder } from "../../src/channel/source/reencoder.js";
import type { VideoUnit } from "../../src/channel/units.js";
import { gdpBuffer } from "../../src/transport/gdp/gdp.js";
import { H264_ENCODERS, pictureReencoder } from "../../src/transport/gst/launch.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { until } from "../channel/support.js";
import { clipFolder } from "./clip.js";
import { withThreads } from "./threads.js";
import { type Ivf, vp8Frames } from "./vp8.js";

withThreads();
const test = suite("VP8 to H.264");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

type Reencoded = { reencoder: PictureReencoder; units: VideoUnit[]; faults: string[]; wanted: () => number };

function open(): Reencoded {
  const units: VideoUnit[] = [];
  const faults: string[] = [];
  let wanted = 0;
  const reencoder = new PictureReencoder({
    onUnit: (unit) => void units.push(unit),
    onFault: ({ element, message }) => void faults.push(`${element}: ${message}`),
    onKeyFrameWanted: () => {
      wanted += 1;
    },
  });
  return { reencoder, units, faults, wanted: () => wanted };
}

const isKey = (frame: Buffer): boolean => (frame[0]! & 1) === 0;

/** Frames one by one, each when the one before has come out, so that none leaks on a busy machine. */
async function push({ reencoder, units }: Reencoded, { frames }: Ivf, fromMs: number, from = 0): Promise<void> {
  for (const { atMs, data } of frames.slice(from)) {
    const before = units.length;
    reencoder.push({ kind: "vp8", ptsMs: (atMs + fromMs) % 2 ** 32, key: isKey(data), data });
    const end = performance.now() + 2000;
    while (units.length === before && performance.now() < end) await new Promise((done) => setTimeout(done, 2));
  }
}

async function decoded(units: readonly VideoUnit[]): Promise<DecodedPicture[]> {
  const pictures: DecodedPicture[] = [];
  const decoder = new PictureDecoder((picture) => void pictures.push(picture), { onFault: () => {} });
  for (const unit of units) {
    const before = pictures.length;
    decoder.push(unit);
    const end = performance.now() + 500;
    while (pictures.length === before && performance.now() < end) await new Promise((done) => setTimeout(done, 2));
  }
  decoder.close();
  return pictures;
}

const light = ({ data, width, height }: DecodedPicture): boolean =>
  data.subarray(0, width * height).reduce((a, b) => a + b, 0) / (width * height) > 170;

test("each frame becomes one access unit of the same time, in order, across the wrap of FLV's clock; key frames follow the source's", async () => {
  const clip = vp8Frames(folder.path, "320x180", 3);
  const all = open();
  const fromMs = 2 ** 32 - 1000;
  await push(all, clip, fromMs);
  const { units, faults, reencoder } = all;
  assert.equal(faults, []);
  assert.equal(
    units.map((u) => u.ptsMs),
    clip.frames.map((f) => (f.atMs + fromMs) % 2 ** 32),
  );
  for (const unit of units) {
    assert.is(unit.dtsMs, unit.ptsMs, "no B-frames");
    assert.is(unit.reencoded?.from, "VP8");
    assert.ok(unit.reencoded!.tookMs > 0 && unit.reencoded!.tookMs < 2000);
  }
  assert.equal(pictureSize(units[0]!.config), { width: 320, height: 180 });
  assert.is(new Set(units.map((u) => u.config)).size, 1, "one configuration");
  const [keysIn, keysOut] = [clip.frames.map((f) => isKey(f.data)), units.map((u) => u.key)];
  assert.is(keysOut[0], true);
  for (const [i, key] of keysIn.entries())
    assert.ok(!key || keysOut.slice(i, i + 3).includes(true), `no key frame soon after the source's at ${i}`);
  // Flashes are where they were.
  const unwrapped = units.map((u, i) => ({ ...u, ptsMs: clip.frames[i]!.atMs, dtsMs: clip.frames[i]!.atMs }));
  const flashes = (await decoded(unwrapped)).filter(light).map((p) => Math.round(p.ptsMs));
  for (const second of [0, 1000, 2000]) assert.ok(flashes.includes(second), `${flashes}`);
  assert.is(reencoder.counters.pictures_reencoded, clip.frames.length);
  reencoder.close();
});

test("it begins at a key frame, asks for one, and begins anew with another publisher, whose size may be odd", async () => {
  const all = open();
  const { units, faults, reencoder, wanted } = all;
  const clip = vp8Frames(folder.path, "320x180", 1);
  for (const { atMs, data } of clip.frames.slice(1, 11)) reencoder.push({ kind: "vp8", ptsMs: atMs, key: false, data });
  assert.is(reencoder.counters.reencoder_units_dropped, 10);
  assert.is(wanted(), 1, "asked once in half a second");
  await push(all, clip, 5000);
  assert.is(units.length, clip.frames.length);
  reencoder.restart();
  const odd = vp8Frames(folder.path, "161x91", 1);
  await push(all, odd, 0);
  const second = units.slice(clip.frames.length);
  assert.equal(
    second.map((u) => u.ptsMs),
    odd.frames.map((f) => f.atMs),
  );
  assert.is(second[0]!.key, true);
  const size = pictureSize(second[0]!.config)!;
  assert.ok(size.width % 2 === 0 && size.height % 2 === 0 && Math.abs(size.width - 161) < 2, JSON.stringify(size));
  // Times that go back are another run.
  await push(all, clip, 0);
  assert.is(units.length, 2 * clip.frames.length + odd.frames.length);
  assert.equal(faults, []);
  reencoder.close();
});

test("frames that are damaged cost pictures, not the process; a whole key frame brings the picture back", async () => {
  const all = open();
  const { units, reencoder } = all;
  const clip = vp8Frames(folder.path, "320x180", 2);
  let state = 7;
  for (const { atMs, data } of clip.frames) {
    const bad = Buffer.from(data);
    for (let i = 0; i < 20; i++) {
      state = (state * 48_271) % 2_147_483_647;
      bad[10 + (state % (bad.length - 10))] = state & 255;
    }
    reencoder.push({ kind: "vp8", ptsMs: atMs, key: isKey(data), data: bad });
    await new Promise((done) => setTimeout(done, 5));
  }
  reencoder.push({ kind: "vp8", ptsMs: 3000, key: true, data: Buffer.from("100000aabbcc40018000", "hex") });
  assert.ok(reencoder.counters.reencoder_units_dropped > 0, "a key frame that is none");
  await new Promise((done) => setTimeout(done, 1500));
  const before = units.length;
  await push(all, clip, 10_000);
  assert.ok(units.length - before > 25, `${units.length - before} pictures after the damage`);
  reencoder.close();
});

for (const encoder of H264_ENCODERS) {
  const name = encoder.split(" ")[0]!;
  test(`${name}: constrained baseline, one picture in, one out, without waiting for the next`, async () => {
    const clip = vp8Frames(folder.path, "320x180", 1);
    let buffers = 0;
    let caps = "";
    const faults: string[] = [];
    const stage = new CodecStage(
      pictureReencoder(encoder),
      "test",
      1 << 20,
      (packet) => {
        if (packet.kind === "buffer") buffers += 1;
        if (packet.kind === "caps") caps = packet.caps;
      },
      { onFault: ({ message }) => void faults.push(message) },
    );
    for (const [i, { atMs, data }] of clip.frames.entries()) {
      const { width, height } = clip;
      const coming = `video/x-vp8, framerate=(fraction)30/1, width=(int)${width}, height=(int)${height}`;
      assert.ok(stage.push(coming, gdpBuffer(data, { ptsMs: atMs, delta: i > 0 })));
      await until(() => buffers > i, 5000, `picture ${i}`);
    }
    assert.match(caps, /profile=\(string\)constrained-baseline/);
    assert.match(caps, /codec_data/);
    assert.equal(faults, []);
    stage.close();
  });
}

test.run();
