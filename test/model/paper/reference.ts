import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type PresetName, presets } from "../../../src/model/paper/presets.js";
import type { WindowSizes } from "../../../src/model/paper/sizes.js";
import { paperVariables, type VariableSource } from "../../../src/model/paper/variables.js";
import { testPixels, testSound } from "./support.js";

const script = join(
  fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/dist\/$/, "/"),
  "test/model/paper/reference.py",
);
const LIMIT_MS = 300_000;

/** Why PyTorch cannot be asked here, or null. */
export function withoutTorch(): string | null {
  try {
    execFileSync("python3", ["-c", "import torch, numpy"], { stdio: "ignore", timeout: 60_000 });
    return null;
  } catch {
    return "python3 with torch and numpy is not there";
  }
}

const answers = z.object({
  outputs: z.record(z.string(), z.array(z.int())),
  ms: z.array(z.number()),
  torch: z.string(),
});

export type Reference = {
  readonly outputs: Readonly<Record<string, Float32Array>>;
  /** Milliseconds of each run. */
  readonly ms: readonly number[];
  readonly version: string;
};

/** The window of section 7.5 through the PyTorch network (reference.py) with the same variables. */
export function reference(
  preset: PresetName,
  width: number,
  sizes: WindowSizes,
  source: VariableSource,
  options: { readonly repeat?: number; readonly threads?: number } = {},
): Reference {
  const folder = mkdtempSync(join(tmpdir(), "sightline-paper-"));
  try {
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
    writeFileSync(join(folder, "variables.bin"), "");
    for (const v of list) writeFileSync(join(folder, "variables.bin"), source(v.name), { flag: "a" });
    writeFileSync(join(folder, "video.bin"), testPixels(sizes.frames, sizes.image));
    writeFileSync(join(folder, "samples.bin"), testSound(sizes.samples));
    const { repeat = 1, threads = 2 } = options;
    const command = [script, folder, "--repeat", String(repeat), "--threads", String(threads)];
    execFileSync("python3", command, { stdio: ["ignore", "inherit", "inherit"], timeout: LIMIT_MS });
    const said = answers.parse(JSON.parse(readFileSync(join(folder, "answers.json"), "utf8")));
    const outputs = Object.keys(said.outputs).map((name) => {
      const bytes = readFileSync(join(folder, `${name}.bin`));
      return [name, new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)];
    });
    return { outputs: Object.fromEntries(outputs), ms: said.ms, version: said.torch };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
