import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SinkClock } from "../../src/library/sink-clock.js";
import { SoundBehind } from "../../src/library/sound-behind.js";
import { BLOCK, planarOf, TrackBlocks } from "../../src/library/track-sound.js";
import type { AudioData, Wrtc } from "../../src/library/wrtc.js";
import { OnnxFaceDetector } from "../../src/model/faces/detector.js";
import { LocalInference } from "../../src/model/inference/local.js";
import { buildLive } from "../../src/model/live/build.js";
import type { Highlight } from "../../src/pipeline/types.js";
import { buildFaceModels } from "../../src/tools/assets.js";
import { LibraryError, separateTracks } from "../../src/webrtc.js";
import { until } from "../channel/support.js";
import { demoPictures } from "../faces/demo.js";
import { clipFolder } from "../gst/clip.js";
import { noise, noiseLive } from "../model/noise.js";
import { loadStack, negotiate, pairOf, type Stack, type Track } from "./wrtc-pair.js";

const folder = clipFolder();
let model: LocalInference;
const test = suite("library: tracks");
test.before(async () => {
  await buildLive(noiseLive(), { name: "tiny", version: "1" }, `${folder.path}/model`);
  const [, back] = await buildFaceModels(`${folder.path}/faces`);
  model = await LocalInference.open(`${folder.path}/model`, {
    threads: 1,
    faces: await OnnxFaceDetector.open(back!, { threads: 1 }),
  });
});
test.after(async () => {
  await model.close();
  folder.remove();
  // @roamhq/wrtc 0.10.0 crashes or hangs when a process that used it ends by itself; process.exit does not run into that.
  setTimeout(() => process.exit(), 300);
});

test("sound is counted, whatever its arrivals jitter; a picture lies where the sound is when it comes; a pause is a pause", () => {
  const clock = new SinkClock();
  assert.is(clock.picture(5), null);
  // Blocks of 10 ms that come 0 to 60 ms late (a busy event loop).
  let seed = 1;
  for (let i = 0; i < 500; i++) {
    seed = (seed * 48_271) % 2_147_483_647;
    const lateMs = i === 0 ? 0 : seed % 61;
    assert.is(clock.sound(10, 1000 + 10 * i + 10 + lateMs), 10 * i);
  }
  assert.ok(Math.abs(clock.picture(1000 + 3000)! - 3000) < 0.001);
  const behind = new SinkClock(55);
  behind.sound(10, 1010);
  assert.ok(Math.abs(behind.picture(1000 + 3000)! - 3055) < 0.001, "its sound is still on its way");
  // Muted for two seconds.
  assert.ok(Math.abs(clock.sound(10, 1000 + 5000 + 2010) - 7000) < 0.001);
  assert.is(clock.interruptions, 1);
});

test("how far sound is behind follows what the two jitter buffers did, in small steps, within bounds", () => {
  const behind = new SoundBehind(55, "a", "v");
  const report = (seconds: number, soundMs: number) => [
    {
      type: "inbound-rtp",
      trackIdentifier: "a",
      jitterBufferDelay: (seconds * 48_000 * soundMs) / 1000,
      jitterBufferEmittedCount: seconds * 48_000,
    },
    {
      type: "inbound-rtp",
      trackIdentifier: "v",
      jitterBufferDelay: seconds * 25 * 0.02,
      jitterBufferEmittedCount: seconds * 25,
    },
    { type: "inbound-rtp", trackIdentifier: "other", jitterBufferDelay: 1e9, jitterBufferEmittedCount: 1 },
  ];
  behind.push(report(1, 55));
  assert.is(behind.ms, 55, "one report says nothing");
  behind.push(report(2, 55));
  assert.ok(Math.abs(behind.ms - 61.5) < 1e-6, "55 - 20 + 26.5");
  behind.push([]);
  behind.push(report(2, 55));
  assert.ok(Math.abs(behind.ms - 61.5) < 1e-6, "nothing passed since");
  behind.push(report(3, 400));
  assert.ok(Math.abs(behind.ms - 71.5) < 1e-6, "10 ms a report");
});

test("blocks of 10 ms come out whole and in order; loud sound is limited, not wrapped round", () => {
  const out: AudioData[] = [];
  const blocks = new TrackBlocks((data) => out.push(data));
  const wave = Float32Array.from({ length: 3000 }, (_, n) => (n % 100) / 100 - 0.5);
  for (const [from, to] of [
    [0, 7],
    [7, 1000],
    [1000, 1000],
    [1000, 2999],
    [2999, 3000],
  ] as const)
    blocks.push([wave.subarray(from, to), wave.subarray(from, to)]);
  assert.is(out.length, Math.floor(3000 / BLOCK));
  const back = out.map(planarOf);
  for (let n = 0; n < out.length * BLOCK; n++)
    for (const c of [0, 1]) assert.ok(Math.abs(back[Math.floor(n / BLOCK)]![c]![n % BLOCK]! - wave[n]!) < 1e-4);
  out.length = 0;
  new TrackBlocks((data) => out.push(data)).push([new Float32Array(BLOCK).fill(1.5)]);
  assert.is(out[0]!.samples[0], 32_767);
  assert.throws(() => planarOf({ samples: new Int16Array(7), sampleRate: 48_000, channelCount: 2 }), /16 bits/);
});

type Handler = { ondata: ((data: AudioData) => void) | null; onframe: ((event: unknown) => void) | null };

test("bad blocks and pictures are faults that are got over; wrong options are refused; stop frees everything, twice too", async () => {
  const sinks: (Handler & { stopped: number })[] = [];
  class Sink {
    ondata = null;
    onframe = null;
    stopped = 0;
    constructor() {
      sinks.push(this);
    }
    stop(): void {
      this.stopped += 1;
    }
  }
  class Source {
    createTrack = () => ({ kind: "audio" });
    onData(): void {}
  }
  const wrtc = {
    nonstandard: { RTCAudioSink: Sink, RTCVideoSink: Sink, RTCAudioSource: Source },
  } as unknown as Wrtc<object>;
  assert.throws(() => separateTracks({ audio: null as unknown as object }, { model, wrtc }), /an audio|a track/);
  assert.throws(
    () => separateTracks({ audio: {} }, { model, wrtc, strengthPercent: 200 }),
    (e: unknown) => e instanceof LibraryError && /strengthPercent/.test(e.message),
  );
  assert.throws(
    () => separateTracks({ audio: {} }, { model, wrtc, soundBehindMs: Number.NaN }),
    /soundBehindMs is NaN/,
  );
  const faults: unknown[] = [];
  const separated = separateTracks({ audio: {}, video: {} }, { model, wrtc, onFault: (e) => faults.push(e) });
  let completed = false;
  separated.highlights.subscribe({ complete: () => (completed = true) });
  const [sound, video] = [sinks.at(-2)!, sinks.at(-1)!] as [Handler, Handler];
  sound.ondata!({ samples: new Int16Array(481), sampleRate: 48_000, channelCount: 2 });
  sound.ondata!({ samples: new Int16Array(480), sampleRate: 48_000 });
  video.onframe!({ frame: { width: 4, height: 4, data: new Uint8Array(3) } });
  sound.ondata!({ samples: new Int16Array(480), sampleRate: 1 });
  assert.is(separated.state().counters.faults, 3);
  assert.is(faults.length, 1, "one a second is told");
  assert.throws(() => separated.set({ strengthPercent: 120 }), RangeError);
  sound.ondata!({ samples: new Int16Array(480), sampleRate: 48_000, channelCount: 1 });
  assert.is(separated.state().counters.faults, 3, "what was refused has changed nothing");
  separated.stop();
  separated.stop();
  assert.ok(completed);
  assert.equal(
    sinks.slice(-2).map((s) => [s.stopped, s.ondata, s.onframe]),
    [
      [1, null, null],
      [1, null, null],
    ],
  );
});

test("a speaker over two real peers: faces are followed, the cleaned track is heard at the far end", async () => {
  const wrtc = loadStack();
  const [speaker, bot] = pairOf(wrtc);
  const tracks: { audio?: Track; video?: Track } = {};
  let back: Track | null = null;
  bot.ontrack = ({ track }) => Object.assign(tracks, { [track.kind]: track });
  speaker.ontrack = ({ track }) => {
    back = track;
  };
  const [voice, camera] = [new wrtc.nonstandard.RTCAudioSource(), new wrtc.nonstandard.RTCVideoSource()];
  const own = [voice.createTrack(), camera.createTrack()];
  for (const track of own) speaker.addTrack(track);
  await negotiate(speaker, bot);
  const pictures = await demoPictures(50);
  const wave = Int16Array.from(noise("voice", 48_000), (v) => v * 3000);
  let block = 0;
  const timer = setInterval(() => {
    // Bursts where the machine has no time for us, as a sound card's driver would make them.
    for (const due = Math.floor((performance.now() - begun) / 10); block < due; block++) {
      const at = (block % 100) * 480;
      voice.onData({
        samples: wave.slice(at, at + 480),
        sampleRate: 48_000,
        bitsPerSample: 16,
        channelCount: 1,
        numberOfFrames: 480,
      });
      if (block % 4 !== 0) continue;
      const { width, height, data } = pictures[(block / 4) % 50]!;
      camera.onFrame({ width, height, data });
    }
  }, 5);
  const begun = performance.now();
  let separated: ReturnType<typeof separateTracks<Track>> | null = null;
  let sink: InstanceType<Stack["nonstandard"]["RTCAudioSink"]> | null = null;
  try {
    await until(() => tracks.audio !== undefined && tracks.video !== undefined, 10_000, "the speaker's tracks");
    separated = separateTracks({ audio: tracks.audio!, video: tracks.video! }, { model, wrtc, strengthPercent: 0 });
    const seen: Highlight[] = [];
    separated.highlights.subscribe((h) => seen.push(h));
    bot.addTrack(separated.track);
    await negotiate(bot, speaker);
    await until(() => back !== null, 10_000, "the cleaned track");
    sink = new wrtc.nonstandard.RTCAudioSink(back!);
    let energy = 0;
    sink.ondata = ({ samples }) => {
      for (const s of samples) energy += s * s;
    };
    await until(() => seen.some((h) => h.faces.length === 1), 15_000, "a highlight with the face");
    await until(() => energy > 1e9, 10_000, "the sound at the far end");
    await sleep(1000);
    const { counters, levels, mode } = separated.state();
    console.log(
      `latency ${separated.latencyMs} ms, mode ${mode}; ${counters.sounds} blocks, ${counters.pictures} pictures, ${seen.length} highlights, ` +
        `steps in time ${counters.steps_in_time}, late ${counters.steps_late}; in ${levels?.inDb.toFixed(1)} dB, out ${levels?.outDb.toFixed(1)} dB`,
    );
    assert.is(counters.faults, 0);
    // At a strength of 0 % what leaves is what came.
    assert.ok(Math.abs(levels!.inDb - levels!.outDb) < 1 && levels!.inDb > -60);
    assert.ok(
      seen.slice(1).every((h, i) => h.atSample > seen[i]!.atSample),
      "highlights are in order",
    );
  } finally {
    clearInterval(timer);
    sink?.stop();
    separated?.stop();
    for (const track of [...own, ...Object.values(tracks), back]) (track as unknown as { stop(): void } | null)?.stop();
    speaker.close();
    bot.close();
  }
});

test.run();
