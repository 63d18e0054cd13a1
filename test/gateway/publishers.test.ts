import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EcmaArray } from "../../src/transport/amf/amf0.js";
import { scriptTag } from "../../src/transport/flv/script.js";
import { mutate, random } from "../transport/fuzz.js";
import { commands, ECHO, HELLO, lastDescription, media, opening } from "../transport/rtmp-client.js";
import {
  attach,
  ChannelClient,
  HEADERS,
  inScope,
  names,
  openGateway,
  openSocket,
  picture,
  publish,
  RtmpClient,
  send,
  sound,
  until,
} from "./support.js";

const test = suite("gateway: publishers");

test("a wrong key is refused with its code, and only there", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    for (const [app, key] of [
      ["live", "WRONG"],
      ["live", "KE"],
      ["live", ""],
      ["other", "KEY"],
    ] as const) {
      const client = new RtmpClient(scope, running.rtmpPort);
      client.send(opening("publish", app, key));
      await until("the connection to end", () => client.closed);
      assert.ok(commands(client.answers).includes("onStatus NetStream.Publish.BadName"));
      assert.match(lastDescription(client.answers), app === "live" ? "SL_KEY_UNKNOWN" : "SL_STREAM_UNKNOWN");
    }
    assert.is(running.counter("publishers_refused_key_unknown_total"), 3);
    assert.is(running.counter("publishers_refused_path_total"), 1);
    const { refused } = running.gateway.status();
    assert.equal([refused?.code, refused?.detail], ["SL_STREAM_UNKNOWN", "publish to rtmp://HOST/live/KEY"]);
    assert.equal(running.gateway.status().publishers, []);
  }));

test("a second publisher is refused, its channel is told, the first one goes on", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const first = await publish(scope, running);
    const second = new RtmpClient(scope, running.rtmpPort);
    second.send(opening("publish", "live", "KEY"));
    await until("the second to be closed", () => second.closed);
    assert.match(lastDescription(second.answers), "SL_KEY_IN_USE");
    send(first, picture(1, true));
    await until("the picture of the first", () => names(link.tags).includes("K1"));
    assert.equal(link.story, ["gone", "live", "refused SL_KEY_IN_USE"]);
    assert.is(running.gateway.status().publishers.length, 1);
    assert.is(running.counter("publishers_refused_key_in_use_total"), 1);
  }));

test("connections that say nothing keep no publisher out: the oldest gives way", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { maxPending: 3 });
    const silent: RtmpClient[] = [];
    for (let i = 0; i < 3; i++) {
      silent.push(new RtmpClient(scope, running.rtmpPort));
      await until("the connection", () => running.counter("rtmp_connections_total") === i + 1);
    }
    await publish(scope, running);
    await until("the oldest to be closed", () => silent[0]!.closed);
    assert.equal(
      silent.map((client) => client.closed),
      [true, false, false],
    );
    assert.is(running.gateway.status().publishers.length, 1);
    assert.is(running.counter("rtmp_connections_refused_total"), 1);
  }));

test("a publisher that leaves frees its key at once and can come back", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    for (const n of [1, 2]) {
      const client = await publish(scope, running);
      send(client, picture(n, true));
      await until("the picture", () => names(link.tags).includes(`K${n}`));
      client.socket.destroy();
      await until("the publisher to be gone", () => running.gateway.status().publishers.length === 0);
    }
    await until("the last word", () => link.story.length === 5);
    assert.equal(link.story, ["gone", "live", "gone", "live", "gone"]);
    assert.is(names(link.tags), "M V A K1 M V A K2");
  }));

test("a silent publisher is dropped, one that only sends sound is not", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { publisherSilentMs: 600 });
    const silent = await publish(scope, running, "KEY");
    const talking = await publish(scope, running, "KEY2");
    const timer = scope.add(
      setInterval(() => send(talking, sound(1)), 50),
      (t) => clearInterval(t),
    );
    assert.ok(timer);
    await until("the silent one to be dropped", () => silent.closed);
    assert.is(running.counter("publishers_silent_total"), 1);
    assert.equal(
      running.gateway.status().publishers.map((p) => p.channel),
      ["two"],
    );
    await publish(scope, running, "KEY");
  }));

test("a connection that asks for nothing is dropped", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { handshakeMs: 300 });
    const mute = new RtmpClient(scope, running.rtmpPort);
    const half = new RtmpClient(scope, running.rtmpPort);
    half.send(HELLO, ECHO);
    const http = openSocket(scope, { port: running.mediaPort, host: "127.0.0.1" });
    let httpClosed = false;
    http.on("close", () => {
      httpClosed = true;
    });
    http.resume();
    http.write("GET /out/one.flv HTTP/1.1\r\nHost: x\r\n");
    const link = new ChannelClient(scope, running.socket);
    await until("all of them to be dropped", () => mute.closed && half.closed && httpClosed && link.closed);
    assert.is(running.counter("rtmp_timeouts_total"), 2);
  }));

test("malformed peers lose only their own connection", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const good = await publish(scope, running);
    const bad = [Buffer.from("GET / HTTP/1.1\r\n\r\n"), Buffer.concat([HELLO, ECHO, Buffer.alloc(100, 0xff)])];
    for (const bytes of bad) {
      const client = new RtmpClient(scope, running.rtmpPort);
      client.send(bytes);
      await until("the malformed one to be closed", () => client.closed);
    }
    const publisher = await publish(scope, running, "KEY2");
    send(publisher, { type: 9, timestampMs: 0, body: Buffer.of(0x17, 1) });
    await until("the broken picture to end its publisher", () => publisher.closed);
    for (const bytes of [
      Buffer.from("ffffffff", "hex"),
      Buffer.from("000000040002", "hex"),
      Buffer.from("00000004000212[]", "latin1"),
    ]) {
      const socket = openSocket(scope, { path: running.socket });
      let closed = false;
      socket.on("close", () => {
        closed = true;
      });
      socket.resume();
      socket.end(bytes);
      await until("the malformed channel to be closed", () => closed);
    }
    const stranger = new ChannelClient(scope, running.socket);
    stranger.send({ t: "attach", channel: "nobody" });
    await until("the unknown channel to be closed", () => stranger.closed);
    assert.is(running.counter("rtmp_malformed_total"), 3);
    send(good, picture(7, true));
    await until("the good one's picture", () => names(link.tags).includes("K7"));
  }));

test("300 mutated connections leave the gateway as it was", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { lingerMs: 50 });
    const next = random(41);
    const good = Buffer.concat([
      opening("publish", "live", "KEY"),
      ...HEADERS.map((t) => media(t)),
      media(picture(1, true)),
    ]);
    for (let batch = 0; batch < 10; batch++) {
      const clients = Array.from({ length: 30 }, () => new RtmpClient(scope, running.rtmpPort));
      for (const client of clients) client.socket.end(mutate(good, next, HELLO.length + ECHO.length));
      await until("all of them to end", () => clients.every((client) => client.closed));
    }
    await until("no publisher", () => running.gateway.status().publishers.length === 0);
    const link = await attach(scope, running);
    send(await publish(scope, running), picture(7, true));
    await until("a good publisher's picture", () => names(link.tags).includes("K7"));
    assert.is(running.counter("rtmp_connections_total"), 301);
  }));

test("HEVC, AV1 and sound that is not AAC are refused by name, at the publisher and at the channel", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const cases: [Buffer, 8 | 9, string, string][] = [
      [
        Buffer.concat([Buffer.of(0x90), Buffer.from("hvc1"), Buffer.alloc(20)]),
        9,
        "SL_VIDEO_CODEC_UNSUPPORTED",
        "hvc1",
      ],
      [
        Buffer.concat([Buffer.of(0x90), Buffer.from("av01"), Buffer.alloc(20)]),
        9,
        "SL_VIDEO_CODEC_UNSUPPORTED",
        "av01",
      ],
      [Buffer.concat([Buffer.of(0x1c), Buffer.alloc(20)]), 9, "SL_VIDEO_CODEC_UNSUPPORTED", "HEVC"],
      [Buffer.concat([Buffer.of(0x2f), Buffer.alloc(20)]), 8, "SL_AUDIO_CODEC_UNSUPPORTED", "MP3"],
    ];
    for (const [body, type, code, codec] of cases) {
      const client = await publish(scope, running);
      send(client, { type, timestampMs: 0, body });
      await until("the publisher to be closed", () => client.closed);
      assert.match(lastDescription(client.answers), `${code}: ${codec}`);
      assert.ok(commands(client.answers).includes("onStatus NetStream.Publish.Failed"));
    }
    await until("the story of four", () => link.story.length === 13);
    assert.equal(link.story.slice(1, 4), ["live", "gone", "refused SL_VIDEO_CODEC_UNSUPPORTED"]);
    assert.equal(link.story.slice(10), ["live", "gone", "refused SL_AUDIO_CODEC_UNSUPPORTED"]);
    assert.is(running.counter("publishers_refused_video_codec_total"), 3);
    assert.is(running.counter("publishers_refused_audio_codec_total"), 1);
  }));

test("@setDataFrame is taken off, and further messages pass unchanged", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const client = await publish(scope, running);
    send(
      client,
      scriptTag("@setDataFrame", 0, "onMetaData", new EcmaArray({ a: 1 })),
      scriptTag("onTextData", 0, { text: "x" }),
    );
    await until("both messages", () => link.tags.length === 5);
    assert.equal(link.tags[3]!.body, scriptTag("onMetaData", 0, new EcmaArray({ a: 1 })).body);
    assert.equal(link.tags[4]!.body, scriptTag("onTextData", 0, { text: "x" }).body);
  }));

test.run();
