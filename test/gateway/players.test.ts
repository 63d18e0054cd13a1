import { suite } from "uvu";
import * as assert from "uvu/assert";
import { scriptTag } from "../../src/transport/flv/script.js";
import { commands, lastDescription, opening } from "../transport/rtmp-client.js";
import {
  attach,
  HEADERS,
  inScope,
  names,
  openGateway,
  openSocket,
  picture,
  playHttp,
  publish,
  RtmpClient,
  send,
  sound,
  until,
} from "./support.js";

const test = suite("gateway: players");

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

test("what a channel sends reaches players over HTTP and RTMP, bytes equal, and the end of the channel or of the service ends them", () =>
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
    const other = await attach(scope, running, "two");
    const stays = await playHttp(scope, `http://127.0.0.1:${running.mediaPort}/out/two.flv`);
    for (const tag of [...HEADERS, picture(1, true)]) other.out(tag);
    link.out(picture(3, false, 500_000));
    await until("the last tag at all", () => [http, rtmp, joiner].every((p) => names(p.tags).endsWith("p3")));
    running.gateway.configure({}, ["two"]);
    await until("the end of all", () => http.state.ended && joiner.state.ended && rtmp.closed);
    assert.ok(commands(rtmp.answers).includes("onStatus NetStream.Play.UnpublishNotify"));
    await until("no other players", () => running.gateway.status().players === 1);
    const last = new RtmpClient(scope, running.rtmpPort);
    last.send(opening("play", "out", "two"));
    await until("both of the other channel", () => names(stays.tags).endsWith("K1") && names(last.tags).endsWith("K1"));
    // As when the service ends: its channels' processes go first.
    other.socket.destroy();
    await running.gateway.close();
    await until("their end", () => stays.state.ended && last.closed);
    assert.ok(commands(last.answers).includes("onStatus NetStream.Play.UnpublishNotify"));
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
    const told = second.messages.find((m) => m.t === "timeline");
    assert.ok(told !== undefined && told.leavingMs >= 40 && told.leavingMs < 10_000, JSON.stringify(second.messages));
    assert.not.ok(first.messages.some((m) => m.t === "timeline"));
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

test.run();
