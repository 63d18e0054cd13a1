import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { Separation } from "../../src/channel/separation.js";
import { StatusReport } from "../../src/channel/status-report.js";
import { channelConfig } from "../../src/config/schema.js";
import type { Face } from "../../src/pipeline/types.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import type { ChannelStatus } from "../../src/transport/ipc/messages.js";
import { clipFolder, flashAndBeep } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { start } from "./started.js";
import { openGateway, until } from "./support.js";

withThreads();
const test = suite("channel status reports");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

const NO_STATUS = {} as ChannelStatus;
const HOUR_MS = 3_600_000;

test("a change is told without waiting for the steady pace; many changes at once are one report", async () => {
  const sent: number[] = [];
  const report = new StatusReport({
    status: () => NO_STATUS,
    send: () => void sent.push(performance.now()),
    everyMs: HOUR_MS,
  });
  report.changed();
  report.start();
  try {
    assert.is(sent.length, 0);
    for (let i = 0; i < 100; i++) report.changed();
    await until(() => sent.length > 0, 5000, "a report");
    for (let i = 0; i < 100; i++) report.changed();
    await until(() => sent.length > 1, 5000, "the next report");
    assert.is(sent.length, 2);
    // A timer of 50 ms may be a fraction of one early by this clock.
    assert.ok(sent[1]! - sent[0]! > 48, `${sent[1]! - sent[0]!} ms`);
  } finally {
    report.stop();
  }
  report.changed();
  await new Promise((resolve) => setTimeout(resolve, 80));
  assert.is(sent.length, 2, "nothing after the end");
});

test("without changes it goes on at its pace", async () => {
  let sent = 0;
  const report = new StatusReport({ status: () => NO_STATUS, send: () => void sent++, everyMs: 20, leastMs: 10 });
  report.start();
  try {
    await until(() => sent >= 3, 5000, "three reports");
  } finally {
    report.stop();
  }
});

test("a channel tells each change of its source and reason once", async () => {
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const config = channelConfig.parse({ profile: "low", input: "file:///nowhere/at/all.mp4" });
  const told: string[] = [];
  const channel: Channel = new Channel({
    name: "main",
    config,
    gateway: link,
    inference: null,
    log: () => {},
    onChange: () => {
      const { source, reason } = channel.status();
      told.push(`${source} ${reason}`);
    },
  });
  channel.start();
  link.open();
  try {
    await until(() => told.includes("back-off SL_SOURCE_FAILED"), 10_000, "the failure");
    for (let i = 1; i < told.length; i++) assert.is.not(told[i], told[i - 1]);
  } finally {
    await channel.close();
    link.close();
    await gateway.close();
  }
});

test("faces are those of a step, and without sound there are no steps: none are told", async () => {
  const face: Face = { id: 1, box: { x: 0.4, y: 0.4, width: 0.2, height: 0.2 }, score: 0.9, speaking: 0.5 };
  const newest = Object.getOwnPropertyDescriptor(Separation.prototype, "faces")!;
  // As if the last step before the sound was lost had seen somebody.
  Object.defineProperty(Separation.prototype, "faces", { ...newest, get: () => ({ faces: [face], ptsMs: 0 }) });
  try {
    for (const [name, sound, faces] of [
      ["heard.flv", true, [face]],
      ["unheard.flv", false, []],
    ] as const) {
      const started = await start(`file://${flashAndBeep(folder.path, name, { sound, seconds: 3 })}`, []);
      const count = (of: string): number => started.channel.status().counters[of]!;
      await until(() => count("video_units_in") > 0 && (!sound || count("sound_units_in") > 0), 10_000, "the feed");
      const { faces: shown, facesAgeMs } = started.channel.status();
      await started.close();
      assert.equal(shown, faces, name);
      // The first picture came not long ago.
      assert.ok(facesAgeMs >= 0 && facesAgeMs < 10_000 && (sound || facesAgeMs === 0), `${name}: ${facesAgeMs} ms`);
    }
  } finally {
    Object.defineProperty(Separation.prototype, "faces", newest);
  }
});

test.run();
