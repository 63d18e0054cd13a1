import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { DEVICE_FLAGS, hasChromium, launchChromium, WEBRTC_FLAGS } from "../browser/chromium.js";
import { run, until } from "../channel/support.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";

const test = suite("example: a bot in a room of two browsers");
const LIMIT_MS = 55_000;
/** Set in the environment to try a copy in a project of its own, into which the package was installed. */
const EXAMPLES = process.env.SIGHTLINE_EXAMPLES ?? join(PACKAGE_ROOT, "examples");

/** What one page got from the other participant. */
type Got = { frames: number; width: number; soundPackets: number; energy: number; highlights: number; faces: number };

/** Runs in the page. */
const LOOK = `(async () => {
  const got = { frames: 0, width: 0, soundPackets: 0, energy: 0, highlights: 0, faces: 0 };
  if (!window.room) return got;
  for (const stat of (await window.room.pc.getStats()).values()) {
    if (stat.type !== "inbound-rtp") continue;
    if (stat.kind === "audio") [got.soundPackets, got.energy] = [stat.packetsReceived, stat.totalAudioEnergy];
    else [got.frames, got.width] = [stat.framesDecoded, stat.frameWidth ?? 0];
  }
  got.highlights = window.room.highlights.length;
  got.faces = window.room.highlights.filter((h) => h.faces.length > 0).length;
  return got;
})()`;

test("each sees the other, hears the cleaned voice, and is told who speaks", async () => {
  if (!hasChromium()) return;
  const folder = clipFolder();
  const at = (name: string): string => join(folder.path, name);
  const talk = join(PACKAGE_ROOT, "demo", "talk.flv");
  ffmpeg("-i", talk, "-t", "5", "-an", "-vf", "fps=15,scale=640:360", "-pix_fmt", "yuv420p", at("camera.y4m"));
  ffmpeg("-i", talk, "-t", "5", "-vn", "-ac", "1", "-ar", "48000", at("microphone.wav"));
  let said = "";
  const script = join(EXAMPLES, "conference-bot.mjs");
  const bot = run(process.execPath, [script, "0"], LIMIT_MS, (text) => {
    said += text;
  });
  const files = [
    `--use-file-for-fake-video-capture=${at("camera.y4m")}`,
    `--use-file-for-fake-audio-capture=${at("microphone.wav")}`,
  ];
  const browsers: Awaited<ReturnType<typeof launchChromium>>[] = [];
  try {
    await until(() => /http:\S+/.test(said), 15_000, "the bot's address");
    const url = /http:\S+/.exec(said)![0];
    const pages = [];
    for (let i = 0; i < 2; i++) {
      browsers.push(await launchChromium([...WEBRTC_FLAGS, ...DEVICE_FLAGS, ...files]));
      const page = await browsers[i]!.browser.newPage();
      await page.goto(url);
      pages.push(page);
    }
    const enough = (got: Got): boolean =>
      got.frames > 10 && got.width > 0 && got.soundPackets > 50 && got.energy > 1e-5 && got.faces > 2;
    const end = performance.now() + 30_000;
    let got: Got[] = [];
    do {
      await new Promise((done) => setTimeout(done, 300));
      got = await Promise.all(pages.map(async (page) => (await page.evaluate(LOOK)) as Got));
    } while (!got.every(enough) && performance.now() < end);
    for (const page of got) console.log(JSON.stringify(page));
    assert.ok(got.every(enough), `${JSON.stringify(got)}\n${said}`);
    await browsers.pop()!.close();
    await until(() => said.includes("1 participants"), 10_000, "the bot to see one leave");
  } finally {
    for (const { close } of browsers) await close();
    bot.child.kill("SIGTERM");
    await bot.exited;
    folder.remove();
  }
});

test.run();
