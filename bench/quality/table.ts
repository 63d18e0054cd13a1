import type { Condition, Result, Scores } from "./condition.js";
import { mean, numbers } from "./condition.js";
import type { Cost } from "./cost.js";

const scoresOf = (results: readonly Result[]): Scores[] => results.flatMap((r) => (r.scores ? [r.scores] : []));

const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

function grid(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [line(head), `|${head.map(() => " --- |").join("")}`, ...rows.map(line)];
}

/** All items, then those of each domain, gender and language, where there are several kinds. */
export function conditionTable(condition: Condition, results: readonly Result[]): string[] {
  const own = results.filter((r) => r.condition === condition.name);
  if (own.length === 0) return [];
  const judged = own.filter((r) => r.scores !== undefined);
  const row = (name: string, some: readonly Result[]): string[] => {
    const scores = scoresOf(some);
    return [name, String(scores.length), ...condition.columns.map((c) => c.cell(scores))];
  };
  const rows: string[][] = [];
  for (const label of ["domain", "gender", "visible", "heard"]) {
    const kinds = [...new Set(judged.map((r) => r.labels[label]))].filter((k) => k !== undefined).sort();
    if (kinds.length < 2) continue;
    for (const kind of kinds)
      rows.push(
        row(
          kind,
          judged.filter((r) => r.labels[label] === kind),
        ),
      );
  }
  rows.push(row("**all**", judged));
  const skipped = own.length - judged.length;
  return [
    `### ${condition.title} (\`${condition.name}\`)`,
    "",
    condition.meaning,
    "",
    ...grid(["clips", "n", ...condition.columns.map((c) => c.head)], rows),
    ...(skipped > 0
      ? ["", `Left out: ${skipped} (${[...new Set(own.flatMap((r) => r.skipped ?? []))].join("; ")}).`]
      : []),
    "",
  ];
}

/** One figure, of the product and of the frozen picture, null: not measured in this run. */
type Figure = {
  readonly head: string;
  readonly product: number | null;
  readonly frozen: number | null;
  readonly unit: "share" | "dB" | "ms" | "G";
  /** Of how many items; null: not made of items. */
  readonly n: number | null;
  readonly aim: string;
  readonly holds: boolean | null;
};
export type Summary = readonly Figure[];

/** The figures that the project has set itself (training, step one), and what they cost. */
export function summarise(results: readonly Result[], cost: Cost | null): Summary {
  const of = (condition: string): Scores[] => scoresOf(results.filter((r) => r.condition === condition));
  const figure = (
    head: string,
    condition: string,
    key: string,
    unit: Figure["unit"],
    of1: (x: number) => number,
    aim: string,
    holds: (x: number) => boolean,
  ): Figure => {
    const scores = of(condition);
    const value = (way: string): number | null => {
      const x = numbers(scores, way, key);
      return x.length === 0 ? null : mean(x.map(of1));
    };
    const product = value("product");
    return {
      head,
      product,
      frozen: value("frozen"),
      unit,
      n: scores.length,
      aim,
      holds: product === null ? null : holds(product),
    };
  };
  const self = (x: number): number => x;
  const least = (limit: number) => (x: number) => x >= limit;
  const is = (test: (x: number) => boolean) => (x: number) => Number(test(x));
  const small = is((x) => Math.abs(x) < 0.5);
  const figures = [
    figure("two people, 0 dB: kept", "level0", "kept", "share", self, "85 %", least(0.85)),
    figure("SI-SDR improvement", "level0", "gain", "dB", self, "+3 dB", least(3)),
    figure(
      "improvement above 0",
      "level0",
      "gain",
      "share",
      is((x) => x > 0),
      "75 %",
      least(0.75),
    ),
    figure("SDR", "level0", "sdr", "dB", self, "", () => true),
    figure("swap: both right", "swap", "both", "share", self, "88 %", least(0.88)),
    figure("rendered heads: kept", "rendered", "kept", "share", self, "97 %", least(0.97)),
    figure("rendered heads: improvement", "rendered", "gain", "dB", self, "+6 dB", least(6)),
    figure(
      "silent: other voice down by 10 dB after 1 s",
      "silent",
      "down",
      "share",
      is((x) => x <= -10),
      "all",
      least(1),
    ),
    figure(
      "silent: next word loses under 3 dB",
      "silent",
      "word",
      "share",
      is((x) => x > -3),
      "all",
      least(1),
    ),
    figure("cut-away: right voice chosen on the slide", "cutaway", "chosenSlide", "share", self, "85 %", least(0.85)),
    figure("alone: level within 0.5 dB", "transparent", "change", "share", small, "all", least(1)),
    figure(
      "alone: SI-SDR over 20 dB",
      "transparent",
      "quality",
      "share",
      is((x) => x > 20),
      "all",
      least(1),
    ),
    figure("frozen picture: no second changed by 0.5 dB", "frozen", "worst", "share", small, "all", least(1)),
    figure("no face: no second changed by 0.5 dB", "faceless", "worst", "share", small, "all", least(1)),
    ...(cost === null ? [] : costFigures(cost)),
  ];
  // What was not measured is not shown; an aim without a limit says nothing about holding.
  return figures.filter((f) => f.product !== null).map((f) => (f.aim === "" ? { ...f, holds: null } : f));
}

/** What both kinds of models have stands under the same head, so that their rows can be compared. */
function costFigures(cost: Cost): Figure[] {
  const plain = (head: string, value: number, unit: Figure["unit"], aim = "", limit = Number.NaN): Figure => ({
    head,
    product: value,
    frozen: null,
    unit,
    n: null,
    aim,
    holds: Number.isNaN(limit) ? null : value <= limit,
  });
  const { low, balanced } = cost.profiles;
  const coreShare = (share: number): Figure =>
    plain("share of one core, `balanced`, one face", share, "share", "under 25 %", 0.25);
  const own =
    cost.kind === "stream"
      ? [
          plain("engine a hop, `low`, one thread", cost.profiles.low.engineMs, "ms"),
          plain("engine a hop, `balanced`, one thread", cost.profiles.balanced.engineMs, "ms"),
          coreShare(cost.profiles.balanced.coreShare),
          plain("multiply-adds per second of feed", cost.macPerSecond / 1e9, "G"),
          plain("look-ahead, `balanced`", cost.profiles.balanced.lookAheadMs, "ms"),
          plain("look-ahead, `quality`", cost.profiles.quality.lookAheadMs, "ms"),
        ]
      : [
          plain("a window, one thread", cost.windowMs[1], "ms"),
          plain("a window, two threads", cost.windowMs[2], "ms"),
          coreShare(cost.profiles.balanced.coreShare[1]),
          plain("multiply-adds per second of feed, `balanced`", cost.profiles.balanced.macPerSecond / 1e9, "G"),
        ];
  return [
    ...own,
    plain("guard + hop, `low`", low.guardAndHopMs, "ms", "at most 200 ms", 200),
    plain("guard + hop, `balanced`", balanced.guardAndHopMs, "ms"),
    plain("declared latency, `balanced`", balanced.declaredMs, "ms"),
    plain("declared latency, `quality`", cost.profiles.quality.declaredMs, "ms"),
  ];
}

/** Of a window model, whose cost is another one at each hop; nothing for a `stream` model, whose figures stand beside the aims. */
export function costTable(cost: Cost): string[] {
  if (cost.kind === "stream") return [];
  const { parameters, macPerWindow, guardMs, windowMs, engineMs } = cost;
  const giga = (macs: number): string => text(macs / 1e9, "G");
  const rows = Object.entries(cost.profiles).map(([name, p]) => [
    `\`${name}\``,
    ...[p.hopMs, p.guardAndHopMs, p.declaredMs].map((ms) => `${Math.round(ms)} ms`),
    giga(p.macPerSecond),
    text(p.coreShare[1], "share"),
    text(p.coreShare[2], "share"),
  ]);
  return [
    "### What a window costs",
    "",
    `${(parameters / 1e6).toFixed(2)} M parameters, ${giga(macPerWindow)} multiply-adds a window, guard ${Math.round(guardMs)} ms with its cross-fade. ` +
      `From sound and pictures to gains: ${text(windowMs[1], "ms")} on one thread (engine ${text(engineMs[1], "ms")}), ` +
      `${text(windowMs[2], "ms")} on two (engine ${text(engineMs[2], "ms")}); medians. ` +
      "Share of one core: processor time of a window, all threads, over the hop.",
    "",
    ...grid(
      [
        "profile",
        "hop",
        "guard + hop",
        "declared latency",
        "multiply-adds per second of feed",
        "share of one core, one thread",
        "two threads",
      ],
      rows,
    ),
    "",
  ];
}

function text(value: number | null, unit: Figure["unit"]): string {
  if (value === null) return "";
  if (unit === "share") return `${Math.round(100 * value)} %`;
  if (unit === "dB") return `${value >= 0 ? "+" : ""}${value.toFixed(2)} dB`;
  return unit === "ms" ? `${value.toFixed(1)} ms` : `${value.toFixed(2)} G`;
}

/** Aims as rows, one model. */
export function aimTable(summary: Summary): string[] {
  const rows = summary.map((f) => [
    f.head,
    f.n === null ? "" : String(f.n),
    text(f.product, f.unit),
    text(f.frozen, f.unit),
    f.aim,
    f.holds === null ? "" : f.holds ? "yes" : "no",
  ]);
  return grid(["figure", "n", "product", "frozen picture", "aim", "holds"], rows);
}

/** One row a model, quality and cost beside each other; ablations are compared so. */
export function modelTable(models: readonly { readonly name: string; readonly summary: Summary }[]): string[] {
  const heads = [...new Set(models.flatMap((m) => m.summary.map((f) => f.head)))];
  const rows = models.map((m) => [
    m.name,
    ...heads.map((head) => {
      const f = m.summary.find((x) => x.head === head);
      return f === undefined ? "" : text(f.product, f.unit) + (f.frozen === null ? "" : ` (${text(f.frozen, f.unit)})`);
    }),
  ]);
  return grid(["model (in brackets: frozen picture)", ...heads], rows);
}
