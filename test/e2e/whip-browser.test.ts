import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { channelConfig } from "../../src/config/schema.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { DEVICE_FLAGS, hasChromium, launchChromium, WEBRTC_FLAGS } from "../browser/chromium.js";
import { openGateway, until } from "../channel/support.js";
import { withThreads } from "../gst/threads.js";

withThreads();
const test = suite("WHIP and WHEP with Chromium");
/** Frames that the player must show. */
const FRAMES = 40;
test.after(() => stopAllPipelines());

/** What one page measured. */
type Seen = { frames: number; latencyMs: number[]; soundPackets: number; picturePackets: number; lost: number };

/**
 * Runs in the page: publishes a canvas whose 16 bars are the time in milliseconds (as bits) and a tone, plays the cleaned programme, and
 * reads the time out of each shown frame. `codec` is the only one that it offers to publish.
 */
const PUBLISH_AND_PLAY = `async ([whip, whep, frames, codec]) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 180];
  const paint = canvas.getContext("2d");
  setInterval(() => {
    const now = Math.floor(performance.now()) & 0xffff;
    for (let bit = 0; bit < 16; bit++) {
      paint.fillStyle = (now >> bit) & 1 ? "white" : "black";
      paint.fillRect(bit * 20, 0, 20, 180);
    }
  }, 20);
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  const sink = audio.createMediaStreamDestination();
  tone.connect(sink);
  tone.start();
  const connect = async (pc, url) => {
    await pc.setLocalDescription();
    const body = pc.localDescription.sdp;
    const answer = await fetch(url, { method: "POST", body, headers: { "Content-Type": "application/sdp" } });
    if (answer.status !== 201) throw new Error(answer.status + " " + (await answer.text()));
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    await new Promise((done, failed) => {
      const look = () => {
        if (pc.connectionState === "connected") done();
        if (pc.connectionState === "failed") failed(new Error("no connection to " + url));
      };
      pc.onconnectionstatechange = look;
      look();
    });
  };
  const publisher = new RTCPeerConnection();
  const picture = publisher.addTransceiver(canvas.captureStream(30).getVideoTracks()[0], { direction: "sendonly" });
  const { codecs } = RTCRtpSender.getCapabilities("video");
  picture.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === "video/" + codec));
  publisher.addTransceiver(sink.stream.getAudioTracks()[0], { direction: "sendonly" });
  await connect(publisher, whip);
  const viewer = new RTCPeerConnection();
  const video = document.createElement("video");
  video.muted = true;
  const stream = new MediaStream();
  viewer.ontrack = ({ track }) => stream.addTrack(track);
  for (const kind of ["video", "audio"]) viewer.addTransceiver(kind, { direction: "recvonly" });
  await connect(viewer, whep);
  video.srcObject = stream;
  document.body.append(video);
  void video.play();
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [320, 180];
  const read = copy.getContext("2d", { willReadFrequently: true });
  const latencyMs = [];
  await new Promise((done) => {
    const onFrame = () => {
      const now = performance.now();
      read.drawImage(video, 0, 0, 320, 180);
      let time = 0;
      for (let bit = 0; bit < 16; bit++)
        if (read.getImageData(bit * 20 + 10, 90, 1, 1).data[0] > 128) time |= 1 << bit;
      latencyMs.push((Math.floor(now) - time) & 0xffff);
      if (latencyMs.length >= frames) done();
      else video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  });
  const seen = { frames: latencyMs.length, latencyMs, soundPackets: 0, picturePackets: 0, lost: 0 };
  for (const stat of (await viewer.getStats()).values()) {
    if (stat.type !== "inbound-rtp") continue;
    if (stat.kind === "audio") seen.soundPackets = stat.packetsReceived;
    else [seen.picturePackets, seen.lost] = [stat.packetsReceived, stat.packetsLost];
  }
  publisher.close();
  viewer.close();
  return seen;
}`;

test("a page publishes by WHIP and plays by WHEP; latency printed", () => publishAndPlay([]));

// As a browser without an H.264 encoder offers it. It makes a key frame only when it is asked.
test("a page that has nothing but VP8 does: it is re-encoded, and the channel says so", () =>
  publishAndPlay([], "VP8"));

// It has a socket for each network, nominates several pairs of addresses, and not all of them work.
test("a page that may use a camera does", () => publishAndPlay(DEVICE_FLAGS));

async function publishAndPlay(flags: readonly string[], codec: "H264" | "VP8" = "H264"): Promise<void> {
  if (!hasChromium()) return;
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const channel = new Channel({
    name: "main",
    config: channelConfig.parse({ profile: "low" }),
    gateway: link,
    inference: null,
    log: () => {},
  });
  channel.start();
  link.open();
  const { browser, close } = await launchChromium([...WEBRTC_FLAGS, ...flags]);
  try {
    const page = await browser.newPage();
    const base = `http://127.0.0.1:${gateway.mediaPort}`;
    await page.goto(`${base}/`);
    const order = JSON.stringify([`${base}/whip/key`, `${base}/whep/main`, FRAMES, codec]);
    const seen = (await page.evaluate(`(${PUBLISH_AND_PLAY})(${order})`)) as Seen;
    const { video, stageMs } = channel.status();
    assert.equal([video?.codec, video?.notice], codec === "VP8" ? ["VP8", "SL_PICTURE_REENCODED"] : ["H.264", null]);
    if (codec === "VP8") console.log(`re-encoding p50 ${stageMs.reencode?.p50} ms, p95 ${stageMs.reencode?.p95} ms`);
    const sorted = [...seen.latencyMs].sort((a, b) => a - b);
    const { counters } = gateway.gateway.status();
    console.log(
      `${seen.frames} frames, glass to glass p50 ${sorted[sorted.length >> 1]} ms, p95 ${sorted[Math.floor(sorted.length * 0.95)]} ms ` +
        `(declared latency ${channel.plan.declaredMs} ms); ${seen.picturePackets} picture and ${seen.soundPackets} sound packets, ${seen.lost} lost; ` +
        `in: ${counters.whip_packets_lost_total} lost, ${counters.whip_units_dropped_total} units dropped`,
    );
    assert.is(seen.frames, FRAMES);
    assert.ok(seen.soundPackets > 20, `${seen.soundPackets} sound packets`);
    assert.ok(sorted[sorted.length >> 1]! < 10_000, "the bars are the time");
    await until(
      () => gateway.gateway.sessions === 0,
      15_000,
      "both sessions to be freed after the page has closed them",
    );
  } finally {
    await close();
    await channel.close();
    link.close();
    await gateway.close();
  }
}

test.run();
