import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gateway } from "../../src/gateway/gateway.js";
import { attach, inScope, names, openGateway, picture, publish, send, sound, until } from "./support.js";

const test = suite("gateway");

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
