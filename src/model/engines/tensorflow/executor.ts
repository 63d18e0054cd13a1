import type * as TF from "@tensorflow/tfjs-core";
import { Tensor } from "onnxruntime-common";
import type { TensorMap } from "../engine.js";
import type { Graph, Node } from "./graph.js";
import { Unsupported } from "./layers.js";
import { filterOf, OPERATORS, type Operands } from "./ops.js";
import { plain, type Tf, toOnnx, type Value } from "./value.js";

/** Runs a graph node by node in TensorFlow.js. Intermediate tensors go as soon as nothing reads them any more. */
export class Executor {
  /** Constants, what follows from constants alone, and filters in TensorFlow's order; until `dispose`. */
  readonly #kept = new Map<string, Value>();
  readonly #filters = new Map<string, TF.Tensor>();
  /** Index of the last node that reads a name. */
  readonly #lastUse = new Map<string, number>();
  readonly #nodes: readonly Node[];
  readonly #outputs: ReadonlySet<string>;

  /** Throws Unsupported when the graph holds an operator that is not ours. */
  constructor(
    private readonly tf: Tf,
    private readonly graph: Graph,
  ) {
    const odd = new Set(graph.nodes.filter((n) => !Object.hasOwn(OPERATORS, n.type)).map((n) => n.type));
    if (odd.size > 0) throw new Unsupported(`operators ${[...odd].join(", ")}`);
    this.#outputs = new Set(graph.outputs);
    for (const [name, { shape, data }] of graph.constants)
      this.#kept.set(name, plain(tf.tensor(data, [...shape], data instanceof Float32Array ? "float32" : "int32")));
    const varying: Node[] = [];
    for (const node of graph.nodes) {
      if (node.inputs.every((name) => name === "" || this.#kept.has(name)))
        for (const [name, value] of this.#perform(node, this.#kept)) this.#kept.set(name, value);
      else varying.push(node);
    }
    this.#nodes = varying;
    varying.forEach((node, i) => {
      for (const name of node.inputs) this.#lastUse.set(name, i);
    });
  }

  /** All outputs. Throws what TensorFlow.js throws for inputs that do not fit. */
  async run(inputs: TensorMap): Promise<TensorMap> {
    const { tf } = this;
    const live = new Map<string, Value>();
    try {
      for (const name of this.graph.inputs) {
        const given = inputs[name];
        if (!given) throw new TypeError(`input ${name} is missing`);
        const type = given.type === "float32" ? "float32" : "int32";
        live.set(name, plain(tf.tensor(given.data as Float32Array, [...given.dims], type)));
      }
      this.#nodes.forEach((node, i) => {
        for (const [name, value] of this.#perform(node, live)) live.set(name, value);
        for (const name of [...node.inputs, ...node.outputs]) {
          const value = live.get(name);
          if (!value || this.#outputs.has(name) || (this.#lastUse.get(name) ?? -1) > i) continue;
          live.delete(name);
          value.t.dispose();
        }
      });
      const outputs: TensorMap = {};
      for (const name of this.graph.outputs) {
        const t = tf.tidy(() => tf.clone(toOnnx(tf, live.get(name) ?? this.#kept.get(name)!)));
        outputs[name] = new Tensor("float32", Float32Array.from(await t.data()), [...t.shape]);
        t.dispose();
      }
      return outputs;
    } finally {
      for (const { t } of live.values()) t.dispose();
    }
  }

  dispose(): void {
    for (const { t } of this.#kept.values()) t.dispose();
    for (const t of this.#filters.values()) t.dispose();
    this.#kept.clear();
    this.#filters.clear();
  }

  /** The outputs of a node by name; left-out ones are dropped. What it made besides is freed. */
  #perform(node: Node, live: ReadonlyMap<string, Value>): [string, Value][] {
    const { tf } = this;
    const of = (name: string): Value => {
      const value = live.get(name) ?? this.#kept.get(name);
      if (!value) throw new TypeError(`${node.name}: ${name} is not there`);
      return value;
    };
    let made: readonly Value[] = [];
    tf.tidy(() => {
      const operands: Operands = {
        tf,
        node,
        value: (i) => of(node.inputs[i]!),
        tensor: (i) => toOnnx(tf, of(node.inputs[i]!)),
        maybe: (i) => (node.inputs[i] ? toOnnx(tf, of(node.inputs[i])) : null),
        ints: (i) => {
          const constant = this.graph.constants.get(node.inputs[i] ?? "");
          if (!constant) throw new Unsupported(`${node.type} whose ${node.inputs[i]} is computed`);
          return Array.from(constant.data);
        },
        filter: (i) => this.#filter(node.inputs[i]!, of),
      };
      const result = OPERATORS[node.type]!(operands);
      made = Array.isArray(result) ? result : [result as Value];
      // An operator may hand an input through (a slope that needs no change): each value owns its tensor.
      const own = new Set(node.inputs.map((name) => (name === "" ? null : of(name).t)));
      made = made.map((v) => (own.has(v.t) ? { ...v, t: tf.clone(v.t) } : v));
      return made.map((v) => v.t);
    });
    return node.outputs.flatMap((name, i): [string, Value][] => {
      const value = made[i];
      if (name !== "" && value) return [[name, value]];
      value?.t.dispose();
      return [];
    });
  }

  #filter(name: string, of: (name: string) => Value): TF.Tensor {
    const { tf } = this;
    const make = (): TF.Tensor => filterOf(tf, toOnnx(tf, of(name)));
    if (!this.#kept.has(name)) return make();
    const have = this.#filters.get(name) ?? tf.keep(make());
    this.#filters.set(name, have);
    return have;
  }
}
