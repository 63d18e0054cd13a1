import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AmfError, EcmaArray, readAmf0, writeAmf0 } from "../../src/transport/amf/amf0.js";
import { scriptTag } from "../../src/transport/flv/script.js";
import { type FlvTag, flvTag, PICTURE, SOUND } from "../../src/transport/flv/tag.js";
import {
  ChunkReader,
  MAX_CHUNK_STREAMS,
  MAX_MESSAGE_BYTES,
  MessageType,
  RtmpError,
  type RtmpMessage,
  writeChunks,
} from "../../src/transport/rtmp/chunk.js";
import { type RtmpEvent, RtmpSession, STRANGER_MESSAGE_BYTES } from "../../src/transport/rtmp/session.js";
import { fuzz, inPieces, random } from "./fuzz.js";
import { AnswerReader, command, commands, ECHO, HELLO, media, message, opening } from "./rtmp-client.js";

const test = suite("rtmp");

const isRtmpError = (e: unknown) => e instanceof RtmpError;
const zeros = (n: number) => Buffer.alloc(n);

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

/** Reads everything; a generator does nothing until it is walked. */
function readAll(reader: ChunkReader, bytes: Buffer): RtmpMessage[] {
  return [...reader.push(bytes)];
}

// ---- chunks

test("messages come back as they were written, whatever the chunk size, the pieces and the time", () => {
  const next = random(5);
  for (const chunkBytes of [1, 5, 128, 65_536]) {
    const messages = [0, 1, 127, 128, 129, 3000].map((n, i) => ({
      type: MessageType.Video,
      streamId: i,
      timestamp: [0, 1, 0xff_fffe, 0xff_ffff, 0x100_0000, 0xffff_ffff][i]!,
      payload: Buffer.from(Array.from({ length: n }, () => next(256))),
    }));
    const bytes = Buffer.concat([
      message(MessageType.SetChunkSize, u32(chunkBytes)),
      ...messages.flatMap((m, i) => writeChunks(m, 3 + i, chunkBytes)),
    ]);
    const reader = new ChunkReader();
    const out: RtmpMessage[] = [];
    inPieces(bytes, 50, next, (piece) => out.push(...reader.push(piece)));
    assert.equal(out, messages);
  }
});

test("chunk types 1, 2 and 3 take over what they leave out (5.3.1.2)", () => {
  const reader = new ChunkReader();
  const bytes = Buffer.from(
    "04" +
      "0003e8" +
      "000002" +
      "08" +
      "01000000" +
      "aabb" + // type 0: time 1000, 2 bytes, audio, stream 1
      "44" +
      "000014" +
      "000001" +
      "09" +
      "cc" + // type 1: +20, 1 byte, video
      "84" +
      "000015" +
      "dd" + // type 2: +21
      "c4" +
      "ee", // type 3: +21 again
    "hex",
  );
  assert.equal(readAll(reader, bytes), [
    { type: 8, streamId: 1, timestamp: 1000, payload: Buffer.from("aabb", "hex") },
    { type: 9, streamId: 1, timestamp: 1020, payload: Buffer.from("cc", "hex") },
    { type: 9, streamId: 1, timestamp: 1041, payload: Buffer.from("dd", "hex") },
    { type: 9, streamId: 1, timestamp: 1062, payload: Buffer.from("ee", "hex") },
  ]);
});

test("a type 3 chunk that begins a message after type 0 adds the time of the type 0 (5.3.1.2.4)", () => {
  const bytes = Buffer.from("04" + "000017" + "000001" + "08" + "01000000" + "aa" + "c4" + "bb", "hex");
  assert.equal(
    readAll(new ChunkReader(), bytes).map((m) => m.timestamp),
    [23, 46],
  );
});

test("chunk stream ids of two and three bytes", () => {
  const rest = "000000" + "000001" + "08" + "01000000" + "aa";
  const bytes = Buffer.from(`00ff${rest}01ffff${rest}c0ffbb`, "hex");
  assert.equal(
    readAll(new ChunkReader(), bytes).map((m) => m.payload.toString("hex")),
    ["aa", "aa", "bb"],
  );
});

test("extended timestamps are read in type 3 chunks and missed by senders that leave them out", () => {
  const time = 0x0123_4567;
  const payload = Buffer.from(Array.from({ length: 300 }, (_, i) => i & 255));
  const good = writeChunks({ type: 9, streamId: 1, timestamp: time, payload }, 6, 128);
  const without = good.map((part, i) => (i > 0 && part.length === 5 ? part.subarray(0, 1) : part));
  for (const bytes of [Buffer.concat(good), Buffer.concat(without)]) {
    assert.equal(readAll(new ChunkReader(), bytes), [{ type: 9, streamId: 1, timestamp: time, payload }]);
  }
});

test("time wraps at 32 bits", () => {
  const bytes = Buffer.concat([
    ...writeChunks({ type: 8, streamId: 1, timestamp: 0xffff_fff0, payload: Buffer.of(1) }, 4, 128),
    Buffer.from("44" + "000020" + "000001" + "08" + "02", "hex"),
  ]);
  assert.equal(
    readAll(new ChunkReader(), bytes).map((m) => m.timestamp),
    [0xffff_fff0, 0x10],
  );
});

test("messages of several chunk streams may interleave, and abort forgets one of them", () => {
  const a = writeChunks({ type: 9, streamId: 1, timestamp: 0, payload: Buffer.alloc(200, 1) }, 6, 128);
  const b = writeChunks({ type: 8, streamId: 1, timestamp: 0, payload: Buffer.alloc(150, 2) }, 4, 128);
  const mixed = Buffer.concat([a[0]!, a[1]!, b[0]!, b[1]!, a[2]!, a[3]!, b[2]!, b[3]!]);
  assert.equal(
    readAll(new ChunkReader(), mixed).map((m) => m.payload.length),
    [200, 150],
  );
  const aborted = Buffer.concat([a[0]!, a[1]!, message(MessageType.Abort, u32(6)), ...b, ...a]);
  assert.equal(
    readAll(new ChunkReader(), aborted).map((m) => m.payload.length),
    [150, 200],
  );
});

/** A whole message on chunk stream 64 + i. */
function oneByteMessage(i: number): Buffer {
  return Buffer.concat([Buffer.of(0, i), Buffer.from("000000" + "000001" + "08" + "01000000" + "aa", "hex")]);
}

test("what breaks the protocol or a limit is refused", () => {
  const head = (id: number, length: number) => {
    const out = Buffer.from(`0${id.toString(16)}0000000000000801000000`, "hex");
    out.writeUIntBE(length, 4, 3);
    return out;
  };
  const bad: Record<string, Buffer> = {
    "type 3 at the start": Buffer.of(0xc4, 0),
    "chunk size 0": message(MessageType.SetChunkSize, u32(0)),
    "a short control message": message(MessageType.SetChunkSize, Buffer.of(1)),
    "a new message within one": Buffer.concat([head(4, 200), zeros(128), head(4, 1), zeros(1)]),
    "too many chunk streams": Buffer.concat(Array.from({ length: MAX_CHUNK_STREAMS + 1 }, (_, i) => oneByteMessage(i))),
  };
  for (const [name, bytes] of Object.entries(bad))
    assert.throws(() => readAll(new ChunkReader(), bytes), isRtmpError, name);
  assert.throws(() => readAll(new ChunkReader(100), Buffer.concat([head(4, 101), zeros(101)])), isRtmpError);
  assert.is(MAX_MESSAGE_BYTES, 16 * 1024 * 1024);
});

test("announced lengths cost nothing, and unfinished messages have a common bound", () => {
  const before = process.memoryUsage().arrayBuffers;
  const reader = new ChunkReader();
  const one = (id: number) => Buffer.from(`${id.toString(16).padStart(2, "0")}000000ffffff0801000000`, "hex");
  for (let id = 3; id < 63; id++) readAll(reader, Buffer.concat([one(id), zeros(128)]));
  assert.ok(process.memoryUsage().arrayBuffers - before < 2 * 1024 * 1024);
  const bounded = new ChunkReader(64 * 1024);
  const piece = (id: number) =>
    Buffer.concat([Buffer.from(`${id.toString(16).padStart(2, "0")}00000000ffff0801000000`, "hex"), zeros(60_000)]);
  assert.throws(() => {
    readAll(bounded, message(MessageType.SetChunkSize, u32(60_000)));
    for (let id = 3; id < 63; id++) readAll(bounded, piece(id));
  }, isRtmpError);
});

// ---- session

/** A server that lets everything in; collects answers and media. */
class Server {
  readonly session = new RtmpSession(zeros);
  readonly answers = new AnswerReader();
  readonly replies: ReturnType<AnswerReader["push"]> = [];
  readonly events: RtmpEvent[] = [];
  sentBytes = 0;

  push(bytes: Buffer): void {
    for (const event of this.session.push(bytes)) {
      this.events.push(event);
      if (event.type === "send") this.sent(event.data);
      else if (event.type === "publish") this.sent(this.session.acceptPublish(event.streamId));
      else if (event.type === "play") this.sent(this.session.acceptPlay(event.streamId));
    }
  }

  sent(parts: readonly Buffer[]): void {
    const bytes = Buffer.concat(parts);
    this.sentBytes += bytes.length;
    this.replies.push(...this.answers.push(bytes));
  }

  get tags(): FlvTag[] {
    return this.events.flatMap((event) => (event.type === "media" ? [event.tag] : []));
  }

  get asked(): string[] {
    return this.events.flatMap((e) =>
      e.type === "publish" || e.type === "play" ? [`${e.type} ${e.app}/${e.name}`] : [],
    );
  }
}

const picture: FlvTag = { type: PICTURE, timestampMs: 40, body: Buffer.from("17010000000000000165", "hex") };
const sound: FlvTag = { type: SOUND, timestampMs: 61, body: Buffer.from("af0121", "hex") };
const metadata = scriptTag("@setDataFrame", 0, "onMetaData", new EcmaArray({ width: 16 }));
const publishing = Buffer.concat([opening("publish", "live", "KEY"), media(metadata), media(picture), media(sound)]);

test("a publisher is asked for, let in and heard, also when all comes in one piece", () => {
  const server = new Server();
  server.push(publishing);
  assert.equal(server.asked, ["publish live/KEY"]);
  assert.equal(server.tags, [metadata, picture, sound]);
  assert.equal(commands(server.replies), [
    "_result NetConnection.Connect.Success",
    "_result",
    "_result",
    "_result",
    "onStatus NetStream.Publish.Start",
  ]);
  const status = server.replies.find((r) => r.type === MessageType.CommandAmf0 && r.streamId === 1);
  assert.ok(status, "onStatus is on the stream's own id");
});

test("the handshake answers with the echo of C1", () => {
  const session = new RtmpSession(zeros);
  const sent = [...session.push(HELLO)].flatMap((event) => (event.type === "send" ? event.data : []));
  const bytes = Buffer.concat(sent);
  assert.is(bytes.length, 1 + 2 * 1536);
  assert.is(bytes[0], 3);
  assert.ok(bytes.subarray(1 + 1536).equals(HELLO.subarray(1)));
  assert.throws(() => [...new RtmpSession(zeros).push(Buffer.from("GET / HTTP/1.1\r\n"))], isRtmpError);
});

test("a player gets its media on the stream id that createStream gave", () => {
  const server = new Server();
  server.push(opening("play", "out", "one"));
  assert.equal(server.asked, ["play out/one"]);
  assert.equal(commands(server.replies).slice(-2), ["onStatus NetStream.Play.Reset", "onStatus NetStream.Play.Start"]);
  server.replies.length = 0;
  server.sent(server.session.media(1, { ...picture, timestampMs: 0x1_0000_00 }));
  server.sent(server.session.media(1, { ...picture, body: Buffer.alloc(200_000, 7) }));
  assert.equal(
    server.replies.map((r) => [r.type, r.streamId, r.payload.length]),
    [
      [PICTURE, 1, picture.body.length],
      [PICTURE, 1, 200_000],
    ],
  );
});

test("refusals, ends and pings are told", () => {
  const server = new Server();
  server.push(opening("publish", "live", "KEY"));
  server.sent(server.session.failPublish(1, "SL_X: y"));
  server.push(media(picture));
  assert.equal(server.tags, [], "media behind the refusal is ignored");
  server.push(message(MessageType.UserControl, Buffer.from("000600000007", "hex")));
  const pong = server.replies.at(-1)!;
  assert.equal([pong.type, pong.payload.toString("hex")], [MessageType.UserControl, "000700000007"]);
});

test("publication ends with FCUnpublish, closeStream or deleteStream", () => {
  for (const end of [
    command("FCUnpublish", 6, [null, "KEY"]),
    command("closeStream", 6, [null], 1),
    command("deleteStream", 6, [null, 1]),
  ]) {
    const server = new Server();
    server.push(Buffer.concat([publishing, end, media(sound)]));
    assert.equal(server.events.at(-1), { type: "close", streamId: 1 });
  }
});

test("AMF3 forms skip one byte, and aggregates are taken apart", () => {
  const server = new Server();
  server.push(Buffer.concat([HELLO, ECHO]));
  server.push(
    message(MessageType.CommandAmf3, Buffer.concat([Buffer.of(0), writeAmf0("connect", 1, { app: "live/" })])),
  );
  server.push(message(MessageType.CommandAmf3, Buffer.concat([Buffer.of(0), writeAmf0("createStream", 2, null)])));
  server.push(
    message(MessageType.CommandAmf3, Buffer.concat([Buffer.of(0), writeAmf0("publish", 3, null, "KEY?a=b")]), 1),
  );
  assert.equal(server.asked, ["publish live/KEY"]);
  server.push(message(MessageType.DataAmf3, Buffer.concat([Buffer.of(0), metadata.body]), 1));
  server.push(message(MessageType.Aggregate, Buffer.concat([flvTag(picture), flvTag(sound)]), 1, 1000));
  assert.equal(server.tags, [metadata, { ...picture, timestampMs: 1000 }, { ...sound, timestampMs: 1021 }]);
});

test("received bytes are acknowledged by the peer's window", () => {
  const server = new Server();
  server.push(Buffer.concat([opening("publish", "live", "KEY"), message(MessageType.WindowAckSize, u32(10_000))]));
  for (let i = 0; i < 5; i++) server.push(media({ ...picture, body: Buffer.alloc(5000, 0x27) }));
  const acks = server.replies.filter((r) => r.type === MessageType.Acknowledgement);
  assert.ok(acks.length >= 2);
  assert.ok(acks.at(-1)!.payload.readUInt32BE(0) > 20_000);
});

test("unknown calls get an error, one way calls none, and the order of commands is kept", () => {
  const server = new Server();
  server.push(
    Buffer.concat([
      HELLO,
      ECHO,
      command("connect", 1, [{ app: "out" }]),
      command("foo", 9, [null]),
      command("pause", 0, [null, true, 0]),
    ]),
  );
  assert.equal(commands(server.replies), ["_result NetConnection.Connect.Success", "_error NetConnection.Call.Failed"]);
  const early = () => new Server().push(Buffer.concat([HELLO, ECHO, command("createStream", 1, [null])]));
  assert.throws(early, isRtmpError);
  const elsewhere = () => server.push(command("publish", 3, [null, "k"], 9));
  assert.throws(elsewhere, isRtmpError);
});

test("a stranger may not send large messages, a publisher may", () => {
  const large = { ...picture, body: Buffer.alloc(STRANGER_MESSAGE_BYTES + 1, 0x27) };
  const stranger = new Server();
  stranger.push(Buffer.concat([HELLO, ECHO, command("connect", 1, [{ app: "live" }])]));
  assert.throws(() => stranger.push(media(large)), isRtmpError);
  const publisher = new Server();
  publisher.push(Buffer.concat([opening("publish", "live", "KEY"), media(large)]));
  assert.is(publisher.tags[0]!.body.length, large.body.length);
});

test("commands read back from the replies are valid AMF0 without rest", () => {
  const server = new Server();
  server.push(publishing);
  for (const reply of server.replies)
    if (reply.type === MessageType.CommandAmf0) assert.ok(readAmf0(reply.payload).length >= 3);
});

// ---- hostile input

test("every prefix of a good publication reads without an error, and the rest completes it", () => {
  const whole = new Server();
  whole.push(publishing);
  const lead = HELLO.length + ECHO.length;
  const cuts = [0, 1, 2, HELLO.length - 1, HELLO.length, HELLO.length + 1, lead - 1];
  for (let n = lead; n <= publishing.length; n++) cuts.push(n);
  for (const n of cuts) {
    const server = new Server();
    server.push(publishing.subarray(0, n));
    server.push(publishing.subarray(n));
    assert.equal(server.tags, whole.tags);
    assert.is(server.replies.length, whole.replies.length);
  }
});

test("100000 mutated chunk streams give messages or an RtmpError, never more bytes than came in", () => {
  const sample = publishing.subarray(HELLO.length + ECHO.length);
  const extended = Buffer.concat(
    writeChunks({ type: 9, streamId: 1, timestamp: 0x7000_0000, payload: Buffer.alloc(400, 1) }, 6, 128),
  );
  const result = fuzz(
    { samples: [sample, Buffer.concat([extended, sample])], count: 100_000, seed: 21, allowed: [RtmpError] },
    (bytes) => {
      let size = 0;
      for (const read of new ChunkReader().push(bytes)) size += read.payload.length;
      assert.ok(size <= bytes.length);
    },
  );
  assert.ok(result.taken > 1000 && result.refused > 1000, JSON.stringify(result));
});

test("100000 mutated sessions give events or a known error, and answers stay in proportion", () => {
  const samples = [
    Buffer.concat([publishing, command("deleteStream", 6, [null, 1])]),
    Buffer.concat([
      opening("play", "out", "one"),
      message(MessageType.UserControl, Buffer.from("000600000007", "hex")),
    ]),
  ];
  const keep = HELLO.length + ECHO.length;
  const result = fuzz({ samples, count: 100_000, seed: 22, allowed: [RtmpError, AmfError], keep }, (bytes) => {
    const session = new RtmpSession(zeros);
    let sent = 0;
    for (const event of session.push(bytes)) {
      const data =
        event.type === "send"
          ? event.data
          : event.type === "publish"
            ? session.acceptPublish(event.streamId)
            : event.type === "play"
              ? session.acceptPlay(event.streamId)
              : [];
      for (const part of data) sent += part.length;
    }
    assert.ok(sent < 16 * bytes.length);
  });
  assert.ok(result.taken > 1000 && result.refused > 1000, JSON.stringify(result));
});

test("mutated handshakes do no harm", () => {
  fuzz({ samples: [publishing], count: 2000, seed: 23, allowed: [RtmpError, AmfError] }, (bytes) =>
    new Server().push(bytes),
  );
});

test.run();
