import { parse } from "yaml";
import { type KeyInfo, nearestKey } from "./describe.js";
import { type ConfigIssue, showValue } from "./error.js";

const PREFIX = "SIGHTLINE_";
/** Variables that are not settings. */
const NOT_SETTINGS = new Set(["SIGHTLINE_CONFIG", "SIGHTLINE_TFJS"]);

export type EnvironmentResult = {
  /** Path (`channels.studio.bypass`) -> variable that set it. */
  readonly origin: ReadonlyMap<string, string>;
  readonly issues: readonly ConfigIssue[];
  /** Variables that name no setting: they are ignored, and said so. */
  readonly warnings: readonly string[];
};

/** `inferenceThreads` -> `INFERENCE_THREADS`, `main-stage` -> `MAIN_STAGE`. */
export function environmentName(key: string): string {
  return key
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll("-", "_")
    .toUpperCase();
}

/**
 * Lays `SIGHTLINE_...` variables over the tree read from the file, in place. Levels are joined by two underscores:
 * `SIGHTLINE_HTTP`, `SIGHTLINE_CHANNELS__STUDIO__STRENGTH_PERCENT`. A channel that the file does not have is made, its name in lower case.
 * Lists are written as in YAML, `[a, b]`; a text that is not a list is a list of one.
 */
export function applyEnvironment(
  tree: Record<string, unknown>,
  root: KeyInfo,
  env: Readonly<Record<string, string | undefined>>,
): EnvironmentResult {
  const origin = new Map<string, string>();
  const issues: ConfigIssue[] = [];
  const warnings: string[] = [];
  for (const name of Object.keys(env).sort()) {
    const text = env[name];
    if (!name.startsWith(PREFIX) || NOT_SETTINGS.has(name) || text === undefined) continue;
    const steps = name.slice(PREFIX.length).split("__");
    const found = resolvePath(tree, root, steps);
    if ("warning" in found) {
      warnings.push(`${name}: ${found.warning}; ignored`);
      continue;
    }
    if ("issue" in found) {
      issues.push({
        path: "",
        line: null,
        value: null,
        message: `${name}: ${found.issue}`,
        allowed: null,
        nearest: null,
      });
      continue;
    }
    found.parent[found.key] = convert(text, found.info);
    origin.set(found.path.join("."), name);
  }
  return { origin, issues, warnings };
}

type Found =
  | { parent: Record<string, unknown>; key: string; info: KeyInfo; path: string[] }
  | { warning: string }
  | { issue: string };

function resolvePath(tree: Record<string, unknown>, root: KeyInfo, steps: readonly string[]): Found {
  let parent = tree;
  let info = root;
  const path: string[] = [];
  for (const [i, step] of steps.entries()) {
    let key: string;
    let next: KeyInfo | null;
    if (info.kind === "object") {
      const names = [...info.keys.keys()];
      const match = names.find((k) => environmentName(k) === step);
      if (match === undefined) {
        const near = nearestKey(step, names);
        return { warning: `no setting ${step}${near === null ? "" : `, did you mean ${environmentName(near)}?`}` };
      }
      key = match;
      next = info.keys.get(match)!;
    } else if (info.kind === "record" && info.inner !== null) {
      const matches = Object.keys(parent).filter((k) => environmentName(k) === step);
      if (matches.length > 1) return { issue: `stands for each of ${matches.join(", ")}; rename one of them` };
      key = matches[0] ?? step.toLowerCase();
      next = info.inner;
    } else {
      return { warning: `${path.join(".")} has no parts` };
    }
    path.push(key);
    if (i === steps.length - 1) {
      if (next.kind === "object" || next.kind === "record")
        return { warning: `${path.join(".")} is not a single value` };
      return { parent, key, info: next, path };
    }
    // A faulty kind in the file (a list where a map belongs) is left for the schema to refuse.
    const below = Object.hasOwn(parent, key) ? parent[key] : undefined;
    if (below === undefined || below === null) parent[key] = {};
    else if (typeof below !== "object" || Array.isArray(below))
      return { issue: `cannot be applied: ${path.join(".")} in the file is ${showValue(typeof below)}` };
    parent = parent[key] as Record<string, unknown>;
    info = next;
  }
  return { warning: "no setting" };
}

/** Text to the kind of value that belongs there; what cannot be converted stays text and is refused by the schema. */
function convert(text: string, info: KeyInfo): unknown {
  switch (info.kind) {
    case "number":
    case "integer":
      return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "array":
      if (text.trim() === "") return [];
      if (!text.trim().startsWith("[")) return [text];
      try {
        return parse(text) as unknown;
      } catch {
        return text;
      }
    default:
      return text;
  }
}
