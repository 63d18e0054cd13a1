import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type GdpPacket, gdpBuffer, gdpCaps, gdpSegment, gdpStreamStart } from "../../src/transport/gdp/gdp.js";
import { GstError, type GstFault, GstPipeline, stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { within } from "./within.js";

const test = suite("gst pipeline");
test.after(stopAllPipelines);

const TONE =
  "audiotestsrc num-buffers=20 samplesperbuffer=480 ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! gdppay crc-header=false ! appsink name=s sync=false async=false";

test("timestamps come out exactly, and a stopped pipeline plays again", async () => {
  const packets: GdpPacket[] = [];
  let ended: () => void = () => {};
  const pipeline = new GstPipeline(TONE, { onEnd: () => ended() });
  pipeline.sink("s", (packet) => packets.push(packet));
  for (let run = 0; run < 2; run++) {
    packets.length = 0;
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    pipeline.play();
    await within(5000, end);
    pipeline.stop();
    const buffers = packets.flatMap((p) => (p.kind === "buffer" ? [p] : []));
    assert.equal(
      buffers.map((b) => b.ptsMs),
      Array.from({ length: 20 }, (_, i) => i * 10),
    );
    assert.ok(packets.some((p) => p.kind === "caps" && p.caps.startsWith("audio/x-raw")));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  pipeline.close();
});

test("packets that this project writes are understood by gdpdepay, times and caps included", async () => {
  const got: GdpPacket[] = [];
  let done: () => void = () => {};
  const pipeline = new GstPipeline(
    "appsrc name=a format=bytes max-bytes=0 caps=application/x-gdp ! gdpdepay ! identity ! gdppay crc-header=false ! appsink name=s sync=false async=false",
  );
  pipeline.sink("s", (packet) => {
    got.push(packet);
    if (got.filter((p) => p.kind === "buffer").length === 2) done();
  });
  const end = new Promise<void>((resolve) => {
    done = resolve;
  });
  const source = pipeline.source("a", 1_000_000);
  assert.not(source.push(gdpStreamStart("x")), "a pipeline that does not play takes nothing");
  pipeline.play();
  for (const packet of [
    gdpStreamStart("x"),
    gdpCaps("application/x-test, n=(int)1"),
    gdpSegment(),
    gdpBuffer(Buffer.from("one"), { ptsMs: 2500.000123, dtsMs: 2460 }),
    gdpCaps("application/x-test, n=(int)2"),
    gdpBuffer(Buffer.from("two"), { ptsMs: 2540, dtsMs: 2500, delta: true }),
  ])
    assert.ok(source.push(packet));
  await within(5000, end);
  pipeline.close();
  const seen = got.flatMap((p): unknown[] =>
    p.kind === "buffer" ? [[p.payload.toString(), p.ptsMs, p.dtsMs, p.delta]] : p.kind === "caps" ? [p.caps] : [],
  );
  assert.equal(seen, [
    "application/x-test, n=(int)1",
    ["one", 2500.000123, 2460, false],
    "application/x-test, n=(int)2",
    ["two", 2540, 2500, true],
  ]);
});

test("played again at once, a pipeline gives the new run whole: its caps are not taken by a reader of the run before", async () => {
  let first: GdpPacket[] = [];
  let done: () => void = () => {};
  const pipeline = new GstPipeline(
    "appsrc name=a format=bytes max-bytes=0 caps=application/x-gdp ! gdpdepay ! gdppay crc-header=false ! appsink name=s sync=false async=false",
  );
  pipeline.sink("s", (packet) => {
    first.push(packet);
    if (packet.kind === "buffer") done();
  });
  const source = pipeline.source("a", 1_000_000);
  for (let run = 0; run < 300; run++) {
    pipeline.stop();
    first = [];
    const end = new Promise<void>((resolve) => {
      done = resolve;
    });
    pipeline.play();
    const caps = `application/x-test, n=(int)${run}`;
    for (const packet of [
      gdpStreamStart("x"),
      gdpCaps(caps),
      gdpSegment(),
      gdpBuffer(Buffer.from("one"), { ptsMs: run }),
    ])
      assert.ok(source.push(packet), `run ${run}: what is pushed after play() is taken`);
    await within(5000, end);
    const last = first[first.length - 1]!;
    assert.ok(last.kind === "buffer" && last.ptsMs === run, `run ${run} gives its own packet`);
    const told = first.flatMap((p) => (p.kind === "caps" ? [p.caps] : []));
    assert.equal(told.slice(-1), [caps], `run ${run}: its caps come before its first packet`);
  }
  pipeline.close();
});

test("a failing element gives one fault a run, and none of the run before", async () => {
  const faults: GstFault[] = [];
  let wake: () => void = () => {};
  const pipeline = new GstPipeline("audiotestsrc is-live=true ! identity error-after=3 ! fakesink", {
    onFault: (fault) => {
      faults.push(fault);
      wake();
    },
  });
  for (let run = 1; run <= 2; run++) {
    const fault = new Promise<void>((resolve) => {
      wake = resolve;
    });
    pipeline.play();
    await within(5000, fault);
    assert.is(faults.length, run);
    assert.match(faults[run - 1]!.message, "Failed after iterations");
    pipeline.stop();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  pipeline.close();
});

test("a full source refuses and counts instead of blocking", () => {
  const pipeline = new GstPipeline(
    "appsrc name=a format=bytes max-bytes=0 ! identity sleep-time=1000000 ! fakesink sync=false",
  );
  const source = pipeline.source("a", 1000);
  pipeline.play();
  for (let i = 0; i < 10; i++) source.push(Buffer.alloc(300));
  assert.ok(source.dropped >= 6, `${source.dropped} dropped`);
  assert.ok(source.levelBytes <= 1000);
  pipeline.close();
});

test("a bad launch string is a GstError with GStreamer's sentence, anything but a Buffer a TypeError", () => {
  assert.throws(
    () => new GstPipeline("nosuchelement ! fakesink"),
    (e: unknown) => e instanceof GstError && e.code === "SL_GST_LAUNCH" && /nosuchelement/.test(e.message),
  );
  const pipeline = new GstPipeline("appsrc name=a ! fakesink");
  assert.throws(() => pipeline.source("a", 10).push({} as Buffer), /takes a Buffer/);
  assert.throws(() => pipeline.source("b", 10), /no element/);
  pipeline.close();
});

test.run();
