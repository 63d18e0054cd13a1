import { existsSync, readFileSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FACE_DETECTOR } from "./model/faces/blazeface.js";

const SELF = fileURLToPath(import.meta.url);
/** `.js` in what was built, `.ts` when a loader runs the sources. */
const SUFFIX = SELF.endsWith(".ts") ? ".ts" : ".js";

/** A source file by its path below src/, without suffix: `gateway/main`. Works from src/ and from dist/src/. */
export function sourceFile(path: string): string {
  return fileURLToPath(new URL(`./${path}${SUFFIX}`, import.meta.url));
}

/** The folder with our package.json. */
export const PACKAGE_ROOT = ((): string => {
  let folder = dirname(SELF);
  while (!existsSync(join(folder, "package.json")) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
})();

export const VERSION = ((): string => {
  try {
    return String(
      (JSON.parse(readFileSync(join(PACKAGE_ROOT, "package.json"), "utf8")) as { version?: unknown }).version,
    );
  } catch {
    return "unknown";
  }
})();

/** The face detector that `npm run build` makes. */
export const FACES_MODEL = join(PACKAGE_ROOT, "dist", "models", FACE_DETECTOR.file);
export const BUILT_IN_MODELS = join(PACKAGE_ROOT, "models");

/** Folder of a channel's model: a name is looked up in the models folder, anything with a slash is a path relative to the configuration. */
export function modelFolder(model: string, models: string | undefined, configFile: string | null): string {
  const base = configFile === null ? process.cwd() : dirname(resolve(configFile));
  if (isAbsolute(model)) return model;
  if (model.includes("/") || model.startsWith(".")) return resolve(base, model);
  return join(models === undefined ? BUILT_IN_MODELS : resolve(base, models), model);
}

/** The dashboard's files: beside us, or in dist/ when the sources run. */
export function pageFolder(): string {
  const beside = fileURLToPath(new URL("./dashboard/page", import.meta.url));
  const built = join(PACKAGE_ROOT, "dist", "src", "dashboard", "page");
  return SUFFIX === ".ts" && existsSync(join(built, "index.html")) ? built : beside;
}
