import { resolve } from "node:path";
import { ConfigError } from "../config/error.js";
import { type Environment, type LoadedConfig, type LoadResult, loadConfig, parseConfig } from "../config/loader.js";
import { parseHostPort } from "../config/schema.js";
import { Secret } from "../config/secret.js";
import { FileWatcher } from "../config/watcher.js";
import { pageFolder, sourceFile } from "../paths.js";
import { HttpServer } from "./http/server.js";
import { createLog, type Log } from "./log.js";
import { assertFree, portError } from "./ports.js";
import { ManagedProcess, type ProcessLimits } from "./process.js";
import { type Entries, Supervisor } from "./supervisor.js";

export type ServeOptions = {
  /** Configuration file; null: defaults and environment only. */
  readonly configFile: string | null;
  /** Adds a channel `demo` and the publisher that feeds it. */
  readonly demo?: boolean;
  /** HOST:PORT that goes before the file's. */
  readonly http?: string;
  readonly env?: Environment;
  readonly log?: Log;
  readonly entries?: Entries;
  readonly limits?: Partial<ProcessLimits>;
};

export type Service = {
  readonly supervisor: Supervisor;
  readonly httpPort: number;
  /** Ends all within 3 s. Idempotent. */
  stop(): Promise<void>;
};

export const DEMO_CHANNEL = "demo";
const DEMO_KEY = "demo";

/**
 * The whole service: configuration (watched), HTTP, process tree, and the demonstration if asked for. Resolves when HTTP answers and the
 * children have been told to start; a child that fails does not fail the service.
 * @throws ConfigError, PortInUseError
 */
export async function serve(options: ServeOptions): Promise<Service> {
  const file = options.configFile === null ? null : resolve(options.configFile);
  const env = options.env ?? process.env;
  let secrets: readonly string[] = [];
  const read = (): LoadResult => {
    try {
      const result = file === null ? parseConfig("", "(environment)", env) : loadConfig(file, env);
      secrets = result.files;
      return result;
    } catch (error) {
      if (error instanceof ConfigError && error.files.length > 0) secrets = error.files;
      throw error;
    }
  };
  const load = (): LoadResult => {
    const { config, warnings, files } = read();
    const http = options.http ?? config.http;
    return {
      config: { ...config, http, channels: { ...config.channels, ...(options.demo ? demoChannel(config) : {}) } },
      warnings,
      files,
    };
  };
  const { config, warnings } = load();
  const log = options.log ?? createLog(config.logLevel);
  for (const warning of warnings) log.warn({ warning }, "configuration");

  // The gateway opens these two itself; that they are free is asked first, so that the answer is one clear line and not a restart loop.
  for (const key of ["rtmp", "media"] as const) await assertFree(key, config[key], config.http);
  let http: HttpServer | null = null;
  const supervisor = new Supervisor({
    config,
    configFile: file,
    log,
    httpPort: () => http?.port ?? 0,
    ...(options.entries ? { entries: options.entries } : {}),
    ...(options.limits ? { limits: options.limits } : {}),
  });
  const address = parseHostPort(config.http);
  http = new HttpServer({
    backend: supervisor,
    log: log.child({ process: "http" }),
    pageFolder: pageFolder(),
    allowedHosts: () => [address.host, ...supervisor.config.httpHosts],
  });
  try {
    await http.listen(address.host, address.port);
  } catch (error) {
    await supervisor.stop();
    throw await portError("http", config.http, error as NodeJS.ErrnoException, config.http);
  }
  const server = http;
  if (options.demo) startDemo(supervisor, log, options.limits);
  const started = supervisor.start();
  const watcher =
    file === null ? null : new FileWatcher(file, () => supervisor.reload(load), { secrets: () => secrets });
  void started.then(() => {
    const waiting = supervisor.waitingFor();
    if (waiting.length > 0) log.warn({ waiting }, "started, but not everything is ready");
    else log.info("ready");
  });
  let stopping: Promise<void> | null = null;
  return {
    supervisor,
    httpPort: server.port,
    stop() {
      stopping ??= (async () => {
        watcher?.close();
        await Promise.all([supervisor.stop(), server.close()]);
      })();
      return stopping;
    },
  };
}

/** The demonstration's channel: the defaults, fed by our own publisher. A channel of that name in the file stays as it is there. */
function demoChannel(config: LoadedConfig): LoadedConfig["channels"] {
  if (Object.hasOwn(config.channels, DEMO_CHANNEL)) return {};
  const { config: made } = parseConfig(
    JSON.stringify({ channels: { [DEMO_CHANNEL]: { key: DEMO_KEY } } }),
    "(demonstration)",
  );
  return made.channels;
}

/** The publisher starts when the gateway's port is known, and looks after its connection itself from then on. */
function startDemo(supervisor: Supervisor, log: Log, limits: Partial<ProcessLimits> = {}): void {
  let started = false;
  supervisor.onGatewayReady(() => {
    if (started) return;
    started = true;
    const key = supervisor.config.channels[DEMO_CHANNEL]?.key ?? new Secret(DEMO_KEY);
    const url = supervisor.urls().channels[DEMO_CHANNEL]?.publish?.replace(/KEY$/, key.reveal());
    if (!url) {
      log.warn(
        { channel: DEMO_CHANNEL },
        "the channel of the demonstration fetches its input; nothing is published to it",
      );
      return;
    }
    const publisher = new ManagedProcess<never, { type: "demo"; state: string; reason: string | null }>({
      name: "demo-publisher",
      entry: sourceFile("demo/main"),
      env: { SIGHTLINE_DEMO_URL: url },
      configure: null,
      log: log.child({ process: "demo-publisher" }),
      limits,
    });
    publisher.on("message", (message) => {
      if (message.type === "demo") publisher.log.info({ state: message.state, why: message.reason }, "demonstration");
    });
    supervisor.adopt(publisher);
    void publisher.start();
  });
}
