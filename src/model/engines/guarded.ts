import { InferenceError } from "../inference.js";
import { notFinite } from "./compare.js";
import type { Engine, EngineName, TensorMap } from "./engine.js";
import type { EngineReport } from "./names.js";

/**
 * An engine with the CPU behind it. When it fails, or gives numbers that are not finite, the same inputs go to the CPU: if that can do
 * it, it does from then on, and nothing is lost (no engine keeps a state); if not, the inputs were at fault and nothing changes.
 */
export class GuardedEngine implements Engine {
  #active: Engine;
  #report: EngineReport;

  /** @param reference the CPU's engine, closed with this one; null: `engine` is all there is */
  constructor(
    engine: Engine,
    private readonly reference: Engine | null,
    report: EngineReport,
    private readonly onFallback: (report: EngineReport) => void = () => {},
  ) {
    this.#active = engine;
    this.#report = report;
  }

  get report(): EngineReport {
    return this.#report;
  }

  get name(): EngineName {
    return this.#active.name;
  }

  get label(): string {
    return this.#active.label;
  }

  get inputNames(): readonly string[] {
    return this.#active.inputNames;
  }

  get outputNames(): readonly string[] {
    return this.#active.outputNames;
  }

  async run(inputs: TensorMap): Promise<TensorMap> {
    if (this.reference === null || this.#active === this.reference) return this.#active.run(inputs);
    let fault: string;
    try {
      const outputs = await this.#active.run(inputs);
      const bad = notFinite(outputs);
      if (bad === null) return outputs;
      fault = `output ${bad} is not finite`;
    } catch (e) {
      if (!(e instanceof InferenceError)) throw e;
      fault = e.message;
    }
    const outputs = await this.reference.run(inputs);
    // Not finite there either: the network's own numbers, the caller judges them.
    if (notFinite(outputs) === null) this.#fallBack(fault);
    return outputs;
  }

  async close(): Promise<void> {
    await this.#active.close();
    await this.reference?.close();
  }

  #fallBack(detail: string): void {
    const failed = this.#active;
    this.#active = this.reference!;
    this.#report = {
      ...this.#report,
      running: this.#active.name,
      label: this.#active.label,
      code: "SL_ENGINE_FALLBACK",
      tries: this.#report.tries.map((t) =>
        t.name === failed.name
          ? { ...t, reason: "failed", detail }
          : t.name === this.#active.name
            ? { ...t, reason: null, detail: this.#active.label }
            : t,
      ),
    };
    // What it holds on its device may be lost anyway; that it cannot even be closed changes nothing.
    failed.close().catch(() => {});
    this.onFallback(this.#report);
  }
}
