import { EventEmitter } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { WebSocket } from "ws";
import type { DashboardEvent } from "../../src/dashboard/api.js";
import { type Backend, HttpServer } from "../../src/supervisor/http/server.js";
import type { ServerEvent, ServerState } from "../../src/supervisor/state.js";
import type { ChannelPatch, ChannelStatus } from "../../src/transport/ipc/messages.js";
import { recordingLog, until } from "./support.js";

const STATUS: ChannelStatus = {
  name: "studio",
  source: "live",
  mode: "late",
  reason: "SL_MODEL_LATE",
  bypass: false,
  keep: "on-screen",
  strengthPercent: 100,
  attenuationLimitDb: 40,
  declaredLatencyMs: 650,
  latencyParts: { hop: 40 },
  measuredLatencyMs: { p50: 640, p95: 655, max: 660 },
  stageMs: { model: { p50: 2, p95: 4 } },
  levels: { inDb: -20, outDb: -26, removedDb: 6 },
  faces: [],
  facesAgeMs: 0,
  video: null,
  audio: null,
  driftPpm: 0,
  line: { sound: { jitterMs: 4.5, waitMs: 60 }, picture: null },
  counters: { windows_late: 3, "bad name": 1, __proto: 2 },
  outputs: [],
};

class FakeService extends EventEmitter<{ event: [ServerEvent] }> implements Backend {
  waiting: string[] = [];
  readonly patches: [string, ChannelPatch][] = [];
  state(): ServerState {
    return {
      version: "0",
      configError: null,
      configIssues: [],
      restartNeeded: ["engine"],
      mediaPort: 8081,
      rtmpPort: 1935,
      channels: [
        { name: "studio", status: STATUS, ageMs: 1, process: "running" },
        { name: "down", status: null, ageMs: null, process: "back-off" },
      ],
      gateway: { ready: true, counters: { tags_in: 7 }, publishers: [], players: 1, viewers: 0, refused: null },
      inference: null,
      inferences: [],
      processes: [
        { name: "gateway", pid: 1, state: "running", restarts: 2, reason: "SL_PROCESS_READY", memoryBytes: 5e7 },
      ],
      urls: { dashboard: "", channels: {} },
    };
  }
  waitingFor(): string[] {
    return this.waiting;
  }
  patch(name: string, patch: ChannelPatch): Required<ChannelPatch> {
    this.patches.push([name, patch]);
    return { bypass: false, keep: "mix", strengthPercent: 1, attenuationLimitDb: 2, ...patch };
  }
}

type Answer = { status: number; type: string; body: string; headers: Record<string, string | string[] | undefined> };
type Context = { service: FakeService; server: HttpServer; page: string; folder: string };
const test = suite<Context>("supervisor: HTTP");

test.before.each(async (c) => {
  c.folder = mkdtempSync(join(tmpdir(), "sightline-page-"));
  c.page = join(c.folder, "page");
  mkdirSync(c.page);
  writeFileSync(join(c.page, "index.html"), "<p>page</p>");
  writeFileSync(join(c.page, "app.js"), "1");
  writeFileSync(join(c.page, ".hidden.js"), "hidden");
  writeFileSync(join(c.page, "program.sh"), "no such type");
  writeFileSync(join(c.folder, "outside.js"), "outside");
  symlinkSync(join(c.folder, "outside.js"), join(c.page, "link.js"));
  c.service = new FakeService();
  c.server = new HttpServer({
    backend: c.service,
    log: recordingLog().log,
    pageFolder: c.page,
    allowedHosts: () => ["dash.example"],
    eventLimits: { maxClients: 3, maxWaitingBytes: 100_000, pingIntervalMs: 60_000 },
  });
  await c.server.listen("127.0.0.1", 0);
});
test.after.each(async (c) => {
  await c.server.close();
  rmSync(c.folder, { recursive: true, force: true });
});

function ask(
  c: Context,
  method: string,
  path: string,
  options: { headers?: Record<string, string>; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request(
      { host: "127.0.0.1", port: c.server.port, method, path, headers: options.headers ?? {}, timeout: 10_000 },
      (res) => {
        let body = "";
        res.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        res.on("end", () =>
          resolve({
            status: res.statusCode ?? 0,
            type: String(res.headers["content-type"]),
            body,
            headers: res.headers,
          }),
        );
      },
    );
    req.on("timeout", () => req.destroy(new Error("no answer")));
    req.on("error", reject);
    req.end(options.body);
  });
}
const JSON_TYPE = { "Content-Type": "application/json" };
const patch = (c: Context, body: string, headers: Record<string, string> = {}, name = "studio"): Promise<Answer> =>
  ask(c, "PATCH", `/api/channels/${name}`, { headers: { ...JSON_TYPE, ...headers }, body });

test("health says that the process is up, readiness what is missing", async (c) => {
  assert.is((await ask(c, "GET", "/healthz")).status, 200);
  assert.is((await ask(c, "GET", "/readyz")).status, 200);
  c.service.waiting = ["inference"];
  const answer = await ask(c, "GET", "/readyz");
  assert.is(answer.status, 503);
  assert.equal(JSON.parse(answer.body), { ready: false, waitingFor: ["inference"] });
  assert.is((await ask(c, "GET", "/healthz")).status, 200);
});

test("metrics hold what the children report, and leave out what Prometheus cannot take", async (c) => {
  const { status, body, type } = await ask(c, "GET", "/metrics");
  assert.is(status, 200);
  assert.match(type, "version=0.0.4");
  for (const line of [
    'sightline_channel_mode{channel="studio",mode="late"} 1',
    'sightline_channel_mode{channel="studio",mode="separated"} 0',
    'sightline_channel_reason{channel="studio",reason="SL_MODEL_LATE"} 1',
    'sightline_channel_windows_late_total{channel="studio"} 3',
    'sightline_channel_latency_seconds{channel="studio",quantile="0.95"} 0.655',
    'sightline_channel_stage_seconds{channel="studio",stage="model",quantile="0.5"} 0.002',
    'sightline_channel_up{channel="down"} 0',
    'sightline_config_restart_needed{key="engine"} 1',
    'sightline_process_restarts_total{process="gateway"} 2',
    "sightline_gateway_tags_in_total 7",
    'sightline_channel_line_jitter_seconds{channel="studio",track="sound"} 0.0045',
    'sightline_channel_line_wait_seconds{channel="studio",track="sound"} 0.06',
  ]) {
    assert.ok(body.includes(`${line}\n`), line);
  }
  assert.match(body, /sightline_supervisor_process_resident_memory_bytes \d+/);
  assert.not.match(body, "bad name");
  assert.is(
    (await ask(c, "GET", "/metrics")).body.includes('windows_late_total{channel="studio"} 3'),
    true,
    "counters are not added up over requests",
  );
});

test("a patch is checked as the file is, and reaches the channel", async (c) => {
  const good = await patch(c, '{"bypass":true,"strengthPercent":30}');
  assert.is(good.status, 200);
  assert.equal(JSON.parse(good.body), {
    name: "studio",
    bypass: true,
    keep: "mix",
    strengthPercent: 30,
    attenuationLimitDb: 2,
  });
  assert.equal(c.service.patches, [["studio", { bypass: true, strengthPercent: 30 }]]);
  for (const body of [
    '{"bypass":1}',
    '{"strengthPercent":101}',
    '{"strengthPercent":null}',
    '{"profile":"low"}',
    "{}",
    "[]",
    "null",
    "1",
    "{",
    "",
    '{"__proto__":{"bypass":true}}',
  ]) {
    const answer = await patch(c, body);
    assert.is(answer.status, 400, body);
    assert.is(answer.type, "application/problem+json");
    const problem = JSON.parse(answer.body) as Record<string, unknown>;
    assert.is(problem.status, 400);
    assert.is(problem.code, "SL_HTTP_INVALID");
    assert.type(problem.title, "string");
    assert.type(problem.message, "string");
  }
  assert.is(c.service.patches.length, 1);
});

test("unknown channels, addresses and methods are problems with their own codes", async (c) => {
  assert.is(JSON.parse((await patch(c, '{"bypass":true}', {}, "nobody")).body).code, "SL_CHANNEL_UNKNOWN");
  for (const name of ["__proto__", "constructor", "..", "%2e%2e", "a/b", ""])
    assert.is((await patch(c, '{"bypass":true}', {}, name)).status, 404, name);
  assert.is((await ask(c, "GET", "/api/nothing")).status, 404);
  const answer = await ask(c, "POST", "/api/state");
  assert.is(answer.status, 405);
  assert.is(answer.headers.allow, "GET, HEAD");
  assert.is((await ask(c, "GET", "/api/events")).status, 426);
  assert.is((await patch(c, "{}", { "Content-Type": "text/plain" })).status, 415);
});

test("a body over the limit is refused", async (c) => {
  const answer = await patch(c, JSON.stringify({ bypass: true, x: "y".repeat(20_000) }));
  assert.is(answer.status, 413);
});

test("settings and state are for localhost and configured names only, pages only for the same origin", async (c) => {
  const port = c.server.port;
  const cases: [Record<string, string>, number][] = [
    [{ Host: `localhost:${port}` }, 200],
    [{ Host: `[::1]:${port}` }, 200],
    [{ Host: "dash.example" }, 200],
    [{ Host: "DASH.example:443", Origin: "https://dash.example:443" }, 200],
    [{ Host: `127.0.0.1:${port}`, Origin: `http://127.0.0.1:${port}` }, 200],
    [{ Host: "evil.example" }, 403],
    [{ Host: "127.0.0.1.evil.example" }, 403],
    [{ Host: `127.0.0.1:${port}`, Origin: "http://evil.example" }, 403],
    [{ Host: `127.0.0.1:${port}`, Origin: `http://127.0.0.1:${port + 1}` }, 403],
    [{ Host: `127.0.0.1:${port}`, Origin: "null" }, 403],
    [{ Host: "a b" }, 403],
  ];
  for (const [headers, status] of cases) {
    assert.is((await ask(c, "GET", "/api/state", { headers })).status, status, JSON.stringify(headers));
    assert.is((await patch(c, '{"bypass":true}', headers)).status, status, JSON.stringify(headers));
  }
  assert.is(
    (await ask(c, "GET", "/healthz", { headers: { Host: "evil.example" } })).status,
    200,
    "probes may use any name",
  );
});

test("only the page's own files are served", async (c) => {
  const page = await ask(c, "GET", "/");
  assert.is(page.body, "<p>page</p>");
  assert.match(String(page.headers["content-security-policy"]), "default-src 'none'");
  assert.is(page.headers["x-content-type-options"], "nosniff");
  assert.is((await ask(c, "GET", "/app.js?v=1")).body, "1");
  assert.is((await ask(c, "HEAD", "/app.js")).body, "");
  const tag = String((await ask(c, "GET", "/app.js")).headers.etag);
  assert.is((await ask(c, "GET", "/app.js", { headers: { "If-None-Match": tag } })).status, 304);
  for (const path of [
    "/../outside.js",
    "/%2e%2e/outside.js",
    "/..%2foutside.js",
    "/x/../../outside.js",
    "/link.js",
    "/.hidden.js",
    "/program.sh",
    "//app.js",
    "/app.js/",
    "/app.js%00",
    "/app",
    "/nothing.js",
  ]) {
    assert.is((await ask(c, "GET", path)).status, 404, path);
  }
  assert.is((await ask(c, "POST", "/")).status, 405);
});

test("a request that is no HTTP is answered and forgotten", async (c) => {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(c.server.port, "127.0.0.1", () => socket.write("\x16\x03\x01 nonsense\r\n\r\n"));
    let out = "";
    socket.setEncoding("utf8").on("data", (part: string) => {
      out += part;
    });
    socket.on("close", () => resolve(out));
    socket.on("error", reject);
    socket.setTimeout(10_000, () => socket.destroy(new Error("no answer")));
  });
  assert.match(text, "400 Bad Request");
  assert.is((await ask(c, "GET", "/healthz")).status, 200);
});

/** Opens a listener. Resolves when it is open or was refused. */
function listen(
  c: Context,
  headers: Record<string, string> = {},
  path = "/api/events",
): Promise<{ socket: WebSocket; events: DashboardEvent[]; refused: number | null }> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${c.server.port}${path}`, { headers, handshakeTimeout: 10_000 });
    const events: DashboardEvent[] = [];
    socket.on("message", (data) => events.push(JSON.parse(String(data)) as DashboardEvent));
    socket.on("open", () => resolve({ socket, events, refused: null }));
    socket.on("unexpected-response", (req, res) => {
      req.destroy();
      resolve({ socket, events, refused: res.statusCode ?? 0 });
    });
    socket.on("error", (error) => {
      if (!/handshake|Unexpected|closed before/.test(error.message)) reject(error);
    });
  });
}

test("a listener gets the state first and then each event", async (c) => {
  const { events, socket } = await listen(c);
  await until("state", () => events.length === 1);
  assert.is(events[0]!.type, "state");
  c.service.emit("event", { type: "status", status: STATUS });
  await until("status", () => events.length === 2);
  assert.equal(events[1], JSON.parse(JSON.stringify({ type: "status", status: STATUS })));
  socket.terminate();
});

test("listeners of strange origins, wrong addresses and beyond the limit are refused", async (c) => {
  assert.is((await listen(c, { Origin: "http://evil.example" })).refused, 403);
  assert.is((await listen(c, { Host: "evil.example" })).refused, 403);
  assert.is((await listen(c, {}, "/api/other")).refused, 404);
  const good = [await listen(c), await listen(c), await listen(c, { Origin: `http://127.0.0.1:${c.server.port}` })];
  assert.equal(
    good.map((l) => l.refused),
    [null, null, null],
  );
  assert.is((await listen(c)).refused, 503);
  for (const { socket } of good) socket.terminate();
});

test("a listener that does not read is dropped, the others go on", async (c) => {
  const slow = await listen(c);
  const good = await listen(c);
  (slow.socket as unknown as { _socket: { pause(): void } })._socket.pause();
  const big = { ...STATUS, counters: Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`counter_${i}`, i])) };
  let sent = 0;
  await until("dropped", async () => {
    c.service.emit("event", { type: "status", status: big });
    sent++;
    await until("the good one keeps up", () => good.events.length > sent);
    return (await ask(c, "GET", "/metrics")).body.includes("sightline_event_clients_dropped_total 1\n");
  });
  assert.is(good.socket.readyState, WebSocket.OPEN);
  good.socket.terminate();
  slow.socket.terminate();
});

test("a listener that sends too much is closed", async (c) => {
  const { socket } = await listen(c);
  const closed = new Promise<number>((resolve) => socket.on("close", resolve));
  socket.send("x".repeat(5000));
  assert.is(await closed, 1009);
});

test.run();
