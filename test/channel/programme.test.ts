import { readdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { channelConfig } from "../../src/config/schema.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { clipFolder, flashAndBeep, lipSyncMs, packetTimes, videoHashes } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { within } from "../gst/within.js";
import { endPlayer, openGateway, publish, run, until } from "./support.js";

withThreads();
const test = suite("identity channel");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

type Setup = { channel: Channel; gateway: Awaited<ReturnType<typeof openGateway>>; logs: string[] };

/** A channel without a model (its sound passes untouched) on a real gateway. */
async function withChannel(
  config: { input?: string; outputs?: string[] },
  body: (setup: Setup) => Promise<void>,
): Promise<void> {
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const logs: string[] = [];
  const log = (level: string, message: string, fields?: object): void =>
    void logs.push(`${level} ${message} ${JSON.stringify(fields)}`);
  const channel = new Channel({
    name: "main",
    config: channelConfig.parse({ profile: "low", ...config }),
    gateway: link,
    inference: null,
    log,
  });
  channel.start();
  link.open();
  try {
    await body({ channel, gateway, logs });
  } finally {
    await channel.close();
    link.close();
    await gateway.close();
  }
}

/** Largest deviation of the steps between sound packets from one AAC frame (milliseconds). */
const worstStepMs = (times: readonly number[]): number =>
  Math.max(...times.slice(1).map((t, i) => Math.abs((t - times[i]!) * 1000 - 1024 / 48)));

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

test("publisher to player and files: pictures bit by bit, sound without a gap, lip-sync kept", async () => {
  const clip = flashAndBeep(folder.path, "clip.flv", { bFrames: 2, seconds: 4, rate: "30000/1001" });
  const files = ["a.flv", "a.mp4", "a.mkv", "a.ts"].map((name) => join(folder.path, `out-${name}`));
  const played = join(folder.path, "played.flv");
  await withChannel({ outputs: files.map((f) => `file://${f}`) }, async ({ channel, gateway, logs }) => {
    // Before the publisher, and with a short look at what comes: on a busy machine a player that starts later sees nothing of 4 s.
    const url = `rtmp://127.0.0.1:${gateway.rtmpPort}/out/main`;
    const look = ["-analyzeduration", "2000000", "-i", url];
    const player = run("ffmpeg", ["-v", "error", "-nostdin", "-y", ...look, "-c", "copy", played], 40_000);
    await until(() => gateway.gateway.status().players === 1, 10_000, "the player");
    const publisher = publish(clip, gateway.rtmpPort);
    await within(15_000, publisher.exited, "the end of the publication");
    await until(() => channel.status().counters.delay_line_waiting === 0, 5000, "the delay line's end");
    const { counters, audio, video, source } = channel.status();
    assert.is(counters.faults, 0, logs.join("\n"));
    assert.is(counters.video_units_out, counters.video_units_in);
    assert.equal(audio, { codec: "AAC", sampleRate: 48_000, channels: 2 });
    assert.equal([video?.width, video?.height], [320, 180]);
    assert.is(source, "stalled");
    await within(15_000, endPlayer(player), "the player's end");
  });

  const [flv, mp4, mkv, ts] = files as [string, string, string, string];
  const source = videoHashes(clip);
  assert.is(source.length, 120);
  for (const file of [flv, mp4, mkv]) assert.equal(videoHashes(file), source, file);
  assert.is(videoHashes(ts).length, source.length, "a transport stream holds another form of the same units");
  // The player was broken off: what it wrote last may be cut.
  const seen = videoHashes(played).slice(0, -1);
  assert.ok(seen.length > 60, `the player got ${seen.length} pictures`);
  assert.equal(seen, source.slice(source.indexOf(seen[0]!)).slice(0, seen.length));

  const shift = packetTimes(flv, "v")[0]! - packetTimes(clip, "v")[0]!;
  assert.equal(
    packetTimes(flv, "v").map((t) => Math.round((t - shift) * 1000)),
    packetTimes(clip, "v").map((t) => Math.round(t * 1000)),
  );
  for (const file of [flv, played])
    assert.ok(worstStepMs(packetTimes(file, "a")) < 1.1, `${file}: sound steps of one AAC frame`);

  const before = median(lipSyncMs(clip));
  for (const file of [...files, played]) {
    const errors = lipSyncMs(file);
    assert.ok(errors.length >= 2, `${file}: ${errors.length} flashes`);
    for (const error of errors) assert.ok(Math.abs(error - before) < 5, `${file}: ${error} ms instead of ${before}`);
  }
});

test("a publisher that comes back: the outputs go on, timestamps too", async () => {
  const clip = flashAndBeep(folder.path, "short.flv", { seconds: 2 });
  const file = join(folder.path, "back.flv");
  await withChannel({ outputs: [`file://${file}`] }, async ({ channel, gateway }) => {
    for (const frames of [60, 120]) {
      const publisher = publish(clip, gateway.rtmpPort);
      await until(() => channel.status().source === "live", 5000, "live");
      await within(10_000, publisher.exited);
      await until(
        () => channel.status().source === "stalled" && channel.status().counters.delay_line_waiting === 0,
        5000,
        "stalled",
      );
      assert.is(channel.status().counters.video_units_out, frames);
    }
    assert.is(channel.status().counters.source_restarts, 1);
    assert.equal(
      channel.status().outputs.map((o) => o.state),
      ["live", "live"],
    );
  });
  const times = packetTimes(file, "a");
  assert.ok(
    times.every((t, i) => i === 0 || t > times[i - 1]!),
    "sound timestamps rise",
  );
  const video = packetTimes(file, "v");
  assert.ok(
    video.every((t, i) => i === 0 || t > video[i - 1]!),
    "picture timestamps rise",
  );
  assert.equal(videoHashes(file), [...videoHashes(clip), ...videoHashes(clip)]);
});

for (const [what, options, reason] of [
  ["no sound", { sound: false }, "SL_NO_AUDIO"],
  ["no picture", { video: false }, "SL_MODEL_INVALID"],
] as const) {
  test(`a feed with ${what} passes what there is`, async () => {
    const clip = flashAndBeep(folder.path, `${what.replace(" ", "-")}.flv`, { ...options, seconds: 2 });
    const file = join(folder.path, `${what.replace(" ", "-")}-out.flv`);
    await withChannel({ outputs: [`file://${file}`] }, async ({ channel, gateway }) => {
      const publisher = publish(clip, gateway.rtmpPort);
      await until(() => channel.status().source === "live", 5000, "live");
      await new Promise((resolve) => setTimeout(resolve, 1000));
      assert.is(channel.status().reason, reason);
      assert.is(channel.status().mode, "bypass");
      const level = (): number => channel.status().levels.inDb;
      if (!("sound" in options)) await until(() => level() > -100, 5000, "a level");
      await within(10_000, publisher.exited);
      const sent = packetTimes(clip, "sound" in options ? "v" : "a").length;
      const out = (): number => channel.status().counters["sound" in options ? "video_units_out" : "sound_frames_out"]!;
      // The filter bank and the encoder keep the last few frames until more comes.
      await until(() => out() >= ("sound" in options ? sent : sent - 4), 5000, "the end of the delay line");
      // The meters do not stand still at the last sound that came.
      await until(() => level() === -120, 5000, "silence");
    });
    if ("sound" in options) assert.equal(videoHashes(file), videoHashes(clip));
    else assert.ok(packetTimes(file, "a").length >= packetTimes(clip, "a").length - 4);
  });
}

test("a file as input is played at its pace, again and again with loop=1", async () => {
  const clip = flashAndBeep(folder.path, "loop.mp4", { seconds: 1 });
  const file = join(folder.path, "looped.flv");
  await withChannel({ input: `file://${clip}?loop=1`, outputs: [`file://${file}`] }, async ({ channel }) => {
    const begun = performance.now();
    await until(() => channel.status().counters.video_units_out! >= 75, 12_000, "two and a half rounds");
    assert.ok(performance.now() - begun > 2000, "not quicker than real time");
    assert.is(channel.status().counters.source_discontinuities, 0);
  });
  const video = packetTimes(file, "v");
  assert.ok(video.every((t, i) => i === 0 || t > video[i - 1]!));
  assert.ok(readdirSync(folder.path).includes("looped.flv"));
});

test.run();
