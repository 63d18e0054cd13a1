import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { buildLive } from "../../src/model/live/build.js";
import { liveConfig } from "../../src/model/live/config.js";
import type { ServerState } from "../../src/supervisor/state.js";
import type { ChannelPatch, ChannelStatus } from "../../src/transport/ipc/messages.js";
import { noiseLive, tinyBand } from "../../test/model/noise.js";
import { ROOT } from "./clip.js";
import { until } from "./numbers.js";
import { isAlive, processTree } from "./resources.js";

/** The command as a user starts it: the built one from dist/, the sources through tsx when this file runs from the sources. */
const COMMAND = import.meta.url.endsWith(".ts")
  ? ["--import", "tsx", join(ROOT, "src/cli/main.ts")]
  : [join(ROOT, "dist/src/cli/main.js")];

export type ChannelText = Record<string, string | number | boolean>;
export type ProductOptions = {
  readonly channels?: Record<string, ChannelText>;
  readonly args?: readonly string[];
  /** Folder of models; left out: those of the repository. */
  readonly models?: string;
  readonly settings?: Record<string, string | number>;
};

/** A running `sightline serve` in a folder of its own, on ports that were free a moment ago. */
export class Product {
  /** Newest status per channel and every one with its time of arrival (performance.now()). */
  readonly statuses: { readonly atMs: number; readonly status: ChannelStatus }[] = [];
  #socket: WebSocket | null = null;
  #log = "";
  readonly #exited: Promise<unknown>;

  private constructor(
    readonly process: ChildProcess,
    readonly folder: string,
    readonly ports: { readonly http: number; readonly rtmp: number; readonly media: number },
    readonly options: ProductOptions,
  ) {
    const keep = (data: Buffer): void => {
      this.#log = (this.#log + data.toString("utf8")).slice(-200_000);
    };
    this.#exited = new Promise((resolve) => process.once("exit", resolve));
    process.stdout?.on("data", keep);
    process.stderr?.on("data", keep);
  }

  /** Resolves when /healthz answers. */
  static async start(options: ProductOptions): Promise<Product> {
    const folder = mkdtempSync(join(tmpdir(), "sightline-product-"));
    const [http, rtmp, media] = await freePorts(3);
    const ports = { http: http!, rtmp: rtmp!, media: media! };
    const file = join(folder, "sightline.yml");
    writeFileSync(file, configText(ports, options));
    const child = spawn(process.execPath, [...COMMAND, "serve", "--config", file, ...(options.args ?? [])], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const product = new Product(child, folder, ports, options);
    try {
      await until("/healthz", async () => {
        if (child.exitCode !== null) throw new Error(`sightline ended with ${child.exitCode}: ${product.log}`);
        return (await product.get("/healthz").catch(() => null))?.status === 200;
      });
    } catch (error) {
      await product.stop();
      throw error;
    }
    return product;
  }

  /** What it wrote to stdout and stderr, the end of it. */
  get log(): string {
    return this.#log;
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.ports.http}${path}`;
  }

  inFlv(channel: string): string {
    return `http://127.0.0.1:${this.ports.media}/in/${channel}.flv`;
  }

  outFlv(channel: string): string {
    return `http://127.0.0.1:${this.ports.media}/out/${channel}.flv`;
  }

  publishUrl(key: string): string {
    return `rtmp://127.0.0.1:${this.ports.rtmp}/live/${key}`;
  }

  outRtmp(channel: string): string {
    return `rtmp://127.0.0.1:${this.ports.rtmp}/out/${channel}`;
  }

  get(path: string): Promise<Response> {
    return fetch(this.url(path), { signal: AbortSignal.timeout(5000) });
  }

  async state(): Promise<ServerState> {
    return (await (await this.get("/api/state")).json()) as ServerState;
  }

  async ready(limitMs = 60_000): Promise<void> {
    await until("/readyz", async () => (await this.get("/readyz").catch(() => null))?.status === 200, limitMs, 100);
  }

  async status(channel: string): Promise<ChannelStatus | null> {
    return (await this.state()).channels.find((c) => c.name === channel)?.status ?? null;
  }

  async set(channel: string, patch: ChannelPatch): Promise<void> {
    const answer = await fetch(this.url(`/api/channels/${channel}`), {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(patch),
      signal: AbortSignal.timeout(5000),
    });
    if (!answer.ok) throw new Error(`PATCH ${channel}: HTTP ${answer.status} ${await answer.text()}`);
  }

  /** Collects every status that is sent from now on. */
  async listen(): Promise<void> {
    const socket = new WebSocket(`ws://127.0.0.1:${this.ports.http}/api/events`);
    this.#socket = socket;
    socket.on("message", (data) => {
      const event = JSON.parse(String(data)) as { type: string; status?: ChannelStatus };
      if (event.type === "status" && event.status)
        this.statuses.push({ atMs: performance.now(), status: event.status });
    });
    socket.on("error", () => {});
    await new Promise<void>((resolve, reject) => {
      socket.once("open", () => resolve());
      socket.once("error", reject);
    });
  }

  /** Process id of `gateway`, `inference` or `channel:NAME`. @throws Error when it does not run */
  async pid(name: string): Promise<number> {
    const pid = (await this.state()).processes.find((p) => p.name === name)?.pid;
    if (!pid) throw new Error(`no process ${name}`);
    return pid;
  }

  /** Name to process id, the supervisor included. */
  async pids(): Promise<Map<string, number>> {
    const { processes } = await this.state();
    const all = new Map([["supervisor", this.process.pid!]]);
    for (const { name, pid } of processes) if (pid !== null) all.set(name, pid);
    return all;
  }

  /** Writes the configuration anew, as an editor would. */
  reconfigure(options: ProductOptions): void {
    writeFileSync(join(this.folder, "sightline.yml"), configText(this.ports, { ...this.options, ...options }));
  }

  /** SIGTERM; gives how long it took until the last process of the tree was gone, which were still there after 8 s, and the exit status. */
  async terminate(): Promise<{ ms: number; left: number[]; code: number | null }> {
    const tree = processTree(this.process.pid!);
    const begun = performance.now();
    this.process.kill("SIGTERM");
    await until("the end of all processes", () => !tree.some(isAlive), 8000, 10).catch(() => {});
    const ms = performance.now() - begun;
    const left = tree.filter(isAlive);
    // The system tells us a moment later than /proc.
    if (left.length === 0) await this.#exited;
    return { ms, left, code: this.process.exitCode };
  }

  /** Ends everything, also after a failure, and removes the folder. */
  async stop(): Promise<void> {
    this.#socket?.terminate();
    const { left } = await this.terminate();
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended in between.
      }
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function configText(ports: { http: number; rtmp: number; media: number }, options: ProductOptions): string {
  const { channels = {}, models, settings = {} } = options;
  const all = {
    http: `127.0.0.1:${ports.http}`,
    rtmp: `127.0.0.1:${ports.rtmp}`,
    media: `127.0.0.1:${ports.media}`,
    ...(models === undefined ? {} : { models }),
    ...settings,
    channels,
  };
  // JSON is YAML.
  return `${JSON.stringify(all, null, 2)}\n`;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once("error", reject);
          server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/**
 * A folder of models with a `live` of hashed noise: it costs what a model of its size costs, its gains mean nothing.
 * `tiny`: next to no time; `real`: the size of the model that is shipped.
 */
export async function noiseModels(folder: string, size: "tiny" | "real"): Promise<string> {
  const config =
    size === "tiny"
      ? tinyBand
      : liveConfig.parse({
          ...{ side: 80, widths: [24, 48, 96, 128], hidden: 256, vdim: 128, vhidden: 96, edim: 64 },
          separator: { kind: "band", width: 64, blocks: 4, hidden: 160 },
          attribution: { hidden: 96, dim: 64, bands: 40, lags: 4 },
        });
  const models = join(folder, `models-${size}`);
  mkdirSync(models, { recursive: true });
  await buildLive(
    noiseLive(config),
    { name: "live", version: "noise", training: { data: "none" } },
    join(models, "live"),
  );
  return models;
}

/** The models that came with Sightline, or noise where there are none yet; `what` says which. */
export async function shippedModels(folder: string): Promise<{ models: string; what: string }> {
  const models = join(ROOT, "models");
  if (existsSync(join(models, "live", "card.json"))) return { models, what: "models/live" };
  return { models: await noiseModels(folder, "real"), what: "noise (models/live is not there)" };
}
