import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { pictureSize, soundInfo } from "../../src/channel/format-info.js";
import { highlightNote } from "../../src/channel/note.js";
import { FlvMuxer } from "../../src/channel/output/flv-muxer.js";
import { freePath, openOutput } from "../../src/channel/output/open.js";
import { KeyGate, type Output, publicUri, withoutSecrets, writeToAll } from "../../src/channel/output/output.js";
import { type TrackKind, TrackPresence } from "../../src/channel/output/track-presence.js";
import { FlvUnits, rawAacCaps } from "../../src/channel/source/flv-units.js";
import type { AacUnit, OutputUnit, VideoUnit } from "../../src/channel/units.js";
import { readScript } from "../../src/transport/flv/script.js";
import { FlvReader, PICTURE, SCRIPT, SOUND } from "../../src/transport/flv/tag.js";
import { readVideo } from "../../src/transport/flv/video.js";

const test = suite("channel units");
const config = Buffer.from("avcC");
const video = (dtsMs: number, key: boolean, ptsMs = dtsMs): VideoUnit => ({
  kind: "video",
  ptsMs,
  dtsMs,
  key,
  data: Buffer.of(1, 2, 3),
  config,
});
const aac = (ptsMs: number): AacUnit => ({ kind: "aac", ptsMs, data: Buffer.of(7), config });

test("FLV: headers once and again when they change, whole milliseconds, the access unit as it is", () => {
  const muxer = new FlvMuxer();
  const first = muxer.tags(video(33.4, true, 66.7));
  assert.equal(
    first.map((t) => [t.type, t.timestampMs, t.body[1]]),
    [
      [PICTURE, 33, 0],
      [PICTURE, 33, 1],
    ],
  );
  const packet = readVideo(first[1]!.body);
  assert.ok(packet.kind === "frame" && packet.key && packet.ctsMs === 34 && packet.data.equals(Buffer.of(1, 2, 3)));
  assert.is(muxer.tags(video(66, false)).length, 1);
  assert.is(muxer.tags({ ...video(99, true), config: Buffer.from("new") }).length, 2);
  assert.equal(
    muxer.tags(aac(-20)).map((t) => [t.type, t.timestampMs]),
    [
      [SOUND, 0],
      [SOUND, 0],
    ],
  );
  assert.is(muxer.tags({ kind: "note", ptsMs: 5, name: "onHighlight", value: { faces: [] } })[0]!.type, SCRIPT);
});

test("FLV: timestamps of a track never go back", () => {
  const muxer = new FlvMuxer();
  muxer.tags(aac(100));
  assert.is(muxer.tags(aac(90)).at(-1)!.timestampMs, 100);
});

test("FLV: a channel that runs for 50 days wraps its timestamps, and no composition offset is too large to be written", () => {
  const muxer = new FlvMuxer();
  const wrap = 2 ** 32;
  const tags = [
    ...muxer.tags(video(wrap + 40, true)),
    ...muxer.tags(aac(wrap + 41)),
    ...muxer.tags({ kind: "note", ptsMs: wrap + 42, name: "onHighlight", value: {} }),
  ];
  assert.equal(
    tags.map((t) => t.timestampMs),
    [40, 40, 41, 41, 42],
  );
  for (const [ptsMs, expected] of [
    [wrap - 9e6, -0x80_0000],
    [wrap + 9e6, 0x7f_ffff],
  ] as const) {
    const packet = readVideo(muxer.tags(video(wrap + 80, false, ptsMs)).at(-1)!.body);
    assert.ok(packet.kind === "frame" && packet.ctsMs === expected);
  }
});

test("an output that throws harms no other one", () => {
  const written: OutputUnit[] = [];
  const interrupted: string[] = [];
  const output = (name: string, write: (unit: OutputUnit) => void): Output => ({
    status: { uri: name, state: "live", reason: null },
    counters: {},
    waitsForKey: false,
    write,
    interrupted: () => void interrupted.push(name),
    close: async () => {},
  });
  const faults: string[] = [];
  const bad = output("bad", () => {
    throw new RangeError("out of range");
  });
  const good = output("good", (unit) => void written.push(unit));
  writeToAll([bad, good], aac(1), (which, error) => void faults.push(`${which.status.uri}: ${String(error)}`));
  assert.is(written.length, 1);
  assert.equal(interrupted, ["bad"]);
  assert.equal(faults, ["bad: RangeError: out of range"]);
});

test("after a loss nothing passes until a key frame; sound alone passes at once", () => {
  const gate = new KeyGate();
  assert.ok(gate.passes(aac(0)), "no picture yet");
  assert.not(gate.waits);
  assert.not(gate.passes(video(0, false)));
  assert.not(gate.passes(aac(20)));
  assert.ok(gate.waits, "only a key frame is missing");
  assert.ok(gate.passes(video(40, true)));
  assert.not(gate.waits);
  assert.ok(gate.passes(aac(41)));
  gate.shut();
  assert.not(gate.waits, "nothing has been offered since");
  assert.not(gate.passes(aac(60)));
  assert.ok(gate.passes(aac(6000)), "the picture has ended");
  assert.is(gate.dropped, 3);
});

test("addresses are shown without keys and queries; recordings are never written over", async () => {
  assert.is(publicUri("rtmp://user:pw@a.example/app/secret?x=1"), "rtmp://a.example/app/***");
  assert.is(publicUri("srt://h:9000?passphrase=secret"), "srt://h:9000");
  const folder = mkdtempSync(join(tmpdir(), "sightline-path-"));
  writeFileSync(join(folder, "a.flv"), "");
  assert.is(await freePath(join(folder, "a.flv")), join(folder, "a-1.flv"));
  rmSync(folder, { recursive: true });
});

test("what a server or GStreamer says about an address is shown without its secrets", () => {
  const rtmp = "rtmp://user:hunter22@a.example/app/live_key?token=abcdef";
  const launch = `no element "x" in: rtmp2sink location="${rtmp}" sync=false; live_key denied for user, token abcdef`;
  const shown = withoutSecrets(launch, rtmp);
  for (const secret of ["hunter22", "live_key", "abcdef"]) assert.not.match(shown, secret);
  assert.match(shown, "rtmp://a.example/app/***");
  const srt = 'srt://h:9000?mode=caller&passphrase=a"long%20one&streamid=publish:x';
  const quoted = withoutSecrets(`caller: srtsink uri="${srt.replace(/"/g, '\\"')}", a"long one, publish:x`, srt);
  for (const secret of ["long", "publish:x"]) assert.not.match(quoted, secret);
  assert.match(quoted, /^caller: srtsink/);
  const found = srt.replace("h:9000", "10.0.0.1:9000").replace(/"/g, '\\"');
  const launched = withoutSecrets(`no element "srtsink" in: srtsink uri="${found}"`, srt);
  for (const secret of ["long", "publish:x"]) assert.not.match(launched, secret, "by the address that was found");
  assert.is(withoutSecrets("no space on /a/b.mkv", "file:///a/b.mkv"), "no space on /a/b.mkv");
  assert.is(withoutSecrets("publish", "publish"), "publish");
});

test("a track is alone while it runs and the other does not: not after a pause of both, not in a burst", () => {
  const presence = new TrackPresence();
  let now = 0;
  const run = (kinds: readonly TrackKind[], ms: number): void => {
    for (const end = now + ms; now < end; now += 20) for (const kind of kinds) presence.written(kind, now);
  };
  run(["video", "audio"], 2000);
  assert.ok(presence.aloneMs("video") < 40 && presence.aloneMs("audio") < 40);
  run(["video"], 3000);
  assert.ok(Math.abs(presence.aloneMs("video") - 3000) < 60, `${presence.aloneMs("video")}`);
  now += 20_000;
  presence.written("video", now);
  assert.is(presence.aloneMs("video"), 0, "both were away");
  run(["audio"], 5000);
  assert.ok(presence.aloneMs("audio") > 4900);
  for (let n = 0; n < 100; n++) presence.written("video", now);
  assert.is(presence.aloneMs("video"), 0);
});

test("an address that cannot be written to is a refused output, not an exception", async () => {
  for (const uri of ["http://x/", "file:///tmp/a.xyz", "nonsense"]) {
    const output = openOutput(uri, { onState: () => {} });
    assert.equal([output.status.state, output.status.reason], ["refused", "SL_OUTPUT_ADDRESS"]);
    output.write(video(0, true));
    await output.close();
  }
});

for (const [width, height, extra] of [
  [1280, 720, []],
  [318, 182, ["-profile:v", "high", "-bf", "2"]],
  [1920, 1080, ["-flags", "+ildct", "-x264-params", "tff=1"]],
] as const) {
  test(`picture size from real headers: ${width}x${height}, at every prefix and 20,000 mutations without harm`, () => {
    const folder = mkdtempSync(join(tmpdir(), "sightline-sps-"));
    const path = join(folder, "a.flv");
    const source = ["-f", "lavfi", "-i", `color=red:s=${width}x${height}:r=25`, "-f", "lavfi", "-i", "sine=r=44100"];
    execFileSync(
      "ffmpeg",
      [
        "-v",
        "error",
        "-nostdin",
        ...source,
        "-t",
        "0.2",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        ...extra,
        "-c:a",
        "aac",
        path,
      ],
      { timeout: 30_000 },
    );
    const units = new FlvUnits();
    const read = new FlvReader().push(readFileSync(path)).map((tag) => units.read(tag));
    rmSync(folder, { recursive: true });
    const unit = read.find((u) => u?.kind === "video");
    const sound = read.find((u) => u?.kind === "sound");
    assert.ok(unit?.kind === "video" && sound?.kind === "sound");
    assert.equal(pictureSize(unit.config), { width, height });
    assert.equal(soundInfo(sound.format), { codec: "AAC", sampleRate: 44_100, channels: 1 });
    for (let n = 0; n < unit.config.length; n++) pictureSize(unit.config.subarray(0, n));
    let state = 8;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let i = 0; i < 20_000; i++) {
      const copy = Buffer.from(unit.config);
      for (let k = 0; k <= random(4); k++) copy[random(copy.length)] = random(256);
      pictureSize(copy);
    }
  });
}

test("a damaged or early tag is counted and left out", () => {
  const units = new FlvUnits();
  for (const body of [
    Buffer.of(0x17),
    Buffer.of(0x17, 1, 0, 0, 0, 9),
    Buffer.of(0xaf),
    Buffer.of(0xaf, 1, 9),
    Buffer.of(0x2f, 1),
  ]) {
    for (const type of [PICTURE, SOUND] as const) assert.is(units.read({ type, timestampMs: 0, body }), null);
  }
  assert.ok(
    units.counters.tags_malformed >= 2 &&
      units.counters.tags_before_header >= 2 &&
      units.counters.tags_unsupported >= 1,
  );
  assert.match(rawAacCaps(Buffer.of(0x11, 0x90)), /codec_data=\(buffer\)1190$/);
});

test("highlights hold no null, which mpegts.js cannot read", () => {
  const layout = { atSample: 960, hopSamples: 480, frames: 4, bins: 1, binHz: 50 };
  const face = { id: 3, box: { x: 0.1, y: 0.2, width: 0.3, height: 0.4 }, score: 0.9, speaking: 0.5 };
  const outcome = {
    layout,
    fromSample: 960,
    decision: null,
    failure: null,
    faces: [face],
    facesSample: 8640,
    engineMs: 1,
    resets: 0,
    recalled: false,
    recognised: 0,
    hurried: false,
  };
  const note = highlightNote(outcome, 20.4, { mode: "separated", reason: null, sinceSample: 0 });
  const [tag] = new FlvMuxer().tags(note);
  const { name, values } = readScript(tag!.body);
  assert.is(name, "onHighlight");
  const { box, ...rest } = face;
  assert.equal(JSON.parse(JSON.stringify(values)), [
    { pts: 20, mode: "separated", sample: 8640, faces: [{ ...rest, ...box }] },
  ]);
  assert.is(highlightNote(outcome, 0, null).value.mode, "bypass");
  assert.is(
    highlightNote(outcome, 0, { mode: "bypass", reason: "SL_NO_FACE", sinceSample: 0 }).value.reason,
    "SL_NO_FACE",
  );
});

test.run();
