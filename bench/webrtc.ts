import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LossyRelay } from "../test/webrtc/lossy-relay.js";
import { connectedPublisher, udpSocket, WhepClient } from "../test/webrtc/support.js";
import { flashesMs, lipSyncMs } from "./support/flash.js";
import { machine, median, printTable, type Row, row, sleep, until } from "./support/numbers.js";
import { Product, shippedModels } from "./support/product.js";
import { startProgram } from "./support/publisher.js";
import { ResourceSampler } from "./support/resources.js";
import { SendTimes } from "./support/send-times.js";
import { clipFolder } from "./support/session.js";
import { beepsMs, decodeClip, decodeSounds } from "./support/sound.js";
import { stepsRow, Taker } from "./support/taker.js";
import { webRtcTalk } from "./support/webrtc-clip.js";

/**
 * An H.264 + Opus WHIP publisher (werift, fed by ffmpeg) on a bad line, a channel of the whole product, and viewers:
 *
 *     npx tsx bench/webrtc.ts [--minutes 5] [--loss 2] [--jitter 50] [--viewers 0] [--profile low]
 *
 * The line loses so many percent of the datagrams each way and holds each one up by 0 to so many milliseconds (they overtake each
 * other), once the connection stands. The strength is 0, so that the beeps can be heard: the network runs and its gains come out as 1.
 * Exit status 1: a promise was broken.
 */
const { values: args } = parseArgs({
  options: {
    minutes: { type: "string", default: "5" },
    loss: { type: "string", default: "2" },
    jitter: { type: "string", default: "50" },
    viewers: { type: "string", default: "0" },
    profile: { type: "string", default: "low" },
  },
});
const seconds = Math.round(Number(args.minutes) * 60);
if (!(seconds >= 30)) throw new RangeError("--minutes: at least 0.5");
const MINUTE_MS = Math.min(60_000, (seconds * 1000) / 3);
const SETTLE_MS = 5000;

const folder = clipFolder();
const clip = webRtcTalk(folder, seconds);
const { models, what } = await shippedModels(folder);
const product = await Product.start({
  models,
  channels: { main: { key: "k", profile: args.profile, strengthPercent: 0 } },
});
const relay = await LossyRelay.open({ loss: Number(args.loss) / 100, jitterMs: Number(args.jitter), seed: 1 });
try {
  await product.ready();
  await product.listen();
  const base = `http://127.0.0.1:${product.ports.media}`;
  const output = Taker.openForEver(product.outFlv("main"));
  output.startRecording();
  const viewers = Array.from({ length: Number(args.viewers) }, () => new WhepClient({ data: true }));
  const publisher = await connectedPublisher(`${base}/whip/k`, relay);
  for (const viewer of viewers) await viewer.view(`${base}/whep/main`);
  await until("the viewers' connections", () => viewers.every((v) => v.connected), 60_000);
  const pids = await product.pids();
  const resources = new ResourceSampler(() => pids);
  const sent = new SendTimes();
  const inputs = await Promise.all(
    (["picture", "sound"] as const).map((kind) =>
      udpSocket((packet) => {
        sent.note(kind, packet);
        publisher.send(kind, packet);
      }),
    ),
  );
  relay.bad = true;
  const begun = performance.now();
  // GStreamer sends by the clock; ffmpeg -re is up to some 10 ms late, pictures otherwise than sound.
  const program = startProgram("gst-launch-1.0", [
    ...["-q", "filesrc", `location=${clip}`, "!", "qtdemux", "name=d"],
    ...["d.video_0", "!", "queue", "!", "h264parse", "config-interval=-1", "!", "rtph264pay", "mtu=1200"],
    ...["!", "udpsink", "host=127.0.0.1", `port=${inputs[0]!.port}`],
    ...["d.audio_0", "!", "queue", "!", "rtpopuspay"],
    ...["!", "udpsink", "host=127.0.0.1", `port=${inputs[1]!.port}`],
  ]);
  await program.ended;
  resources.stop();
  const end = await product.state();
  const status = await product.status("main");
  await sleep((status?.declaredLatencyMs ?? 0) + 500);
  const recording = output.stopRecording();
  output.close();

  const gate = end.gateway.counters;
  const pcm = await decodeSounds(output.sounds, output.aacConfigs[0]!);
  const flashes = flashesOf(recording);
  const beeps = beepsMs(pcm);
  const sync = flashes.map((flash) => ({ atMs: flash, errorMs: lipSyncMs([flash], beeps)[0] }));
  const [firstPts, lastPts] = [output.pictures[0]!.ptsMs, output.pictures.at(-1)!.ptsMs];
  const early = (ptsMs: number): boolean => ptsMs > firstPts + SETTLE_MS && ptsMs < firstPts + SETTLE_MS + MINUTE_MS;
  const late = (ptsMs: number): boolean => ptsMs > lastPts - MINUTE_MS;
  const errors = (part: (ms: number) => boolean): number[] =>
    sync.flatMap((s) => (part(s.atMs) && s.errorMs !== undefined ? [s.errorMs] : []));
  const behind = (part: (ms: number) => boolean): number =>
    median(output.pictures.filter((p) => part(p.ptsMs)).map((p) => p.arrivedMs - p.ptsMs));
  const all = sync.flatMap((s) => (s.errorMs === undefined ? [] : [s.errorMs]));
  const gaps = output.pictures.slice(1).map((p, i) => p.ptsMs - output.pictures[i]!.ptsMs);
  const counters = status?.counters ?? {};
  const missed = ["steps_late", "steps_failed", "steps_dropped"].reduce((n, name) => n + (counters[name] ?? 0), 0);
  const inTime = counters.steps_in_time ?? 0;
  const pictures = seconds * 30;
  const used = resources.usage(begun + SETTLE_MS);
  const cores = (name: string): string => (used.find((u) => u.name === name)?.cores ?? Number.NaN).toFixed(2);
  const ms = (v: number): string => `${v.toFixed(1)} ms`;
  const clipError = median(lipSyncMs(flashesMs(clip), beepsMs(await decodeClip(clip))));
  const sender = sent.soundLateMs(clip);
  const worst = all.reduce((m, v) => Math.max(m, Math.abs(v)), 0);

  const rows: Row[] = [
    row("datagrams that the line passed / lost", `${relay.counters.passed} / ${relay.counters.lost}`),
    row(
      "gateway: RTP packets / asked for again / came then / lost / late / pictures dropped / clock jumps",
      ["packets", "nacks", "packets_recovered", "packets_lost", "packets_late", "units_dropped", "clock_jumps"]
        .map((name) => gate[`whip_${name}_total`] ?? 0)
        .join(" / "),
    ),
    row(
      "pictures sent / out",
      `${pictures} / ${output.pictures.length}`,
      ">= 97 %",
      output.pictures.length >= 0.97 * pictures && output.pictures.length <= pictures,
    ),
    row("longest time without a picture, by timestamps", ms(Math.max(...gaps)), "< 1.5 s", Math.max(...gaps) < 1500),
    stepsRow(output.sounds),
    row(
      "lip-sync error end to end, flash and beep",
      `median ${ms(median(all))}, worst ${ms(worst)} of ${all.length}`,
      "worst < 40 ms",
      all.length > 0.8 * seconds && worst < 40,
    ),
    row("of it, in the clip itself / by the sender's times of sending", `${ms(clipError)} / ${ms(sender)}`),
    row(
      "lip-sync error added by us (median)",
      ms(median(all) - clipError - sender),
      "within 5 ms",
      Math.abs(median(all) - clipError - sender) < 5,
    ),
    row(
      "its median in the first / last minute",
      `${ms(median(errors(early)))} / ${ms(median(errors(late)))}`,
      "differ by < 5 ms",
      Math.abs(median(errors(early)) - median(errors(late))) < 5,
    ),
    row(
      "latency, last minute minus first",
      ms(behind(late) - behind(early)),
      "within 20 ms",
      Math.abs(behind(late) - behind(early)) < 20,
    ),
    row(
      "steps in time",
      `${((100 * inTime) / Math.max(1, inTime + missed)).toFixed(2)} % of ${inTime + missed}`,
      ">= 99 %",
      inTime > 0 && missed <= 0.01 * (inTime + missed),
    ),
    row("publisher connected at the end", publisher.connected ? "yes" : "no", "yes", publisher.connected),
    ...(viewers.length === 0 ? [] : viewerRows(viewers, output)),
    row(
      "cores used: gateway / channel / inference / all",
      ["gateway", "channel:main", "inference", "all"].map(cores).join(" / "),
    ),
  ];
  console.log(`${machine()}; ${seconds} s of 640x360, profile ${args.profile}, model ${what}`);
  const line = `${args.loss} % loss, ${args.jitter} ms jitter, ${viewers.length} viewers`;
  process.exitCode = printTable(`WebRTC, ${(seconds / 60).toFixed(1)} minutes, ${line}`, rows);
  for (const viewer of viewers) await viewer.close();
  await publisher.close();
  for (const { socket } of inputs) socket.close();
} finally {
  relay.close();
  await product.stop();
}

/** What each viewer got, against the player over HTTP-FLV. */
function viewerRows(viewers: readonly WhepClient[], output: Taker): Row[] {
  const pictures = viewers.map((v) => v.units.length);
  const sounds = viewers.map((v) => v.sounds.length);
  // 20 ms an Opus packet.
  const wanted = ((output.sounds.at(-1)!.ptsMs - output.sounds[0]!.ptsMs) / 20) * 0.97;
  const notes = viewers.map((v) => v.notes.length);
  return [
    row(
      "pictures at the viewers, least / most",
      `${Math.min(...pictures)} / ${Math.max(...pictures)}`,
      ">= 97 % of the player's",
      Math.min(...pictures) >= 0.97 * output.pictures.length,
    ),
    row(
      "sounds at the viewers, least / most",
      `${Math.min(...sounds)} / ${Math.max(...sounds)}`,
      ">= 97 %",
      Math.min(...sounds) >= wanted,
    ),
    row(
      "highlights at the viewers, least / most",
      `${Math.min(...notes)} / ${Math.max(...notes)}`,
      "> 0",
      Math.min(...notes) > 0,
    ),
  ];
}

function flashesOf(recording: Buffer): number[] {
  const path = join(folder, `webrtc-${process.pid}.flv`);
  writeFileSync(path, recording);
  try {
    return flashesMs(path);
  } finally {
    rmSync(path, { force: true });
  }
}
