import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LiveStream, type Sink, type Subscription } from "../../src/gateway/stream.js";
import { scriptTag } from "../../src/transport/flv/script.js";
import type { FlvTag } from "../../src/transport/flv/tag.js";
import { avcSequenceTag } from "../../src/transport/flv/video.js";
import { HEADERS, names, picture, sound } from "./support.js";

const test = suite("live stream");

const BACKLOG = 1000;

/** A connection that takes bytes only when told to. */
class Taker implements Sink {
  readonly tags: FlvTag[] = [];
  backlogBytes = 0;
  mostBytes = 0;
  ended = 0;
  dropped = 0;
  subscription: Subscription | null = null;

  constructor(private readonly reads = true) {}

  write(tag: FlvTag): void {
    this.tags.push(tag);
    if (!this.reads) this.backlogBytes += tag.body.length;
    this.mostBytes = Math.max(this.mostBytes, this.backlogBytes);
  }

  end(): void {
    this.ended++;
    this.subscription?.cancel();
  }

  drain(): void {
    this.backlogBytes = 0;
    this.subscription!.resume();
  }

  get story(): string {
    return names(this.tags);
  }
}

function join(stream: LiveStream, taker: Taker, from: "gop" | "key" = "gop"): Taker {
  taker.subscription = stream.add(taker, from, BACKLOG, (tags) => {
    taker.dropped += tags;
  });
  taker.subscription.resume();
  return taker;
}

function live(maxGopBytes = 100_000): LiveStream {
  const stream = new LiveStream({ maxGopBytes });
  for (const tag of HEADERS) stream.push(tag);
  return stream;
}

test("one who waits before the start gets everything in order", () => {
  const stream = new LiveStream({ maxGopBytes: 100_000 });
  const taker = join(stream, new Taker());
  for (const tag of [...HEADERS, sound(0), picture(1, true), picture(2, false)]) stream.push(tag);
  assert.is(taker.story, "M V A s K1 p2");
  assert.is(taker.dropped, 0);
});

test("a joiner starts at once at the key frame of the running group, with headers of its time", () => {
  const stream = live();
  for (const tag of [picture(1, true), picture(2, false), picture(3, true), sound(3), picture(4, false)])
    stream.push(tag);
  const taker = join(stream, new Taker());
  assert.is(taker.story, "M V A K3 s p4");
  assert.equal(
    taker.tags.slice(0, 4).map((tag) => tag.timestampMs),
    [120, 120, 120, 120],
  );
  stream.push(picture(5, false));
  assert.is(taker.story, "M V A K3 s p4 p5");
});

test("a channel gets the headers at once and tags from the next key frame", () => {
  const stream = live();
  stream.push(picture(1, true));
  const taker = join(stream, new Taker(), "key");
  assert.is(taker.story, "M V A");
  for (const tag of [picture(2, false), picture(3, true), picture(4, false)]) stream.push(tag);
  assert.is(taker.story, "M V A K3 p4");
  assert.is(taker.dropped, 0);
});

test("one who does not read stops at the limit, loses whole stretches and goes on at a key frame", () => {
  const stream = live();
  const slow = join(stream, new Taker(false));
  const fast = join(stream, new Taker());
  for (let n = 0; n < 100; n++) stream.push(picture(n, n % 10 === 0, 200));
  assert.ok(slow.mostBytes < BACKLOG + 200, String(slow.mostBytes));
  const before = slow.tags.length;
  slow.drain();
  assert.is(names(slow.tags.slice(before, before + 4)), "K90 p91 p92 p93");
  assert.is(fast.dropped, 0);
  const numbered = slow.tags.filter((tag) => tag.type === 9 && tag.body[1] === 1).length;
  for (let i = 0; i < 5; i++) slow.drain();
  const all = slow.tags.filter((tag) => tag.type === 9 && tag.body[1] === 1).length;
  assert.ok(all > numbered);
  assert.is(all + slow.dropped, 100, "every tag was sent or counted as dropped");
});

test("a stream that rests gives a joiner nothing old, a slow one its rest, and goes on for all at the next tag", () => {
  const stream = live();
  const fast = join(stream, new Taker());
  const slow = join(stream, new Taker(false));
  for (let n = 1; n < 20; n++) stream.push(picture(n, n === 1, 200));
  stream.rest();
  const joiner = join(stream, new Taker());
  assert.is(joiner.story, "");
  for (let i = 0; i < 10; i++) slow.drain();
  assert.ok(slow.story.endsWith("p18 p19"));
  stream.rest();
  assert.is(stream.heldBytes, 0, "nobody needs it any more");
  stream.push(picture(20, false));
  assert.is(joiner.story, "");
  stream.push(picture(21, true));
  assert.is(joiner.story, "M V A K21");
  assert.ok(fast.story.endsWith("p19 p20 K21"));
  for (let i = 0; i < 2; i++) slow.drain();
  assert.ok(slow.story.endsWith("p19 p20 K21"));
  assert.is(fast.dropped + slow.dropped + joiner.dropped, 0);
});

test("a slow one that catches up within the group loses nothing", () => {
  const stream = live();
  const slow = join(stream, new Taker(false));
  for (let n = 0; n < 20; n++) stream.push(picture(n, n === 0, 200));
  for (let i = 0; i < 10; i++) slow.drain();
  assert.is(slow.dropped, 0);
  assert.ok(slow.story.endsWith("p18 p19"));
});

test("a group over the limit is cut in front: joiners wait for the next key frame, those who keep up lose nothing", () => {
  const stream = live(10_000);
  const fast = join(stream, new Taker());
  for (let n = 0; n < 100; n++) stream.push(picture(n, n === 0, 200));
  assert.ok(stream.heldBytes <= 10_000);
  const joiner = join(stream, new Taker());
  assert.is(joiner.story, "");
  stream.push(picture(100, false));
  stream.push(picture(101, true));
  assert.is(joiner.story, "M V A K101");
  assert.is(joiner.dropped, 0, "waiting is not losing");
  assert.is(fast.dropped, 0);
});

test("empty tags cannot make the group grow without bound", () => {
  const stream = live(10_000);
  for (let n = 0; n < 10_000; n++) stream.push({ type: 18, timestampMs: n, body: Buffer.from("020000", "hex") });
  assert.ok(stream.heldBytes <= 10_000);
});

test("sound without a picture lets joiners in at any tag", () => {
  const stream = new LiveStream({ maxGopBytes: 100_000 });
  stream.push(HEADERS[2]!);
  stream.push(sound(1));
  stream.push(sound(2));
  const taker = join(stream, new Taker());
  stream.push(sound(3));
  assert.is(taker.story, "A s s");
});

test("a picture that has stopped while sound goes on: joiners begin with the sound, and with the picture when it is back", () => {
  const stream = live();
  const newest = (taker: Taker): number => taker.tags.at(-1)!.timestampMs;
  const tick = sound(1).timestampMs;
  stream.push(picture(0, true));
  for (let n = 1; n * tick < 4000; n++) stream.push(sound(n));
  assert.ok(newest(join(stream, new Taker())) > 3900, "a pause is no end: all since the key frame");
  const gone = Math.ceil(9000 / tick);
  for (let n = Math.ceil(4000 / tick); n < gone; n++) stream.push(sound(n));
  assert.ok(stream.heldBytes < 1000, `${stream.heldBytes} bytes are held`);
  const late = join(stream, new Taker());
  const channel = join(stream, new Taker(), "key");
  stream.push(sound(gone));
  for (const taker of [late, channel]) assert.is(newest(taker), gone * tick);
  assert.ok(late.tags.every((tag) => tag.timestampMs >= (gone - 1) * tick));
  stream.push(picture(gone + 1, false));
  for (const taker of [late, channel])
    assert.not.match(taker.story, "p", "nobody gets a picture without its key frame");
  const waiting = join(stream, new Taker());
  stream.push(sound(gone + 2));
  assert.is(waiting.story, "");
  stream.push(picture(gone + 3, true));
  for (const taker of [waiting, late, channel]) assert.match(taker.story, new RegExp(`K${gone + 3}$`));
});

test("messages in the middle pass in their place and do not become headers", () => {
  const stream = live();
  const taker = join(stream, new Taker());
  for (const tag of [picture(1, true), scriptTag("onHighlight", 40, null), picture(2, false)]) stream.push(tag);
  assert.ok(taker.story.endsWith("K1 x p2"));
  const joiner = join(stream, new Taker());
  assert.is(joiner.story, "M V A K1 x p2");
});

test("a new sequence header makes the held group useless for joiners", () => {
  const stream = live();
  const taker = join(stream, new Taker());
  stream.push(picture(1, true));
  stream.push(avcSequenceTag(Buffer.from("0164001fffe1", "hex"), 80));
  const joiner = join(stream, new Taker());
  stream.push(picture(2, true));
  assert.is(joiner.story, "M V A K2");
  assert.ok(joiner.tags[1]!.body.includes(0x64));
  assert.ok(taker.story.endsWith("K1 V K2"));
});

test("the end ends players, and the next programme starts clean", () => {
  const stream = live();
  const player = join(stream, new Taker());
  const stays = join(
    stream,
    new (class extends Taker {
      override end(): void {
        this.ended++;
      }
    })(),
  );
  stream.push(picture(1, true));
  stream.stop();
  assert.is(player.ended, 1);
  assert.is(stream.live, false);
  stays.tags.length = 0;
  for (const tag of [...HEADERS, picture(5, true)]) stream.push(tag);
  assert.is(stays.story, "M V A K5");
  assert.not.match(player.story, "K5");
});

test("after an interruption players go on at the next key frame", () => {
  const stream = live();
  const player = join(stream, new Taker());
  stream.push(picture(1, true));
  stream.interrupt();
  player.tags.length = 0;
  for (const tag of [...HEADERS, picture(2, false), picture(3, true), picture(4, false)]) stream.push(tag);
  assert.is(player.story, "M V A K3 p4");
  assert.is(player.ended, 0);
});

test("a timeline that falls back across an interruption ends players, a wrap does not", () => {
  for (const [last, next, ended] of [
    [100_000, 0, 1],
    [0xffff_fff0, 16, 0],
  ] as const) {
    const stream = live();
    const player = join(stream, new Taker());
    stream.push(picture(1, true, 16, last));
    stream.interrupt();
    for (const tag of HEADERS) stream.push({ ...tag, timestampMs: next });
    stream.push(picture(2, true, 16, next));
    assert.is(player.ended, ended);
    const joiner = join(stream, new Taker());
    assert.is(joiner.story, "M V A K2");
  }
});

test("whatever the connections do: backlog bounded, order kept, pictures only behind their key frame", () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        t: fc.constant("picture" as const),
        key: fc.boolean(),
        bytes: fc.integer({ min: 9, max: 900 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ t: fc.constant("sound" as const) }) },
    { weight: 3, arbitrary: fc.record({ t: fc.constant("drain" as const), who: fc.nat(3) }) },
    {
      weight: 1,
      arbitrary: fc.record({ t: fc.constant("join" as const), from: fc.constantFrom("gop" as const, "key" as const) }),
    },
    { weight: 1, arbitrary: fc.record({ t: fc.constant("interrupt" as const) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const stream = live(5000);
      const takers: Taker[] = [];
      let n = 0;
      for (const s of steps) {
        if (s.t === "picture") stream.push(picture(n++, s.key, s.bytes));
        else if (s.t === "sound") stream.push(sound(n));
        else if (s.t === "join" && takers.length < 8) takers.push(join(stream, new Taker(false), s.from));
        else if (s.t === "drain") takers[s.who]?.drain();
        else if (s.t === "interrupt") stream.interrupt();
      }
      for (const taker of takers) {
        assert.ok(taker.mostBytes < BACKLOG + 1000 + 200);
        const numbers = taker.tags.filter((tag) => tag.type === 9 && tag.body[1] === 1);
        let previous = -1;
        for (const tag of numbers) {
          const number = tag.body.readUInt32BE(5);
          assert.ok(number > previous);
          // A gap is only allowed in front of a key frame.
          if (number !== previous + 1) assert.is(tag.body[0], 0x17);
          previous = number;
        }
      }
    }),
    { seed: 4, numRuns: 300 },
  );
});

test.run();
