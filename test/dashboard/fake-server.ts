import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import { join, normalize } from "node:path";
import { type WebSocket, WebSocketServer } from "ws";
import { contentSecurityPolicy, type DashboardEvent, type DashboardState } from "../../src/dashboard/api.js";
import { readClip } from "../../src/demo/clip.js";
import { RoundPosition } from "../../src/demo/publisher.js";
import { type FlvTag, flvHeader, flvTag } from "../../src/transport/flv/tag.js";
import type { ChannelStatus } from "../../src/transport/ipc/messages.js";

const PAGE = join("dist", "src", "dashboard", "page");
const TYPES: Record<string, string> = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript" };

export type Patch = { readonly name: string; readonly body: unknown };

/** Speaks the dashboard's side of the API over real HTTP and WebSocket; what is shown is up to the test. */
export class FakeServer {
  state: DashboardState;
  readonly patches: Patch[] = [];
  /** Answer to the next patches; 204 = taken over. */
  patchAnswer: { status: number; body: string } = { status: 204, body: "" };
  /** What every question is answered with; sockets are refused, too. */
  refusal: { status: number; detail: string } | null = null;
  /** Type of the tags that streams consist of; null: picture and sound. */
  only: FlvTag["type"] | null = null;
  port = 0;
  #http: Server;
  #media: Server;
  #sockets = new WebSocketServer({ noServer: true });
  #streams = new Set<NodeJS.Timeout>();
  #saidAtMs = new Map<string, number>();
  #startedMs = performance.now();

  private constructor(state: DashboardState) {
    this.state = state;
    this.#http = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://x").pathname;
      if (path === "/api/state" && this.refusal !== null) {
        const { status, detail } = this.refusal;
        return void response
          .writeHead(status, { "content-type": "application/problem+json" })
          .end(JSON.stringify({ detail }));
      }
      if (path === "/api/state")
        return void response.setHeader("content-type", "application/json").end(JSON.stringify(this.#now()));
      const channel = /^\/api\/channels\/([^/]+)$/.exec(path);
      if (channel && request.method === "PATCH") {
        let body = "";
        request.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        request.on("end", () => {
          this.patches.push({ name: decodeURIComponent(channel[1]!), body: JSON.parse(body) });
          response.writeHead(this.patchAnswer.status).end(this.patchAnswer.body);
        });
        return;
      }
      const file = normalize(path === "/" ? "/index.html" : path);
      readFile(join(PAGE, file)).then(
        (bytes) => {
          const type = TYPES[file.slice(file.lastIndexOf(".") + 1)] ?? "application/octet-stream";
          response.writeHead(200, {
            "content-type": type,
            "content-security-policy": contentSecurityPolicy(this.state.mediaPort),
          });
          response.end(bytes);
        },
        () => response.writeHead(404).end(),
      );
    });
    this.#http.on("upgrade", (request, socket, head) => {
      if (this.refusal !== null)
        return void socket.end(`HTTP/1.1 ${this.refusal.status} No\r\nContent-Length: 0\r\n\r\n`);
      this.#sockets.handleUpgrade(request, socket, head, (ws: WebSocket) => {
        ws.send(JSON.stringify({ type: "state", state: this.state } satisfies DashboardEvent));
      });
    });
    this.#media = createServer((_, response) => {
      response.writeHead(200, { "content-type": "video/x-flv", "access-control-allow-origin": "*" });
      void this.#stream(response);
    });
  }

  static async start(state: DashboardState): Promise<FakeServer> {
    const server = new FakeServer(state);
    server.port = await listen(server.#http, 0);
    const mediaPort = await listen(server.#media, 0);
    server.state = { ...state, mediaPort };
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/`;
  }

  /** The state with the true ages of what was sent last. */
  #now(): DashboardState {
    const nowMs = performance.now();
    const channels = this.state.channels.map((c) => ({
      ...c,
      ageMs: nowMs - (this.#saidAtMs.get(c.name) ?? this.#startedMs),
    }));
    return { ...this.state, channels };
  }

  send(event: DashboardEvent): void {
    if (event.type === "status") this.#saidAtMs.set(event.status.name, performance.now());
    this.sendText(JSON.stringify(event));
  }

  sendText(text: string): void {
    for (const ws of this.#sockets.clients) ws.send(text);
  }

  /** As if the server had died: connections break, nothing listens any more. */
  async close(): Promise<void> {
    for (const timer of this.#streams) clearInterval(timer);
    for (const ws of this.#sockets.clients) ws.terminate();
    for (const server of [this.#http, this.#media]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** The demonstration clip as a live HTTP-FLV stream. */
  async #stream(response: ServerResponse): Promise<void> {
    const clip = await readClip("demo/talk.flv");
    if (response.destroyed) return;
    response.write(flvHeader());
    const sent = (tag: FlvTag): boolean => this.only === null || tag.type === this.only;
    for (const tag of clip.head) if (sent(tag)) response.write(flvTag(tag));
    const position = new RoundPosition(clip, performance.now());
    const timer = setInterval(() => {
      for (const tag of position.due(performance.now())) if (sent(tag)) response.write(flvTag(tag));
    }, 20);
    this.#streams.add(timer);
    response.on("close", () => clearInterval(timer));
  }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });
}

const truth = JSON.parse(readFileSync("demo/truth.json", "utf8")) as { box: [number, number, number, number][] };

/** A status as a channel on the demonstration clip sends it. */
export function status(name: string, change: Partial<ChannelStatus> = {}): ChannelStatus {
  const [x, y, width, height] = truth.box[20]!;
  return {
    name,
    source: "live",
    mode: "separated",
    reason: null,
    bypass: false,
    keep: "on-screen",
    strengthPercent: 100,
    attenuationLimitDb: 40,
    declaredLatencyMs: 700,
    latencyParts: {
      capture: 40,
      filter_bank: 21.3,
      hop: 80,
      guard: 88,
      inference_budget: 120,
      jitter_reserve: 310,
      encode: 40.7,
    },
    measuredLatencyMs: { p50: 703.2, p95: 712.9, max: 731 },
    stageMs: {
      decode: { p50: 4.1, p95: 9.7 },
      faces: { p50: 8.8, p95: 14.2 },
      inference: { p50: 22.5, p95: 38.1 },
      encode: { p50: 0.8, p95: 2.1 },
    },
    levels: { inDb: -18.4, outDb: -22.9, removedDb: -20.6 },
    faces: [
      {
        id: 1,
        box: { x: x / 1280, y: y / 720, width: width / 1280, height: height / 720 },
        score: 0.93,
        speaking: 0.86,
      },
    ],
    facesAgeMs: 0,
    video: { codec: "H.264", width: 1280, height: 720, fps: 30, notice: null },
    audio: { codec: "AAC", sampleRate: 48_000, channels: 2 },
    driftPpm: 3.2,
    line: null,
    counters: { windows_in_time: 14_212, windows_late: 3, frames_passed: 21_340, audio_gaps_filled: 0 },
    outputs: [{ uri: "rtmp://cdn.example/live/•••", state: "live", reason: null }],
    ...change,
  };
}

export function state(names: readonly string[]): DashboardState {
  return {
    version: "0.1.0",
    mediaPort: null,
    rtmpPort: 1935,
    channels: names.map((name) => ({ name, status: status(name), ageMs: 0, process: "running" })),
    processes: [
      { name: "gateway", pid: 101, state: "running", restarts: 0, reason: "SL_PROCESS_READY", memoryBytes: 71e6 },
      { name: "inference", pid: 102, state: "running", restarts: 1, reason: "SL_PROCESS_READY", memoryBytes: 312e6 },
      ...names.map((name, i) => ({
        name: `channel ${name}`,
        pid: 110 + i,
        state: "running",
        restarts: 0,
        reason: null,
        memoryBytes: 143e6,
      })),
    ],
    configError: null,
  };
}
