import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { PictureDecoder, SoundDecoder } from "../../src/channel/decode.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { FlvFileOutput } from "../../src/channel/output/flv-file-output.js";
import { GatewayOutput } from "../../src/channel/output/gateway-output.js";
import { MuxedOutput } from "../../src/channel/output/muxed-output.js";
import { freePaths, openOutput } from "../../src/channel/output/open.js";
import { FlvUnits, rawAacCaps } from "../../src/channel/source/flv-units.js";
import { channelConfig } from "../../src/config/schema.js";
import { FlvReader, type FlvTag, PICTURE } from "../../src/transport/flv/tag.js";
import { readVideo } from "../../src/transport/flv/video.js";
import { fileSink, type MuxTracks } from "../../src/transport/gst/launch.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { resolvedSrt } from "../../src/transport/srt-address.js";
import { clipFolder, flashAndBeep, lipSyncMs, packetTimes, videoHashes } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { within } from "../gst/within.js";
import { freeUdpPort, openGateway, run, until } from "./support.js";

withThreads();
const test = suite("channel outputs and inputs");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

type Started = { channel: Channel; states: () => string[]; close: () => Promise<void> };

async function start(input: string, outputs: string[], logs: string[] = []): Promise<Started> {
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const config = channelConfig.parse({ profile: "low", input, outputs });
  const channel = new Channel({
    name: "main",
    config,
    gateway: link,
    inference: null,
    log: (_, text, more) => void logs.push(`${text} ${JSON.stringify(more)}`),
  });
  channel.start();
  link.open();
  const states = () =>
    channel
      .status()
      .outputs.slice(1)
      .map((o) => o.state);
  return {
    channel,
    states,
    close: async () => {
      await channel.close();
      link.close();
      await gateway.close();
    },
  };
}

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

test("a recording that fails goes on in a new file; what was written stays", async () => {
  const path = join(folder.path, "fails.ts");
  const next = freePaths(path);
  const launch = (tracks: MuxTracks): string =>
    fileSink(next(), "ts", tracks).replace("filesink", "identity error-after=20 ! filesink");
  const states: string[] = [];
  const output = new MuxedOutput(
    "file://test",
    launch,
    { onState: ({ state }) => void states.push(state) },
    { nextFile: next },
  );
  const config = Buffer.from("1190", "hex");
  let n = 0;
  const timer = setInterval(
    () => output.write({ kind: "aac", ptsMs: 1000 + 21.33 * n++, data: Buffer.alloc(200, 0x21), config }),
    5,
  );
  try {
    await until(() => states.filter((s) => s === "back-off").length >= 2, 20_000, "two failures");
    const first = statSync(path).size;
    assert.ok(first > 0, "the first recording is there");
    assert.ok(statSync(join(folder.path, "fails-1.ts")).size > 0, "the second one has its own name");
  } finally {
    clearInterval(timer);
    await output.close();
  }
});

test("a disk that does not answer gives a path all the same: the writing tells", () => {
  const file = join(folder.path, "no-folder");
  writeFileSync(file, "x");
  const next = freePaths(join(file, "recording.ts"));
  assert.is(next(), next());
});

test("an FLV recording whose folder comes late, or whose disk fails, is opened again by itself", async () => {
  const late = join(folder.path, "late");
  const states: string[] = [];
  const output = new FlvFileOutput("file://test", freePaths(join(late, "talk.flv")), {
    onState: ({ state, reason }) => void states.push(`${state} ${reason}`),
  });
  const config = Buffer.from("1190", "hex");
  let n = 0;
  const timer = setInterval(
    () => output.write({ kind: "aac", ptsMs: 1000 + 21.33 * n++, data: Buffer.alloc(200, 0x21), config }),
    5,
  );
  try {
    await until(() => states.includes("back-off SL_OUTPUT_FAILED"), 5000, "a failure");
    mkdirSync(late);
    await until(() => states.at(-1) === "live null", 10_000, "the recording");
    await new Promise((resolve) => setTimeout(resolve, 300));
  } finally {
    clearInterval(timer);
    await output.close();
  }
  const written = readFileSync(join(late, "talk.flv"));
  assert.is(written.toString("latin1", 0, 3), "FLV");
  assert.ok(written.length > 2000, `${written.length} bytes`);
});

test("a camera that comes after the sound gets into the recording: it goes on in a new file with both", async () => {
  const clip = flashAndBeep(folder.path, "late.flv", { seconds: 3 });
  const path = join(folder.path, "late-camera.mkv");
  const next = freePaths(path);
  const output = new MuxedOutput(
    "file://test",
    (tracks) => fileSink(next(), "mkv", tracks),
    { onState: () => {} },
    { nextFile: next },
  );
  const sound = (ptsMs: number) =>
    output.write({ kind: "aac", ptsMs, data: Buffer.alloc(200, 0x21), config: Buffer.from("1190", "hex") });
  let ptsMs = 0;
  const begun = performance.now();
  while (performance.now() - begun < 2200) {
    ptsMs += 21.33;
    sound(ptsMs);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  let config = Buffer.alloc(0);
  for (const tag of new FlvReader().push(readFileSync(clip))) {
    const packet = tag.type === PICTURE ? readVideo(tag.body) : null;
    if (packet?.kind === "sequence") config = Buffer.from(packet.avcC);
    if (packet?.kind !== "frame") continue;
    const dtsMs = ptsMs + tag.timestampMs;
    const { key, data, ctsMs } = packet;
    output.write({ kind: "video", ptsMs: dtsMs + ctsMs, dtsMs, key, data: Buffer.from(data), config });
    // Most of what comes is sound, as on air: whatever comes first when the old file has ended, the new one has both.
    for (const later of [1, 2, 3, 4]) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      sound(dtsMs + later);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  await output.close();
  assert.ok(statSync(path).size > 1000, "the sound alone is there");
  assert.ok(videoHashes(join(folder.path, "late-camera-1.mkv")).length > 60);
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

test("an SRT output says when nobody receives it, as caller and as listener, and is live again by itself", async () => {
  const clip = flashAndBeep(folder.path, "round.flv", { seconds: 4 });
  for (const mode of ["caller", "listener"]) {
    const port = await freeUdpPort();
    // By name and by address.
    const host = mode === "caller" ? "localhost" : "127.0.0.1";
    const started = await start(`file://${clip}?loop=1`, [`srt://${host}:${port}?mode=${mode}`]);
    const shown = (): string => {
      const { state, reason } = started.channel.status().outputs[1]!;
      return `${state} ${reason}`;
    };
    const receiver = () =>
      run(
        "ffmpeg",
        [
          "-v",
          "quiet",
          "-nostdin",
          "-i",
          `srt://127.0.0.1:${port}?mode=${mode === "caller" ? "listener" : "caller"}`,
        ].concat(["-c", "copy", "-f", "null", "-"]),
        60_000,
      );
    await until(() => shown() === "connecting SL_OUTPUT_NO_RECEIVER", 8000, `${mode}: nobody there`);
    for (let n = 0; n < 2; n++) {
      const { child, exited } = receiver();
      await until(() => shown() === "live null", 10_000, `${mode}: live`);
      child.kill("SIGKILL");
      await exited;
      // A listener is not told by the bus: it looks twice a minute.
      if (mode === "listener") break;
      await until(() => shown() === "connecting SL_OUTPUT_NO_RECEIVER", 15_000, `${mode}: gone`);
    }
    await started.close();
  }
});

test("names in SRT addresses: asked for without holding anything up; one that there is not is a failure that says so", async () => {
  for (const same of ["srt://127.0.0.1:9?mode=caller", "srt://[::1]:9", "srt://:9?mode=listener", "srt://10.0.0.1:9"])
    assert.is(await resolvedSrt(same), same);
  assert.match(await resolvedSrt("srt://localhost:9?mode=caller"), /^srt:\/\/(127\.0\.0\.1|\[::1\]):9\?mode=caller$/);
  const clip = flashAndBeep(folder.path, "named.flv", { seconds: 4 });
  const details: string[] = [];
  const started = await start(`file://${clip}?loop=1`, ["srt://no-such-host.invalid:9?mode=caller"], details);
  await until(() => started.states()[0] === "back-off", 8000, "the failure");
  assert.ok(
    details.some((d) => d.includes("no-such-host.invalid")),
    details.join("\n"),
  );
  await started.close();
});

test("a track that stops does not stop the other: a transport stream goes on, a recording in a new file, nothing is lost", async () => {
  const clip = flashAndBeep(folder.path, "pause.flv", { seconds: 14 });
  const tags = [...new FlvReader().push(readFileSync(clip))];
  const header = tags.find((tag) => tag.type === 8 && tag.body[1] === 0)!;
  const config = Buffer.from(header.body.subarray(2));
  /** Writes the clip in its own time; from 3 to 12 s one track is away, or both are. */
  const record = async (format: "ts" | "mkv", away: "sound" | "video" | "both") => {
    const path = join(folder.path, `pause-of-${away}.${format}`);
    const output = openOutput(`file://${path}`, { onState: () => {} });
    const units = new FlvUnits();
    const begun = performance.now();
    let during = 0;
    let written = { video: 0, sound: 0 };
    for (const tag of tags) {
      const unit = units.read(tag);
      if (unit === null || unit.kind === "vp8") continue;
      const ms = unit.kind === "video" ? unit.dtsMs : unit.ptsMs;
      while (performance.now() - begun < ms) await new Promise((resolve) => setTimeout(resolve, 2));
      if (during === 0 && ms > 11_500) during = statSync(path).size;
      if ((away === unit.kind || away === "both") && ms > 3000 && ms < 12_000) continue;
      written = { ...written, [unit.kind]: written[unit.kind] + 1 };
      if (unit.kind === "video") output.write(unit);
      else output.write({ kind: "aac", ptsMs: unit.ptsMs, data: unit.data, config });
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    await output.close();
    const files = [path, ...[1, 2].map((n) => path.replace(`.${format}`, `-${n}.${format}`))].filter(existsSync);
    const count = (kind: "v" | "a"): number => files.reduce((sum, file) => sum + packetTimes(file, kind).length, 0);
    return { files, written, video: count("v"), sound: count("a"), share: during / statSync(path).size };
  };
  const [live, muted, blind, paused] = await Promise.all([
    record("ts", "sound"),
    record("mkv", "sound"),
    record("mkv", "video"),
    record("mkv", "both"),
  ]);
  assert.equal([live.files.length, muted.files.length, blind.files.length, paused.files.length], [1, 3, 3, 1]);
  assert.ok(live.share > 0.6, `${live.share} of the bytes while the sound was away`);
  assert.equal(
    muted.files.flatMap((file) => videoHashes(file)),
    videoHashes(clip),
  );
  for (const { written, video, sound, files } of [live, muted, blind, paused]) {
    const text = `${files[0]}: ${video} and ${sound} of ${JSON.stringify(written)}`;
    // Pictures that come back in the middle of a group are left out up to its end; sound may lack what a muxer holds at its end.
    assert.ok(video >= written.video - 30 && video <= written.video, text);
    assert.ok(sound >= written.sound - 50 && sound <= written.sound, text);
  }
});

test("an SRT listener waits for its caller as long as it takes", async () => {
  const port = await freeUdpPort();
  const started = await start(`srt://127.0.0.1:${port}?mode=listener`, []);
  // Any other source is given up after 8 s.
  await new Promise((resolve) => setTimeout(resolve, 9000));
  const { source, counters } = started.channel.status();
  await started.close();
  assert.equal([source, counters.source_failures], ["connecting", 0]);
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
