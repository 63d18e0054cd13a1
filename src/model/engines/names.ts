/** Every engine, the fastest expected one first. `cpu` is the measure for the others: what differs from it is not used. */
export const ENGINES = ["tensorrt", "cuda", "webgpu", "cpu", "tensorflow", "wasm"] as const;
export type EngineName = (typeof ENGINES)[number];
export const ENGINE_CHOICES = ["auto", ...ENGINES] as const;
export type EngineChoice = (typeof ENGINE_CHOICES)[number];

/** Why an engine is not used. The words never change their meaning; docs/reference/engines.md lists the same (a test compares). */
export const ENGINE_REASONS = {
  "not-asked": "another engine was named",
  "not-needed": "one that comes before it runs (or, of `cpu`, a quicker one)",
  "not-installed": "its package or one of its libraries is not there",
  "no-device": "the machine has no device for it",
  "does-not-load": "it is there, but refused to start with this model",
  "model-refused": "the model holds an operator that it does not have",
  crashed: "the process of its trial died",
  "timed-out": "its trial took too long",
  differs: "its first window is not that of the CPU",
  slower: "it works, but the CPU (or what stands in for it) is quicker with this model",
  failed: "it failed after it had been chosen: threw, gave values that are not finite, or took its process down",
} as const satisfies Record<string, string>;
export type EngineReason = keyof typeof ENGINE_REASONS;

/** What became of one engine when the model was opened, or later. */
export type EngineTry = {
  readonly name: EngineName;
  /** Null: this one runs. */
  readonly reason: EngineReason | null;
  readonly detail: string;
  /** Milliseconds of opening and the first window, and of a window after it; null: it was not run. */
  readonly warmUpMs: number | null;
  readonly runMs: number | null;
  /** Largest difference from the CPU's first window (compare.ts); null: not compared. */
  readonly error: number | null;
};

/** Which engine runs and why the others do not: log, /api/state, /metrics, `sightline doctor`. */
export type EngineReport = {
  readonly asked: string;
  readonly running: EngineName;
  readonly label: string;
  /** SL_ENGINE_FALLBACK: not the engine that was asked for or chosen; else null. */
  readonly code: "SL_ENGINE_FALLBACK" | null;
  readonly tries: readonly EngineTry[];
};

/**
 * Of networks that are run as one: what one of them runs on counts as used, what is not the CPU first (if it takes the process down, the next
 * one must not have it), a fallback of one is a fallback. Times are sums where all were run.
 */
export function combinedReport(reports: readonly EngineReport[]): EngineReport {
  const first = reports[0]!;
  if (reports.length === 1) return first;
  const used = [...new Map(reports.map((r) => [r.running, r.label]))].sort(
    ([a], [b]) => Number(a === "cpu") - Number(b === "cpu"),
  );
  const sum = (values: readonly (number | null)[]): number | null =>
    values.some((v) => v === null) ? null : values.reduce<number>((a, v) => a + v!, 0);
  const tries = ENGINES.map((name): EngineTry => {
    const each = reports.map((r) => r.tries.find((t) => t.name === name)!);
    const errors = each.flatMap(({ error }) => error ?? []);
    return {
      ...(each.find((t) => t.reason === null) ?? each.find((t) => t.reason === "failed") ?? each[0]!),
      warmUpMs: sum(each.map((t) => t.warmUpMs)),
      runMs: sum(each.map((t) => t.runMs)),
      error: errors.length === 0 ? null : Math.max(...errors),
    };
  });
  return {
    asked: first.asked,
    running: used[0]![0],
    label: used.map(([, label]) => label).join(" and "),
    code: reports.find((r) => r.code !== null)?.code ?? null,
    tries,
  };
}
