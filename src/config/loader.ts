import { readFileSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { describe, describeAt, type KeyInfo, nearestKey } from "./describe.js";
import { applyEnvironment } from "./environment.js";
import { ConfigError, type ConfigIssue, showValue } from "./error.js";
import { type ChannelConfig, type Config, config, parseHostPort, RECORDING } from "./schema.js";
import { redactUri, Secret } from "./secret.js";

/** A channel's settings as the supervisor keeps them: what may be secret is a `Secret`, references resolved. */
export type LoadedChannel = Omit<ChannelConfig, "key" | "input" | "outputs"> & {
  readonly key: Secret | null;
  readonly input: Secret;
  readonly outputs: readonly Secret[];
};
export type LoadedConfig = Omit<Config, "channels"> & { readonly channels: Readonly<Record<string, LoadedChannel>> };

/** `files`: those that hold secrets of it (`file:PATH`). */
export type LoadResult = {
  readonly config: LoadedConfig;
  readonly warnings: readonly string[];
  readonly files: readonly string[];
};
export type Environment = Readonly<Record<string, string | undefined>>;

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_SECRET_BYTES = 16 * 1024;
const MAX_ISSUES = 50;
const MAX_CHANNELS = 256;
export const KEYS: KeyInfo = describe(config);

/** Reads and checks a configuration file. @throws ConfigError with every fault that was found. */
export function loadConfig(file: string, env: Environment = process.env): LoadResult {
  let text: string;
  try {
    const { size } = statSync(file);
    if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes, at most ${MAX_FILE_BYTES} are read`);
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(file, [plain("", `cannot be read: ${(error as Error).message}`)]);
  }
  return parseConfig(text, file, env);
}

/** The same for a text that is already here; `file` stands in errors, and `file:PATH` secrets are relative to its folder. */
export function parseConfig(text: string, file: string, env: Environment = {}): LoadResult {
  const lines = new LineCounter();
  let tree: unknown;
  let lineOf: (path: readonly PropertyKey[]) => number | null = () => null;
  try {
    const doc = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: "error" });
    if (doc.errors.length > 0) {
      const issues = doc.errors
        .slice(0, MAX_ISSUES)
        .map((e) => ({ ...plain("", `not valid YAML: ${e.message}`), line: lines.linePos(e.pos[0]).line }));
      throw new ConfigError(file, issues);
    }
    tree = doc.toJS({ maxAliasCount: 100 });
    lineOf = (path) => {
      for (let n = path.length; n > 0; n--) {
        // The key's own line: a node's range begins at its value, which for maps is the line after.
        const parent = doc.getIn(path.slice(0, n - 1), true);
        const pair = (
          parent as { items?: { key?: { value?: unknown; range?: [number, number, number] } }[] } | undefined
        )?.items?.find?.((item) => item?.key?.value === path[n - 1]);
        const range =
          pair?.key?.range ??
          (doc.getIn(path.slice(0, n), true) as { range?: [number, number, number] } | undefined)?.range;
        if (range) return lines.linePos(range[0]).line;
      }
      return null;
    };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(file, [plain("", `not valid YAML: ${(error as Error).message}`)]);
  }
  if (tree === null || tree === undefined) tree = {};
  if (typeof tree !== "object" || Array.isArray(tree)) {
    throw new ConfigError(file, [
      { ...plain("", "must be a map of settings"), value: shape(tree), allowed: KEYS.allowed },
    ]);
  }
  const reserved = reservedKey(tree, []);
  if (reserved)
    throw new ConfigError(file, [{ ...plain(reserved.join("."), "not usable as a name"), line: lineOf(reserved) }]);
  const overlay = applyEnvironment(tree as Record<string, unknown>, KEYS, env);
  const locate = (issue: ConfigIssue, path: readonly PropertyKey[]): ConfigIssue => {
    const variable = overlay.origin.get(issue.path);
    if (variable !== undefined) return { ...issue, message: `${issue.message} (set by ${variable})` };
    return { ...issue, line: lineOf(path) };
  };

  const parsed = config.safeParse(tree);
  if (!parsed.success) {
    const issues = parsed.error.issues
      .flatMap((issue) => translate(issue, tree))
      .map(({ issue, path }) => locate(issue, path));
    issues.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
    throw new ConfigError(file, [...overlay.issues, ...issues].slice(0, MAX_ISSUES));
  }
  const files = Object.values(parsed.data.channels).flatMap((channel) =>
    [channel.key, channel.input, ...channel.outputs].flatMap((value) => secretFile(value ?? "", file) ?? []),
  );
  const issues: ConfigIssue[] = [...overlay.issues];
  const loaded = resolveReferences(parsed.data, file, env, (path, message, allowed) => {
    issues.push(locate({ ...plain(path.join("."), message), allowed }, path));
  });
  if (issues.length > 0) throw new ConfigError(file, issues.slice(0, MAX_ISSUES), files);
  return { config: loaded, warnings: overlay.warnings, files };
}

/** The settings with every default, as if an empty file had been read. */
export function defaultConfig(env: Environment = {}): LoadResult {
  return parseConfig("", "(defaults)", env);
}

/** What a channel process is told: plain texts, without the stream key, which only the gateway needs. */
export function channelSettings(channel: LoadedChannel): ChannelConfig {
  const { key: _key, input, outputs, ...rest } = channel;
  return { ...rest, input: input.reveal(), outputs: outputs.map((o) => o.reveal()) };
}

type Complain = (path: readonly PropertyKey[], message: string, allowed: string | null) => void;

/** Resolves `env:` and `file:`, then checks what the schema cannot see: addresses, keys, ports, the region's far edge. */
function resolveReferences(raw: Config, file: string, env: Environment, complain: Complain): LoadedConfig {
  const channels: Record<string, LoadedChannel> = {};
  const owners = new Map<string, string>();
  const names = Object.keys(raw.channels);
  if (names.length > MAX_CHANNELS) complain(["channels"], `${names.length} channels`, `at most ${MAX_CHANNELS}`);
  for (const [name, channel] of Object.entries(raw.channels)) {
    const at = ["channels", name];
    const text = (path: readonly PropertyKey[], value: string): string | null => {
      const result = dereference(value, file, env);
      if ("fault" in result) complain(path, result.fault, null);
      return "text" in result ? result.text : null;
    };
    const input = text([...at, "input"], channel.input);
    if (input !== null && input !== "publish" && !isAddress(input)) {
      complain([...at, "input"], `not an address that can be read: ${redactUri(input)}`, `publish, ${ADDRESSES}`);
    }
    const outputs = channel.outputs.map((value, i) => {
      const output = text([...at, "outputs", i], value);
      if (output !== null && !isAddress(output))
        complain([...at, "outputs", i], `not an address that can be written: ${redactUri(output)}`, ADDRESSES);
      else if (output?.startsWith("file:") && !RECORDING.test(output.replace(/[?#].*$/, "")))
        complain(
          [...at, "outputs", i],
          `not a recording: ${redactUri(output)}`,
          "a path that ends in .flv, .mkv, .mp4 or .ts",
        );
      return Secret.uri(output ?? "");
    });
    const key = channel.key === undefined ? null : text([...at, "key"], channel.key);
    if (key !== null && !/^[A-Za-z0-9._~-]{1,128}$/.test(key)) {
      complain([...at, "key"], "not usable as a stream key", "1 to 128 letters, digits and . _ ~ -");
    } else if (key !== null) {
      const owner = owners.get(key);
      if (owner !== undefined)
        complain([...at, "key"], `the same key as channel ${owner}`, "a key of its own for each channel");
      owners.set(key, name);
    }
    if (input === "publish" && channel.key === undefined)
      complain(at, "key is missing: a channel with `input: publish` needs a stream key", null);
    const region = channel.region;
    if (
      region &&
      (region.x + region.width > 1.000001 || region.y + region.height > 1.000001 || region.width * region.height === 0)
    ) {
      complain([...at, "region"], "must have an area and lie inside the picture", "x + width <= 1, y + height <= 1");
    }
    channels[name] = {
      ...channel,
      key: key === null ? null : new Secret(key),
      input: Secret.uri(input ?? ""),
      outputs,
    };
  }
  if (raw.memoryWarnMb > raw.memoryKillMb) complain(["memoryWarnMb"], "must not be larger than memoryKillMb", null);
  const ports = new Map<number, string>();
  for (const key of ["http", "media", "rtmp"] as const) {
    const { port } = parseHostPort(raw[key]);
    if (port !== 0 && ports.has(port))
      complain([key], `the same port as ${ports.get(port)}`, "a port of its own, or 0");
    ports.set(port, key);
  }
  return { ...raw, channels };
}

const ADDRESSES = "rtmp://..., srt://... or file://...";
const isAddress = (text: string): boolean => /^(rtmp|srt):\/\/[^/\s]+/.test(text) || /^file:\/\/\/?[^\s]/.test(text);

function secretFile(value: string, file: string): string | null {
  return value.startsWith("file:") && !value.startsWith("file://") ? resolve(dirname(file), value.slice(5)) : null;
}

/** `env:NAME`, `file:PATH` (one line; relative to the configuration's folder) or the text itself. `file://` is an address, not a reference. */
function dereference(value: string, file: string, env: Environment): { text: string } | { fault: string } {
  if (value.startsWith("env:")) {
    const name = value.slice(4);
    const text = env[name];
    return text === undefined || text === "" ? { fault: `the environment variable ${name} is not set` } : { text };
  }
  const path = secretFile(value, file);
  if (path !== null) {
    try {
      const { size } = statSync(path);
      if (size > MAX_SECRET_BYTES)
        return { fault: `${path} has ${size} bytes, a secret has at most ${MAX_SECRET_BYTES}` };
      const text = readFileSync(path, "utf8").trim();
      return text === "" ? { fault: `${path} is empty` } : { text };
    } catch (error) {
      return { fault: `cannot be read: ${(error as Error).message}` };
    }
  }
  return { text: value };
}

const plain = (path: string, message: string): ConfigIssue => ({
  path,
  line: null,
  value: null,
  message,
  allowed: null,
  nearest: null,
});

/** A zod issue in our words. One issue of several unknown keys becomes several. */
function translate(issue: z.core.$ZodIssue, tree: unknown): { issue: ConfigIssue; path: readonly PropertyKey[] }[] {
  const info = describeAt(KEYS, issue.path);
  const path = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") {
    const known = info ? [...info.keys.keys()] : [];
    // The value of a mistyped key is not shown: it may be a secret.
    return issue.keys.map((key) => {
      const at = [...issue.path, key];
      const near = nearestKey(key, known);
      return {
        path: at,
        issue: {
          ...plain(at.map(String).join("."), "unknown key"),
          allowed: near === null ? known.join(", ") : null,
          nearest: near,
        },
      };
    });
  }
  if (issue.code === "invalid_key") {
    return [
      {
        path: issue.path,
        issue: { ...plain(path, "not usable as a name"), allowed: "a-z, 0-9, _ and -, at most 64, not - or _ first" },
      },
    ];
  }
  const value = valueAt(tree, issue.path);
  const message =
    issue.code === "invalid_type"
      ? "wrong kind of value"
      : issue.code === "invalid_value"
        ? "unknown value"
        : issue.code === "custom"
          ? "wrong form"
          : "out of range";
  const unit = info?.unit ? ` (${info.unit})` : "";
  const allowed = issue.code === "custom" ? issue.message : info ? info.allowed + unit : null;
  const options = issue.code === "invalid_value" ? issue.values.map(String) : [];
  return [
    {
      path: issue.path,
      issue: {
        path,
        line: null,
        value: info?.secret ? null : info?.reference && typeof value === "string" ? redactUri(value) : shape(value),
        message: value === undefined ? "missing" : message,
        allowed,
        nearest: typeof value === "string" && value.length < 100 ? nearestKey(value, options) : null,
      },
    },
  ];
}

/** The path of a key `__proto__`, which zod would leave out without a word, or null. No deeper than settings go: a list may hold itself. */
function reservedKey(tree: unknown, path: readonly string[]): readonly string[] | null {
  if (typeof tree !== "object" || tree === null || path.length > 5) return null;
  if (Object.hasOwn(tree, "__proto__")) return [...path, "__proto__"];
  for (const [key, value] of Object.entries(tree)) {
    const found = reservedKey(value, [...path, key]);
    if (found) return found;
  }
  return null;
}

function valueAt(tree: unknown, path: readonly PropertyKey[]): unknown {
  let at = tree;
  for (const step of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Record<PropertyKey, unknown>)[step];
  }
  return at;
}

/** Maps and lists by kind only, since what is in them may be secret; missing things not at all. */
function shape(value: unknown): string | null {
  if (value === undefined) return null;
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a map";
  return showValue(value);
}
