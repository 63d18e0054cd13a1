import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FlvFileOutput } from "../../src/channel/output/flv-file-output.js";
import { MuxedOutput } from "../../src/channel/output/muxed-output.js";
import { freePaths, openOutput } from "../../src/channel/output/open.js";
import { FlvUnits } from "../../src/channel/source/flv-units.js";
import { FlvReader, PICTURE } from "../../src/transport/flv/tag.js";
import { readVideo } from "../../src/transport/flv/video.js";
import { fileSink, type MuxTracks } from "../../src/transport/gst/launch.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { clipFolder, flashAndBeep, packetTimes, videoHashes } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { until } from "./support.js";

withThreads();
const test = suite("recordings");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

test("a recording that fails goes on in a new file; what was written stays", async () => {
  const path = join(folder.path, "fails.ts");
  const launch = (tracks: MuxTracks, file: string): string =>
    fileSink(file, "ts", tracks).replace("filesink", "identity error-after=20 ! filesink");
  const states: string[] = [];
  const output = new MuxedOutput(
    "file://test",
    launch,
    { onState: ({ state }) => void states.push(state) },
    { isFile: true, target: freePaths(path) },
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
    // What it holds is on the disk once its pipeline has stopped, a moment after the state has changed.
    const second = join(folder.path, "fails-1.ts");
    await until(() => existsSync(second) && statSync(second).size > 0, 5000, "the second one under its own name");
  } finally {
    clearInterval(timer);
    await output.close();
  }
});

test("a disk that says no gives a path all the same: the writing tells", async () => {
  const file = join(folder.path, "no-folder");
  writeFileSync(file, "x");
  const next = freePaths(join(file, "recording.ts"));
  assert.is(await next(), await next());
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

test("a disk that is too slow is a state, and what it misses is left out up to the next key frame", async () => {
  const states: string[] = [];
  const path = join(folder.path, "slow.flv");
  const output = new FlvFileOutput("file://test", freePaths(path), {
    onState: ({ state, reason }) => void states.push(`${state} ${reason}`),
  });
  await until(() => states.at(-1) === "live null", 5000, "the recording");
  const config = Buffer.from("0142c00affe1", "hex");
  const picture = (n: number): void =>
    output.write({ kind: "video", ptsMs: n, dtsMs: n, key: n % 4 === 0, data: Buffer.alloc(1 << 20, n), config });
  // More in one turn than any disk takes.
  for (let n = 0; n < 24; n++) picture(n);
  assert.is(states.at(-1), "stalled SL_OUTPUT_SLOW");
  const dropped = output.counters.output_units_dropped!;
  assert.ok(dropped >= 4, `${dropped} left out`);
  await until(
    () => {
      picture(24);
      return states.at(-1) === "live null";
    },
    10_000,
    "the disk to catch up",
  );
  await output.close();
});

test("sound that comes while the next name is still asked for does not keep a failed recording from going on", async () => {
  const launch = (tracks: MuxTracks, file: string): string =>
    fileSink(file, "ts", tracks).replace("filesink", "identity error-after=20 ! filesink");
  const states: string[] = [];
  const paths = ["slow-name-1.ts", "slow-name-2.ts"].map((name) => join(folder.path, name));
  let tell: (path: string) => void = () => {};
  const second = new Promise<string>((resolve) => {
    tell = resolve;
  });
  let asked = 0;
  const output = new MuxedOutput(
    "file://test",
    launch,
    { onState: ({ state }) => void states.push(state) },
    { isFile: true, target: () => (asked++ === 0 ? Promise.resolve(paths[0]!) : second) },
  );
  const config = Buffer.from("1190", "hex");
  let n = 0;
  const timer = setInterval(
    () => output.write({ kind: "aac", ptsMs: 1000 + 21.33 * n++, data: Buffer.alloc(200, 0x21), config }),
    5,
  );
  try {
    await until(() => asked === 2, 15_000, "the second name");
    const written = n;
    await until(() => n > written + 40, 5000, "more sound");
    assert.is(states.at(-1), "connecting", "what is refused meanwhile is no fault of the disk");
    tell(paths[1]!);
    await until(() => existsSync(paths[1]!) && statSync(paths[1]!).size > 0, 10_000, "the second file");
  } finally {
    clearInterval(timer);
    await output.close();
  }
});

/** A pipe that is open and that nobody reads: a disk that hangs in the middle of a file. */
const stuckFile = (name: string): { path: string; release: () => void } => {
  const path = join(folder.path, name);
  execFileSync("mkfifo", [path]);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { path, release: () => closeSync(fd) };
};

test("a disk that is stuck takes up no memory: not even key frames wait for it without bound", async () => {
  const states: string[] = [];
  const { path, release } = stuckFile("stuck.flv");
  const output = new FlvFileOutput("file://test", async () => path, {
    onState: ({ state, reason }) => void states.push(`${state} ${reason}`),
  });
  await until(() => states.at(-1) === "live null", 5000, "the recording");
  const config = Buffer.from("0142c00affe1", "hex");
  const data = Buffer.alloc(1 << 20, 1);
  for (let n = 0; n < 200; n++) output.write({ kind: "video", ptsMs: n, dtsMs: n, key: true, data, config });
  const dropped = output.counters.output_units_dropped!;
  const aac = {
    kind: "aac",
    ptsMs: 60_000,
    data: Buffer.alloc(200, 0x21),
    config: Buffer.from("1190", "hex"),
  } as const;
  output.write(aac);
  release();
  await output.close();
  assert.is(states[1], "stalled SL_OUTPUT_SLOW");
  assert.ok(dropped >= 200 - 17, `only ${dropped} of 200 MB were left out`);
  assert.is(output.counters.output_units_dropped, dropped + 1, "sound alone neither");
});

const BROADCAST = { units: 1, bytes: 200 };
/** More than the queues in the pipeline hold, soon. */
const FLOOD = { units: 8, bytes: 32 * 1024 };

/** Writes a recording to a disk that takes nothing: `amount()` of sound every 5 ms. */
async function recordToStuckDisk(
  name: string,
  amount: (states: readonly string[]) => typeof FLOOD,
  watch: (states: readonly string[], path: string) => Promise<void>,
): Promise<void> {
  const states: string[] = [];
  const { path, release } = stuckFile(name);
  const output = new MuxedOutput(
    "file://test",
    (tracks, file) => fileSink(file, "ts", tracks),
    { onState: ({ state, reason }) => void states.push(`${state} ${reason}`) },
    { isFile: true, target: async () => path, knowsGaps: true },
  );
  const config = Buffer.from("1190", "hex");
  let n = 0;
  const timer = setInterval(() => {
    const { units, bytes } = amount(states);
    const data = Buffer.alloc(bytes, 0x21);
    for (let i = 0; i < units; i++) output.write({ kind: "aac", ptsMs: 1000 + 21.33 * n++, data, config });
  }, 5);
  try {
    await watch(states, path);
  } finally {
    clearInterval(timer);
    // Without a reader, what waits fails at once, and nothing hangs.
    release();
    await output.close();
  }
}

test("a muxed recording says stalled while its disk takes nothing, and live when it takes again", async () => {
  let reader: ChildProcess | null = null;
  const amount = (states: readonly string[]) => (states.includes("live null") ? FLOOD : BROADCAST);
  await recordToStuckDisk("stuck.ts", amount, async (states, path) => {
    await until(() => states.includes("live null"), 10_000, "the recording");
    await until(() => states.at(-1) === "stalled SL_OUTPUT_SLOW", 10_000, "the stop");
    reader = spawn("cat", [path], { stdio: "ignore" });
    const before = states.length;
    await until(() => states.slice(before).includes("live null"), 10_000, "the disk to go on");
  }).finally(() => reader?.kill("SIGKILL"));
});

test("a disk that takes nothing from the beginning is stalled too, not for ever connecting", async () => {
  await recordToStuckDisk(
    "never.ts",
    () => FLOOD,
    async (states) => {
      await until(() => states.at(-1) === "stalled SL_OUTPUT_SLOW", 10_000, "the stop");
    },
  );
});

test("a disk that does not answer when it is asked for a path holds up nothing, and nothing else", async () => {
  const never = (): Promise<string> => new Promise(() => {});
  const path = join(folder.path, "beside.flv");
  const events = { onState: () => {} };
  const hung = [
    new FlvFileOutput("file://hung.flv", never, events),
    new MuxedOutput("file://hung.ts", (tracks, file) => fileSink(file, "ts", tracks), events, {
      isFile: true,
      target: never,
    }),
  ];
  const beside = new FlvFileOutput("file://beside", freePaths(path), events);
  const config = Buffer.from("1190", "hex");
  let slowestMs = 0;
  // Longer than a muxer looks for its tracks.
  for (let n = 0; n < 180; n++) {
    const begun = performance.now();
    for (const output of [...hung, beside])
      output.write({ kind: "aac", ptsMs: 1000 + 21.33 * n, data: Buffer.alloc(200, 0x21), config });
    slowestMs = Math.max(slowestMs, performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(
    hung.map((output) => output.status.state),
    ["connecting", "connecting"],
  );
  assert.is(beside.status.state, "live");
  assert.ok(slowestMs < 200, `${slowestMs} ms for one unit`);
  await Promise.all([...hung, beside].map((output) => output.close()));
  assert.ok(statSync(path).size > 20_000, `${statSync(path).size} bytes`);
});

test("a path that does not come in time is a failure that says so", async () => {
  // After this the timers come first: the disk's answer cannot be taken in before the time is over.
  await new Promise((resolve) => setImmediate(resolve));
  const answer = freePaths("/nowhere/talk.flv", 1)().catch((error: Error) => error.message);
  const begun = performance.now();
  while (performance.now() - begun < 50);
  assert.match(await answer, "did not answer");
});

test("a camera that comes after the sound gets into the recording: it goes on in a new file with both", async () => {
  const clip = flashAndBeep(folder.path, "late.flv", { seconds: 3 });
  const path = join(folder.path, "late-camera.mkv");
  const output = new MuxedOutput(
    "file://test",
    (tracks, file) => fileSink(file, "mkv", tracks),
    { onState: () => {} },
    { isFile: true, target: freePaths(path) },
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

test.run();
