import { fork } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { HOP_UNITS, MAX_LOOK_AHEAD_MS, type Profile } from "../src/channel/latency.js";
import type { AnyCard } from "../src/model/card.js";
import { findModel, identityOf, readLiveCard } from "../src/model/cards.js";
import { BUILT_IN_MODELS } from "../src/paths.js";
import { RememberingFaces } from "./quality/bench.js";
import { type Cost, measureCost } from "./quality/cost.js";
import { validationPeople } from "./quality/people.js";
import { CONDITIONS, plan, runJobs } from "./quality/run.js";
import { Store } from "./quality/store.js";
import { aimTable, conditionTable, costTable, modelTable, type Summary, summarise } from "./quality/table.js";
import { openSeparator } from "./support/separator.js";

const PROFILES = Object.keys(HOP_UNITS.stream) as Profile[];

const USAGE = `Quality of the product on people it has not seen, beside its cost; docs/reference/quality.md says what each test means.

  node dist/bench/quality.js --data DIR [--rendered DIR] --out DIR [--model NAME|PATH] [--profile P] [--look-ahead MS] [--only NAME,...]
                             [--limit N] [--seed N] [--jobs N] [--threads N] [--beside DIR,...]

  --data      folder of the evaluation data: manifest.tsv and audio/manifest.tsv; only rows of split "val" are read
  --rendered  folder of rendered heads (bench/val/render-heads.py); --data or --rendered or both
  --out       table.md, quality.json and items-*.jsonl: what is there already is not done again
  --profile   steps and look-ahead of a channel of this profile: ${PROFILES.join(", ")} (balanced)
  --look-ahead  in place of that look-ahead, 0 to ${MAX_LOOK_AHEAD_MS}
  --only      ${CONDITIONS.map((c) => c.name).join(", ")}
  --limit     so many items of each condition, spread over all
  --jobs      processes at once (1); each runs its network in --threads threads (1)
  --beside    --out folders of other models, as rows beside this one
`;

/** Faults of the command line: no stack trace. */
class UsageError extends Error {}

function count(name: string, text: string | undefined, most: number): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new UsageError(`--${name} takes a whole number from 1 to ${most}, not "${text}"`);
  return value;
}

function options() {
  const { values } = parseArgs({
    options: {
      data: { type: "string" },
      rendered: { type: "string" },
      out: { type: "string" },
      model: { type: "string", default: "live" },
      profile: { type: "string", default: "balanced" },
      "look-ahead": { type: "string" },
      only: { type: "string" },
      limit: { type: "string" },
      seed: { type: "string", default: "1" },
      jobs: { type: "string", default: "1" },
      threads: { type: "string", default: "1" },
      beside: { type: "string" },
      /** K/N: only this part of the items and no table; for the processes of --jobs. */
      part: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  if (values.out === undefined) throw new UsageError("--out DIR is missing");
  if (values.data === undefined && values.rendered === undefined)
    throw new UsageError("--data DIR or --rendered DIR is missing");
  const profile = PROFILES.find((name) => name === values.profile);
  if (profile === undefined)
    throw new UsageError(`--profile is one of ${PROFILES.join(", ")}, not "${values.profile}"`);
  const lookAheadMs = values["look-ahead"] === undefined ? undefined : Number(values["look-ahead"]);
  if (lookAheadMs !== undefined && !(lookAheadMs >= 0 && lookAheadMs <= MAX_LOOK_AHEAD_MS))
    throw new UsageError(`--look-ahead is 0 to ${MAX_LOOK_AHEAD_MS}, not "${values["look-ahead"]}"`);
  const part = /^(\d+)\/(\d+)$/.exec(values.part ?? "0/1");
  if (part === null) throw new UsageError(`--part is K/N, not "${values.part}"`);
  return {
    ...values,
    out: values.out,
    profile,
    lookAheadMs,
    /** As results name it. */
    steps: lookAheadMs === undefined ? profile : `${profile}, look-ahead ${lookAheadMs} ms`,
    part: { number: Number(part[1]), of: Number(part[2]) },
    isPart: values.part !== undefined,
    only: values.only?.split(",") ?? null,
    limit: count("limit", values.limit, 100_000),
    seed: count("seed", values.seed, 2 ** 31)!,
    jobs: count("jobs", values.jobs, 64)!,
    threads: count("threads", values.threads, 64)!,
    beside: values.beside?.split(",") ?? [],
  };
}
type Options = NonNullable<ReturnType<typeof options>>;

/** The command without folders of this machine. */
function commandOf(o: Options): string {
  const words = ["node dist/bench/quality.js"];
  if (o.data !== undefined) words.push("--data DIR");
  if (o.rendered !== undefined) words.push("--rendered DIR");
  words.push(`--model ${o.model.includes("/") ? "PATH" : o.model}`);
  words.push(`--profile ${o.profile}`);
  if (o.lookAheadMs !== undefined) words.push(`--look-ahead ${o.lookAheadMs}`);
  if (o.only !== null) words.push(`--only ${o.only.join(",")}`);
  if (o.limit !== null) words.push(`--limit ${o.limit}`);
  words.push(`--seed ${o.seed}`, "--out DIR");
  return words.join(" ");
}

/** The parts as processes of their own; failed items of all. */
async function runParts(o: Options): Promise<number> {
  const part = (k: number): Promise<number> =>
    new Promise((resolve) => {
      const args = [...process.argv.slice(2), "--part", `${k}/${o.jobs}`];
      const child = fork(fileURLToPath(import.meta.url), args);
      child.on("exit", (code) => resolve(code === 0 ? 0 : 1));
    });
  return (await Promise.all(Array.from({ length: o.jobs }, (_, k) => part(k)))).reduce((a, b) => a + b, 0);
}

type Saved = { readonly model: string; readonly summary: Summary };

function besides(folders: readonly string[]): { name: string; summary: Summary }[] {
  return folders.map((folder) => {
    const { model, summary } = JSON.parse(readFileSync(join(folder, "quality.json"), "utf8")) as Saved;
    return { name: model, summary };
  });
}

function write(o: Options, card: AnyCard, store: Store, cost: Cost): void {
  const results = store.all();
  const summary = summarise(results, cost);
  const model = `${card.name} ${card.version}, ${o.steps}`;
  const sha256 = identityOf(card);
  const rows = [{ name: model, summary }, ...besides(o.beside)];
  const lines = [
    `## Quality of ${model}`,
    "",
    `\`${commandOf(o)}\` (model's identity \`${sha256}\`)`,
    "",
    `Times on ${cost.machine}.`,
    "",
    ...aimTable(summary),
    "",
    ...costTable(cost),
    "### Models side by side",
    "",
    ...modelTable(rows),
    "",
    ...CONDITIONS.flatMap((c) => conditionTable(c, results)),
  ];
  writeFileSync(join(o.out, "table.md"), lines.join("\n"));
  const json = { command: commandOf(o), model, sha256, seed: o.seed, cost, summary, results };
  writeFileSync(join(o.out, "quality.json"), `${JSON.stringify(json, null, 1)}\n`);
}

async function main(): Promise<number> {
  const o = options();
  if (o === null) {
    process.stdout.write(USAGE);
    return 0;
  }
  const people = o.data === undefined ? null : validationPeople(o.data);
  const jobs = plan({ people, rendered: o.rendered ?? null, seed: o.seed }, o.only, o.limit);
  // Refused before the work: a model that no channel could use, for it sees nothing or separates nothing.
  const folder = await findModel(o.model, BUILT_IN_MODELS);
  const card = await readLiveCard(folder);
  const sha256 = identityOf(card);
  const identity = { model: `${card.name} ${card.version}`, sha256, seed: o.seed, profile: o.steps };
  const store = new Store(o.out, identity);
  besides(o.beside); // a wrong folder is told before the work, not after it
  let failed = 0;
  if (o.jobs > 1 && !o.isPart) {
    failed = await runParts(o);
    store.read();
  } else {
    const separator = await openSeparator(o.model, o.threads, (faces) => new RememberingFaces(faces));
    const { profile, lookAheadMs } = o;
    const options = { ...separator.options, profile, ...(lookAheadMs !== undefined && { lookAheadMs }) };
    const profiled = { ...separator, options };
    try {
      failed = await runJobs(jobs, o.part, profiled, store, (line) => process.stderr.write(`${line}\n`));
    } finally {
      await separator.close();
    }
  }
  if (o.isPart) return failed === 0 ? 0 : 1;
  write(o, card, store, await measureCost(folder));
  if (failed > 0) process.stderr.write("some items failed (above); the same command tries them again\n");
  else process.stderr.write(`${join(o.out, "table.md")} and quality.json are written\n`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main().catch((error: unknown) => {
  const known = error instanceof UsageError || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS");
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}${known ? `\n\n${USAGE}` : "\n"}`);
  return 2;
});
