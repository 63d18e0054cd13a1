import type { LoadedConfig } from "../config/loader.js";
import type { EngineReport } from "../model/engines/names.js";
import { modelFolder, PACKAGE_ROOT, sourceFile } from "../paths.js";
import { type Check, lastLine, run } from "./check.js";

/** Loading a model and trying three engines. */
const ENGINE_TIMEOUT_MS = 60_000;

export async function onnxruntime(): Promise<Check[]> {
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
export async function chosenEngine(config: LoadedConfig, configFile: string | null): Promise<Check[]> {
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
