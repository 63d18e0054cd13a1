import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gateway } from "../../src/gateway/gateway.js";
import { EcmaArray } from "../../src/transport/amf/amf0.js";
import { scriptTag } from "../../src/transport/flv/script.js";
import type { FlvTag } from "../../src/transport/flv/tag.js";
import { mutate, random } from "../transport/fuzz.js";
import { commands, ECHO, HELLO, lastDescription, media, opening } from "../transport/rtmp-client.js";
import {
  ChannelClient,
  HEADERS,
  inScope,
  names,
  openGateway,
  openSocket,
  picture,
  playHttp,
  RtmpClient,
  type Running,
  type Scope,
  sound,
  until,
} from "./support.js";

const test = suite("gateway");

/** A publisher that was let in and has sent the headers. */
async function publish(scope: Scope, running: Running, key = "KEY"): Promise<RtmpClient> {
  const client = new RtmpClient(scope, running.rtmpPort);
  client.send(opening("publish", "live", key));
  await until("the publisher to be let in", () =>
    commands(client.answers).includes("onStatus NetStream.Publish.Start"),
  );
  client.send(...HEADERS.map((tag) => media(tag)));
  return client;
}

async function attach(scope: Scope, running: Running, channel = "one"): Promise<ChannelClient> {
  const link = new ChannelClient(scope, running.socket);
  link.send({ t: "attach", channel });
  await until("the state of the publisher", () => link.messages.length > 0);
  return link;
}

const send = (client: RtmpClient, ...tags: FlvTag[]) => client.send(...tags.map((tag) => media(tag)));

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

test("a player that comes after the end of a programme waits for the next one", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { restMs: 100 });
    const link = await attach(scope, running);
    for (const tag of [...HEADERS, picture(1, true), picture(2, false)]) link.out(tag);
    const url = `http://127.0.0.1:${running.mediaPort}/out/one.flv`;
    const stays = await playHttp(scope, url);
    await until("the end of the programme", () => names(stays.tags).endsWith("p2"));
    // Looked at every 250 ms.
    await new Promise((done) => setTimeout(done, 800));
    const late = await playHttp(scope, url);
    for (const tag of [picture(90, false), picture(91, true)]) link.out(tag);
    await until("the next programme", () => names(late.tags).endsWith("K91"));
    assert.is(names(late.tags), "M V A K91");
    await until("who stayed", () => names(stays.tags).endsWith("p2 p90 K91"));
    assert.not(stays.state.ended);
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

test("a channel that attaches while live gets headers, then tags from the next key frame", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const early = await attach(scope, running, "one");
    const client = await publish(scope, running);
    send(client, picture(1, true), sound(1));
    await until("the picture to be in", () => names(early.tags).includes("K1"));
    const late = await attach(scope, running, "one");
    await until("the older connection to be closed", () => early.closed);
    await until("the headers", () => late.tags.length === 3);
    send(client, picture(2, false), picture(3, true), picture(4, false));
    await until("the newest picture", () => names(late.tags).includes("p4"));
    assert.is(names(late.tags), "M V A K3 p4");
    assert.equal(late.story, ["live"]);
    assert.equal(late.tags[3]!.body, picture(3, true).body);
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

test("what a channel sends reaches players over HTTP and RTMP, bytes equal, and its end ends them", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const http = await playHttp(scope, `http://127.0.0.1:${running.mediaPort}/out/one.flv`);
    const rtmp = new RtmpClient(scope, running.rtmpPort);
    rtmp.send(opening("play", "out", "one"));
    await until("both players", () => running.gateway.status().players === 2);
    assert.is(http.response.headers.get("access-control-allow-origin"), "*");
    assert.is(http.response.headers.get("content-type"), "video/x-flv");
    const tags = [
      ...HEADERS,
      picture(1, true, 100_000),
      sound(1),
      scriptTag("onHighlight", 40, { score: 1 }),
      picture(2, false),
    ];
    for (const tag of tags) link.out(tag);
    await until("all tags at both", () => http.tags.length === tags.length && rtmp.tags.length === tags.length);
    assert.equal(http.tags, tags);
    assert.equal(rtmp.tags, tags);
    const joiner = await playHttp(scope, `http://127.0.0.1:${running.mediaPort}/out/one.flv`);
    await until("the joiner's start", () => joiner.tags.length === 7);
    assert.is(names(joiner.tags), "M V A K1 s x p2");
    link.out(picture(3, false, 500_000));
    link.send({ t: "outEnd" });
    await until("the end of all", () => http.state.ended && joiner.state.ended && rtmp.closed);
    for (const player of [http, rtmp, joiner])
      assert.ok(names(player.tags).endsWith("p3"), "the last tag comes before the end");
    assert.ok(commands(rtmp.answers).includes("onStatus NetStream.Play.UnpublishNotify"));
    await until("no players", () => running.gateway.status().players === 0);
  }));

test("players stay through a restart of the channel and go on at its next key frame", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const first = await attach(scope, running);
    const player = await playHttp(scope, `http://127.0.0.1:${running.mediaPort}/out/one.flv`);
    for (const tag of [...HEADERS, picture(1, true)]) first.out(tag);
    await until("the first picture", () => names(player.tags).includes("K1"));
    first.socket.destroy();
    const second = await attach(scope, running);
    for (const tag of [...HEADERS, picture(2, false), picture(3, true)]) second.out(tag);
    await until("the next key picture", () => names(player.tags).includes("K3"));
    assert.is(names(player.tags), "M V A K1 M V A K3");
  }));

test("/in gives the programme as published", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const client = await publish(scope, running);
    const http = await playHttp(scope, `http://127.0.0.1:${running.mediaPort}/in/one.flv`);
    const rtmp = new RtmpClient(scope, running.rtmpPort);
    rtmp.send(opening("play", "in", "one"));
    await until("both players", () => running.gateway.status().players === 2);
    send(client, picture(1, true), sound(1));
    await until("the tags", () => names(http.tags).endsWith("K1 s") && names(rtmp.tags).endsWith("K1 s"));
    client.socket.destroy();
    await until("the end", () => http.state.ended && rtmp.closed);
  }));

test("unknown paths and channels are refused", () =>
  inScope(async (scope) => {
    const { mediaPort, rtmpPort } = await openGateway(scope);
    const status = async (path: string, method = "GET") =>
      (await fetch(`http://127.0.0.1:${mediaPort}${path}`, { method })).status;
    assert.is(await status("/out/nobody.flv"), 404);
    assert.is(await status("/out/..%2fone.flv"), 404);
    assert.is(await status("/"), 404);
    assert.is(await status("/out/one.flv", "POST"), 405);
    assert.is(await status("/out/one.flv", "OPTIONS"), 204);
    assert.is(await status("/out/one.flv", "HEAD"), 200);
    for (const [app, name] of [
      ["out", "nobody"],
      ["live", "KEY"],
    ] as const) {
      const client = new RtmpClient(scope, rtmpPort);
      client.send(opening("play", app, name));
      await until("the player to be closed", () => client.closed);
      assert.match(lastDescription(client.answers), "SL_STREAM_UNKNOWN");
    }
  }));

test("players over the limit are refused, and places come free again", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { maxPlayers: 1, maxPublishers: 1 });
    const url = `http://127.0.0.1:${running.mediaPort}/out/one.flv`;
    const player = await playHttp(scope, url);
    assert.is(player.response.status, 200);
    const refused = await fetch(url);
    assert.is(refused.status, 503);
    assert.match(await refused.text(), "SL_GATEWAY_FULL");
    const publisher = await publish(scope, running);
    assert.not.ok(publisher.closed);
    const second = new RtmpClient(scope, running.rtmpPort);
    second.send(opening("publish", "live", "KEY2"));
    await until("the second publisher to be closed", () => second.closed);
    assert.match(lastDescription(second.answers), "SL_GATEWAY_FULL");
    assert.is(running.counter("players_refused_total"), 1);
  }));

test("a player that never reads is held at the limit and dropped after a while; the others lose nothing", () =>
  inScope(async (scope) => {
    const limit = 2 * 1024 * 1024;
    const running = await openGateway(scope, { playerStalledMs: 3000 });
    const link = await attach(scope, running);
    const rtmp = new RtmpClient(scope, running.rtmpPort);
    rtmp.send(opening("play", "out", "one"));
    await until("the RTMP player", () => running.gateway.status().players === 1);
    rtmp.socket.pause();
    const http = openSocket(scope, { port: running.mediaPort, host: "127.0.0.1" });
    http.pause();
    http.write("GET /out/one.flv HTTP/1.1\r\nHost: x\r\n\r\n");
    const good = await playHttp(scope, `http://127.0.0.1:${running.mediaPort}/out/one.flv`);
    await until("all players", () => running.gateway.status().players === 3);
    for (const tag of HEADERS) link.out(tag);
    const size = 100_000;
    let most = 0;
    // 60 MB: more than the system's socket buffers (a few MB) and the limit together.
    for (let n = 0; n < 600; n++) {
      link.out(picture(n, n % 10 === 0, size));
      if (n % 10 !== 9) continue;
      await until("the reading player", () => names(good.tags.slice(-1)).endsWith(String(n)));
      most = Math.max(most, running.gateway.largestPlayerBacklogBytes);
    }
    assert.ok(most > limit / 2, `the players did get stuck: ${most}`);
    assert.ok(most <= limit + 2 * size, String(most));
    assert.ok(running.counter("player_dropped_tags_total") > 100);
    assert.is(good.tags.length, 603);
    await until("the stuck players to be dropped", () => running.gateway.status().players === 1);
    assert.is(running.counter("players_stalled_total"), 2);
  }));

test("a channel that never reads is held at the limit and counted apart", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const client = await publish(scope, running);
    await until("the headers", () => link.tags.length === 3);
    link.socket.pause();
    for (let n = 0; n < 200; n++) send(client, picture(n, n % 10 === 0, 100_000));
    await until("all pictures to be in", () => running.counter("tags_in_total") === 203);
    assert.ok(running.counter("channel_dropped_tags_total") > 50);
    assert.is(running.counter("player_dropped_tags_total"), 0);
    link.socket.resume();
    send(client, picture(200, true));
    await until("the channel to go on", () => names(link.tags).endsWith("K200"));
  }));

test("keys and channels change while running without touching the others", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const stays = await publish(scope, running, "KEY");
    const goes = await publish(scope, running, "KEY2");
    running.gateway.configure({ KEY: "one", NEW: "three" }, ["one", "three"]);
    await until("the removed channel's publisher to be closed", () => goes.closed);
    await publish(scope, running, "NEW");
    assert.not.ok(stays.closed);
    assert.equal(
      running.gateway.status().publishers.map((p) => p.channel),
      ["one", "three"],
    );
  }));

test("a key that was changed is of no use to who publishes with it", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const leaked = await publish(scope, running, "KEY");
    const other = await publish(scope, running, "KEY2");
    const keys = Object.entries({ KEY: "one", KEY2: "two" });
    running.gateway.configure(Object.fromEntries(keys), ["one", "two"]);
    running.gateway.configure({ CHANGED: "one", KEY2: "two" }, ["one", "two"]);
    await until("its publisher to be closed", () => leaked.closed);
    await publish(scope, running, "CHANGED");
    assert.not.ok(other.closed);
  }));

test("a left-over socket file is replaced, another file is not; the new one is for its owner only", () =>
  inScope(async (scope) => {
    const first = await openGateway(scope);
    assert.is(statSync(first.socket).mode & 0o777, 0o600);
    const host = { host: "127.0.0.1", port: 0 };
    const second = scope.add(new Gateway(() => {}), (g) => g.close());
    const base = { rtmp: host, media: host, streamKeys: {}, channels: [] };
    await second.listen({ ...base, socket: first.socket });
    const file = join(first.dir, "file");
    writeFileSync(file, "precious");
    const third = scope.add(new Gateway(() => {}), (g) => g.close());
    await third.listen({ ...base, socket: file }).then(
      () => assert.unreachable("listened on a file"),
      (error: NodeJS.ErrnoException) => assert.is(error.code, "EADDRINUSE"),
    );
    assert.ok(existsSync(file));
  }));

test("a port in use is an error and leaves nothing open", () =>
  inScope(async (scope) => {
    const first = await openGateway(scope);
    const second = scope.add(new Gateway(() => {}), (g) => g.close());
    const config = {
      socket: join(first.dir, "second.sock"),
      rtmp: { host: "127.0.0.1", port: first.rtmpPort },
      media: { host: "127.0.0.1", port: 0 },
      streamKeys: {},
      channels: [],
    };
    await second.listen(config).then(
      () => assert.unreachable("listened twice on a port"),
      (error: NodeJS.ErrnoException) => assert.is(error.code, "EADDRINUSE"),
    );
    assert.not.ok(existsSync(config.socket));
  }));

test.run();
