import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { FlvError, FlvReader, type FlvTag, flvHeader, flvTag } from "../src/transport/flv/tag.js";
import { type Clip, clipTags, makeClip } from "./support/clip.js";
import { machine, printTable, type Row, row, sleep, until } from "./support/numbers.js";
import { startObs } from "./support/obs.js";
import { noiseModels, Product } from "./support/product.js";
import { type Publisher, publish, startProgram } from "./support/publisher.js";
import { clipFolder } from "./support/session.js";
import { compareVideo, hashOf, oddSteps, Taker } from "./support/taker.js";

/**
 * RTMP peers through the whole product: each publisher's programme is compared before and after a channel, each player must get pictures
 * that went in. Publishers: ffmpeg, GStreamer's rtmp2sink, Debian's obs-studio under Xvfb (packages obs-studio and xvfb).
 * Players: ffmpeg, GStreamer's rtmp2src and rtmpsrc (librtmp).
 *
 *     npx tsx bench/peers.ts [ffmpeg|gstreamer|obs|players ...] [--seconds 20] [--obs-seconds 60]
 */
const { values: args, positionals } = parseArgs({
  options: { seconds: { type: "string", default: "20" }, "obs-seconds": { type: "string", default: "60" } },
  allowPositionals: true,
});
const seconds = Number(args.seconds);
const folder = clipFolder();
const models = await noiseModels(folder, "tiny");
const clip = makeClip(folder, { size: "1280x720", bFrames: 2 });
const work = mkdtempSync(join(tmpdir(), "sightline-peers-"));

/** A product with one channel, both taps waiting. */
async function withProduct(body: (product: Product, input: Taker, output: Taker) => Promise<Row[]>): Promise<Row[]> {
  const product = await Product.start({ models, channels: { peer: { key: "peer-key" } } });
  try {
    await product.ready();
    await product.listen();
    const input = await Taker.open(product.inFlv("peer"));
    const output = await Taker.open(product.outFlv("peer"));
    try {
      return await body(product, input, output);
    } finally {
      input.close();
      output.close();
    }
  } finally {
    await product.stop();
  }
}

/** Lets a publisher work for a time and compares what went in with what came out. */
function publisherRows(name: string, start: (url: string) => Promise<Publisher>, forSeconds: number): Promise<Row[]> {
  return withProduct(async (product, input, output) => {
    const publisher = await start(product.publishUrl("peer-key"));
    try {
      await until(`${name} to publish`, () => input.pictures.length > 0, 40_000).catch(() => {});
      await sleep(forSeconds * 1000);
    } finally {
      await publisher.stop();
    }
    const gone = await until("the end", () => product.statuses.at(-1)?.status.source === "stalled", 8000).catch(
      () => false,
    );
    await sleep(1500);
    const c = compareVideo(input.pictures, output.pictures);
    const { video, audio } = product.statuses.findLast((s) => s.status.source === "live")?.status ?? {};
    const odd = [oddSteps(input.sounds).length, oddSteps(output.sounds).length];
    const ok = c.lost + c.changed === 0 && c.compared > 20 * forSeconds && odd[1] === 0 && gone !== false;
    const what = video && audio ? `${video.width}x${video.height} at ${video.fps}, ${audio.sampleRate} Hz` : "nothing";
    return [
      row(
        `${name} publishes (${what})`,
        `${input.pictures.length} pictures in, ${output.pictures.length} out, ${c.lost} lost, ${c.changed} changed; odd AAC steps in/out ${odd.join("/")}`,
        "none lost or changed, sound continuous, end seen",
        ok,
      ),
      ...(ok
        ? []
        : [
            row(
              `what ${name} said`,
              publisher
                .said()
                .slice(-600)
                .replaceAll(/\s*\n\s*/g, " / "),
            ),
          ]),
    ];
  });
}

function ffmpegPublisher(): Promise<Row[]> {
  return publisherRows("ffmpeg", async (url) => publish(clip, url, seconds + 5), seconds);
}

function* bytes(of: Clip, forSeconds: number): Generator<Buffer> {
  yield flvHeader();
  for (const tag of clipTags(of, forSeconds)) yield flvTag(tag);
}

function gstreamerPublisher(): Promise<Row[]> {
  return publisherRows(
    "rtmp2sink",
    async (url) =>
      startProgram(
        "gst-launch-1.0",
        [
          "-q",
          ..."fdsrc fd=0 ! flvdemux name=d d.video ! queue ! h264parse ! identity sync=true ! mux.video".split(" "),
          ..."d.audio ! queue ! aacparse ! mux.audio flvmux name=mux streamable=true !".split(" "),
          ...`rtmp2sink location=${url} sync=false`.split(" "),
        ],
        { input: bytes(clip, seconds + 10) },
      ),
    seconds,
  );
}

function obsPublisher(): Promise<Row[]> {
  return publisherRows(
    "obs-studio",
    (url) => startObs(url.replace(/\/[^/]*$/, ""), "peer-key"),
    Number(args["obs-seconds"]),
  );
}

/** All players of RTMP at the same time, on one programme. */
function players(): Promise<Row[]> {
  return withProduct(async (product, input) => {
    const url = product.outRtmp("peer");
    const file = (name: string): string => join(work, `${name}.flv`);
    const gst = (element: string): Publisher =>
      startProgram("gst-launch-1.0", [
        "-q",
        ...element.split(" "),
        "!",
        "filesink",
        "buffer-mode=unbuffered",
        `location=${file(element.split(" ")[0]!)}`,
      ]);
    // A quoted location with a blank: librtmp takes options behind the address.
    const rtmpsrc = startProgram("gst-launch-1.0", [
      ...["-q", "rtmpsrc", `location=${url} live=1`, "!", "filesink", "buffer-mode=unbuffered"],
      `location=${file("rtmpsrc")}`,
    ]);
    const ffmpeg = startProgram("ffmpeg", ["-v", "error", "-y", "-i", url, "-c", "copy", "-f", "flv", file("ffmpeg")]);
    const all = [ffmpeg, gst(`rtmp2src location=${url}`), rtmpsrc];
    const publisher = publish(clip, product.publishUrl("peer-key"), seconds);
    await publisher.ended;
    await sleep(2500);
    for (const player of all) player.process.kill("SIGINT");
    await Promise.race([Promise.all(all.map((p) => p.ended)), sleep(4000)]);
    for (const player of all) await player.stop();
    const known = new Set(input.pictures.map((p) => p.hash));
    return ["ffmpeg", "rtmp2src", "rtmpsrc"].map((name) => {
      const got = tagsOf(file(name)).flatMap((tag) => hashOf(tag) ?? []);
      const strange = got.filter((hash) => !known.has(hash)).length;
      return row(
        `${name} plays`,
        `${got.length} pictures of ${input.pictures.length}, ${strange} not as published`,
        "over 80 % of them (players hold back the end), all as published",
        strange === 0 && got.length > 0.8 * input.pictures.length,
      );
    });
  });
}

/** The tags of a recording that may be cut off. */
function tagsOf(path: string): FlvTag[] {
  const reader = new FlvReader();
  const tags: FlvTag[] = [];
  try {
    const data = readFileSync(path);
    for (let at = 0; at < data.length; at += 65_536) tags.push(...reader.push(data.subarray(at, at + 65_536)));
  } catch (error) {
    // A file that was not written, or whose end is broken: what there is counts.
    if (!(error instanceof FlvError) && (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return tags;
}

function has(program: string): boolean {
  try {
    execFileSync("which", [program], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const scenes: Record<string, () => Promise<Row[]>> = {
  ffmpeg: ffmpegPublisher,
  gstreamer: gstreamerPublisher,
  obs: obsPublisher,
  players,
};
const rows: Row[] = [];
try {
  for (const [name, scene] of Object.entries(scenes)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    if (name === "obs" && !(has("obs") && has("Xvfb"))) {
      rows.push(row("obs-studio", "not installed: apt-get install --no-install-recommends obs-studio xvfb"));
      continue;
    }
    rows.push(...(await scene()));
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(machine());
process.exitCode = printTable("RTMP peers through the whole product", rows);
