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

const test = suite<{ stage: Stage }>("two channels, one with a bad feed");
test.before(async (t) => {
  t.stage = await Stage.open();
});
test.after.each((t) => t.stage.clear());
test.after((t) => t.stage.close());

/** Channel `good` runs from before `body` until after it, and must not notice anything. */
async function besideGood(stage: Stage, body: (product: Product) => Promise<void>): Promise<void> {
  const product = await stage.product({ channels: { good: { key: "good-key" }, bad: { key: "bad-key" } } });
  const input = stage.add(await Taker.open(product.inFlv("good")), (x) => x.close());
  const output = stage.add(await Taker.open(product.outFlv("good")), (x) => x.close());
  stage.add(publish(stage.clip, product.publishUrl("good-key"), 50), (x) => x.stop());
  await until("the good channel at the player", () => output.pictures.length > 30);
  const before = await product.pids();
  await body(product);
  const count = output.pictures.length;
  await until("the good channel goes on", () => output.pictures.length > count + 45);
  const video = compareVideo(input.pictures, output.pictures);
  assert.equal([video.lost, video.changed], [0, 0]);
  assert.equal(oddSteps(output.sounds), []);
  assert.equal([...(await product.pids())], [...before], "no process died");
  assert.is((await product.get("/readyz")).status, 200);
}

const badStatus = (product: Product) => product.statuses.findLast((s) => s.status.name === "bad")?.status;

/** Enhanced RTMP (Veovera): sequence start of HEVC, whose record needs no content to be refused. */
const HEVC_SEQUENCE = Buffer.concat([Buffer.of(0x80 | (1 << 4) | 0), Buffer.from("hvc1"), Buffer.alloc(23)]);

test("HEVC is refused with its code, shown by the channel; H.264 on the same key then works", async ({ stage }) => {
  await besideGood(stage, async (product) => {
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
});

test("a wrong key is refused and says so to the publisher; the channel goes on waiting", async ({ stage }) => {
  await besideGood(stage, async (product) => {
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
    await until("a report", () => badStatus(product));
    assert.is(badStatus(product)!.reason, "SL_SOURCE_WAITING");
    assert.match(product.log, "SL_KEY_UNKNOWN");
    assert.not.match(product.log, "good-key");
  });
});

test("a feed without sound passes its pictures untouched and says what is missing", async ({ stage }) => {
  await besideGood(stage, async (product) => {
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
    await until("pictures out", () => output.pictures.length > 100);
    const video = compareVideo(input.pictures, output.pictures);
    assert.equal([video.lost, video.changed, output.sounds.length], [0, 0, 0]);
  });
});

test("a feed without pictures keeps its sound and says what is missing", async ({ stage }) => {
  await besideGood(stage, async (product) => {
    const output = stage.add(await Taker.open(product.outFlv("bad")), (x) => x.close());
    const publication = stage.add(await RtmpPublication.start(product.publishUrl("bad-key")), (x) => x.close());
    const begun = performance.now();
    for (const tag of clipTags(stage.clip, 6)) {
      if (tag.type === PICTURE) continue;
      await sleep(Math.max(0, tag.timestampMs - (performance.now() - begun)));
      publication.send(tag);
    }
    assert.is(badStatus(product)?.reason, "SL_NO_VIDEO");
    await until("sound out", () => output.sounds.length > 150);
    assert.equal(oddSteps(output.sounds), []);
  });
});

test("what is no media at all is refused or ignored and nothing dies", async ({ stage }) => {
  await besideGood(stage, async (product) => {
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
});

test.run();
