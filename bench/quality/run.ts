import type { Separator } from "../support/separator.js";
import { Bench } from "./bench.js";
import type { Condition, Item, Sources } from "./condition.js";
import { CUT_AWAY } from "./conditions/cut-away.js";
import { CUTS } from "./conditions/cuts.js";
import { MIXED } from "./conditions/mixed.js";
import { SILENT } from "./conditions/silent.js";
import { SWAP } from "./conditions/swap.js";
import { STILL, TRANSPARENT } from "./conditions/untouched.js";
import type { Store } from "./store.js";

export const CONDITIONS: readonly Condition[] = [...MIXED, SWAP, SILENT, CUT_AWAY, ...CUTS, TRANSPARENT, ...STILL];

export type Job = { readonly condition: Condition; readonly item: Item };

/**
 * What there is to do, in order. `only`: names of conditions; `limit`: so many items of each, spread over the list.
 * @throws Error for a name that is none, or when nothing is left to do
 */
export function plan(sources: Sources, only: readonly string[] | null, limit: number | null): Job[] {
  const names = CONDITIONS.map((c) => c.name);
  const odd = only?.find((name) => !names.includes(name));
  if (odd !== undefined) throw new Error(`--only: there is no condition "${odd}"; there are ${names.join(", ")}`);
  const jobs = CONDITIONS.filter((c) => only === null || only.includes(c.name)).flatMap((condition) => {
    const items = condition.items(sources);
    const count = Math.min(limit ?? items.length, items.length);
    return Array.from({ length: count }, (_, i) => ({
      condition,
      item: items[Math.floor((i * items.length) / count)]!,
    }));
  });
  if (jobs.length === 0) throw new Error("nothing to do: these conditions need --data or --rendered");
  return jobs;
}

export type Part = { readonly number: number; readonly of: number };

/**
 * Does the jobs of a part that the store does not have yet; the number of those that failed. A failed item is told and left out: the
 * next run tries it again.
 */
export async function runJobs(
  jobs: readonly Job[],
  part: Part,
  separator: Separator,
  store: Store,
  say: (line: string) => void,
): Promise<number> {
  const mine = jobs.filter((_, i) => i % part.of === part.number);
  let failed = 0;
  for (const [i, { condition, item }] of mine.entries()) {
    if (store.has(condition.name, item.name)) continue;
    const at = `${i + 1}/${mine.length}\t${condition.name}\t${item.name}`;
    const bench = new Bench(separator);
    const begin = performance.now();
    try {
      const scores = await item.run(bench);
      const about = { condition: condition.name, name: item.name, labels: item.labels };
      store.add(typeof scores === "string" ? { ...about, skipped: scores } : { ...about, scores }, part.number);
      const told =
        typeof scores === "string"
          ? `left out: ${scores}`
          : Object.entries(scores.product ?? {})
              .map(([key, value]) => `${key} ${value.toFixed(2)}`)
              .join(" ");
      say(`${at}\t${told}\t${((performance.now() - begin) / 1000).toFixed(1)} s`);
    } catch (error) {
      failed += 1;
      say(`${at}\tFAILED: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      bench.close();
    }
  }
  return failed;
}
