import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type PresetName, presets } from "../../../src/model/paper/presets.js";
import type { WindowSizes } from "../../../src/model/paper/sizes.js";
import { paperVariables, type VariableSource } from "../../../src/model/paper/variables.js";
import { relativeError, testPixels, testSound } from "./support.js";

const script = join(
  fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/"),
  "test/model/paper/reference.py",
);
const LIMIT_MS = 300_000;

/** Why PyTorch cannot be asked here, or null. Looks without importing: that alone takes seconds. */
export function withoutTorch(): string | null {
  const look = "import importlib.util as u, sys; sys.exit(0 if u.find_spec('torch') and u.find_spec('numpy') else 1)";
  try {
    execFileSync("python3", ["-c", look], { stdio: "ignore", timeout: LIMIT_MS });
    return null;
  } catch {
    return "python3 with torch and numpy is not there";
  }
}

const answers = z.object({
  outputs: z.array(z.string()),
  ms: z.array(z.number()),
  cpu_ms: z.array(z.number()),
  peak_mib: z.number(),
  torch: z.string(),
});

export type Question = {
  readonly preset: PresetName;
  readonly width: number;
  readonly sizes: WindowSizes;
  readonly source: VariableSource;
};

export type Reference = {
  readonly outputs: Readonly<Record<string, Float32Array>>;
  /** Milliseconds of each run. */
  readonly ms: readonly number[];
  readonly cpuMs: readonly number[];
  /** Peak memory of the process, MiB, weights included. */
  readonly peakMib: number;
  readonly version: string;
};

function ask(folder: string, { preset, width, sizes, source }: Question): void {
  const { parts, gamma, fineCam, frames: seen, sound } = presets[preset];
  const list = paperVariables(preset, { width, slots: false }).filter((v) => v.required);
  const request = {
    ...parts,
    gamma,
    fine_cam: fineCam,
    middle: seen === "middle",
    mono: sound === "mono",
    sound: sound !== "none",
    ...sizes,
    variables: list.map((v) => [v.name, v.shape]),
  };
  writeFileSync(join(folder, "request.json"), JSON.stringify(request));
  for (const v of list) writeFileSync(join(folder, "variables.bin"), source(v.name), { flag: "a" });
  writeFileSync(join(folder, "video.bin"), testPixels(sizes.frames, sizes.image));
  writeFileSync(join(folder, "samples.bin"), testSound(sizes.samples));
}

function answered(folder: string): Reference {
  const said = answers.parse(JSON.parse(readFileSync(join(folder, "answers.json"), "utf8")));
  const outputs = said.outputs.map((name) => {
    const bytes = readFileSync(join(folder, `${name}.bin`));
    return [name, new Float32Array(new Uint8Array(bytes).buffer)];
  });
  return {
    outputs: Object.fromEntries(outputs),
    ms: said.ms,
    cpuMs: said.cpu_ms,
    peakMib: said.peak_mib,
    version: said.torch,
  };
}

/** The window of section 7.5 through the PyTorch networks (reference.py) with the same variables; one process for all. */
export function references(
  questions: readonly Question[],
  options: { readonly repeat?: number; readonly threads?: number } = {},
): Reference[] {
  const folder = mkdtempSync(join(tmpdir(), "sightline-paper-"));
  try {
    const folders = questions.map((question, i) => {
      const own = join(folder, String(i));
      mkdirSync(own);
      ask(own, question);
      return own;
    });
    const { repeat = 1, threads = 2 } = options;
    const command = [script, ...folders, "--repeat", String(repeat), "--threads", String(threads)];
    // What Python says goes into the error that this throws if it fails.
    execFileSync("python3", command, { stdio: ["ignore", "ignore", "pipe"], timeout: LIMIT_MS });
    return folders.map(answered);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Largest error of every output (and input spectrum) that the reference gives, over the largest value there. The logit is a mean over
 * the map's cells, which may cancel: its error is measured by theirs.
 */
export function errorsAgainst(
  want: Reference,
  got: (name: string) => Float32Array,
): readonly (readonly [string, number])[] {
  return Object.entries(want.outputs).map(([name, expected]) => {
    const mine = got(name);
    if (name !== "logit") return [name, relativeError(mine, expected)];
    return [name, Math.abs(mine[0]! - expected[0]!) / Math.max(...want.outputs.cam!.map(Math.abs))];
  });
}
