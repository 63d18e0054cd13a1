import { type PresetName, presets } from "../paper/presets.js";
import { type PaperVariable, paperVariables } from "../paper/variables.js";
import type { Variable } from "./checkpoint.js";

export const presetNames = Object.keys(presets) as readonly PresetName[];
const WIDTHS = [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32];
const MAX_NAMED = 8;

/** A variable that is there, but not as the network has it. */
export type Odd = { readonly name: string; readonly expected: string; readonly found: string };

/** How a checkpoint's variables and those of a preset's network fit each other. */
export type Match = {
  readonly preset: PresetName;
  /** The width that most shapes agree with. */
  readonly width: number;
  readonly missing: readonly string[];
  readonly odd: readonly Odd[];
  /** Of no use for this network and not known to be harmless: the file may be another network's. */
  readonly unknown: readonly string[];
  /** Training only: optimiser's slots, statistics of renormalisation, global_step. */
  readonly ignored: readonly string[];
  /** Trainable values of the network. */
  readonly parameters: number;
};

const shapeText = (shape: readonly number[]): string => `(${shape.join(", ")})`;
const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i]);
const sizeOf = (shape: readonly number[]): number => shape.reduce((p, d) => p * d, 1);

/** Compares by name, type and shape; reads no values. */
export function matchVariables(preset: PresetName, variables: readonly Variable[]): Match {
  const found = new Map(variables.map((v) => [v.name, v]));
  const agreeing = (wanted: readonly PaperVariable[]): number =>
    wanted.filter((w) => w.required && sameShape(w.shape, found.get(w.name)?.shape ?? [-1])).length;
  let width = 1;
  let wanted = paperVariables(preset);
  for (const w of WIDTHS.slice(1)) {
    const other = paperVariables(preset, { width: w });
    if (agreeing(other) > agreeing(wanted)) [width, wanted] = [w, other];
  }
  const missing: string[] = [];
  const odd: Odd[] = [];
  for (const w of wanted) {
    if (!w.required) continue;
    const v = found.get(w.name);
    if (!v) missing.push(w.name);
    else if (v.lacking > 0)
      odd.push({
        name: w.name,
        expected: `${shapeText(w.shape)} whole`,
        found: `${shapeText(v.shape)} in ${v.slices} pieces that lack ${v.lacking} of its values`,
      });
    else if (!sameShape(v.shape, w.shape))
      odd.push({ name: w.name, expected: shapeText(w.shape), found: shapeText(v.shape) });
    else if (v.dtype !== "float32" && v.dtype !== "float16")
      odd.push({ name: w.name, expected: "float32 or float16", found: v.dtype });
  }
  const known = new Map(wanted.map((w) => [w.name, w]));
  const rest: string[] = [];
  for (const { name, shape } of variables) {
    // A scale that the network does not apply would be lost without a trace: never merely unknown.
    const isScale = !known.has(name) && known.get(name.replace(/\/gamma$/, "/beta"))?.role === "beta";
    if (isScale) odd.push({ name, expected: "no gamma in this preset's norms", found: shapeText(shape) });
    else if (!known.get(name)?.required) rest.push(name);
  }
  return {
    preset,
    width,
    missing,
    odd,
    unknown: rest.filter((name) => !known.has(name)),
    ignored: rest.filter((name) => known.has(name)),
    parameters: wanted.filter((w) => w.trainable).reduce((sum, w) => sum + sizeOf(w.shape), 0),
  };
}

/** The network can be made of these variables; `ignoreUnknown`: also when the file holds others. */
export function fits(match: Match, ignoreUnknown = false): boolean {
  return match.missing.length === 0 && match.odd.length === 0 && (ignoreUnknown || match.unknown.length === 0);
}

/** Presets whose network can be made of the variables. */
export function fittingPresets(variables: readonly Variable[]): PresetName[] {
  return presetNames.filter((name) => fits(matchVariables(name, variables)));
}

function some(names: readonly string[]): string {
  const more = names.length - MAX_NAMED;
  return names.slice(0, MAX_NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Unknown slots of unknown variables say nothing new. */
function withoutSlots(names: readonly string[]): string[] {
  const all = new Set(names);
  return names.filter((name) => !all.has(/^(.*)\/(?:Adam|Adam_1|Momentum)$/.exec(name)?.[1] ?? ""));
}

export const widthText = (width: number): string => (width === 1 ? "1" : `1/${1 / width}`);

/** What is wrong, by name, and what may be done; for a match that does not fit. */
export function misfitText(match: Match, variables: readonly Variable[]): string {
  const { missing, odd, unknown } = match;
  const parts = [
    ...(missing.length > 0 ? [`${missing.length} variables are missing: ${some(missing)}`] : []),
    ...(odd.length > 0
      ? [`${odd.length} differ: ${some(odd.map((o) => `${o.name} is ${o.found}, expected ${o.expected}`))}`]
      : []),
    ...(unknown.length > 0 ? [`${unknown.length} are unknown: ${some(withoutSlots(unknown))}`] : []),
  ];
  const others = fittingPresets(variables);
  const onlyUnknown = missing.length === 0 && odd.length === 0;
  const advice = [
    ...(others.length > 0 ? [`it fits ${others.join(", ")}`] : ["it fits no known preset"]),
    ...(onlyUnknown ? ["--ignore-unknown leaves unknown variables out"] : []),
  ];
  return `does not fit preset ${match.preset} at width ${widthText(match.width)}: ${parts.join("; ")} (${advice.join("; ")})`;
}
