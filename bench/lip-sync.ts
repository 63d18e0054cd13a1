import { execFileSync } from "node:child_process";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { difference32 } from "../src/transport/webrtc/sequence.js";
import { DEVICE_FLAGS, launchChromium, WEBRTC_FLAGS } from "../test/browser/chromium.js";
import { type Flash, lipSync, type Times } from "../test/webrtc/lip-sync.js";
import { type Report, WhepClient } from "../test/webrtc/support.js";
import { DEMO_CLIP } from "./support/clip.js";
import { machine, median, percentile, printTable, type Row, row, sleep, until } from "./support/numbers.js";
import { Product, shippedModels } from "./support/product.js";
import { clipFolder } from "./support/session.js";

/**
 * What Sightline adds to the lip-sync error of a page, to a millisecond: headless Chromium publishes one camera and one microphone twice
 * at once, by WHIP to a channel and to a peer of our own with nothing between. What the peer got and what a WHEP viewer got of the same
 * flashes and beeps is decoded alike and placed by RTP timestamps and sender reports alone. A playing page cannot tell: bench/browser.ts.
 * On a busy machine a page loses blocks of its microphone's sound, which only its reports tell; a few seconds go by until the gateway knows.
 *
 *     npx tsx bench/lip-sync.ts [--seconds 40] [--size 320x180]
 *
 * Exit status 1: a promise was broken.
 */
const { values: args } = parseArgs({
  options: { seconds: { type: "string", default: "40" }, size: { type: "string", default: "320x180" } },
});
const seconds = Number(args.seconds);
if (!(seconds >= 15 && seconds <= 300)) throw new RangeError("--seconds: 15 to 300");
const [width, height] = args.size.split("x").map(Number) as [number, number];
if (!(width >= 160 && height >= 90)) throw new RangeError("--size: WIDTHxHEIGHT, at least 160x90");
/** Flashes (one a second) that are left out at the beginning: the channel's clock finds its place. */
const SETTLING = 5;

/** Runs in the page; [WHIP address, width, height]. `direct` takes an offer and gives the answer of the other peer. */
const PUBLISH_TWICE = `async ([whip, width, height]) => {
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const own = await navigator.mediaDevices.getUserMedia({ video: { width, height, frameRate: 30 }, audio: plain });
  const throughWhip = async (body) => {
    const answer = await fetch(whip, { method: "POST", body, headers: { "Content-Type": "application/sdp" } });
    if (answer.status !== 201) throw new Error(answer.status + " " + (await answer.text()));
    return answer.text();
  };
  const peers = [];
  for (const take of [throughWhip, direct]) {
    const pc = new RTCPeerConnection();
    peers.push(pc);
    for (const track of own.getTracks()) pc.addTransceiver(track, { direction: "sendonly", streams: [own] });
    await pc.setLocalDescription();
    while (pc.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
    await pc.setRemoteDescription({ type: "answer", sdp: await take(pc.localDescription.sdp) });
    while (pc.connectionState !== "connected") await new Promise((done) => setTimeout(done, 20));
  }
  window.close = () => { for (const pc of peers) pc.close(); };
}`;

const folder = clipFolder();
const [camera, microphone] = devices(folder);
const { models, what } = await shippedModels(folder);
const profiles = ["low", "balanced", "quality"] as const;
const product = await Product.start({
  models,
  channels: Object.fromEntries(profiles.map((profile) => [profile, { key: profile, profile, strengthPercent: 0 }])),
});
const rows: Row[] = [];
try {
  await product.ready();
  for (const profile of profiles) await measure(profile);
  console.log(`${machine()}; Chromium, ${args.size} at 30 a second, ${seconds} s each, model ${what}`);
  process.exitCode = printTable("Lip-sync of a page's camera and microphone", rows);
} finally {
  await product.stop();
}

async function measure(channel: string): Promise<void> {
  const [direct, viewer] = [new WhepClient(), new WhepClient()];
  const files = [`--use-file-for-fake-video-capture=${camera}`, `--use-file-for-fake-audio-capture=${microphone}`];
  const { browser, close } = await launchChromium([...WEBRTC_FLAGS, ...DEVICE_FLAGS, ...files]);
  try {
    const page = await browser.newPage();
    // Camera and microphone want a secure origin: 127.0.0.1 is one.
    await page.goto(`http://127.0.0.1:${product.ports.http}/healthz`);
    await page.exposeFunction("direct", (offer: string) => direct.answer(offer));
    const base = `http://127.0.0.1:${product.ports.media}`;
    await page.evaluate(`(${PUBLISH_TWICE})(${JSON.stringify([`${base}/whip/${channel}`, width, height])})`);
    await viewer.view(`${base}/whep/${channel}`);
    await until(
      "pictures at both",
      async () => {
        if (direct.units.length === 0) await direct.askForKeyFrame();
        return direct.units.length > 0 && viewer.units.length > 0;
      },
      30_000,
      500,
    );
    await sleep(1000 * seconds);
    await page.evaluate("close()");
    const latencyMs = (await product.status(channel))?.declaredLatencyMs ?? Number.NaN;
    const [before, after] = [await flashes(direct), await flashes(viewer)];
    report(channel, before, after, latencyMs, spreadMs(direct));
  } finally {
    await close();
    await direct.close();
    await viewer.close();
  }
}

async function flashes(client: WhepClient): Promise<Flash[]> {
  return (await lipSync(client, times(client))).slice(SETTLING, -1);
}

function report(
  channel: string,
  before: readonly Flash[],
  after: readonly Flash[],
  latencyMs: number,
  lostMs: number,
): void {
  const ms = (v: number): string => `${v.toFixed(1)} ms`;
  const told = (values: readonly number[]): string =>
    `${ms(median(values))} (${ms(percentile(values, 0.05))} to ${ms(percentile(values, 0.95))}, ${values.length} flashes)`;
  const errors = (list: readonly Flash[]): string => told(list.map((flash) => flash.soundLaterMs));
  // Both clocks are this machine's: a flash leaves its declared latency after it was captured, and the next one is a second away.
  const added = after.flatMap(({ atMs, soundLaterMs }) => {
    const same = before.find((flash) => Math.abs(atMs - flash.atMs - latencyMs) < 500);
    return same === undefined ? [] : [soundLaterMs - same.soundLaterMs];
  });
  const holds = added.length >= 0.6 * (seconds - SETTLING) && Math.abs(median(added)) < 5;
  rows.push(
    row(
      `\`${channel}\`: sound after picture as the page sent it, median (5 to 95 %)`,
      `${errors(before)}; ${ms(lostMs)} of sound lost in the page`,
    ),
    row(`\`${channel}\`: the same at a viewer`, errors(after)),
    row(`\`${channel}\`: lip-sync error added by us to the same flash`, told(added), "median within 5 ms", holds),
  );
}

/** Where each report puts the beginning of its track's timestamps on the sender's clock, milliseconds. @throws Error when a track had none */
function beginsMs(
  reports: readonly Report[],
  ticksPerMs: number,
): { readonly ticks: number; readonly beginMs: number }[] {
  const [first] = reports;
  if (first === undefined) throw new Error("no sender report came");
  return reports.map(({ ticks, wallMs }) => ({
    ticks,
    beginMs: wallMs - difference32(ticks, first.ticks) / ticksPerMs,
  }));
}

/** Milliseconds of the sender's clock, each time by the report that is nearest. */
function times({ reports }: WhepClient): Times {
  const of = (list: readonly Report[], ticksPerMs: number): ((ticks: number) => number) => {
    const begins = beginsMs(list, ticksPerMs);
    const away = (ticks: number, from: { readonly ticks: number }): number => Math.abs(difference32(ticks, from.ticks));
    return (ticks) => {
      const nearest = begins.reduce((a, b) => (away(ticks, b) < away(ticks, a) ? b : a));
      return nearest.beginMs + difference32(ticks, begins[0]!.ticks) / ticksPerMs;
    };
  };
  return { picture: of(reports.picture, 90), sound: of(reports.sound, 48) };
}

/** By how much the reports of a client's sound contradict each other. */
function spreadMs({ reports }: WhepClient): number {
  const begins = beginsMs(reports.sound, 48).map(({ beginMs }) => beginMs);
  return Math.max(...begins) - Math.min(...begins);
}

/** The demonstration's talking head, white for three pictures at each second, and a microphone that beeps then; neither begins with the other. */
function devices(folder: string): [camera: string, microphone: string] {
  const made = (name: string, ...options: string[]): string => {
    const path = join(folder, name);
    if (existsSync(path)) return path;
    const part = join(folder, `part-${name}`);
    execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-y", "-i", DEMO_CLIP, "-t", "24", ...options, part], {
      timeout: 240_000,
    });
    renameSync(part, path);
    return path;
  };
  const white = "drawbox=t=fill:color=white:enable='lt(mod(n,30),3)'";
  const filter = `fps=30,scale=${width}:${height}:flags=bilinear,${white},format=yuv420p`;
  const beeps = "aevalsrc='if(lt(mod(t,1),0.05),0.6*sin(2*PI*1000*t),0)':s=48000:c=mono:d=24[a]";
  return [
    made(`camera-flash-${args.size}.y4m`, "-an", "-vf", filter),
    made("microphone-second.wav", "-filter_complex", beeps, "-map", "[a]"),
  ];
}
