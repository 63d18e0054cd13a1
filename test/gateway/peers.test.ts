import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readAudio } from "../../src/transport/flv/audio.js";
import { FlvReader, type FlvTag, PICTURE, SOUND } from "../../src/transport/flv/tag.js";
import { readVideo } from "../../src/transport/flv/video.js";
import { ChannelClient, inScope, openGateway, type Running, type Scope, start, until, within } from "./support.js";

/** The gateway against the peers of the field: ffmpeg's own RTMP client, GStreamer's rtmp2, librtmp (behind rtmpsrc). */
const test = suite("gateway peers");

const QUIET = ["-hide_banner", "-loglevel", "error", "-nostdin"];

/** Three seconds of moving picture with B-frames and a tone. */
function makeClip(dir: string): string {
  const file = join(dir, "clip.flv");
  const picture = ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=30"];
  const sound = ["-f", "lavfi", "-i", "sine=f=440:r=48000"];
  const video = [
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    "15",
    "-bf",
    "2",
    "-pix_fmt",
    "yuv420p",
    "-threads",
    "1",
  ];
  execFileSync(
    "ffmpeg",
    [...QUIET, "-y", ...picture, ...sound, "-t", "3", ...video, "-c:a", "aac", "-f", "flv", file],
    { timeout: 60_000 },
  );
  return file;
}

/** Hash of every packet of one kind, in order. */
function hashes(file: string, kind: "v" | "a"): string[] {
  const args = [...QUIET, "-i", file, "-map", `0:${kind}`, "-c", "copy", "-f", "framehash", "-hash", "md5", "-"];
  const text = execFileSync("ffmpeg", args, { encoding: "utf8", timeout: 30_000 });
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(",").at(-1)!.trim());
}

/** Presentation times of every packet of one kind, in ms, in the order of the file. */
function times(file: string, kind: "v" | "a"): number[] {
  const args = ["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time", "-of", "csv=p=0", file];
  const text = execFileSync("ffprobe", args, { encoding: "utf8", timeout: 30_000 });
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Math.round(Number.parseFloat(line) * 1000));
}

/** `part` must be the end of `whole`. */
function assertTail(part: readonly string[], whole: readonly string[], what: string): void {
  assert.ok(part.length > 0, `${what}: nothing came`);
  assert.equal(part, whole.slice(-part.length), what);
}

function digest(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Access units. Without their times: flvmux makes its own. */
function units(tags: readonly FlvTag[]): string[] {
  const packets = tags.flatMap((tag) => (tag.type === PICTURE ? [readVideo(tag.body)] : []));
  return packets.flatMap((p) => (p.kind === "frame" ? [`${p.key} ${digest(p.data)}`] : []));
}

/** AAC frames. */
function frames(tags: readonly FlvTag[]): string[] {
  const packets = tags.flatMap((tag) => (tag.type === SOUND ? [readAudio(tag.body)] : []));
  return packets.flatMap((p) => (p.kind === "frame" ? [digest(p.data)] : []));
}

const live = (running: Running, key: string) => `rtmp://127.0.0.1:${running.rtmpPort}/live/${key}`;

function publishByFfmpeg(scope: Scope, running: Running, clip: string, key = "KEY") {
  return start(scope, "ffmpeg", [
    ...QUIET,
    "-re",
    "-i",
    clip,
    "-c",
    "copy",
    "-f",
    "flv",
    "-flvflags",
    "no_duration_filesize",
    live(running, key),
  ]);
}

test("ffmpeg publishes; ffmpeg over RTMP and HTTP, rtmp2src and rtmpsrc get the same bytes and times", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const { rtmpPort, mediaPort, dir } = running;
    const clip = makeClip(dir);
    const file = (name: string) => join(dir, `${name}.flv`);
    const rtmp = `rtmp://127.0.0.1:${rtmpPort}/in/one`;
    // Players come first and wait: so each must have the whole programme.
    const copy = (url: string, name: string) =>
      start(scope, "ffmpeg", [...QUIET, "-y", "-i", url, "-c", "copy", "-copyts", "-f", "flv", file(name)]);
    const players = [
      copy(rtmp, "rtmp"),
      copy(`http://127.0.0.1:${mediaPort}/in/one.flv`, "http"),
      start(scope, "gst-launch-1.0", [
        "-q",
        "rtmp2src",
        `location=${rtmp}`,
        "!",
        "filesink",
        "buffer-mode=unbuffered",
        `location=${file("rtmp2src")}`,
      ]),
    ];
    start(scope, "gst-launch-1.0", [
      "-q",
      "rtmpsrc",
      `location=${rtmp} live=1`,
      "!",
      "filesink",
      "buffer-mode=unbuffered",
      `location=${file("rtmpsrc")}`,
    ]);
    await until("all players", () => running.gateway.status().players === 4);
    const publisher = publishByFfmpeg(scope, running, clip);
    const published = await within(publisher.done, "the publisher");
    assert.is(published.code, 0, published.text);
    for (const player of players) await within(player.done, "a player to end with its programme");
    const source = { v: hashes(clip, "v"), a: hashes(clip, "a") };
    for (const name of ["rtmp", "http"]) {
      assert.equal(hashes(file(name), "v"), source.v, `${name}: pictures`);
      assert.equal(hashes(file(name), "a"), source.a, `${name}: sound`);
      assert.equal(times(file(name), "v"), times(clip, "v"), `${name}: picture times`);
      assert.equal(times(file(name), "a"), times(clip, "a"), `${name}: sound times`);
    }
    // rtmp2src was seen to end before its last packet, and librtmp (rtmpsrc) connects again and holds back a piece: from the
    // first packet on nothing may be missing, the last ones may. (That the gateway sends them all is tested with a raw client.)
    for (const name of ["rtmp2src", "rtmpsrc"]) {
      for (const kind of ["v", "a"] as const) {
        const got = hashes(file(name), kind);
        assert.equal(got, source[kind].slice(0, got.length), `${name}: ${kind}`);
        assert.ok(got.length > 0.7 * source[kind].length, `${name}: ${got.length} of ${source[kind].length}`);
      }
    }
    assert.is(running.counter("player_dropped_tags_total"), 0);
  }));

test("a player that joins in the middle starts at a key frame and misses nothing from there", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const clip = makeClip(running.dir);
    const publisher = publishByFfmpeg(scope, running, clip);
    await until("a second of it", () => running.counter("tags_in_total") > 70);
    const file = join(running.dir, "joined.flv");
    const player = start(scope, "ffmpeg", [
      ...QUIET,
      "-y",
      "-i",
      `http://127.0.0.1:${running.mediaPort}/in/one.flv`,
      "-c",
      "copy",
      "-f",
      "flv",
      file,
    ]);
    await within(publisher.done, "the publisher");
    await within(player.done, "the player");
    const got = hashes(file, "v");
    assertTail(got, hashes(clip, "v"), "joined");
    assert.ok(got.length < hashes(clip, "v").length);
    const flags = execFileSync(
      "ffprobe",
      ["-v", "error", "-select_streams", "v", "-show_entries", "packet=flags", "-of", "csv=p=0", file],
      { encoding: "utf8" },
    );
    assert.match(flags.split("\n")[0]!, "K");
  }));

test("GStreamer's rtmp2sink publishes and a channel gets every access unit", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const clip = makeClip(running.dir);
    const link = new ChannelClient(scope, running.socket);
    link.send({ t: "attach", channel: "one" });
    await until("the attachment", () => link.messages.length === 1);
    // flvmux makes one buffer for each tag, as rtmp2sink wants it.
    const mux = `flvdemux name=d d.video ! queue ! mux.video d.audio ! queue ! mux.audio flvmux name=mux streamable=true`;
    const sink = `rtmp2sink location=${live(running, "KEY")} sync=false`;
    const publisher = start(scope, "gst-launch-1.0", [
      "-q",
      ...`filesrc location=${clip} ! ${mux} ! ${sink}`.split(" "),
    ]);
    const result = await within(publisher.done, "the publisher");
    assert.is(result.code, 0, result.text);
    await until("its end", () => link.story.includes("live") && link.story.at(-1) === "gone");
    const wanted = new FlvReader().push(readFileSync(clip));
    assert.equal(units(link.tags), units(wanted));
    assert.equal(frames(link.tags), frames(wanted));
  }));

test("ffmpeg is told why: a wrong key, a key in use; and a publisher may come back at once", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const clip = makeClip(running.dir);
    const wrong = await within(publishByFfmpeg(scope, running, clip, "WRONG").done, "the wrong key");
    assert.is.not(wrong.code, 0);
    assert.match(wrong.text, "SL_KEY_UNKNOWN");
    const first = publishByFfmpeg(scope, running, clip);
    await until("the first publisher", () => running.gateway.status().publishers.length === 1);
    const second = await within(publishByFfmpeg(scope, running, clip).done, "the second publisher");
    assert.is.not(second.code, 0);
    assert.match(second.text, "SL_KEY_IN_USE");
    first.child.kill("SIGTERM");
    await within(first.done, "the first publisher's end");
    await until("the key to be free", () => running.gateway.status().publishers.length === 0);
    const again = await within(publishByFfmpeg(scope, running, clip).done, "the restarted publisher");
    assert.is(again.code, 0, again.text);
  }));

test("a channel that sends back what it gets: an ffmpeg player of /out has equal pictures", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const clip = makeClip(running.dir);
    const link = new ChannelClient(scope, running.socket);
    link.send({ t: "attach", channel: "one" });
    await until("the attachment", () => link.messages.length === 1);
    let sent = 0;
    link.socket.on("data", () => {
      for (; sent < link.tags.length; sent++) link.out(link.tags[sent]!);
    });
    const file = join(running.dir, "out.flv");
    const url = `http://127.0.0.1:${running.mediaPort}/out/one.flv`;
    const player = start(scope, "ffmpeg", [...QUIET, "-y", "-i", url, "-c", "copy", "-f", "flv", file]);
    await until("the player", () => running.gateway.status().players === 1);
    await within(publishByFfmpeg(scope, running, clip).done, "the publisher");
    await until(
      "all tags at the player",
      () => link.story.at(-1) === "gone" && running.counter("tags_out_total") === sent,
    );
    // The channel is removed: its player is ended.
    running.gateway.configure({}, []);
    const played = await within(player.done, "the player");
    assert.is(played.code, 0, played.text);
    assert.equal(hashes(file, "v"), hashes(clip, "v"));
    assert.equal(hashes(file, "a"), hashes(clip, "a"));
  }));

test.run();
