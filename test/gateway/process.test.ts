import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { FromGateway, ToGateway } from "../../src/transport/ipc/messages.js";
import { commands, opening } from "../transport/rtmp-client.js";
import { inScope, RtmpClient, type Scope, until, within } from "./support.js";

const test = suite("gateway process");

/** The test runs from source under tsx and compiled in dist: the child is started the same way. */
const FROM_SOURCE = import.meta.url.endsWith(".ts");
const MAIN = fileURLToPath(new URL(`../../src/gateway/main.${FROM_SOURCE ? "ts" : "js"}`, import.meta.url));

type Child = {
  process: ChildProcess;
  messages: FromGateway[];
  exit: Promise<number | null>;
  tell: (m: ToGateway) => void;
  socket: string;
};

async function open(scope: Scope): Promise<Child> {
  const dir = scope.add(await mkdtemp(join(tmpdir(), "sightline-gateway-")), (d) =>
    rm(d, { recursive: true, force: true }),
  );
  const child = fork(MAIN, { execArgv: FROM_SOURCE ? ["--import", "tsx"] : [], stdio: "ignore" });
  const exit = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)));
  scope.add(child, async () => {
    child.kill("SIGKILL");
    await exit;
  });
  const messages: FromGateway[] = [];
  child.on("message", (message) => messages.push(message as FromGateway));
  return { process: child, messages, exit, tell: (m) => void child.send(m), socket: join(dir, "s.sock") };
}

const configuration = (socket: string, rtmpPort = 0): ToGateway => ({
  type: "configure",
  socket,
  rtmp: { host: "127.0.0.1", port: rtmpPort },
  media: { host: "127.0.0.1", port: 0 },
  streamKeys: { KEY: "one" },
  channels: ["one"],
});

const ready = (child: Child) => until("ready", () => child.messages.find((m) => m.type === "ready"));

test("it reports ready, then its state with a publisher, and ends on stop", () =>
  inScope(async (scope) => {
    const child = await open(scope);
    child.tell(configuration(child.socket));
    const { rtmpPort } = await ready(child);
    const client = new RtmpClient(scope, rtmpPort);
    client.send(opening("publish", "live", "KEY"));
    await until("the publisher to be let in", () =>
      commands(client.answers).includes("onStatus NetStream.Publish.Start"),
    );
    const status = await until("its state", () =>
      child.messages.find((m) => m.type === "status" && m.publishers.length === 1),
    );
    assert.ok(status.type === "status" && status.counters.publishers_total === 1);
    assert.ok(child.messages.some((m) => m.type === "log" && m.message === "publisher is live"));
    child.tell({ type: "stop" });
    assert.is(await within(child.exit, "the end"), 0);
    await until("the client to be closed", () => client.closed);
  }));

test("it ends when its parent's connection is lost, with a publisher and a player on it", () =>
  inScope(async (scope) => {
    const child = await open(scope);
    child.tell(configuration(child.socket));
    const { rtmpPort } = await ready(child);
    for (const [what, app, name] of [
      ["publish", "live", "KEY"],
      ["play", "in", "one"],
    ] as const) {
      const client = new RtmpClient(scope, rtmpPort);
      client.send(opening(what, app, name));
      await until("the answer", () => commands(client.answers).some((c) => c.startsWith("onStatus")));
    }
    child.process.disconnect();
    assert.is(await within(child.exit, "the end"), 0);
  }));

test("a second configure changes keys without a new start", () =>
  inScope(async (scope) => {
    const child = await open(scope);
    child.tell(configuration(child.socket));
    const { rtmpPort } = await ready(child);
    child.tell({ ...configuration(child.socket), streamKeys: { OTHER: "one" } } as ToGateway);
    const client = await until("the new key to be known", () => {
      const fresh = new RtmpClient(scope, rtmpPort);
      fresh.send(opening("publish", "live", "OTHER"));
      return fresh;
    });
    await until("an answer", () => commands(client.answers).some((c) => c.startsWith("onStatus")));
    assert.ok(commands(client.answers).includes("onStatus NetStream.Publish.Start"));
  }));

test("a port in use ends it with code 1 and a line that says why", () =>
  inScope(async (scope) => {
    const first = await open(scope);
    first.tell(configuration(first.socket));
    const { rtmpPort } = await ready(first);
    const second = await open(scope);
    second.tell(configuration(second.socket, rtmpPort));
    assert.is(await within(second.exit, "the end"), 1);
    const line = second.messages.find((m) => m.type === "log" && m.level === "error");
    assert.ok(line?.type === "log" && line.fields?.code === "SL_GATEWAY_LISTEN");
  }));

test("after kill -9 a new one takes the same socket path", () =>
  inScope(async (scope) => {
    const first = await open(scope);
    first.tell(configuration(first.socket));
    await ready(first);
    first.process.kill("SIGKILL");
    await within(first.exit, "the end");
    const second = await open(scope);
    second.tell(configuration(first.socket));
    await ready(second);
  }));

test.run();
