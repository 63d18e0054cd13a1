import { loadStream } from "../model/cards.js";
import type { EngineChoice } from "../model/engines/engine.js";
import { openEngine } from "../model/engines/select.js";
import { stepTrial } from "../model/engines/trial-inputs.js";

/**
 * A process of `sightline doctor`: chooses the engine for a model as the service would and prints the report as JSON. Of its own, because
 * native code may crash it. Arguments: model folder, engine, threads.
 */
const [folder, engine, threads] = process.argv.slice(2);
const { card, step } = await loadStream(folder!);
const opened = await openEngine(step, {
  engine: engine as EngineChoice,
  threads: Number(threads),
  trial: stepTrial(card),
});
console.log(JSON.stringify(opened.report));
// Not closed: some drivers crash while they are taken down.
process.exit(0);
