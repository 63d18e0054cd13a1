import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { differenceText } from "../src/cli/model-info.js";
import { calibrationWindows } from "../src/file/calibration.js";
import { loadWindow } from "../src/model/cards.js";
import { MAKERS } from "../src/model/engines/catalogue.js";
import { ENGINES, type EngineName, messageOf } from "../src/model/engines/engine.js";
import { OnnxEngine, type TensorMap } from "../src/model/engines/onnxruntime.js";
import { CalibrationRanges, Differences } from "../src/model/paper/calibrate.js";
import type { PaperGraph } from "../src/model/paper/graph.js";
import { presets } from "../src/model/paper/presets.js";
import { quantiseModel } from "../src/model/paper/quantise.js";
import { FRAME_RATE } from "../src/model/paper/sizes.js";
import { writePaperModel } from "../src/model/paper/write.js";
import { references, withoutTorch } from "../test/model/paper/reference.js";
import { testInputs } from "../test/model/paper/support.js";
import { machine, median } from "./support/numbers.js";
import { type PaperNet, paperNet } from "./support/paper-net.js";
import { peakMebibytes } from "./support/resources.js";

/**
 * Cost of one window of the paper's networks (random weights) on every engine of this machine, each in a process of its own, and of the
 * same network in PyTorch on the CPU right after it.
 *
 *     npx tsx bench/paper.ts [--runs 5] [--threads 2] [--engines cpu,tensorflow,wasm] [--limit-seconds 300] [--guard-ms 250]
 *                            [--clips FOLDER [--windows 24]]
 *                            [PRESET:1/WIDTH:IMAGE[:FRAMES] ...]     default: the paper's size, 1/2, 1/4; all engines that are there
 *
 * Form int8 (networks with a trunk) is calibrated on the bench's own window, or on clips of a folder and checked on others; engines without integer convolutions are left out there.
 *
 * Milliseconds are the least and the median of the runs after the first; CPU time is the fairer column where other programs run
 * beside. Peak memory is that of the whole process, Node or Python included. An engine that fails or takes longer than the limit
 * (opening and all runs) shows why. Live: the shortest hop whose window takes at most 80 % of it, and the latency of that: hop, window's
 * time and guard (the newest part of a window, not trusted); a hop above half a window would leave gaps: "no".
 */
const { values, positionals } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    engines: { type: "string" },
    "limit-seconds": { type: "string", default: "300" },
    "guard-ms": { type: "string", default: "250" },
    clips: { type: "string" },
    windows: { type: "string", default: "24" },
    measure: { type: "string" },
  },
  allowPositionals: true,
});
const number = (
  name: "runs" | "threads" | "limit-seconds" | "guard-ms" | "windows",
  from: number,
  to: number,
): number => {
  const value = Number(values[name]);
  if (!(Number.isInteger(value) && value >= from && value <= to))
    throw new Error(`--${name} ${values[name]}: ${from} to ${to}`);
  return value;
};
const runs = number("runs", 2, 100);
const threads = number("threads", 1, 64);
const limitMs = 1000 * number("limit-seconds", 1, 3600);
const guardMs = number("guard-ms", 0, 2000);
const clipWindows = number("windows", 2, 4096);
const LOAD = 0.8;

const asked = (values.engines?.split(",") ?? ENGINES).map((name): EngineName => {
  const known = ENGINES.find((e) => e === name);
  if (!known) throw new Error(`--engines ${name}: allowed are ${ENGINES.join(", ")}`);
  return known;
});

type Times = { readonly ms: readonly number[]; readonly cpuMs: readonly number[]; readonly peakMib: number };
type Cost = Times & { readonly label: string };

/** Engines that have integer convolutions; others would only say that they have none. */
const INTEGER: readonly EngineName[] = ["cpu", "wasm"];

type Calibrated = { readonly file: string; readonly difference: string };

/** The int8 file and how far it is from float: random weights say what rounding does, not what it costs in quality. */
async function calibrate(net: PaperNet, folder: string): Promise<Calibrated> {
  if (values.clips) return calibrateOnClips(net, folder, values.clips);
  const run = async (graph: PaperGraph): Promise<TensorMap> => {
    const engine = await OnnxEngine.open(graph.write(), { threads });
    const outputs = await engine.run(testInputs(graph));
    await engine.close();
    return outputs;
  };
  const found = new CalibrationRanges();
  const want = await run(net.graph({ form: "unfolded", probes: true }));
  found.take("the bench's window", want);
  const graph = net.graph({ form: "int8", ranges: found.found });
  const differences = new Differences();
  const outputs = graph.outputs.map((o) => o.name);
  differences.take(
    "the bench's window",
    Object.fromEntries(outputs.map((name) => [name, want[name]!])),
    await run(graph),
  );
  const file = join(folder, "int8.onnx");
  writeFileSync(file, graph.write());
  return { file, difference: `${differenceText(differences.relative())} on the window that calibrated it` };
}

/** As `sightline model quantize` does it. */
async function calibrateOnClips(net: PaperNet, folder: string, clips: string): Promise<Calibrated> {
  const graph = net.graph({ form: "unfolded" });
  const [float, out] = [join(folder, "float"), join(folder, "int8")];
  await writePaperModel(float, graph, {
    preset: net.preset,
    width: net.width,
    form: "unfolded",
    parameters: graph.parameters,
    macs: graph.macs,
    checkpoint: { name: "random", step: null, indexSha256: "" },
  });
  const model = await loadWindow(float);
  const windows = (): ReturnType<typeof calibrationWindows> =>
    calibrationWindows(model.card, { folder: clips, windows: clipWindows });
  const { card } = await quantiseModel(model, windows, out, { threads, limit: Number.POSITIVE_INFINITY });
  const { calibration, check } = card.paper.int8!;
  const how = `${check.windows} windows of ${check.clips} clips, ${calibration.windows} of ${calibration.clips} others calibrated it`;
  return { file: join(out, card.files.step), difference: `${differenceText(check.difference)} on ${how}` };
}

/** In a process of its own: loads the file and runs it. Prints a Cost as JSON. */
async function measure(file: string, name: EngineName, text: string): Promise<void> {
  const inputs = testInputs(paperNet(text).graph());
  const engine = await MAKERS[name].open(file, { threads });
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
  const peakMib = peakMebibytes();
  console.log(JSON.stringify({ label: engine.label, ms, cpuMs, peakMib } satisfies Cost));
}

/** The cost, or in words why there is none. */
function inChild(file: string, name: EngineName, text: string): Cost | string {
  const own = [...process.execArgv, fileURLToPath(import.meta.url), "--runs", `${runs}`, "--threads", `${threads}`];
  const { stdout, stderr, error, status } = spawnSync(
    process.execPath,
    [...own, "--engines", name, "--measure", file, text],
    { timeout: limitMs, killSignal: "SIGKILL", encoding: "utf8" },
  );
  if (error) return "code" in error && error.code === "ETIMEDOUT" ? `more than ${limitMs / 1000} s` : error.message;
  if (status === 0) return JSON.parse(stdout.trim().split("\n").at(-1)!) as Cost;
  const line = stderr.split("\n").find((l) => /Error/.test(l)) ?? `exit status ${status}`;
  return line.trim().slice(0, 140);
}

const cells = (values: readonly (string | number)[], widths: readonly number[]): string =>
  values.map((v, i) => (typeof v === "number" ? v.toFixed(0) : v).padStart(widths[i]!)).join("");
const WIDTHS = [10, 9, 9, 9, 10, 9, 9, 10, 11];
const NAME = 38;

function line(what: string, cost: Times, against: Times | null, windowMs: number): void {
  const [ms, cpu] = [cost.ms.slice(1), cost.cpuMs.slice(1)];
  const ratio = (of: (c: Times) => readonly number[]): string =>
    against ? (Math.min(...of(cost).slice(1)) / Math.min(...of(against).slice(1))).toFixed(2) : "";
  const hop = median(ms) / LOAD;
  const live = hop <= windowMs / 2 ? [hop, hop + median(ms) + guardMs] : ["no", ""];
  const ratios = [ratio((c) => c.ms), ratio((c) => c.cpuMs)];
  const all = [Math.min(...ms), median(ms), Math.min(...cpu), cost.ms[0]!, cost.peakMib, ...ratios, ...live];
  console.log(`  ${what.padEnd(NAME)}${cells(all, WIDTHS)}`);
}

if (values.measure) await measure(values.measure, asked[0]!, positionals[0]!);
else {
  const reason = withoutTorch();
  console.log(`${threads} threads, ${machine()}`);
  const head = ["least ms", "median", "CPU ms", "first", "peak MiB", "ratio", "CPU", "hop ms", "latency"];
  console.log(`  ${"".padEnd(NAME)}${cells(head, WIDTHS)}   (ratio to PyTorch)`);
  const folder = mkdtempSync(join(tmpdir(), "sightline-paper-"));
  try {
    for (const text of positionals.length > 0 ? positionals : ["full", "full:1/2:112", "full:1/4:112"]) {
      const net = paperNet(text);
      const graph = net.graph();
      const windowMs = (1000 * graph.sizes.frames) / FRAME_RATE;
      console.log(`${text}: ${(graph.parameters / 1e6).toFixed(1)} M values, ${(graph.macs / 1e9).toFixed(2)} GMAC`);
      const torch = reason ? null : references([{ ...net, sizes: graph.sizes }], { repeat: runs, threads })[0]!;
      const calibrated = presets[net.preset].parts.trunk ? await calibrate(net, folder) : null;
      for (const form of calibrated ? (["folded", "unfolded", "int8"] as const) : (["folded", "unfolded"] as const)) {
        const file = form === "int8" ? calibrated!.file : join(folder, "model.onnx");
        if (form !== "int8") writeFileSync(file, net.graph({ form }).write());
        for (const name of form === "int8" ? asked.filter((e) => INTEGER.includes(e)) : asked) {
          const missing = await MAKERS[name].missing(values.engines !== undefined).catch((e: unknown) => e);
          const cost = missing ? messageOf(missing).slice(0, 140) : inChild(file, name, text);
          if (typeof cost === "string") console.log(`  ${`${name}, ${form}`.padEnd(NAME)}${cost}`);
          else line(`${cost.label}, ${form}`, cost, torch, windowMs);
        }
      }
      if (calibrated)
        console.log(`  int8 differs from unfolded by ${calibrated.difference} (root mean square, random weights)`);
      if (torch) line(`PyTorch ${torch.version}`, torch, null, windowMs);
      else console.log(`  PyTorch skipped: ${reason}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
