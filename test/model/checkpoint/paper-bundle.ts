import type { PresetName } from "../../../src/model/paper/presets.js";
import { randomVariables } from "../../../src/model/paper/random.js";
import { type PaperVariable, paperVariables, sizeOfVariable } from "../../../src/model/paper/variables.js";
import { float32, int64, type TestVariable } from "./write-bundle.js";

export const WIDTH = 1 / 32;
export const STEP = 7000;

/** What a training of the preset leaves, at the smallest width, with values of no training. */
export function paperBundle(preset: PresetName, slots = true): TestVariable[] {
  const source = randomVariables(preset, { width: WIDTH });
  const value = (v: PaperVariable): TestVariable => {
    if (v.role === "step") return int64(v.name, STEP);
    return float32(v.name, v.shape, v.required ? source(v.name) : new Float32Array(sizeOfVariable(v)).fill(0.5));
  };
  return paperVariables(preset, { width: WIDTH, slots }).map(value);
}

/** The same without one variable, or with another in its place. */
export function replaced(
  variables: readonly TestVariable[],
  name: string,
  by: (v: TestVariable) => TestVariable | null,
): TestVariable[] {
  if (!variables.some((v) => v.name === name)) throw new Error(`no variable ${name}`);
  return variables.flatMap((v) => (v.name === name ? (by(v) ?? []) : v));
}
