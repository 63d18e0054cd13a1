import { readdirSync, readFileSync } from "node:fs";
import { mean, slope } from "./numbers.js";

/** Clock ticks of /proc/PID/stat: 100 a second on every Linux that Node runs on. */
const TICKS = 100;

/** The most memory that this process has held. Not resourceUsage(): a child's maximum begins with what its parent had when it was made. */
export function peakMebibytes(): number {
  return Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? Number.NaN) / 1024;
}

/** Ids of a process and all its descendants, from /proc. */
export function processTree(rootPid: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const stat = statOf(pid);
    if (stat !== null) parents.set(pid, stat.parent);
  }
  const tree = parents.has(rootPid) ? [rootPid] : [];
  for (const pid of tree) for (const [child, parent] of parents) if (parent === pid) tree.push(child);
  return tree;
}

/** Zombies count as gone. */
function statOf(pid: number): { parent: number; cpuSeconds: number } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z") return null;
    return { parent: Number(fields[1]), cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS };
  } catch {
    return null;
  }
}

export const isAlive = (pid: number): boolean => statOf(pid) !== null;

function residentMb(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

type Sample = { readonly atMs: number; readonly mb: number; readonly cpuSeconds: number };
export type Usage = {
  readonly name: string;
  readonly cores: number;
  readonly firstMb: number;
  readonly lastMb: number;
  readonly mbPerMinute: number;
};

/** Follows memory and CPU of named processes, once every `everyMs`. */
export class ResourceSampler {
  readonly #samples = new Map<string, Sample[]>();
  readonly #timer: NodeJS.Timeout;

  /** @param pids asked for at each sample: name to process id */
  constructor(
    private readonly pids: () => ReadonlyMap<string, number>,
    everyMs = 1000,
  ) {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), everyMs);
  }

  #sample(): void {
    const atMs = performance.now();
    for (const [name, pid] of this.pids()) {
      const stat = statOf(pid);
      if (stat === null) continue;
      const list = this.#samples.get(name) ?? [];
      list.push({ atMs, mb: residentMb(pid), cpuSeconds: stat.cpuSeconds });
      this.#samples.set(name, list);
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#sample();
  }

  /** From `fromMs` on: means of the first and the last tenth, slope over the whole, cores; the sum of all under `all`. */
  usage(fromMs: number): Usage[] {
    const out: Usage[] = [];
    for (const [name, all] of this.#samples) {
      const list = all.filter((s) => s.atMs >= fromMs);
      const [first, last] = [list[0], list.at(-1)];
      if (first === undefined || last === undefined || last === first) continue;
      const tenth = Math.max(1, Math.floor(list.length / 10));
      out.push({
        name,
        cores: (last.cpuSeconds - first.cpuSeconds) / ((last.atMs - first.atMs) / 1000),
        firstMb: meanMb(list.slice(0, tenth)),
        lastMb: meanMb(list.slice(-tenth)),
        mbPerMinute: slope(list.map((s) => ({ x: s.atMs / 60_000, y: s.mb }))),
      });
    }
    const sum = (of: (u: Usage) => number): number => out.reduce((s, u) => s + of(u), 0);
    out.push({
      name: "all",
      cores: sum((u) => u.cores),
      firstMb: sum((u) => u.firstMb),
      lastMb: sum((u) => u.lastMb),
      mbPerMinute: sum((u) => u.mbPerMinute),
    });
    return out;
  }
}

const meanMb = (list: readonly Sample[]): number => mean(list.map((s) => s.mb));
