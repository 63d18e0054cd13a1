import { readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PictureDecoder, SoundDecoder } from "../../src/channel/decode.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { GatewayOutput } from "../../src/channel/output/gateway-output.js";
import { RtmpOutput } from "../../src/channel/output/rtmp-output.js";
import { FlvUnits, rawAacCaps } from "../../src/channel/source/flv-units.js";
import { AudioTimeline } from "../../src/pipeline/timeline.js";
import { FlvReader, type FlvTag } from "../../src/transport/flv/tag.js";
import { readVideo } from "../../src/transport/flv/video.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { encodeFrame } from "../../src/transport/ipc/frame.js";
import { clipFolder, ffmpeg, flashAndBeep, lipSyncMs, videoHashes } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { within } from "../gst/within.js";
import { start } from "./started.js";
import { freeUdpPort, openGateway, run, until } from "./support.js";

withThreads();
const test = suite("channel outputs and inputs");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

test("RTMP push to another server and SRT to a listener, both bit by bit; dead outputs disturb nobody and are tried again", async () => {
  const clip = flashAndBeep(folder.path, "clip.mp4", { seconds: 6, bFrames: 2 });
  const other = await openGateway();
  const srtPort = await freeUdpPort();
  const received = join(folder.path, "received.ts");
  const direct = join(folder.path, "direct.flv");
  const pushed = join(folder.path, "pushed.flv");
  const listener = run(
    "ffmpeg",
    ["-v", "error", "-nostdin", "-y", "-i", `srt://127.0.0.1:${srtPort}?mode=listener`, "-c", "copy", received],
    30_000,
  );
  // Accepts and never answers; and a port where nobody listens.
  const held: Socket[] = [];
  const silent: Server = createServer((socket) => held.push(socket.on("error", () => {})));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const silentPort = (silent.address() as { port: number }).port;
  const started = await start(`file://${clip}`, [
    `rtmp://127.0.0.1:${other.rtmpPort}/live/key`,
    `srt://127.0.0.1:${srtPort}?mode=caller`,
    `rtmp://127.0.0.1:${silentPort}/app/key`,
    "rtmp://127.0.0.1:1/app/key",
    `file://${direct}`,
  ]);
  await until(() => started.states()[0] === "live", 10_000, "the push is live");
  const player = run(
    "ffmpeg",
    ["-v", "error", "-nostdin", "-y", "-i", `rtmp://127.0.0.1:${other.rtmpPort}/in/main`, "-c", "copy", pushed],
    20_000,
  );
  await until(() => started.states()[3] === "back-off", 10_000, "the dead one is in back-off");
  await until(() => started.channel.status().source === "ended", 15_000, "the end of the file");
  await until(() => started.channel.status().counters.video_units_out === 180, 5000, "all pictures");
  const [rtmp, srt, quiet, dead, file] = started.states();
  assert.equal([rtmp, srt, file], ["live", "live", "live"]);
  assert.ok(quiet !== "live", `a server that does not answer is ${quiet}`);
  assert.ok(dead !== "live");
  await new Promise((resolve) => setTimeout(resolve, 500));
  await started.close();
  for (const program of [player, listener]) program.child.kill("SIGINT");
  await within(5000, Promise.all([player.exited, listener.exited]));
  for (const socket of held) socket.destroy();
  silent.close();
  await other.close();

  const all = videoHashes(direct);
  assert.is(all.length, 180);
  const seen = videoHashes(pushed);
  assert.ok(seen.length > 60, `${seen.length} pictures pushed`);
  assert.equal(seen, all.slice(all.indexOf(seen[0]!)).slice(0, seen.length));
  assert.ok(videoHashes(received).length > 120);
  const before = lipSyncMs(direct)[0]!;
  for (const path of [pushed, received]) {
    const errors = lipSyncMs(path);
    assert.ok(errors.length >= 2, `${path}: ${errors.length} flashes`);
    for (const error of errors) assert.ok(Math.abs(error - before) < 5, `${path}: ${error} instead of ${before}`);
  }
});

test("an RTMP output whose programme begins late is not taken for stuck before anything was given to it", async () => {
  // Accepts and says nothing: a server of its own would end a connection on which nothing comes.
  const held: Socket[] = [];
  const server = createServer((socket) => held.push(socket.on("error", () => {})));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const states: string[] = [];
  const output = new RtmpOutput(`rtmp://127.0.0.1:${(server.address() as { port: number }).port}/live/key`, {
    onState: ({ state, reason }, detail) => void states.push(`${state} ${reason} ${detail ?? ""}`),
  });
  await new Promise((resolve) => setTimeout(resolve, 8500));
  const data = Buffer.from("000000046588840a", "hex");
  const config = Buffer.from("0142c00affe100046742c00a01000468ce3c80", "hex");
  for (let n = 0; n < 10; n++) {
    output.write({ kind: "video", ptsMs: 40 * n, dtsMs: 40 * n, key: n === 0, config, data });
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
  assert.not.ok(
    states.some((s) => s.includes("SL_OUTPUT_STUCK")),
    states.join(", "),
  );
  await output.close();
  for (const socket of held) socket.destroy();
  server.close();
});

test("headers that did not fit are sent again with the next key frame", () => {
  const sent: string[] = [];
  let room = false;
  const link = {
    connected: true,
    full: false,
    lost: 0,
    onUp: () => {},
    sendTag: (tag: FlvTag) => {
      if (room) sent.push(readVideo(tag.body).kind);
      return room;
    },
  };
  const output = new GatewayOutput(link as unknown as GatewayLink);
  const config = Buffer.from("0142c00affe1", "hex");
  const picture = (ptsMs: number) =>
    output.write({ kind: "video", ptsMs, dtsMs: ptsMs, key: true, data: Buffer.alloc(16), config });
  picture(0);
  room = true;
  picture(40);
  picture(80);
  assert.equal(sent, ["sequence", "frame", "frame"]);
});

test("a fault behind a tag ends the connection to the gateway, and is logged: once while it is the same", async () => {
  const path = join(folder.path, "gateway.sock");
  let connections = 0;
  const gateway = createServer((socket) => {
    connections += 1;
    socket.on("error", () => {});
    socket.write(encodeFrame({ t: "tag", tagType: 9, timestampMs: 0 }, Buffer.alloc(8)));
  });
  await new Promise<void>((resolve) => gateway.listen(path, resolve));
  const logs: string[] = [];
  const link = new GatewayLink(path, "main", (level, _, fields) => void logs.push(`${level} ${fields?.fault}`));
  const nothing = () => {};
  link.onSource({
    onTag: () => {
      throw new Error("ours");
    },
    ...{ onPublisher: nothing, onLine: nothing, onRefused: nothing, onLost: nothing, onBack: nothing },
  });
  link.open();
  await until(() => connections === 2 && link.lost === 2, 5000, "two connections");
  link.close();
  gateway.close();
  assert.is(logs.length, 1, logs.join("\n"));
  assert.match(logs[0]!, /^error .*ours/);
});

test("a composition offset that leads before zero ends nothing: GStreamer's times have no sign", () => {
  const picture = new PictureDecoder(() => {}, { onFault: () => {} });
  const sound = new SoundDecoder(() => {}, { onFault: () => {} });
  try {
    const config = Buffer.from("0142c00affe1", "hex");
    picture.push({ kind: "video", ptsMs: -8_000_000, dtsMs: 1000, key: true, data: Buffer.alloc(16), config });
    const format = { codec: "AAC", caps: rawAacCaps(Buffer.from("1190", "hex")) } as const;
    sound.push({ kind: "sound", ptsMs: -1, data: Buffer.alloc(16), format });
    assert.is(picture.counters.picture_units_dropped + sound.counters.sound_units_dropped, 0);
  } finally {
    picture.close();
    sound.close();
  }
});

test("the drift of an encoder whose sound is not 48 kHz is seen and worked off like any other, never left to a hole", async () => {
  const clip = join(folder.path, "44100.flv");
  ffmpeg("-f", "lavfi", "-i", "aevalsrc='0.3*sin(2*PI*440*t)':s=44100", "-t", "80", "-c:a", "aac", clip);
  const timeline = new AudioTimeline();
  let samples = 0;
  const decoder = new SoundDecoder(
    ({ ptsMs, channels }) => {
      samples += channels[0]!.length;
      timeline.push({ ptsNs: BigInt(Math.round(ptsMs * 1e6)), channels });
    },
    { onFault: (fault) => assert.unreachable(fault.message) },
  );
  const units = new FlvUnits();
  let count = 0;
  for (const tag of new FlvReader().push(readFileSync(clip))) {
    const unit = units.read(tag);
    if (unit?.kind !== "sound") continue;
    decoder.push({ ...unit, ptsMs: 1000 + ((count * 1024) / 44.1) * 1.0005 });
    count += 1;
    // At most a few seconds ahead of the decoder.
    const enough = ((count - 200) * 1024 * 48) / 44.1;
    if (count % 50 === 0) await until(() => samples > enough, 20_000, "the decoder");
  }
  const all = (count * 1024 * 48) / 44.1;
  await until(() => samples > all - 100, 10_000, "all of the sound");
  decoder.close();
  const { gaps, overlaps, discontinuities, driftPieces } = timeline.counters;
  assert.equal([gaps, overlaps, discontinuities, decoder.counters.sound_units_dropped], [0, 0, 0, 0]);
  assert.ok(Math.abs(timeline.driftPpm + 500) < 10, `${timeline.driftPpm} ppm`);
  // 40 ms less what is let be.
  assert.ok(driftPieces! > 25, `${driftPieces} corrections of 1 ms`);
});

test("RTMP is pulled from another server; when that ends, the source is tried again and the outputs stay", async () => {
  const clip = flashAndBeep(folder.path, "pull.flv", { seconds: 4, bFrames: 2 });
  const other = await openGateway();
  const direct = join(folder.path, "pulled.flv");
  const publisher = run(
    "ffmpeg",
    [
      "-v",
      "error",
      "-nostdin",
      "-re",
      "-i",
      clip,
      "-c",
      "copy",
      "-f",
      "flv",
      `rtmp://127.0.0.1:${other.rtmpPort}/live/key`,
    ],
    20_000,
  );
  const started = await start(`rtmp://127.0.0.1:${other.rtmpPort}/in/main`, [`file://${direct}`]);
  await until(() => started.channel.status().source === "live", 10_000, "live");
  await within(15_000, publisher.exited);
  await until(() => started.channel.status().source !== "live", 5000, "not live any more");
  assert.equal(started.states(), ["live"]);
  await other.close();
  await until(() => started.channel.status().source === "back-off", 12_000, "back-off");
  await started.close();
  const source = videoHashes(clip);
  const got = videoHashes(direct);
  assert.ok(got.length > 60);
  assert.equal(got, source.slice(source.indexOf(got[0]!)).slice(0, got.length));
});

for (const codec of ["aac", "libopus"]) {
  test(`SRT in with ${codec}`, async () => {
    const port = await freeUdpPort();
    const direct = join(folder.path, `srt-${codec}.flv`);
    const clip = flashAndBeep(folder.path, "srt.mp4", { seconds: 5 });
    const started = await start(`srt://127.0.0.1:${port}?mode=listener`, [`file://${direct}`]);
    const sender = run(
      "ffmpeg",
      [
        "-v",
        "error",
        "-nostdin",
        "-re",
        "-i",
        clip,
        "-c:v",
        "copy",
        "-c:a",
        codec,
        "-f",
        "mpegts",
        `srt://127.0.0.1:${port}?mode=caller`,
      ],
      20_000,
    );
    await until(() => started.channel.status().source === "live", 10_000, "live");
    await until(() => started.channel.status().audio !== null, 5000, "sound");
    assert.is(started.channel.status().audio?.codec, codec === "aac" ? "AAC" : "Opus");
    await within(15_000, sender.exited);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { counters } = started.channel.status();
    await started.close();
    assert.ok(counters.video_units_out! > 100 && counters.sound_frames_out! > 150, JSON.stringify(counters));
    const errors = lipSyncMs(direct);
    assert.ok(errors.length >= 2);
    // The clip itself reads 0.4 ms.
    for (const error of errors) assert.ok(Math.abs(error - 0.4) < 5, `${error} ms`);
  });
}

test.run();
