import { existsSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { ConfigError } from "../config/error.js";
import { defaultConfig, type LoadedConfig, loadConfig } from "../config/loader.js";
import { parseHostPort } from "../config/schema.js";
import { checkLive, listModels, verifyModel } from "../model/cards.js";
import { nodeIsNewEnough, nodeRemedy } from "../node-version.js";
import { BUILT_IN_MODELS, FACES_MODEL, modelFolder, PACKAGE_ROOT, pageFolder } from "../paths.js";
import { isSightline, portFault } from "../supervisor/ports.js";
import type { Check } from "./check.js";
import { chosenEngine, onnxruntime } from "./engine.js";
import { addon, gstreamer } from "./gstreamer.js";

export type DoctorOptions = { readonly configFile: string | null };

const LEAST_DISK_BYTES = 1e9;
const LEAST_MEMORY_BYTES = 1.5e9;

/** Looks at everything that Sightline needs. Starts and changes nothing that stays. */
export async function examine(options: DoctorOptions): Promise<Check[]> {
  const { config, check } = configuration(options.configFile);
  const parts = await Promise.all([
    gstreamer(),
    addon(),
    onnxruntime(),
    chosenEngine(config, options.configFile),
    models(config, options.configFile),
    ports(config),
  ]);
  return [node(), ...machine(), check, ...parts.flat(), ...files()];
}

function node(): Check {
  const good = nodeIsNewEnough();
  return {
    area: "node",
    name: "Node.js",
    state: good ? "ok" : "missing",
    detail: `${process.version} ${process.platform}-${process.arch}`,
    fix: good ? null : nodeRemedy(),
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

async function models(config: LoadedConfig, configFile: string | null): Promise<Check[]> {
  const shipped =
    config.models === undefined ? BUILT_IN_MODELS : dirname(modelFolder("any", config.models, configFile));
  const folders = new Map<string, string>();
  for (const name of await listModels(shipped)) folders.set(modelFolder(name, config.models, configFile), name);
  const wanted = Object.values(config.channels).map((c) => c.model);
  for (const model of wanted.length > 0 ? wanted : ["live"])
    folders.set(modelFolder(model, config.models, configFile), model);
  return Promise.all(
    [...folders].map(async ([folder, name]): Promise<Check> => {
      try {
        const { card } = await verifyModel(folder);
        if (wanted.includes(name)) checkLive(card);
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
