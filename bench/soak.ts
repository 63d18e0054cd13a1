import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { makeClip } from "./support/clip.js";
import { flashesMs, lipSyncMs } from "./support/flash.js";
import { machine, mean, median, percentile, printTable, type Row, row, sleep } from "./support/numbers.js";
import { Product, shippedModels } from "./support/product.js";
import { publish } from "./support/publisher.js";
import { ResourceSampler, type Usage } from "./support/resources.js";
import { clipFolder, compare } from "./support/session.js";
import { beepsMs } from "./support/sound.js";
import { stepsRow, Taker } from "./support/taker.js";

/**
 * A talking head at 1080p30 with stereo AAC through one channel of the whole product, in real time:
 *
 *     npx tsx bench/soak.ts [--minutes 10] [--profile balanced] [--size 1920x1080] [--bframes 2] [--kbps 4000] [--models FOLDER]
 *
 * One process taps the programme before and after the channel (HTTP-FLV) and compares pictures by hash, so that latency is the
 * difference of two times of one clock. In the last 25 s the strength is set to 0, so that the beeps can be heard for the flash-and-beep
 * measurement; the shift of the sound is measured over the whole run by cross-correlation as well. Exit status 1: a promise was broken.
 */
const { values: args } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    profile: { type: "string", default: "balanced" },
    size: { type: "string", default: "1920x1080" },
    bframes: { type: "string", default: "2" },
    kbps: { type: "string", default: "4000" },
    models: { type: "string" },
  },
});
const seconds = Math.round(Number(args.minutes) * 60);
if (!(seconds >= 40)) throw new RangeError("--minutes: at least 0.7");
/** Left out at the beginning: the quickest arrival, which sets the pace of the delay line, must have come. */
const SETTLE_MS = 5000;
const FLASH_SECONDS = 20;
/** Memory is judged from this run length on: shorter, V8 has not found its size. */
const FLAT_FROM_SECONDS = 300;

const folder = clipFolder();
const clip = makeClip(folder, { size: args.size, bFrames: Number(args.bframes), videoKbps: Number(args.kbps) });
const { models, what } = args.models ? { models: args.models, what: args.models } : await shippedModels(folder);
const product = await Product.start({ models, channels: { soak: { key: "soak-key", profile: args.profile } } });
try {
  await product.ready();
  await product.listen();
  const input = await Taker.open(product.inFlv("soak"));
  const output = await Taker.open(product.outFlv("soak"));
  const pids = await product.pids();
  const resources = new ResourceSampler(() => pids);
  const begun = performance.now();
  const publisher = publish(clip, product.publishUrl("soak-key"), seconds);
  await sleep((seconds - FLASH_SECONDS - 5) * 1000);
  const separated = await product.status("soak");
  await product.set("soak", { strengthPercent: 0 });
  await sleep(5000);
  input.startRecording();
  output.startRecording();
  await sleep((FLASH_SECONDS - 3) * 1000);
  const recordings = { input: input.stopRecording(), output: output.stopRecording() };
  const restarts = (await product.state()).processes.reduce((n, p) => n + p.restarts, 0);
  const end = await product.status("soak");
  resources.stop();
  await publisher.ended;
  await sleep((end?.declaredLatencyMs ?? 0) + 1000);

  const c = await compare(input, output);
  // The clip's own error is measured alike and taken off.
  const own = mean(lipSyncMs(flashesOf(recordings.input), beepsMs(c.input)));
  const byFlash = lipSyncMs(flashesOf(recordings.output), beepsMs(c.output)).map((v) => v - own);

  const late = c.video.pairs.flatMap(({ at, out }) => {
    const arrived = input.pictures[at]!.arrivedMs;
    return arrived - begun < SETTLE_MS ? [] : [output.pictures[out]!.arrivedMs - arrived];
  });
  const statuses = product.statuses.filter((s) => s.status.name === "soak" && s.status.source === "live");
  const settled = statuses.filter((s) => s.atMs - begun > SETTLE_MS);
  const counters = end?.counters ?? {};
  const first = settled[0]?.status.counters ?? {};
  const since = (name: string): number => (counters[name] ?? 0) - (first[name] ?? 0);
  const inTime = since("steps_in_time");
  const missed = since("steps_late") + since("steps_failed") + since("steps_dropped");
  const share = inTime / Math.max(1, inTime + missed);
  const D = end?.declaredLatencyMs ?? Number.NaN;
  const off = (p: number): number => percentile(late, p) - D;
  const memoryFrom = begun + Math.max(20_000, Math.min(120_000, seconds * 200));
  const usage = resources.usage(memoryFrom);
  const all = usage.find((u) => u.name === "all")!;
  const long = seconds >= FLAT_FROM_SECONDS;
  const worst = (values: readonly number[]): number => values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const ms = (v: number): string => `${v.toFixed(1)} ms`;

  const rows: Row[] = [
    row("frames in / out", `${input.pictures.length} / ${output.pictures.length}`),
    row("frames lost", `${c.video.lost}`, "0", c.video.lost === 0 && output.pictures.length > seconds * 25),
    row("frames changed", `${c.video.changed}`, "0 (bitstream equal)", c.video.changed === 0 && c.sameConfig),
    stepsRow(output.sounds),
    row(
      "lip-sync error added, flash and beep",
      `mean ${ms(mean(byFlash))}, worst ${ms(worst(byFlash))} of ${byFlash.length}`,
      "< 5 ms",
      byFlash.length >= 10 && worst(byFlash) < 5,
    ),
    row(
      "lip-sync error added, correlation over the run",
      `median ${ms(median(c.lipSyncMs))}, worst ${ms(worst(c.lipSyncMs))} of ${c.lipSyncMs.length}`,
      "median < 5 ms",
      c.lipSyncMs.length > 0 && Math.abs(median(c.lipSyncMs)) < 5,
    ),
    row("declared latency", ms(D)),
    row(
      "measured latency p1 / p50 / p95 / p99 / max",
      `${[0.01, 0.5, 0.95, 0.99, 1].map((p) => percentile(late, p).toFixed(1)).join(" / ")} ms`,
      "p50 and p95 within 20 ms of declared",
      Math.abs(off(0.5)) <= 20 && Math.abs(off(0.95)) <= 20,
    ),
    row(
      "steps in time",
      `${(100 * share).toFixed(2)} % (${inTime} in time, ${since("steps_late")} late, ${since("steps_dropped")} dropped, ${since("steps_failed")} failed, ${since("steps_joined")} joined)`,
      ">= 99 %",
      share >= 0.99 && inTime > 0,
    ),
    row(
      "time in mode separated",
      `${((100 * settled.filter((s) => s.status.mode === "separated").length) / settled.length).toFixed(2)} % of ${settled.length} reports`,
    ),
    row(
      "level in / out before the end",
      `${separated?.levels.inDb.toFixed(1)} / ${separated?.levels.outDb.toFixed(1)} dBFS`,
    ),
    row("restarts of processes", `${restarts}`, "0", restarts === 0),
    ...usage.map((u) => memoryRow(u, u.name === "all" && long ? isFlat(all) : null)),
    row("cores used, all processes", all.cores.toFixed(2)),
  ];
  console.log(
    `${machine()}; ${seconds} s of ${args.size}, ${args.bframes} B-frames, profile ${args.profile}, model ${what}`,
  );
  process.exitCode = printTable(`Soak, ${(seconds / 60).toFixed(1)} minutes`, rows);
  if (process.exitCode !== 0 && restarts > 0) console.log(product.log.slice(-4000));
  input.close();
  output.close();
} finally {
  await product.stop();
}

function flashesOf(recording: Buffer): number[] {
  const path = join(folder, `soak-${process.pid}.flv`);
  writeFileSync(path, recording);
  try {
    return flashesMs(path);
  } finally {
    rmSync(path, { force: true });
  }
}

function isFlat(u: Usage): boolean {
  return u.lastMb - u.firstMb < 0.05 * u.firstMb;
}

function memoryRow(u: Usage, holds: boolean | null): Row {
  const value = `${u.firstMb.toFixed(0)} -> ${u.lastMb.toFixed(0)} MB, ${u.mbPerMinute.toFixed(2)} MB a minute; ${u.cores.toFixed(2)} cores`;
  return row(`memory and CPU, ${u.name}`, value, holds === null ? "" : "last less than 5 % over first", holds);
}
