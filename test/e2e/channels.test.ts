import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { clipTags } from "../../bench/support/clip.js";
import { sleep, until } from "../../bench/support/numbers.js";
import type { Product } from "../../bench/support/product.js";
import { publish, startProgram } from "../../bench/support/publisher.js";
import { compareVideo, oddSteps, Taker } from "../../bench/support/taker.js";
import { RtmpPublication } from "../../src/demo/rtmp-client.js";
import { PICTURE, SOUND } from "../../src/transport/flv/tag.js";
import { Stage } from "./stage.js";

type Context = { stage: Stage; product: Product; good: { input: Taker; output: Taker; pids: string } };
const test = suite<Context>("two channels, one with a bad feed");

/** Channel `good` is on air from the first test to the last, and must not notice anything. */
test.before(async (t) => {
  t.stage = await Stage.open();
  t.product = await t.stage.product({ channels: { good: { key: "good-key" }, bad: { key: "bad-key" } } });
  const input = await Taker.open(t.product.inFlv("good"));
  const output = await Taker.open(t.product.outFlv("good"));
  publish(t.stage.clip, t.product.publishUrl("good-key"), 170);
  await until("the good channel at the player", () => output.pictures.length > 30);
  t.good = { input, output, pids: JSON.stringify([...(await t.product.pids())]) };
});
test.after.each(async ({ stage, product, good: { input, output, pids } }) => {
  await stage.closeAdded();
  const count = output.pictures.length;
  await until("the good channel goes on", () => output.pictures.length > count + 30);
  const video = compareVideo(input.pictures, output.pictures);
  assert.equal([video.lost, video.changed], [0, 0]);
  assert.equal(oddSteps(output.sounds), []);
  assert.is(JSON.stringify([...(await product.pids())]), pids, "no process died");
  assert.is((await product.get("/readyz")).status, 200);
});
test.after((t) => t.stage.close());

/** Pictures that came out after the first one went in: before it, a player is shown the end of the programme before. */
const fresh = (output: Taker, input: Taker) =>
  output.pictures.filter((p) => p.arrivedMs > (input.pictures[0]?.arrivedMs ?? Number.POSITIVE_INFINITY));

const badStatus = (product: Product) => product.statuses.findLast((s) => s.status.name === "bad")?.status;

/** Enhanced RTMP (Veovera): sequence start of HEVC, whose record needs no content to be refused. */
const HEVC_SEQUENCE = Buffer.concat([Buffer.of(0x80 | (1 << 4) | 0), Buffer.from("hvc1"), Buffer.alloc(23)]);

test("HEVC is refused with its code, shown by the channel; H.264 on the same key then works", async ({
  stage,
  product,
}) => {
  const publication = await RtmpPublication.start(product.publishUrl("bad-key"));
  publication.send({ type: PICTURE, timestampMs: 0, body: HEVC_SEQUENCE });
  await publication.ended;
  await until("the refusal", () => badStatus(product)?.source === "refused");
  assert.is(badStatus(product)!.reason, "SL_VIDEO_CODEC_UNSUPPORTED");
  const output = stage.add(await Taker.open(product.outFlv("bad")), (x) => x.close());
  stage.add(publish(stage.clip, product.publishUrl("bad-key"), 30), (x) => x.stop());
  await until("pictures", () => output.pictures.length > 30);
  assert.is(badStatus(product)!.source, "live");
});

test("a wrong key is refused and says so to the publisher", async ({ product }) => {
  const refusal = await RtmpPublication.start(product.publishUrl("no-such-key")).then(
    () => "let in",
    (error: Error) => error.message,
  );
  assert.match(refusal, "SL_KEY_UNKNOWN");
  const taken = await RtmpPublication.start(product.publishUrl("good-key")).then(
    () => "let in",
    (error: Error) => error.message,
  );
  assert.match(taken, "SL_KEY_IN_USE");
  assert.match(product.log, "SL_KEY_UNKNOWN");
  assert.not.match(product.log, "good-key");
});

test("a feed without sound passes its pictures untouched and says what is missing", async ({ stage, product }) => {
  const input = stage.add(await Taker.open(product.inFlv("bad")), (x) => x.close());
  const output = stage.add(await Taker.open(product.outFlv("bad")), (x) => x.close());
  const publication = stage.add(await RtmpPublication.start(product.publishUrl("bad-key")), (x) => x.close());
  const begun = performance.now();
  for (const tag of clipTags(stage.clip, 6)) {
    if (tag.type === SOUND) continue;
    await sleep(Math.max(0, tag.timestampMs - (performance.now() - begun)));
    publication.send(tag);
  }
  assert.is(badStatus(product)?.reason, "SL_NO_AUDIO");
  await until("pictures out", () => fresh(output, input).length > 100);
  const video = compareVideo(input.pictures, fresh(output, input));
  assert.equal([video.lost, video.changed], [0, 0]);
});

test("a feed without pictures keeps its sound and says what is missing", async ({ stage, product }) => {
  const output = stage.add(await Taker.open(product.outFlv("bad")), (x) => x.close());
  const publication = stage.add(await RtmpPublication.start(product.publishUrl("bad-key")), (x) => x.close());
  const begun = performance.now();
  for (const tag of clipTags(stage.clip, 6)) {
    if (tag.type === PICTURE) continue;
    await sleep(Math.max(0, tag.timestampMs - (performance.now() - begun)));
    publication.send(tag);
  }
  assert.is(badStatus(product)?.reason, "SL_NO_VIDEO");
  // What was still under way of the feed before is over by then.
  const settled = () => output.sounds.filter((sound) => sound.arrivedMs > begun + 2000);
  await until("sound out", () => settled().length > 150);
  assert.equal(oddSteps(settled()), []);
});

test("pictures count again when the sound is back after a feed without it", async ({ stage, product }) => {
  stage.add(publish(stage.clip, product.publishUrl("bad-key"), 30), (x) => x.stop());
  await until(
    "mode separated",
    () => badStatus(product)?.source === "live" && badStatus(product)?.mode === "separated",
  );
  const before = badStatus(product)!.counters;
  await until("pictures of a second", () => badStatus(product)!.counters.pictures! > before.pictures! + 30);
  assert.is(badStatus(product)!.counters.pictures_late, before.pictures_late);
});

test("what is no media at all is refused or ignored and nothing dies", async ({ stage, product }) => {
  const noise = join(stage.folder, "noise.bin");
  writeFileSync(noise, Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 2_654_435_761) >>> 24)));
  const raw = startProgram("ffmpeg", [
    ...["-v", "error", "-re", "-f", "s16le", "-ar", "8000", "-ac", "1", "-i", noise],
    ...["-c:a", "pcm_mulaw", "-f", "flv", product.publishUrl("bad-key")],
  ]);
  stage.add(raw, (x) => x.stop());
  await until("the refusal", () => badStatus(product)?.reason === "SL_AUDIO_CODEC_UNSUPPORTED", 12_000);
  const publication = stage.add(await RtmpPublication.start(product.publishUrl("bad-key")), (x) => x.close());
  let n = 0;
  for (const tag of clipTags(stage.clip, 3)) {
    // Every third body is cut off or has a byte turned.
    const body = Buffer.from(tag.body);
    if (++n % 3 === 0) body[Math.min(body.length - 1, 5 + (n % 40))]! ^= 0xff;
    publication.send({ ...tag, body: n % 7 === 0 ? body.subarray(0, body.length >> 1) : body });
  }
  await sleep(2000);
});

test.run();
