import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { HOP_UNITS, type Profile } from "../src/channel/latency.js";
import type { Evaluate } from "../src/file/evaluate.js";
import { separateFile } from "../src/file/separate-file.js";
import { identityOf } from "../src/model/cards.js";
import { SAMPLE_RATE } from "../src/pipeline/types.js";
import { openSeparator, type Separator } from "./support/separator.js";
import { siSdr } from "./val/metrics.js";
import { makeMixture, type Pair, renderedPairs, validationPairs } from "./val/mixtures.js";
import { readMono } from "./val/read-mono.js";

/**
 * How well the product separates people it has not seen: mixtures of two voices at 0 dB, one of them visible, through the same
 * code as `sightline separate` (decoding, faces, model, gains, files).
 *
 *     node dist/bench/val.js --data DIR [--rendered DIR] [--model NAME|PATH] [--profile P] [--look-ahead MS] [--limit N] [--seed N] [--out FILE.md]
 *
 * Beside it the same network with a frozen picture (the first mouth crop held still, no policy steps in) and nothing done.
 * SI-SDR improvement: of the visible person's voice, output against mixture. Kept: the output is nearer (SI-SDR) to the visible
 * person's voice than to the other one. On air the first seconds, in which nobody knows yet whose voice it is, come once and not every
 * ten seconds: what comes after them stands beside. Nothing of DIR is written anywhere but to a temporary folder that is removed.
 */
const { values } = parseArgs({
  options: {
    data: { type: "string" },
    rendered: { type: "string" },
    model: { type: "string", default: "live" },
    profile: { type: "string", default: "balanced" },
    "look-ahead": { type: "string" },
    limit: { type: "string" },
    seed: { type: "string", default: "1" },
    out: { type: "string" },
  },
});

const profile = values.profile as Profile;
const lookAhead = values["look-ahead"] === undefined ? {} : { lookAheadMs: Number(values["look-ahead"]) };

const WAYS = { product: {}, frozen: { picture: "frozen", policy: "off" } } as const satisfies Record<string, Evaluate>;
type Way = keyof typeof WAYS;
/** `settled`: improvement after the first seconds, null where less than two are left. */
type Score = { readonly gain: number; readonly kept: boolean; readonly settled: number | null };
const SETTLED_SECONDS = 4;
const SETTLED = SETTLED_SECONDS * SAMPLE_RATE;
type Result = {
  readonly pair: Pair;
  readonly scores: Readonly<Record<Way | "nothing", Score>>;
  /** Share of the steps in which the product separated. */
  readonly separated: number;
};

async function evaluatePair(pair: Pair, separator: Separator, folder: string): Promise<Result> {
  const { file, on, off } = makeMixture(pair, join(folder, "mixture.mov"));
  const mix = Float32Array.from(on, (x, i) => x + off[i]!);
  const before = siSdr(mix, on);
  const score = (sound: Float32Array): Score => ({
    gain: siSdr(sound, on) - before,
    kept: siSdr(sound, on) > siSdr(sound, off),
    settled:
      on.length < SETTLED + 2 * SAMPLE_RATE
        ? null
        : siSdr(sound.subarray(SETTLED), on.subarray(SETTLED)) - siSdr(mix.subarray(SETTLED), on.subarray(SETTLED)),
  });
  const scores: Partial<Record<Way | "nothing", Score>> = { nothing: score(mix) };
  let separated = 0;
  for (const [way, evaluate] of Object.entries(WAYS) as [Way, Evaluate][]) {
    const out = join(folder, way);
    const report = await separateFile({
      input: file,
      out,
      ...separator.options,
      profile,
      ...lookAhead,
      mp4: false,
      evaluate,
    });
    const kept = readMono(report.files["onscreen.wav"]!, report.channels);
    const removed = readMono(report.files["offscreen.wav"]!, report.channels);
    // Both together are the mixture, in its place: else the scores would measure a shift.
    if (
      siSdr(
        Float32Array.from(kept, (x, i) => x + removed[i]!),
        mix,
      ) < 60
    )
      throw new Error(`${pair.name}: out of place`);
    scores[way] = score(kept);
    if (way === "product") separated = (report.modes.separated ?? 0) / Math.max(1, report.steps);
  }
  return { pair, scores: scores as Result["scores"], separated };
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
const decibels = (x: number): string => `${x >= 0 ? "+" : ""}${x.toFixed(2)}`;
const share = (flags: readonly boolean[]): string => `${Math.round(100 * mean(flags.map(Number)))} %`;

function row(name: string, results: readonly Result[]): string {
  const of = (way: Way | "nothing"): Score[] => results.map((r) => r.scores[way]);
  const cells = [name, String(results.length)];
  for (const way of ["product", "frozen"] as const) {
    const scores = of(way);
    cells.push(
      decibels(mean(scores.map((s) => s.gain))),
      share(scores.map((s) => s.gain > 0)),
      share(scores.map((s) => s.kept)),
    );
    if (way === "product") cells.push(decibels(mean(scores.map((s) => s.settled).filter((x) => x !== null))));
  }
  cells.push(share(of("nothing").map((s) => s.kept)), `${Math.round(100 * mean(results.map((r) => r.separated)))} %`);
  return `| ${cells.join(" | ")} |`;
}

function table(results: readonly Result[]): string[] {
  const lines = [
    `| clips | n | product: SI-SDR improvement (dB) | above 0 | kept | improvement after ${SETTLED_SECONDS} s | frozen picture: improvement (dB) | above 0 | kept | nothing done: kept | steps separated |`,
    "|---|---|---|---|---|---|---|---|---|---|---|",
  ];
  const domains = [...new Set(results.map((r) => r.pair.domain))].sort();
  if (domains.length > 1)
    for (const domain of domains)
      lines.push(
        row(
          domain,
          results.filter((r) => r.pair.domain === domain),
        ),
      );
  const known = results.filter((r) => r.pair.genders.every((g) => g !== null));
  const same = known.filter((r) => r.pair.genders[0] === r.pair.genders[1]);
  const two = known.filter((r) => r.pair.genders[0] !== r.pair.genders[1]);
  if (same.length > 0) lines.push(row("two voices of one gender", same));
  if (two.length > 0) lines.push(row("a man and a woman", two));
  lines.push(row("**all**", results));
  return lines;
}

/** `limit` pairs, spread over the list. */
function limited(pairs: Pair[]): Pair[] {
  const limit = values.limit === undefined ? pairs.length : Math.min(pairs.length, Number(values.limit));
  return Array.from({ length: limit }, (_, i) => pairs[Math.floor((i * pairs.length) / limit)]!);
}

async function run(title: string, pairs: Pair[], separator: Separator): Promise<string[]> {
  const results: Result[] = [];
  for (const pair of limited(pairs)) {
    const folder = mkdtempSync(join(tmpdir(), "sightline-val-"));
    try {
      const result = await evaluatePair(pair, separator, folder);
      results.push(result);
      const { product, frozen } = result.scores;
      const cells = [pair.name, decibels(product.gain), product.kept ? "kept" : "lost", decibels(frozen.gain)];
      process.stderr.write(`${results.length}/${limited(pairs).length}\t${cells.join("\t")}\n`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  return [`### ${title}`, "", ...table(results), ""];
}

if ((values.data === undefined && values.rendered === undefined) || !(profile in HOP_UNITS.stream)) {
  console.error(
    "usage: node dist/bench/val.js --data DIR [--rendered DIR] [--model NAME|PATH] [--profile low|balanced|quality] [--look-ahead MS] [--limit N] [--seed N] [--out FILE.md]",
  );
  process.exit(2);
}
const begin = performance.now();
const separator = await openSeparator(values.model, 2);
try {
  const { card } = separator;
  const lines: string[] = [];
  if (values.data !== undefined)
    lines.push(...(await run("Validation people", validationPairs(values.data, Number(values.seed)), separator)));
  if (values.rendered !== undefined)
    lines.push(...(await run("Rendered heads", renderedPairs(values.rendered), separator)));
  const options = [
    ...(values.data === undefined ? [] : ["--data DIR"]),
    ...(values.rendered === undefined ? [] : ["--rendered DIR"]),
    `--model ${values.model}`,
    `--profile ${profile}`,
    ...(values["look-ahead"] === undefined ? [] : [`--look-ahead ${values["look-ahead"]}`]),
    ...(values.limit === undefined ? [] : [`--limit ${values.limit}`]),
    `--seed ${values.seed}`,
  ];
  lines.push(
    `Command: \`node dist/bench/val.js ${options.join(" ")}\`. Model ${card.name} ${card.version}, identity ` +
      `\`${identityOf(card)}\`. Mixtures at 0 dB, up to 10 s, SI-SDR at 48 kHz mono. ` +
      `${cpus().length} cores (${cpus()[0]?.model ?? "?"}), ${Math.round((performance.now() - begin) / 1000)} s.`,
    "",
  );
  const text = lines.join("\n");
  process.stdout.write(text);
  if (values.out !== undefined) writeFileSync(values.out, text);
} finally {
  await separator.close();
}
