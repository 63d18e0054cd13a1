import { type PresetName, presets } from "./presets.js";
import { type NormRow, paperRows, weightShape } from "./table.js";

export type VariableRole =
  | "weights"
  | "biases"
  | "gamma"
  | "beta"
  | "moving_mean"
  | "moving_variance"
  /** Statistics of batch renormalisation: training only. */
  | "renorm"
  /** Adam's or momentum's memory of a trainable variable, and Adam's two powers: training only. */
  | "slot"
  /** `global_step`. */
  | "step";

/** One variable of a TensorFlow checkpoint (no ":0" behind the name); a scalar has shape []. */
export type PaperVariable = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: VariableRole;
  readonly dtype: "float32" | "int64";
  /** Weights, biases, gamma, beta: what training changes by gradient. */
  readonly trainable: boolean;
  /** The graphs of this folder ask for it; a file may lack the others. */
  readonly required: boolean;
};

export type VariableOptions = {
  /** 1 (default), 1/2 ... 1/32 of every inner channel count. */
  readonly width?: number;
  /** Also list what the optimiser keeps. Default true. */
  readonly slots?: boolean;
  /** Classes of action that the network tells apart; default 0: it has no such head. */
  readonly classes?: number;
};

/**
 * Weights by TensorFlow variable name, row-major in TensorFlow's layout (kernel x in x out; transposed convolutions kernel x out x
 * in). Asked for required variables only, norms more than once; must throw for a name that it lacks. What it gives is not changed. The
 * length is checked, the shape is the source's duty.
 */
export type VariableSource = (name: string) => Float32Array;

const TRAINABLE: ReadonlySet<VariableRole> = new Set(["weights", "biases", "gamma", "beta"]);
const REQUIRED: ReadonlySet<VariableRole> = new Set([...TRAINABLE, "moving_mean", "moving_variance"] as const);

function variable(name: string, shape: readonly number[], role: VariableRole): PaperVariable {
  const dtype = role === "step" ? "int64" : "float32";
  return { name, shape, role, dtype, trainable: TRAINABLE.has(role), required: REQUIRED.has(role) };
}

function normVariables({ scope, channels, gamma, renorm }: NormRow): PaperVariable[] {
  const c = [channels];
  return [
    ...(gamma ? [variable(`${scope}/gamma`, c, "gamma")] : []),
    variable(`${scope}/beta`, c, "beta"),
    variable(`${scope}/moving_mean`, c, "moving_mean"),
    variable(`${scope}/moving_variance`, c, "moving_variance"),
    ...(renorm
      ? [
          variable(`${scope}/renorm_mean`, c, "renorm"),
          variable(`${scope}/renorm_mean_weight`, [], "renorm"),
          variable(`${scope}/renorm_stddev`, c, "renorm"),
          variable(`${scope}/renorm_stddev_weight`, [], "renorm"),
        ]
      : []),
  ];
}

/** No gradient reaches the alignment head while separation is trained, so Adam keeps nothing for it. */
function slotVariables(trained: readonly PaperVariable[], optimiser: "adam" | "momentum"): PaperVariable[] {
  if (optimiser === "momentum") return trained.map((v) => variable(`${v.name}/Momentum`, v.shape, "slot"));
  const kept = trained.filter((v) => !v.name.startsWith("joint/"));
  return [
    variable("beta1_power", [], "slot"),
    variable("beta2_power", [], "slot"),
    ...kept.flatMap((v) => ["Adam", "Adam_1"].map((slot) => variable(`${v.name}/${slot}`, v.shape, "slot"))),
  ];
}

/**
 * Every variable that a checkpoint of the preset holds or may hold (spec section 7.4), rows in the order of the tables, then
 * `global_step`, then slots. Throws RangeError for a width that is not allowed.
 */
export function paperVariables(preset: PresetName, options: VariableOptions = {}): PaperVariable[] {
  const net = presets[preset];
  const model = paperRows(net, options.width ?? 1, options.classes).flatMap((row) => {
    if (row.kind === "norm") return normVariables(row);
    const weights = variable(`${row.scope}/weights`, weightShape(row), "weights");
    return [weights, ...(row.norm ? normVariables(row.norm) : [variable(`${row.scope}/biases`, [row.to], "biases")])];
  });
  const trained = model.filter((v) => v.trainable);
  const slots = (options.slots ?? true) ? slotVariables(trained, net.optimiser) : [];
  return [...model, variable("global_step", [], "step"), ...slots];
}

/** Number of values of a variable. */
export function sizeOfVariable(v: PaperVariable): number {
  return v.shape.reduce((product, d) => product * d, 1);
}
