import { EventEmitter } from "node:events";
import { type Changes, changesBetween, streamKey } from "../config/changes.js";
import { ConfigError } from "../config/error.js";
import { channelSettings, type LoadedChannel, type LoadedConfig, type LoadResult } from "../config/loader.js";
import { parseHostPort, parsePortRange } from "../config/schema.js";
import type { DashboardChannel } from "../dashboard/api.js";
import { modelFolder, sourceFile, VERSION } from "../paths.js";
import type { ChannelPatch, FromGateway, ToChannel, ToGateway } from "../transport/ipc/messages.js";
import { ChannelProcess, channelProcessName } from "./channel-process.js";
import { Inferences } from "./inferences.js";
import type { Log } from "./log.js";
import { ManagedProcess, type ProcessInfo, type ProcessLimits, ProcessState } from "./process.js";
import { SocketFolder } from "./sockets.js";
import type { GatewayState, ServerEvent, ServerState } from "./state.js";
import { type Urls, urlsOf } from "./urls.js";

/** JavaScript files of the children. */
export type Entries = { readonly gateway: string; readonly inference: string; readonly channel: string };

export const ENTRIES: Entries = {
  gateway: sourceFile("gateway/main"),
  inference: sourceFile("model/inference/main"),
  channel: sourceFile("channel/main"),
};

export type SupervisorOptions = {
  readonly config: LoadedConfig;
  /** Where the configuration came from: model paths are relative to it. */
  readonly configFile: string | null;
  readonly log: Log;
  readonly entries?: Entries;
  readonly limits?: Partial<ProcessLimits>;
  /** Port at which the dashboard can be reached, asked for when addresses are shown. */
  readonly httpPort?: () => number;
};

type Adopted = Pick<ManagedProcess<never, never>, "name" | "info" | "stop" | "retire" | "kill" | "log">;
/** An inference child loads and warms up networks first; a gateway only opens two ports. Milliseconds. */
const START_TIMEOUT_MS = { gateway: 10_000, inference: 60_000, channel: 30_000 };
/** All must be over within 3 s of SIGTERM: channels end their outputs first, then what they are joined to. Milliseconds. */
const STOP_MS = { channels: 1300, rest: 900 };

/**
 * The process tree: one gateway, one inference child per model in use, one process per channel. Emits `event` with what the API's
 * listeners are told. Touches no media.
 */
export class Supervisor extends EventEmitter<{ event: [ServerEvent] }> {
  readonly #options: SupervisorOptions;
  readonly #entries: Entries;
  readonly #sockets: SocketFolder;
  readonly #channels = new Map<string, ChannelProcess>();
  readonly #inferences: Inferences;
  readonly #gateway: ManagedProcess<ToGateway, FromGateway>;
  readonly #gatewaySocket: string;
  #config: LoadedConfig;
  #configError: Pick<ConfigError, "message" | "issues"> | null = null;
  #restartNeeded: readonly string[] = [];
  #gatewayState: GatewayState = { ready: false, counters: {}, publishers: [], players: 0, viewers: 0, refused: null };
  #ports: { rtmp: number; media: number };
  #stopping: Promise<void> | null = null;
  /** Ends of processes that were removed while the service runs. */
  readonly #leaving = new Set<Promise<void>>();
  /** Helpers that are not part of the tree proper (the demonstration's publisher): listed and ended with it. */
  readonly #adopted: Adopted[] = [];
  #onGatewayReady: (() => void)[] = [];

  constructor(options: SupervisorOptions) {
    super();
    this.setMaxListeners(0);
    this.#options = options;
    this.#entries = options.entries ?? ENTRIES;
    this.#config = options.config;
    this.#ports = { rtmp: parseHostPort(options.config.rtmp).port, media: parseHostPort(options.config.media).port };
    this.#sockets = new SocketFolder();
    this.#gatewaySocket = this.#sockets.socket("gateway");
    this.#inferences = new Inferences({
      entry: this.#entries.inference,
      sockets: this.#sockets,
      config: () => this.#config,
      limits: () => this.#limits(START_TIMEOUT_MS.inference),
      childLog: (name) => this.#childLog(name),
      onChange: () => this.#tellState(),
    });
    this.#gateway = new ManagedProcess<ToGateway, FromGateway>({
      name: "gateway",
      entry: this.#entries.gateway,
      configure: () => this.#gatewaySettings(true),
      log: this.#childLog("gateway"),
      limits: this.#limits(START_TIMEOUT_MS.gateway),
    });
    this.#gateway.on("state", (info) => this.#onGatewayState(info));
    this.#gateway.on("message", (message) => this.#onGatewayMessage(message));
  }

  get config(): LoadedConfig {
    return this.#config;
  }

  /** Forks everything. Resolves when every first start has ended, well or not; what failed is being tried again. */
  async start(): Promise<void> {
    const starts: Promise<unknown>[] = [this.#gateway.start()];
    for (const name of Object.keys(this.#config.channels)) starts.push(...this.#startChannel(name));
    await Promise.allSettled(starts);
  }

  /** Ends all children within 3 s and removes the sockets. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      for (const p of this.#all()) p.retire();
      const first = [...this.#adopted, ...[...this.#channels.values()].map((c) => c.process)];
      await Promise.all([...this.#leaving, ...first.map((p) => p.stop(STOP_MS.channels))]);
      await Promise.all([this.#gateway, ...this.#inferences.processes].map((p) => p.stop(STOP_MS.rest)));
      this.#sockets.remove();
    })();
    return this.#stopping;
  }

  /** Takes a helper process into the list; it is ended with the channels. It does not count for readiness. */
  adopt(process: Adopted): void {
    this.#adopted.push(process);
  }

  /** SIGKILL for all children, at once: the operator asked twice. */
  killAll(): void {
    for (const p of this.#all()) p.kill("SL_PROCESS_STOP");
    this.#sockets.remove();
  }

  state(): ServerState {
    const inferences = this.#inferences.states;
    return {
      version: VERSION,
      configError: this.#configError?.message ?? null,
      configIssues: this.#configError?.issues ?? [],
      restartNeeded: this.#restartNeeded,
      mediaPort: this.#ports.media,
      rtmpPort: this.#ports.rtmp,
      channels: Object.keys(this.#config.channels).map((name) => this.#shownChannel(name)),
      gateway: this.#gatewayState,
      inference: inferences[0] ?? null,
      inferences,
      processes: this.#all().map((p) => p.info),
      urls: this.urls(),
    };
  }

  /** Names of what is not ready yet; empty means ready. */
  waitingFor(): string[] {
    return this.#processes()
      .filter((p) => p.info.state !== ProcessState.Running)
      .map((p) => p.name);
  }

  urls(): Urls {
    return urlsOf(this.#config, { http: this.#options.httpPort?.() ?? 0, ...this.#ports });
  }

  /** Calls back each time the gateway has become ready, with its ports known. */
  onGatewayReady(listener: () => void): void {
    this.#onGatewayReady.push(listener);
  }

  /**
   * Changes a channel while it runs; kept over restarts of its process. @returns the settings in force, or null when there is no such channel
   */
  patch(name: string, patch: ChannelPatch): Required<ChannelPatch> | null {
    const channel = this.#channels.get(name);
    if (!channel || !Object.hasOwn(this.#config.channels, name)) return null;
    channel.change(patch);
    this.#options.log.info({ channel: name, patch }, "operator changed a channel");
    const { bypass, keep, strengthPercent, attenuationLimitDb } = this.#effective(name);
    return { bypass, keep, strengthPercent, attenuationLimitDb };
  }

  /** Reads the configuration anew through `load`; a faulty one changes nothing and is shown until a good one comes. */
  reload(load: () => LoadResult): void {
    if (this.#stopping) return;
    try {
      const { config, warnings } = load();
      for (const warning of warnings) this.#options.log.warn({ warning }, "configuration");
      this.#configError = null;
      this.#apply(config);
    } catch (error) {
      const issues = error instanceof ConfigError ? error.issues : [];
      this.#configError = { message: (error as Error).message, issues };
      this.#options.log.error(
        { reason: "SL_CONFIG_INVALID", faults: (error as Error).message.split("\n") },
        "the changed configuration is faulty; the settings in force stay",
      );
    }
    this.#tellState();
  }

  #apply(config: LoadedConfig): void {
    const changes = changesBetween(this.#config, config);
    // Other server settings stay as they are until the next start; a half-changed server would be neither the old nor the new one.
    this.#config = {
      ...this.#config,
      logLevel: config.logLevel,
      httpHosts: config.httpHosts,
      channels: config.channels,
    };
    this.#options.log.info({ reason: "SL_CONFIG_RELOADED", ...changes }, "configuration changed");
    this.#setLogLevel(config.logLevel);
    this.#restartNeeded = changes.server.filter((key) => key !== "logLevel" && key !== "httpHosts");
    this.#applyChannels(changes);
    if (changes.streams) this.#gateway.send(this.#gatewaySettings(false));
  }

  #applyChannels(changes: Changes): void {
    for (const name of changes.removed) {
      const channel = this.#channels.get(name);
      this.#channels.delete(name);
      if (!channel) continue;
      this.#leave(channel.process.stop(STOP_MS.channels));
    }
    for (const name of changes.added) this.#startChannel(name);
    for (const { name, patch } of changes.restarted) {
      const channel = this.#channels.get(name);
      if (!channel) continue;
      this.#inferenceFor(name);
      channel.restart(patch);
    }
    for (const { name, patch } of changes.patched) this.#channels.get(name)?.follow(patch);
    const used = new Set(Object.values(this.#config.channels).map((c) => this.#folder(c)));
    for (const process of this.#inferences.release(used)) this.#leave(process.stop(STOP_MS.rest));
  }

  #leave(gone: Promise<void>): void {
    this.#leaving.add(gone);
    void gone.then(() => this.#leaving.delete(gone));
  }

  #startChannel(name: string): Promise<unknown>[] {
    const starts = this.#inferenceFor(name);
    const channel = new ChannelProcess({
      name,
      entry: this.#entries.channel,
      settings: () => this.#channelSettings(name),
      log: this.#childLog(channelProcessName(name)),
      limits: this.#limits(START_TIMEOUT_MS.channel),
      onStatus: (status) => this.#tell({ type: "status", status }),
      onChange: () => this.#tellState(),
    });
    this.#channels.set(name, channel);
    // A channel that was removed and comes back waits until its predecessor is gone: two must not feed one output.
    const started = Promise.all(this.#leaving).then(() => channel.process.start());
    // A first start that fails is logged and tried again; a reload waits for nobody, and must not end the service by it.
    started.catch(() => {});
    starts.push(started);
    return starts;
  }

  /** Starts the inference child of a channel's model when there is none yet. */
  #inferenceFor(name: string): Promise<unknown>[] {
    const channel = this.#config.channels[name]!;
    return this.#inferences.use(channel.model, this.#folder(channel));
  }

  #onGatewayState(info: ProcessInfo): void {
    if (info.state !== ProcessState.Running)
      this.#gatewayState = { ready: false, counters: {}, publishers: [], players: 0, viewers: 0, refused: null };
    this.#tellState();
  }

  #onGatewayMessage(message: FromGateway): void {
    if (message.type === "ready") {
      // Ports that the system chose stay the same when the gateway comes back.
      this.#ports = { rtmp: message.rtmpPort, media: message.mediaPort };
      this.#gatewayState = { ...this.#gatewayState, ready: true };
      for (const listener of this.#onGatewayReady) listener();
      this.#tellState();
    } else if (message.type === "status") {
      const { counters, publishers, players, viewers, refused } = message;
      this.#gatewayState = { ready: true, counters, publishers, players, viewers, refused };
    }
  }

  /** @param fresh a new process: what the last one left of its socket is removed */
  #gatewaySettings(fresh: boolean): ToGateway {
    if (fresh) this.#sockets.socket("gateway");
    const streamKeys: Record<string, string> = {};
    for (const [name, channel] of Object.entries(this.#config.channels)) {
      const key = streamKey(channel);
      if (key !== null) streamKeys[key] = name;
    }
    return {
      type: "configure",
      socket: this.#gatewaySocket,
      rtmp: { host: parseHostPort(this.#config.rtmp).host, port: this.#ports.rtmp },
      media: { host: parseHostPort(this.#config.media).host, port: this.#ports.media },
      streamKeys,
      channels: Object.keys(this.#config.channels),
      webrtc: { ...this.#config.webrtc, ports: parsePortRange(this.#config.webrtc.ports) },
    };
  }

  #channelSettings(name: string): ToChannel {
    const channel = this.#effective(name);
    const folder = this.#folder(channel);
    return {
      type: "configure",
      name,
      channel: channelSettings(channel),
      gatewaySocket: this.#gatewaySocket,
      inferenceSocket: this.#inferences.socket(folder),
      modelDir: folder,
    };
  }

  /** Settings of the file with the operator's changes over them. */
  #effective(name: string): LoadedChannel {
    return { ...this.#config.channels[name]!, ...this.#channels.get(name)?.operator };
  }

  #shownChannel(name: string): DashboardChannel {
    const published = this.#config.channels[name]?.input.reveal() === "publish";
    const shown = this.#channels.get(name)?.shown ?? { name, status: null, ageMs: null, process: ProcessState.Stopped };
    return { ...shown, published };
  }

  #folder(channel: LoadedChannel): string {
    return modelFolder(channel.model, this.#config.models, this.#options.configFile);
  }

  #processes(): Adopted[] {
    return [this.#gateway, ...this.#inferences.processes, ...[...this.#channels.values()].map((c) => c.process)];
  }

  #all(): Adopted[] {
    return [...this.#processes(), ...this.#adopted];
  }

  #limits(startTimeoutMs: number): Partial<ProcessLimits> {
    const { memoryWarnMb, memoryKillMb } = this.#config;
    return { startTimeoutMs, memoryWarnMb, memoryKillMb, ...this.#options.limits };
  }

  #childLog(name: string): Log {
    return this.#options.log.child({ process: name });
  }

  #setLogLevel(level: string): void {
    this.#options.log.level = level;
    for (const p of this.#all()) p.log.level = level;
  }

  #tellState(): void {
    this.#tell({ type: "state", state: this.state() });
  }

  #tell(event: ServerEvent): void {
    this.emit("event", event);
  }
}
