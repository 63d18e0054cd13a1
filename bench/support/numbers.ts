import { execFileSync } from "node:child_process";
import { cpus, loadavg } from "node:os";

/** Value below which this share (0..1) of the values lies; NaN for none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? Number.NaN : sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);

export const mean = (values: readonly number[]): number => values.reduce((s, v) => s + v, 0) / values.length;

/** Least-squares slope of y over x. */
export function slope(points: readonly { x: number; y: number }[]): number {
  const n = points.length;
  if (n < 2) return 0;
  const mx = points.reduce((s, p) => s + p.x, 0) / n;
  const my = points.reduce((s, p) => s + p.y, 0) / n;
  const xx = points.reduce((s, p) => s + (p.x - mx) ** 2, 0);
  return xx === 0 ? 0 : points.reduce((s, p) => s + (p.x - mx) * (p.y - my), 0) / xx;
}

/** One row of a result table: what was measured, what was promised, and whether it holds (null: shown only). */
export type Row = {
  readonly what: string;
  readonly value: string;
  readonly bound: string;
  readonly holds: boolean | null;
};

export const row = (what: string, value: string, bound = "", holds: boolean | null = null): Row => ({
  what,
  value,
  bound,
  holds,
});

/** Prints a markdown table; gives the exit status: 1 when a row does not hold. */
export function printTable(title: string, rows: readonly Row[]): 0 | 1 {
  const mark = (r: Row): string => (r.holds === null ? "" : r.holds ? "yes" : "**NO**");
  console.log(`\n### ${title}\n\n| measured | value | promised | holds |\n| --- | --- | --- | --- |`);
  for (const r of rows) console.log(`| ${r.what} | ${r.value} | ${r.bound} | ${mark(r)} |`);
  console.log("");
  return rows.some((r) => r.holds === false) ? 1 : 0;
}

/** Machine, versions and load: beside every table. */
export function machine(): string {
  const gst = firstLine("gst-launch-1.0", "--version").replace(/^gst-launch-1.0 version /, "GStreamer ");
  const ffmpeg = firstLine("ffmpeg", "-version").replace(/^(ffmpeg) version (\S+).*$/, "$1 $2");
  const load = loadavg()
    .map((v) => v.toFixed(1))
    .join(" ");
  return `${cpus()[0]?.model ?? "unknown CPU"}, ${cpus().length} cores, load ${load}; Node ${process.version}, ${gst}, ${ffmpeg}`;
}

function firstLine(program: string, option: string): string {
  try {
    return execFileSync(program, [option], { stdio: ["ignore", "pipe", "ignore"], timeout: 10_000 })
      .toString()
      .split("\n")[0]!;
  } catch {
    return `no ${program}`;
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Polls until `test` gives something. @throws Error that names what was waited for */
export async function until<T>(
  what: string,
  test: () => T | Promise<T>,
  limitMs = 20_000,
  everyMs = 20,
): Promise<NonNullable<Exclude<T, false>>> {
  const end = performance.now() + limitMs;
  for (;;) {
    const value = await test();
    if (value) return value as NonNullable<Exclude<T, false>>;
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain for: ${what}`);
    await sleep(everyMs);
  }
}
