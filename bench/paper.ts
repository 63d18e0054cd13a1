import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { OnnxEngine } from "../src/model/engines/onnxruntime.js";
import { references, withoutTorch } from "../test/model/paper/reference.js";
import { testInputs } from "../test/model/paper/support.js";
import { machine, median } from "./support/numbers.js";
import { paperNet } from "./support/paper-net.js";

/**
 * Cost of one window of the paper's networks (random weights) through onnxruntime on the CPU, each in a process of its own, and of the
 * same network in PyTorch right after it.
 *
 *     npx tsx bench/paper.ts [--runs 5] [--threads 2] [PRESET:1/WIDTH:IMAGE[:FRAMES] ...]     default: the paper's size, 1/2, 1/4
 *
 * Milliseconds are the least and the median of the runs after the first; CPU time is the fairer column where other programs run
 * beside. Peak memory is that of the whole process, Node or Python included.
 */
const { values, positionals } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    measure: { type: "string" },
  },
  allowPositionals: true,
});
const runs = Number(values.runs);
const threads = Number(values.threads);
if (!(Number.isInteger(runs) && runs >= 2 && runs <= 100)) throw new Error(`--runs ${values.runs}: 2 to 100`);
if (!(Number.isInteger(threads) && threads >= 1 && threads <= 64))
  throw new Error(`--threads ${values.threads}: 1 to 64`);

type Cost = { readonly ms: readonly number[]; readonly cpuMs: readonly number[]; readonly peakMib: number };

/** In a process of its own: loads the file and runs it. Prints a Cost as JSON. */
async function measure(file: string, text: string): Promise<void> {
  const inputs = testInputs(paperNet(text).graph());
  const engine = await OnnxEngine.open(file, { threads });
  const ms: number[] = [];
  const cpuMs: number[] = [];
  for (let i = 0; i < runs; i++) {
    const before = process.cpuUsage();
    const begin = performance.now();
    await engine.run(inputs);
    ms.push(performance.now() - begin);
    const used = process.cpuUsage(before);
    cpuMs.push((used.user + used.system) / 1000);
  }
  await engine.close();
  console.log(JSON.stringify({ ms, cpuMs, peakMib: process.resourceUsage().maxRSS / 1024 } satisfies Cost));
}

const cells = (values: readonly (string | number)[], widths: readonly number[]): string =>
  values.map((v, i) => (typeof v === "number" ? v.toFixed(0) : v).padStart(widths[i]!)).join("");
const WIDTHS = [10, 9, 9, 9, 10, 9, 9];

function line(what: string, cost: Cost, against: Cost | null): void {
  const [ms, cpu] = [cost.ms.slice(1), cost.cpuMs.slice(1)];
  const ratio = (of: (c: Cost) => readonly number[]): string =>
    against ? (Math.min(...of(cost).slice(1)) / Math.min(...of(against).slice(1))).toFixed(2) : "";
  console.log(
    `  ${what.padEnd(24)}${cells([Math.min(...ms), median(ms), Math.min(...cpu), cost.ms[0]!, cost.peakMib, ratio((c) => c.ms), ratio((c) => c.cpuMs)], WIDTHS)}`,
  );
}

if (values.measure) await measure(values.measure, positionals[0]!);
else {
  const reason = withoutTorch();
  console.log(`${await OnnxEngine.version()}, ${threads} threads, ${machine()}`);
  console.log(
    `  ${"".padEnd(24)}${cells(["least ms", "median", "CPU ms", "first", "peak MiB", "ratio", "CPU"], WIDTHS)}   (ratio to PyTorch)`,
  );
  const folder = mkdtempSync(join(tmpdir(), "sightline-paper-"));
  try {
    for (const text of positionals.length > 0 ? positionals : ["full", "full:1/2:112", "full:1/4:112"]) {
      const net = paperNet(text);
      const costs = (["folded", "unfolded"] as const).map((form) => {
        const file = join(folder, "model.onnx");
        writeFileSync(file, net.graph({ form }).write());
        const own = [
          ...process.execArgv,
          fileURLToPath(import.meta.url),
          "--runs",
          `${runs}`,
          "--threads",
          `${threads}`,
        ];
        const out = execFileSync(process.execPath, [...own, "--measure", file, text], { timeout: 600_000 });
        return { form, cost: JSON.parse(out.toString()) as Cost };
      });
      const graph = net.graph();
      console.log(`${text}: ${(graph.parameters / 1e6).toFixed(1)} M values, ${(graph.macs / 1e9).toFixed(2)} GMAC`);
      const torch = reason ? null : references([{ ...net, sizes: graph.sizes }], { repeat: runs, threads })[0]!;
      for (const { form, cost } of costs) line(`onnxruntime, ${form}`, cost, torch);
      if (torch) line(`PyTorch ${torch.version}`, torch, null);
      else console.log(`  PyTorch skipped: ${reason}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
