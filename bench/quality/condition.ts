import type { Bench } from "./bench.js";
import type { People } from "./people.js";

/** Numbers of one way of doing it; truths are 1 and 0. */
export type Values = Readonly<Record<string, number>>;

/** What one item gave: `product`, `frozen` (picture held still) and `nothing` (the input taken as the result), as far as they apply. */
export type Scores = Readonly<Record<string, Values>>;

export type Item = {
  /** Unique within its condition. */
  readonly name: string;
  /** By which rows are made: domain, gender, language ... */
  readonly labels: Readonly<Record<string, string>>;
  /** A string: why the item cannot be judged. */
  run(bench: Bench): Promise<Scores | string>;
};

export type Result = {
  readonly condition: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly scores?: Scores;
  readonly skipped?: string;
};

export type Sources = {
  readonly people: People | null;
  readonly rendered: string | null;
  readonly seed: number;
};

/** A column of a condition's table. */
export type Column = { readonly head: string; readonly cell: (scores: readonly Scores[]) => string };

export type Condition = {
  readonly name: string;
  readonly title: string;
  /** What is done and what the figures mean, in plain words. */
  readonly meaning: string;
  readonly columns: readonly Column[];
  /** In the order in which they run; empty when the sources for it are not given. */
  items(sources: Sources): readonly Item[];
};

export const numbers = (scores: readonly Scores[], way: string, key: string): number[] =>
  scores.flatMap((s) => (s[way]?.[key] === undefined ? [] : [s[way][key]]));

export const mean = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0) / Math.max(1, x.length);
export const median = (x: readonly number[]): number => {
  const sorted = [...x].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

const orNothing = (x: readonly number[], text: (x: readonly number[]) => string): string =>
  x.length === 0 ? "" : text(x);
const signed = (x: number, digits = 2): string => `${x >= 0 ? "+" : ""}${x.toFixed(digits)}`;

/** Mean in dB. */
export const meanDb = (head: string, way: string, key: string): Column => ({
  head,
  cell: (s) => orNothing(numbers(s, way, key), (x) => signed(mean(x))),
});
/** Median in dB. */
export const medianDb = (head: string, way: string, key: string): Column => ({
  head,
  cell: (s) => orNothing(numbers(s, way, key), (x) => signed(median(x))),
});
/** Share of the items in which a test holds. */
export const share = (
  head: string,
  way: string,
  key: string,
  holds: (x: number) => boolean = (x) => x > 0,
): Column => ({
  head,
  cell: (s) => orNothing(numbers(s, way, key), (x) => `${Math.round(100 * mean(x.map((v) => Number(holds(v)))))} %`),
});
/** Mean of a share that each item has of its own. */
export const percent = (head: string, way: string, key: string): Column => ({
  head,
  cell: (s) => orNothing(numbers(s, way, key), (x) => `${Math.round(100 * mean(x))} %`),
});
