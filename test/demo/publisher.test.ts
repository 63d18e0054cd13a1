import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ClipError, loopClip, readClip } from "../../src/demo/clip.js";
import { RoundPosition, startDemoPublisher } from "../../src/demo/publisher.js";
import { PublishError, parseRtmpUrl, RtmpPublication } from "../../src/demo/rtmp-client.js";
import { type FlvTag, PICTURE, SOUND } from "../../src/transport/flv/tag.js";
import { RtmpSession } from "../../src/transport/rtmp/session.js";
import { ffmpeg, ffprobePackets, freePort } from "./media.js";

const test = suite("demo publisher");
const folder = mkdtempSync(join(tmpdir(), "sightline-demo-"));
const shortClip = join(folder, "short.flv");

test.before(async () => {
  await ffmpeg(["-i", "demo/talk.flv", "-t", "2", "-c", "copy", "-f", "flv", shortClip]);
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** A server on an ephemeral port that hands each published tag to `onTag`; refuses keys other than `good`. */
async function rtmpServer(
  onTag: (tag: FlvTag) => void,
): Promise<{ port: number; sockets: Set<Socket>; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    const session = new RtmpSession((n) => Buffer.alloc(n, 7));
    socket.on("data", (data) => {
      for (const event of session.push(data)) {
        if (event.type === "send") for (const piece of event.data) socket.write(piece);
        if (event.type === "media") onTag(event.tag);
        if (event.type !== "publish") continue;
        const answer =
          event.name === "good"
            ? session.acceptPublish(event.streamId)
            : session.refusePublish(event.streamId, "SL_KEY_WRONG");
        for (const piece of answer) socket.write(piece);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    sockets,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function until(condition: () => boolean, limitMs = 20_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error("the condition did not come true in time");
    await sleep(20);
  }
}

test("ffmpeg as the server reads every picture of two rounds, bit by bit, with times that go on", async () => {
  const port = await freePort();
  const recording = join(folder, "recording.flv");
  const server = spawn(
    "ffmpeg",
    [
      "-v",
      "error",
      "-y",
      "-listen",
      "1",
      "-i",
      `rtmp://127.0.0.1:${port}/live/good`,
      "-t",
      "5",
      "-c",
      "copy",
      "-f",
      "flv",
      recording,
    ],
    { stdio: "ignore", timeout: 40_000, killSignal: "SIGKILL" },
  );
  const ended = new Promise((resolve) => server.on("close", resolve));
  const publisher = await startDemoPublisher({ rtmpUrl: `rtmp://127.0.0.1:${port}/live/good`, clip: shortClip });
  await ended;
  await publisher.stop();

  const source = await ffprobePackets(shortClip, "v");
  const { roundMs } = await readClip(shortClip);
  const got = await ffprobePackets(recording, "v");
  assert.ok(got.length >= 2 * source.length, `${got.length} pictures`);
  got.forEach((packet, i) => {
    assert.is(packet.hash, source[i % source.length]!.hash, `picture ${i}`);
    const expected = source[i % source.length]!.ptsMs - source[0]!.ptsMs + Math.floor(i / source.length) * roundMs;
    assert.ok(Math.abs(packet.ptsMs - got[0]!.ptsMs - expected) <= 2, `picture ${i} at ${packet.ptsMs}`);
  });
});

test("comes back by itself when the server drops it, from the first key frame on", async () => {
  const tags: FlvTag[] = [];
  const server = await rtmpServer((tag) => tags.push(tag));
  const states: string[] = [];
  const publisher = await startDemoPublisher({
    rtmpUrl: `rtmp://127.0.0.1:${server.port}/live/good`,
    clip: shortClip,
    onState: (state) => states.push(state),
  });
  try {
    await until(() => tags.filter((tag) => tag.type === PICTURE).length > 20);
    for (const socket of server.sockets) socket.destroy();
    tags.length = 0;
    await until(() => tags.filter((tag) => tag.type === PICTURE).length > 2);
    const pictures = tags.filter((tag) => tag.type === PICTURE);
    assert.is(pictures[0]!.body[1], 0, "sequence header first");
    assert.is(pictures[1]!.body[0]! >> 4, 1, "then a key frame");
    assert.equal(states.slice(0, 3), ["publishing", "waiting", "publishing"]);
  } finally {
    await publisher.stop();
    await server.close();
  }
});

test("a refusal is an error that repeats what the server said", async () => {
  const server = await rtmpServer(() => {});
  try {
    const error = await RtmpPublication.start(`rtmp://127.0.0.1:${server.port}/live/bad`).then(
      () => null,
      (reason: unknown) => reason,
    );
    assert.instance(error, PublishError);
    assert.match((error as PublishError).message, /SL_KEY_WRONG/);
  } finally {
    await server.close();
  }
});

test("stop ends a publisher that nobody answers", async () => {
  const server = createServer((socket) => socket.on("error", () => {}).resume()); // accepts and says nothing
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const publisher = await startDemoPublisher({ rtmpUrl: `rtmp://127.0.0.1:${port}/live/x`, clip: shortClip });
  await sleep(100);
  await publisher.stop();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

test("the publisher process ends with the parent that forked it", async () => {
  const tags: FlvTag[] = [];
  const server = await rtmpServer((tag) => tags.push(tag));
  const main = process.argv[1]!.endsWith(".ts") ? "src/demo/main.ts" : "dist/src/demo/main.js";
  const child = spawn(process.execPath, [...process.execArgv, main, "--clip", shortClip], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    env: { ...process.env, SIGHTLINE_DEMO_URL: `rtmp://127.0.0.1:${server.port}/live/good` },
    timeout: 30_000,
    killSignal: "SIGKILL",
  });
  const ended = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)));
  try {
    await until(() => tags.length > 5);
    child.disconnect();
    assert.is(await ended, 0);
  } finally {
    child.kill("SIGKILL");
    await server.close();
  }
});

test("addresses without host, app or key are refused and not repeated", () => {
  for (const text of [
    "",
    "http://a/b/c",
    "rtmp://host",
    "rtmp://host/live",
    "rtmp://host:999999/live/secret",
    "rtmp:///live/secret",
  ]) {
    try {
      parseRtmpUrl(text);
      assert.unreachable(text);
    } catch (error) {
      assert.instance(error, PublishError);
      assert.not.match((error as Error).message, "secret");
    }
  }
  assert.equal(parseRtmpUrl("rtmp://[::1]/live/a/b?c=d"), {
    host: "::1",
    port: 1935,
    app: "live",
    name: "a/b?c=d",
    tcUrl: "rtmp://[::1]:1935/live",
  });
});

test("however the clock is read, each tag comes once, in order, never early, with times that never step back", async () => {
  const clip = await readClip(shortClip);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1900 }), { minLength: 1, maxLength: 40 }), (steps) => {
      const position = new RoundPosition(clip, 1000);
      let now = 1000;
      let count = 0;
      let last = -1;
      for (const step of steps) {
        now += step;
        for (const tag of position.due(now)) {
          const source = clip.round[count % clip.round.length]!;
          if (tag.body !== source.body || tag.timestampMs < last || tag.timestampMs > now - 1000) return false;
          if (tag.timestampMs !== source.timestampMs + Math.floor(count / clip.round.length) * clip.roundMs)
            return false;
          last = tag.timestampMs;
          count++;
        }
      }
      // The next one is not due yet.
      const next =
        clip.round[count % clip.round.length]!.timestampMs + Math.floor(count / clip.round.length) * clip.roundMs;
      return next > now - 1000;
    }),
    { seed: 8, numRuns: 200 },
  );
});

test("after a long stop nothing is sent in a burst and times go on where they were", async () => {
  const clip = await readClip(shortClip);
  const position = new RoundPosition(clip, 0);
  const last = position.due(500).at(-1)!;
  const after = position.due(3_600_000);
  assert.ok(after.length <= 2, `${after.length} tags at once`);
  assert.ok(after[0]!.timestampMs - last.timestampMs < 100);
});

test("a file that cannot be looped is refused", () => {
  const tag = (type: FlvTag["type"], timestampMs: number, ...body: number[]): FlvTag => ({
    type,
    timestampMs,
    body: Buffer.from(body),
  });
  assert.throws(
    () => loopClip([]),
    (e: unknown) => e instanceof ClipError,
  );
  const interOnly = [
    tag(PICTURE, 0, 0x27, 1),
    tag(PICTURE, 33, 0x27, 1),
    tag(SOUND, 0, 0xaf, 1),
    tag(SOUND, 21, 0xaf, 1),
  ];
  assert.throws(
    () => loopClip(interOnly),
    (e: unknown) => e instanceof ClipError,
  );
  const silent = [tag(PICTURE, 0, 0x17, 1), tag(PICTURE, 33, 0x27, 1)];
  assert.throws(
    () => loopClip(silent),
    (e: unknown) => e instanceof ClipError,
  );
});

test.run();
