import { type ArgsDef, type CommandDef, defineCommand } from "citty";
import { StoppedError } from "./stop.js";

/** The command line is wrong; the message says what is allowed. Exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const kebab = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** A command that refuses options and arguments which it does not know; citty alone would ignore them. */
export function command<const T extends ArgsDef>(def: CommandDef<T> & { args: T }): CommandDef<T> {
  const args = Object.entries(def.args as ArgsDef);
  const options = new Map<string, string>();
  for (const [name, arg] of args) {
    if (arg.type === "positional") continue;
    const aliases = "alias" in arg && arg.alias ? [arg.alias].flat() : [];
    for (const known of [name, kebab(name), ...aliases]) options.set(known, arg.type ?? "string");
  }
  const positionals = args.filter(([, arg]) => arg.type === "positional").length;
  return defineCommand({
    ...def,
    setup(context) {
      const shown = args.filter(([, a]) => a.type !== "positional").map(([name]) => `--${kebab(name)}`);
      for (const raw of context.rawArgs) {
        if (raw === "--") break;
        const m = /^--?(?:no-)?([^=]+)/.exec(raw);
        if (!raw.startsWith("-") || raw === "-" || /^-[\d.]/.test(raw) || !m) continue;
        if (options.has(m[1]!) || options.has(raw.replace(/^--?/, "").split("=")[0]!)) continue;
        throw new UsageError(`unknown option ${raw}; known: ${shown.join(", ") || "none"}`);
      }
      for (const [name, type] of options) {
        const value = (context.args as Record<string, unknown>)[name];
        if (type === "string" && value === "") throw new UsageError(`--${name} needs a value`);
      }
      const extra = context.args._.slice(positionals);
      if (extra.length > 0) throw new UsageError(`unexpected argument ${extra.join(" ")}`);
    },
  } as CommandDef<T>);
}

/** A command that only has others below it; options come behind the last name, citty would drop them in front of it. */
export function group(def: Pick<CommandDef, "meta" | "subCommands">): CommandDef {
  return defineCommand({
    ...def,
    setup({ rawArgs: [first] }) {
      if (first?.startsWith("-")) throw new UsageError(`${first} stands before the command; options come after it`);
    },
  });
}

/** An error's own words: no stack for what an operator can mend (errors with a code), all of it for what is our fault. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = (error as { code?: unknown }).code;
  if (error instanceof UsageError || error instanceof StoppedError || error.name === "CLIError") return error.message;
  if (typeof code === "string" && code.startsWith("SL_")) return `${error.message} [${code}]`;
  if (typeof code === "string" && /^E[A-Z]+$/.test(code)) return error.message;
  return error.stack ?? error.message;
}
