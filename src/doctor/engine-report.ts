import { loadStream, loadWindow, readCard } from "../model/cards.js";
import type { EngineChoice } from "../model/engines/engine.js";
import { openEngine } from "../model/engines/select.js";
import { stepTrial, windowTrial } from "../model/engines/trial-inputs.js";

/**
 * A process of `sightline doctor`: chooses the engine for a model as the service would and prints the report as JSON. Of its own, because
 * native code may crash it. Arguments: model folder, engine, threads.
 */
const [folder, engine, threads] = process.argv.slice(2);
const { kind } = await readCard(folder!);
const [step, trial] = kind === "window" ? await windowed(folder!) : await stepped(folder!);
const opened = await openEngine(step, { engine: engine as EngineChoice, threads: Number(threads), trial });
console.log(JSON.stringify(opened.report));
// Not closed: some drivers crash while they are taken down.
process.exit(0);

async function stepped(folder: string) {
  const { card, step } = await loadStream(folder);
  return [step, stepTrial(card)] as const;
}

async function windowed(folder: string) {
  const { card, step } = await loadWindow(folder);
  return [step, windowTrial(card)] as const;
}
