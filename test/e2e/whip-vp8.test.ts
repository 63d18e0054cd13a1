import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { channelConfig } from "../../src/config/schema.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { endPlayer, openGateway, run, until } from "../channel/support.js";
import { clipFolder, ffmpeg, lipSyncMs, packetTimes } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { flashPicture, VP8 } from "../gst/vp8.js";
import { connectedPublisher, udpSocket, WhepClient } from "../webrtc/support.js";

withThreads();
const test = suite("WHIP with VP8 to everything");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

const SECONDS = 8;

test("a VP8 publisher: told as re-encoded, played as H.264 by WHEP, RTMP and from a file, lips kept", async () => {
  const clip = join(folder.path, "vp8.mkv");
  const tone = ["-f", "lavfi", "-i", "aevalsrc='if(lt(mod(t,1),0.05),0.6*sin(2*PI*1000*t),0)':s=48000"];
  const sound = ["-c:a", "libopus", "-b:a", "96k", "-ac", "2"];
  ffmpeg(...flashPicture("320x180"), ...tone, "-t", String(SECONDS), ...VP8, ...sound, clip);
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const logs: string[] = [];
  const recorded = join(folder.path, "recorded.ts");
  const channel = new Channel({
    name: "main",
    config: channelConfig.parse({ profile: "low", outputs: [`file://${recorded}`] }),
    gateway: link,
    inference: null,
    log: (level, message, fields) => void logs.push(`${level} ${message} ${JSON.stringify(fields)}`),
  });
  channel.start();
  link.open();
  const played = join(folder.path, "played.flv");
  const base = `http://127.0.0.1:${gateway.mediaPort}`;
  try {
    const publisher = await connectedPublisher(`${base}/whip/key`, undefined, "VP8");
    assert.match(publisher.session!.sdp, /VP8\/90000/);
    assert.not.match(publisher.session!.sdp, /H264/);
    const viewer = new WhepClient();
    await viewer.view(`${base}/whep/main`);
    await until(() => viewer.connected, 20_000, "the viewer's connection");
    const player = run(
      "ffmpeg",
      ["-v", "error", "-nostdin", "-y", "-i", `rtmp://127.0.0.1:${gateway.rtmpPort}/out/main`, "-c", "copy", played],
      60_000,
    );
    await until(() => gateway.gateway.status().players === 1, 10_000, "the player");
    const inputs = await Promise.all(
      (["picture", "sound"] as const).map((kind) => udpSocket((packet) => publisher.send(kind, packet))),
    );
    const program = run(
      "ffmpeg",
      [
        ...["-v", "error", "-nostdin", "-re", "-i", clip],
        ...["-an", "-c", "copy", "-f", "rtp", `rtp://127.0.0.1:${inputs[0]!.port}`],
        ...["-vn", "-c", "copy", "-f", "rtp", `rtp://127.0.0.1:${inputs[1]!.port}`],
      ],
      40_000,
    );
    await until(() => (channel.status().video?.width ?? 0) > 0, 20_000, "the picture in the channel");
    const { video } = channel.status();
    assert.equal([video?.codec, video?.width, video?.height], ["VP8", 320, 180]);
    assert.is(video?.notice, "SL_PICTURE_REENCODED");
    await program.exited;
    await until(() => channel.status().counters.delay_line_waiting! <= 0, 5000, "the delay line's end");
    await new Promise((done) => setTimeout(done, 300));
    const { counters, stageMs } = channel.status();
    assert.is(counters.faults, 0, logs.join("\n"));
    assert.is(counters.reencoder_faults, 0);
    assert.ok(counters.pictures_reencoded! > 100, `${counters.pictures_reencoded} of 240 pictures`);
    assert.ok(stageMs.reencode!.p50 > 0);
    assert.is(logs.filter((line) => line.includes("SL_PICTURE_REENCODED")).length, 1, "told once");
    assert.ok(publisher.keyFramesWanted > 0, "a key frame was asked for");
    assert.ok(viewer.units.length > 60, `${viewer.units.length} pictures at the viewer`);
    assert.ok(
      viewer.units.some((unit) => unit.key && unit.nals.length > 2),
      "a key frame with its parameter sets",
    );
    await Promise.all([publisher.close(), viewer.close()]);
    for (const { socket } of inputs) socket.close();
    await channel.close();
    await endPlayer(player);
    const before = lipSyncMs(clip)[0]!;
    for (const path of [played, recorded]) {
      const errors = lipSyncMs(path);
      console.log(
        `${path.slice(-6)}: ${packetTimes(path, "v").length} pictures, sound after picture ` +
          `${errors.map((v) => v.toFixed(1)).join(" ")} ms (the clip: ${before.toFixed(1)} ms)`,
      );
      assert.ok(errors.length >= 2, `${path}: ${errors.length} flashes`);
      // Whole milliseconds on the way, and the steps of half a millisecond by which the picture follows the reports.
      for (const error of errors) assert.ok(Math.abs(error - before) < 20, `${path}: ${error} instead of ${before}`);
    }
  } finally {
    await channel.close();
    link.close();
    await gateway.close();
  }
});

test.run();
