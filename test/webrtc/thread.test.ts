import { readdirSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { channelConfig } from "../../src/config/schema.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { openGateway, run, until } from "../channel/support.js";
import { clipFolder } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { udpSocket, WhepClient, WhipClient, webRtcClip } from "./support.js";

withThreads();
const test = suite("WHIP to WHEP");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

test("a publisher's pictures and sound reach a viewer", async () => {
  const clip = webRtcClip(folder.path);
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
  const publisher = new WhipClient();
  const viewer = new WhepClient({ data: true });
  const base = `http://127.0.0.1:${gateway.mediaPort}`;
  await publisher.publish(`${base}/whip/key`);
  await until(() => publisher.connected, 5000, "the publisher's connection");
  const inputs = await Promise.all(
    [publisher.picture, publisher.sound].map((track) => udpSocket((p) => track.writeRtp(p))),
  );
  const program = run(
    "ffmpeg",
    [
      "-v",
      "error",
      "-nostdin",
      "-re",
      "-i",
      clip,
      "-an",
      "-c",
      "copy",
      "-bsf:v",
      "h264_mp4toannexb",
      "-f",
      "rtp",
      `rtp://127.0.0.1:${inputs[0]!.port}`,
      "-vn",
      "-c",
      "copy",
      "-f",
      "rtp",
      `rtp://127.0.0.1:${inputs[1]!.port}`,
    ],
    20_000,
  );
  await until(() => channel.status().counters.video_units_in! > 0, 6000, "the first picture");
  await viewer.view(`${base}/whep/main`);
  await until(() => viewer.connected, 5000, "the viewer's connection");
  await program.exited;
  console.log(channel.status().counters, channel.status().audio, channel.status().video, gateway.gateway.status());
  console.log(viewer.units.length, viewer.sounds.length, viewer.notes.length, logs, publisher.keyFramesWanted);
  await publisher.close();
  await viewer.close();
  for (const { socket } of inputs) socket.close();
  await channel.close();
  link.close();
  await gateway.close();
});

test.run();
