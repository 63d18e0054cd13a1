import { stringify } from "yaml";
import { describe, type KeyInfo } from "./describe.js";
import { environmentName } from "./environment.js";
import { config } from "./schema.js";

const WIDTH = 110;

/** The text of `sightline.example.yml`: every key with its meaning, unit, what is allowed and its default; keys without default are commented out. */
export function exampleYaml(): string {
  const root = describe(config);
  const out = [
    "# Sightline: every setting, with its default. Generated from src/config/schema.ts (`sightline config example`); all of it may be left out.",
    "# A setting can also be given in the environment: SIGHTLINE_HTTP, SIGHTLINE_CHANNELS__STUDIO__STRENGTH_PERCENT (two underscores between levels).",
    "# `env:NAME` takes a text from the environment, `file:PATH` from a file (relative to this one): for stream keys and addresses with passwords.",
    "# The file is watched: only channels whose settings changed start anew; a faulty file changes nothing and is reported.",
    "",
  ];
  for (const [key, info] of root.keys) {
    if (info.kind === "record" && info.inner) {
      out.push(
        ...comment(`${sentence(info)} Default: none. One of them, to be uncommented:`),
        `# ${key}:`,
        "#   studio:",
      );
      for (const [name, inner] of info.inner.keys)
        out.push(...keyLines(name, inner, true).map((line) => (line === "" ? "#" : `#     ${line}`)));
    } else {
      out.push(...keyLines(key, info, false), "");
    }
  }
  return `${out.join("\n").trimEnd()}\n`;
}

/** Lines of one key. Inside a commented block a comment gets a second #, so that removing the first one leaves valid YAML. */
function keyLines(name: string, info: KeyInfo, nested: boolean): string[] {
  const out = comment(sentence(info));
  const mark = info.defaultValue === undefined && !nested ? "# " : "";
  // In the commented channel a needed example (`key`) stands open, an optional one (`region`) closed.
  const close = nested && info.defaultValue === undefined && !info.secret ? "# " : mark;
  if (info.kind === "object") {
    // Groups whose keys all have defaults stand open, as every key with a default.
    const isWhole = !nested && [...info.keys.values()].every((inner) => inner.defaultValue !== undefined);
    const start = isWhole ? "" : close;
    out.push(`${start}${name}:`);
    for (const [key, inner] of info.keys) {
      const unit = inner.unit === null ? "" : `, ${inner.unit}`;
      out.push(
        `${start}  ${key}: ${scalar(inner.example ?? inner.defaultValue)} # ${inner.about}${unit}; ${inner.allowed}`,
      );
    }
    return out;
  }
  out.push(`${close}${name}: ${scalar(info.defaultValue ?? info.example)}`);
  return out;
}

const scalar = (value: unknown): string =>
  Array.isArray(value) && value.length === 0 ? "[]" : stringify(value).trimEnd();

function sentence(info: KeyInfo): string {
  const about = info.about.charAt(0).toUpperCase() + info.about.slice(1);
  const unit = info.unit ? ` Unit: ${info.unit}.` : "";
  const allowed =
    (info.kind === "string" && info.allowed === "text") ||
    info.kind === "object" ||
    info.kind === "record" ||
    info.kind === "array"
      ? ""
      : ` Allowed: ${info.allowed}.`;
  return `${about}.${unit}${allowed}`;
}

/** Breaks a sentence into comment lines. */
function comment(text: string): string[] {
  const out: string[] = [];
  let line = "#";
  for (const word of text.split(" ")) {
    if (line.length + 1 + word.length > WIDTH) {
      out.push(line);
      line = "#";
    }
    line += ` ${word}`;
  }
  out.push(line);
  return out;
}

/** The text of `docs/reference/configuration.md`. */
export function referenceMarkdown(): string {
  const root = describe(config);
  const out = [
    "# Configuration",
    "",
    "Generated from `src/config/schema.ts` by `sightline config reference`; do not edit. The commented file with every key is",
    "[sightline.example.yml](../../sightline.example.yml). `sightline config check FILE` names every fault of a file and exits with 1.",
    "",
    "- Unknown keys are refused. Every key may be left out.",
    "- `env:NAME` and `file:PATH` (relative to the file) stand for a text kept elsewhere, where the table says *reference*. Such texts never appear in logs.",
    "- The environment overrides the file: `SIGHTLINE_` and the name below; two underscores between levels, channel names in capitals with `_` for `-`. Lists are written `[a, b]`; a plain text is a list of one. A channel that the file lacks is made, its name in lower case.",
    "- The file itself: `--config`, else `SIGHTLINE_CONFIG`, else `./sightline.yml`.",
    "- The file is watched. `bypass`, `keep`, `strengthPercent` and `attenuationLimitDb` change on the running channel, a new `key` is told to the gateway;",
    "  any other change of a channel restarts that channel only. `logLevel` and `httpHosts` change at once, the other server settings with the next start. A faulty file changes nothing:",
    "  the log says so, and `configError` of `/api/state` holds the faults until the file is good again.",
    "",
    "## Server",
    "",
    ...table(
      [...root.keys].filter(([, info]) => info.kind !== "record"),
      "",
    ),
  ];
  for (const [key, info] of root.keys) {
    if (info.kind !== "record" || !info.inner) continue;
    out.push(
      "",
      `## ${key}.NAME`,
      "",
      `${sentence(info)}`,
      "",
      ...table([...info.inner.keys], `${environmentName(key)}__NAME__`),
    );
  }
  return `${out.join("\n")}\n`;
}

function table(keys: readonly (readonly [string, KeyInfo])[], prefix: string): string[] {
  const out = ["| key | default | unit | allowed | meaning | environment |", "| --- | --- | --- | --- | --- | --- |"];
  const row = (name: string, info: KeyInfo, variable: string): void => {
    const fallback = info.defaultValue === undefined ? "-" : `\`${JSON.stringify(info.defaultValue)}\``;
    const allowed = info.kind === "object" ? "map" : info.allowed + (info.reference ? ", reference" : "");
    out.push(
      `| \`${name}\` | ${fallback} | ${info.unit ?? ""} | ${allowed} | ${info.about.replaceAll("|", "\\|")} | ${variable} |`,
    );
  };
  for (const [name, info] of keys) {
    const variable = `SIGHTLINE_${prefix}${environmentName(name)}`;
    row(name, info, info.kind === "object" ? "" : `\`${variable}\``);
    for (const [key, inner] of info.keys) row(`${name}.${key}`, inner, `\`${variable}__${environmentName(key)}\``);
  }
  return out;
}
