import { execFile } from "node:child_process";
import { existsSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../config/error.js";
import { defaultConfig, type LoadedConfig, loadConfig } from "../config/loader.js";
import { parseHostPort } from "../config/schema.js";
import { listModels, verifyModel } from "../model/cards.js";
import type { EngineReport } from "../model/engines/names.js";
import { BUILT_IN_MODELS, FACES_MODEL, modelFolder, PACKAGE_ROOT, pageFolder, sourceFile } from "../paths.js";
import { portFault } from "../supervisor/serve.js";
import { reachable } from "../supervisor/urls.js";
import { ELEMENTS } from "./elements.js";

export type Check = {
  readonly area: "node" | "machine" | "gstreamer" | "engine" | "models" | "files" | "ports" | "configuration";
  readonly name: string;
  /** `missing` is a fault: Sightline cannot work as it is; `warn` is worth knowing. */
  readonly state: "ok" | "warn" | "missing";
  readonly detail: string;
  /** The exact command or change that helps; null when all is well. */
  readonly fix: string | null;
};

export type DoctorOptions = { readonly configFile: string | null };

const RUN_TIMEOUT_MS = 20_000;
/** Loading a model and trying three engines. */
const ENGINE_TIMEOUT_MS = 60_000;
const LEAST_NODE = 20;
const LEAST_DISK_BYTES = 1e9;
const LEAST_MEMORY_BYTES = 1.5e9;

/** Looks at everything that Sightline needs. Starts and changes nothing that stays. */
export async function examine(options: DoctorOptions): Promise<Check[]> {
  const { config, check } = configuration(options.configFile);
  const parts = await Promise.all([
    gstreamer(),
    addon(),
    engine(),
    chosen(config, options.configFile),
    models(config, options.configFile),
    ports(config),
  ]);
  return [node(), ...machine(), check, ...parts.flat(), ...files()];
}

export const apt = (...packages: string[]): string => {
  const sudo = process.getuid?.() === 0 ? "" : "sudo ";
  return `${sudo}apt-get install -y --no-install-recommends ${packages.join(" ")}`;
};

function node(): Check {
  const major = Number(process.versions.node.split(".")[0]);
  const good = major >= LEAST_NODE;
  return {
    area: "node",
    name: "Node.js",
    state: good ? "ok" : "missing",
    detail: `${process.version} ${process.platform}-${process.arch}`,
    fix: good ? null : `install Node.js ${LEAST_NODE} or later; in a checkout \`make build\` fetches one`,
  };
}

function machine(): Check[] {
  const disk = statfsSync(PACKAGE_ROOT);
  const free = disk.bavail * disk.bsize;
  const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  return [
    {
      area: "machine",
      name: "cores",
      state: "ok",
      detail: `${availableParallelism()} usable, ${cpus()[0]?.model.trim() ?? "unknown"}`,
      fix: null,
    },
    {
      area: "machine",
      name: "threads",
      state: "ok",
      detail: "channel processes run with UV_THREADPOOL_SIZE=32, set by `sightline serve`",
      fix: null,
    },
    {
      area: "machine",
      name: "memory",
      state: totalmem() < LEAST_MEMORY_BYTES ? "warn" : "ok",
      detail: `${gb(totalmem())}, ${gb(freemem())} free`,
      fix: totalmem() < LEAST_MEMORY_BYTES ? `a channel and its model need about ${gb(LEAST_MEMORY_BYTES)}` : null,
    },
    {
      area: "machine",
      name: "disk",
      state: free < LEAST_DISK_BYTES ? "warn" : "ok",
      detail: `${gb(free)} free at ${PACKAGE_ROOT}`,
      fix: free < LEAST_DISK_BYTES ? `free ${gb(LEAST_DISK_BYTES)} if you build or write files there` : null,
    },
  ];
}

function configuration(file: string | null): { config: LoadedConfig; check: Check } {
  const base = { area: "configuration", name: file ?? "defaults" } as const;
  try {
    const { config, warnings } = file === null ? defaultConfig(process.env) : loadConfig(file);
    const count = Object.keys(config.channels).length;
    const detail = `${count} channel${count === 1 ? "" : "s"}`;
    if (warnings.length > 0)
      return {
        config,
        check: { ...base, state: "warn", detail: warnings.join("; "), fix: "correct the variables' names" },
      };
    return { config, check: { ...base, state: "ok", detail, fix: null } };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const check: Check = {
      ...base,
      state: "missing",
      detail: error.message,
      fix: `correct it; \`sightline config check ${file ?? ""}\` looks again`,
    };
    return { config: defaultConfig().config, check };
  }
}

async function gstreamer(): Promise<Check[]> {
  const listing = await run("gst-inspect-1.0", []);
  if (listing.error !== null) {
    return [
      {
        area: "gstreamer",
        name: "gst-inspect-1.0",
        state: "missing",
        detail: listing.error,
        fix: apt("gstreamer1.0-tools"),
      },
    ];
  }
  const version = /GStreamer (\S+)/.exec((await run("gst-inspect-1.0", ["--version"])).out)?.[1] ?? "unknown";
  // One line an element: `plugin:  element: description`.
  const present = new Set([...listing.out.matchAll(/^\S+: {2}(\S+):/gm)].map((m) => m[1]));
  const checks: Check[] = [{ area: "gstreamer", name: "GStreamer", state: "ok", detail: version, fix: null }];
  for (const need of ELEMENTS) {
    const missing = need.elements.filter((e) => !present.has(e));
    const have = need.elements.filter((e) => present.has(e));
    const detail =
      missing.length === 0
        ? have.join(" ")
        : `missing: ${missing.join(" ")}${have.length > 0 ? `; present: ${have.join(" ")}` : ""}`;
    checks.push({
      area: "gstreamer",
      name: need.package,
      state: missing.length === 0 ? "ok" : need.needed ? "missing" : "warn",
      detail: `${detail} (${need.why})`,
      fix: missing.length === 0 ? null : apt(need.package),
    });
  }
  return checks;
}

/** Native code is tried in another process: a crash there is an answer, here it would be the end. */
async function addon(): Promise<Check[]> {
  const script =
    'const { Pipeline } = require("gstreamer-superficial"); new Pipeline("fakesrc num-buffers=1 ! fakesink"); console.log("loads");';
  const { out, error } = await run(process.execPath, ["-e", script], PACKAGE_ROOT);
  const good = error === null && out.includes("loads");
  return [
    {
      area: "gstreamer",
      name: "gstreamer-superficial",
      state: good ? "ok" : "missing",
      detail: good ? "native addon loads" : `native addon does not load: ${lastLine(error ?? out)}`,
      fix: good
        ? null
        : `${apt("g++", "make", "python3", "pkg-config", "libgstreamer1.0-dev", "libgstreamer-plugins-base1.0-dev")} && npm install --no-save gstreamer-superficial`,
    },
  ];
}

async function engine(): Promise<Check[]> {
  const script =
    'const o = await import("onnxruntime-node"); console.log(JSON.stringify({ version: o.env.versions.node, backends: (o.listSupportedBackends ?? o.default.listSupportedBackends)() }));';
  const { out, error } = await run(process.execPath, ["--input-type=module", "-e", script], PACKAGE_ROOT);
  try {
    if (error !== null) throw new Error(error);
    const found = JSON.parse(out) as { version?: string; backends: { name: string; bundled: boolean }[] };
    const names = found.backends.map((b) => (b.bundled ? b.name : `${b.name} (libraries not bundled)`));
    return [
      {
        area: "engine",
        name: "onnxruntime-node",
        state: "ok",
        detail: `${found.version ?? "?"}; providers: ${names.join(", ")}`,
        fix: null,
      },
    ];
  } catch (e) {
    return [
      {
        area: "engine",
        name: "onnxruntime-node",
        state: "missing",
        detail: `does not load: ${lastLine((e as Error).message)}`,
        fix: "ONNXRUNTIME_NODE_INSTALL=skip npm ci",
      },
    ];
  }
}

/** Which engine the service would take for its model, and why no other. */
async function chosen(config: LoadedConfig, configFile: string | null): Promise<Check[]> {
  const model = Object.values(config.channels)[0]?.model ?? "live";
  const folder = modelFolder(model, config.models, configFile);
  const args = [sourceFile("doctor/engine-report"), folder, config.engine, `${config.inferenceThreads}`];
  const { out, error } = await run(process.execPath, [...process.execArgv, ...args], undefined, ENGINE_TIMEOUT_MS);
  const base = { area: "engine", name: `engine: ${config.engine}` } as const;
  // A model that is missing or damaged is told under `models`.
  if (error !== null)
    return [
      {
        ...base,
        state: "warn",
        detail: `could not be tried with ${model}: ${lastLine(error)}`,
        fix: `mend the model: \`sightline model info ${folder}\``,
      },
    ];
  const { label, code, tries } = JSON.parse(out) as EngineReport;
  const fix = `set \`engine\` (SIGHTLINE_ENGINE) to auto, or mend what is said of ${config.engine} below`;
  return [
    {
      ...base,
      state: code === null ? "ok" : "warn",
      detail: `${label} runs ${model}${code ? ` in its place [${code}]` : ""}`,
      fix: code ? fix : null,
    },
    ...tries
      .filter((t) => t.reason !== null)
      .map(
        (t): Check => ({
          area: "engine",
          name: t.name,
          state: "ok",
          detail: `not used (${t.reason}): ${t.detail}`,
          fix: null,
        }),
      ),
  ];
}

async function models(config: LoadedConfig, configFile: string | null): Promise<Check[]> {
  const shipped = config.models ?? BUILT_IN_MODELS;
  const folders = new Map<string, string>();
  for (const name of await listModels(shipped)) folders.set(modelFolder(name, config.models, configFile), name);
  const wanted = Object.values(config.channels).map((c) => c.model);
  for (const model of wanted.length > 0 ? wanted : ["live"])
    folders.set(modelFolder(model, config.models, configFile), model);
  return Promise.all(
    [...folders].map(async ([folder, name]): Promise<Check> => {
      try {
        const { card } = await verifyModel(folder);
        if (card.kind !== "stream" && wanted.includes(name))
          throw new Error(`${folder}: kind ${card.kind} cannot be run step by step, as a channel does`);
        return {
          area: "models",
          name,
          state: "ok",
          detail: `version ${card.version}, ${(card.parameters / 1e6).toFixed(2)} M parameters, checksums right`,
          fix: null,
        };
      } catch (error) {
        const fix = `put the model folder there: \`sightline model import FOLDER --name ${name}\`, or \`sightline model build --weights FILE --out ${folder}\``;
        return { area: "models", name, state: "missing", detail: (error as Error).message, fix };
      }
    }),
  );
}

function files(): Check[] {
  const page = join(pageFolder(), "index.html");
  return [
    { name: "face detector", path: FACES_MODEL },
    { name: "dashboard", path: page },
  ].map(({ name, path }) => {
    const there = existsSync(path);
    return {
      area: "files",
      name,
      state: there ? "ok" : "missing",
      detail: there ? path : `${path} is not there`,
      fix: there ? null : "npm run build",
    };
  });
}

async function ports(config: LoadedConfig): Promise<Check[]> {
  const ours = await isSightline(config.http);
  return Promise.all(
    (["http", "media", "rtmp"] as const).map(async (key): Promise<Check> => {
      const { host, port } = parseHostPort(config[key]);
      const base = { area: "ports", name: `${key} ${config[key]}` } as const;
      const fault = await portFault(host, port);
      if (!fault) return { ...base, state: "ok", detail: "free", fix: null };
      if (ours && fault.code === "EADDRINUSE")
        return { ...base, state: "ok", detail: "in use; a Sightline is running", fix: null };
      const fix = `end the program that \`ss -ltnp 'sport = :${port}'\` names, or set \`${key}\` (SIGHTLINE_${key.toUpperCase()}) to another HOST:PORT`;
      return {
        ...base,
        state: "missing",
        detail: fault.code === "EADDRINUSE" ? "in use by another program" : fault.message,
        fix,
      };
    }),
  );
}

/** Whether our own service answers at this address. */
async function isSightline(http: string): Promise<boolean> {
  const { host, port } = parseHostPort(http);
  try {
    const answer = await fetch(`http://${reachable(host)}:${port}/metrics`, { signal: AbortSignal.timeout(2000) });
    return (await answer.text()).includes("sightline_info");
  } catch {
    return false;
  }
}

function run(
  file: string,
  args: readonly string[],
  cwd?: string,
  timeout = RUN_TIMEOUT_MS,
): Promise<{ out: string; error: string | null }> {
  return new Promise((resolve) => {
    execFile(
      file,
      args,
      { timeout, killSignal: "SIGKILL", maxBuffer: 16e6, ...(cwd ? { cwd } : {}) },
      (error, out, stderr) => {
        const code = (error as NodeJS.ErrnoException | null)?.code;
        resolve({
          out,
          error:
            error === null ? null : code === "ENOENT" ? `${file} is not installed` : stderr.trim() || error.message,
        });
      },
    );
  });
}

/** The line of a stack trace that says what is wrong. */
function lastLine(text: string): string {
  const lines = text.split("\n").map((l) => l.trim());
  return (lines.find((l) => /^(\w*Error|.*cannot open shared object|.*symbol)/.test(l)) ?? lines.at(-1) ?? "").slice(
    0,
    300,
  );
}
