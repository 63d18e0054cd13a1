import type { GatewayLink } from "../gateway-link.js";
import { faultText, type Log } from "../log.js";
import type { OutputUnit } from "../units.js";
import { GatewayOutput } from "./gateway-output.js";
import { openOutput } from "./open.js";
import { type Output, type OutputEvents, type OutputStatus, withoutSecrets, writeToAll } from "./output.js";

/** All outputs of a channel, each on its own: the own server first, then the configured addresses. */
export class Outputs {
  /** Faults of ours in outputs. */
  faults = 0;
  readonly #outputs: readonly Output[];
  readonly #log: Log;
  readonly #faulty = new Set<Output>();

  constructor(gateway: GatewayLink, uris: readonly string[], log: Log) {
    this.#log = log;
    const events = (uri: string): OutputEvents => ({
      onState: (status, detail) =>
        log(status.reason === null ? "info" : "warn", "output", {
          ...status,
          ...(detail === undefined ? {} : { detail: withoutSecrets(detail, uri) }),
        }),
    });
    this.#outputs = [new GatewayOutput(gateway), ...uris.map((uri) => openOutput(uri, events(uri)))];
  }

  get statuses(): readonly OutputStatus[] {
    return this.#outputs.map((output) => output.status);
  }

  /** An output can send nothing before the next key frame. */
  get waitForKey(): boolean {
    return this.#outputs.some((output) => output.waitsForKey);
  }

  /** Sums over all outputs. */
  get counters(): Readonly<Record<string, number>> {
    const out: Record<string, number> = {};
    for (const output of this.#outputs)
      for (const [name, value] of Object.entries(output.counters)) out[name] = (out[name] ?? 0) + value;
    return out;
  }

  write(unit: OutputUnit): void {
    writeToAll(this.#outputs, unit, this.#onFault);
  }

  /** Units were lost on their way here. */
  interrupted(): void {
    for (const output of this.#outputs) output.interrupted();
  }

  /** Resolves when all have ended what needs an end. */
  async close(): Promise<void> {
    await Promise.all(this.#outputs.map((output) => output.close()));
  }

  /** Logged once for each output: what fails for one unit will fail for the next. */
  readonly #onFault = (output: Output, error: unknown): void => {
    this.faults += 1;
    if (this.#faulty.has(output)) return;
    this.#faulty.add(output);
    this.#log("error", `an output: ${faultText(error)}`);
  };
}
