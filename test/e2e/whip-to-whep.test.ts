import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { channelConfig } from "../../src/config/schema.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { openGateway, publish, run, until } from "../channel/support.js";
import { clipFolder, ffmpeg, flashAndBeep } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { lipSync } from "../webrtc/lip-sync.js";
import { connectedPublisher, slices, udpSocket, WhepClient, type WhipClient, webRtcClip } from "../webrtc/support.js";

withThreads();
const test = suite("WHIP to WHEP through a channel");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

type Setup = { channel: Channel; gateway: Awaited<ReturnType<typeof openGateway>>; base: string; logs: string[] };

/** A channel without a model on a real gateway: the sound passes untouched, so that input and output can be compared. */
async function withChannel(body: (setup: Setup) => Promise<void>): Promise<void> {
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const logs: string[] = [];
  const channel = new Channel({
    name: "main",
    config: channelConfig.parse({ profile: "low" }),
    gateway: link,
    inference: null,
    log: (level, message, fields) => void logs.push(`${level} ${message} ${JSON.stringify(fields)}`),
  });
  channel.start();
  link.open();
  try {
    await body({ channel, gateway, base: `http://127.0.0.1:${gateway.mediaPort}`, logs });
  } finally {
    await channel.close();
    link.close();
    await gateway.close();
  }
}

/** A viewer's timestamps count one line of milliseconds for both tracks. */
const ONE_LINE = { picture: (ticks: number): number => ticks / 90, sound: (ticks: number): number => ticks / 48 };

/** The pictures of a clip with start codes. */
function annexB(clip: string): Buffer {
  const path = `${clip}.h264`;
  ffmpeg("-i", clip, "-an", "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264", path);
  return readFileSync(path);
}

/** ffmpeg sends a clip at the pace of a camera, through a publisher. */
async function send(clip: string, publisher: WhipClient): Promise<{ readonly exited: Promise<void> }> {
  const inputs = await Promise.all(
    (["picture", "sound"] as const).map((kind) => udpSocket((packet) => publisher.send(kind, packet))),
  );
  const program = run(
    "ffmpeg",
    [
      ...["-v", "error", "-nostdin", "-re", "-i", clip],
      ...["-an", "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "rtp", `rtp://127.0.0.1:${inputs[0]!.port}`],
      ...["-vn", "-c", "copy", "-f", "rtp", `rtp://127.0.0.1:${inputs[1]!.port}`],
    ],
    30_000,
  );
  const exited = program.exited.then(() => {
    for (const { socket } of inputs) socket.close();
  });
  return { exited };
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

test("an H.264 + Opus publisher: the channel sees both, viewers get the pictures bit by bit, sound without a gap, lips kept", () =>
  withChannel(async ({ channel, gateway, base, logs }) => {
    const clip = webRtcClip(folder.path, { seconds: 6 });
    const publisher = await connectedPublisher(`${base}/whip/key`);
    const [clean, input] = [new WhepClient(), new WhepClient()];
    await clean.view(`${base}/whep/main`);
    await input.view(`${base}/whep/main?stem=input`);
    await until(() => clean.connected && input.connected, 20_000, "the viewers' connections");
    const begun = performance.now();
    const { exited } = await send(clip, publisher);
    await until(() => clean.units.length > 0, 15_000, "the first picture at the viewer");
    const firstMs = performance.now() - begun;
    await exited;
    await until(() => channel.status().counters.delay_line_waiting! <= 0, 3000, "the delay line's end");
    await new Promise((done) => setTimeout(done, 100));
    const { counters, audio, video } = channel.status();
    assert.equal(audio, { codec: "Opus", sampleRate: 48_000, channels: 2 });
    assert.equal([video?.codec, video?.width, video?.height], ["H.264", 320, 180]);
    assert.is(counters.faults, 0, logs.join("\n"));
    // On a machine that has no time for this process, the sockets' buffers overflow: what is lost there is not what is tested.
    const { counters: gate } = gateway.gateway.status();
    const intact = gate.whip_packets_lost_total === 0;
    if (intact) assert.is(counters.video_units_in, counters.video_units_out);
    assert.ok(counters.video_units_in! > 100, `${counters.video_units_in} of 180 pictures`);
    assert.ok(counters.sound_units_in! > 200, `${counters.sound_units_in} of 301 sounds`);
    const source = annexB(clip);
    for (const viewer of [clean, input]) {
      assert.ok(viewer.units.length > 80, `${viewer.units.length} pictures at a viewer`);
      for (const slice of slices(viewer.units)) assert.ok(source.includes(slice), "a picture is another than was sent");
      const steps = viewer.sounds.slice(1).map((s, i) => (s.timestamp - viewer.sounds[i]!.timestamp) | 0);
      // One, at the encoder's start, is shorter by its delay; whole packets may be missing on a machine without time.
      const odd = steps.filter((s) => s <= 0 || s % 960 !== 0);
      assert.ok(odd.length <= 1, `steps of the sound: ${steps.join(" ")}`);
    }
    const sync = (await lipSync(clean, ONE_LINE)).map((f) => f.soundLaterMs);
    console.log(
      `first picture after ${firstMs.toFixed(0)} ms; ${clean.units.length} pictures, ${clean.sounds.length} sounds; ` +
        `sound after picture ${sync.map((v) => v.toFixed(1)).join(" ")} ms`,
    );
    assert.ok(sync.length >= 3 && Math.abs(median(sync)) < 25, `lip sync ${sync.join(" ")}`);
    for (const client of [publisher, clean, input]) await client.close();
  }));

test("a publisher vanishes and another one comes: ten viewers get both, with times that go on", () =>
  withChannel(async ({ gateway, base }) => {
    const clip = webRtcClip(folder.path, { seconds: 4 });
    const viewers = Array.from({ length: 10 }, () => new WhepClient());
    const counts = (): number[] => viewers.map(({ units }) => units.length);
    let before = counts();
    for (let round = 0; round < 2; round++) {
      const publisher = await connectedPublisher(`${base}/whip/key`);
      if (round === 0) for (const viewer of viewers) await viewer.view(`${base}/whep/main`);
      await until(() => viewers.every((viewer) => viewer.connected), 20_000, "the viewers' connections");
      await (await send(clip, publisher)).exited;
      await until(
        () => counts().every((n, i) => n - before[i]! > 60),
        10_000,
        `pictures of round ${round} at every viewer`,
      );
      before = counts();
      // Neither DELETE nor the end of DTLS: nothing comes any more.
      await until(() => gateway.gateway.status().publishers.length === 0, 15_000, "the key to be freed");
      await publisher.close();
    }
    for (const viewer of viewers)
      for (const list of [viewer.units, viewer.sounds]) {
        const steps = list.slice(1).map(({ timestamp }, i) => (timestamp - list[i]!.timestamp) | 0);
        assert.ok(
          steps.every((step) => step > 0),
          `times go back: ${steps.filter((step) => step <= 0).join(" ")}`,
        );
      }
    const { counters } = gateway.gateway.status();
    console.log(
      `ten viewers, a publisher gone and back: ${Math.min(...before)} to ${Math.max(...before)} pictures of 240`,
    );
    assert.is(counters.webrtc_sessions_gone_total, 2);
    assert.is(counters.gateway_faults_total, 0);
    for (const viewer of viewers) await viewer.close();
  }));

test("a viewer of an RTMP publisher: AAC becomes Opus, the access units stay", () =>
  withChannel(async ({ channel, gateway, base }) => {
    const clip = flashAndBeep(folder.path, "rtmp.flv", { seconds: 5 });
    const viewer = new WhepClient();
    await viewer.view(`${base}/whep/main`);
    await until(() => viewer.connected, 20_000, "the viewer's connection");
    const program = publish(clip, gateway.rtmpPort);
    await program.exited;
    await until(() => viewer.units.length > 90, 8000, "the pictures at the viewer");
    const sync = (await lipSync(viewer, ONE_LINE)).map((f) => f.soundLaterMs);
    console.log(`RTMP to WHEP: sound after picture ${sync.map((v) => v.toFixed(1)).join(" ")} ms`);
    assert.ok(viewer.sounds.length > 150, `${viewer.sounds.length} sounds`);
    assert.ok(sync.length >= 3 && Math.abs(median(sync)) < 5, `lip sync ${sync.join(" ")}`);
    await viewer.close();
    await until(() => gateway.gateway.sessions === 0, 15_000, "the viewer to be freed");
    const before = channel.status().counters.viewer_opus_packets!;
    assert.is(channel.status().counters.viewer_opus_packets, before);
  }));

test.run();
