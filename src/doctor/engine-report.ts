import { loadStream, loadWindow, readCard } from "../model/cards.js";
import type { EngineChoice } from "../model/engines/engine.js";
import { openEngine } from "../model/engines/select.js";
import { windowTrial } from "../model/engines/trial-inputs.js";
import { StepNetwork } from "../model/inference/step-network.js";

/**
 * A process of `sightline doctor`: chooses the engine for a model as the service would and prints the report as JSON. Of its own, because
 * native code may crash it. Arguments: model folder, engine, threads.
 */
const [folder, engine, threads] = process.argv.slice(2);
const { kind } = await readCard(folder!);
const options = { engine: engine as EngineChoice, threads: Number(threads) };
const { report } =
  kind === "window" ? await windowed(folder!) : await StepNetwork.open(await loadStream(folder!), options);
console.log(JSON.stringify(report));
// Not closed: some drivers crash while they are taken down.
process.exit(0);

async function windowed(path: string) {
  const { card, step } = await loadWindow(path);
  return openEngine(step, { ...options, trial: windowTrial(card) });
}
