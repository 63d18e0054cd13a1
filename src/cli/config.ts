import { exampleYaml, referenceMarkdown } from "../config/generate.js";
import { type LoadedConfig, loadConfig } from "../config/loader.js";
import { findModel, readLiveCard } from "../model/cards.js";
import { InferenceError } from "../model/inference.js";
import { BUILT_IN_MODELS, modelFolder } from "../paths.js";
import { command, group } from "./command.js";

const check = command({
  meta: { name: "check", description: "Names every fault of a configuration file; exit code 1 when there is one" },
  args: {
    file: { type: "positional", description: "configuration file", required: true },
    json: { type: "boolean", description: "faults as JSON" },
  },
  async run({ args }) {
    try {
      const { config, warnings: read } = loadConfig(args.file);
      const warnings = [...read, ...(await missingModels(config, args.file))];
      const channels = Object.keys(config.channels);
      if (args.json) console.log(JSON.stringify({ file: args.file, ok: true, channels, warnings, issues: [] }));
      else {
        for (const warning of warnings) console.error(`warning: ${warning}`);
        console.log(
          `${args.file}: good; ${channels.length === 0 ? "no channels" : `channels: ${channels.join(", ")}`}`,
        );
      }
    } catch (error) {
      if (!args.json) throw error;
      console.log(
        JSON.stringify({
          file: args.file,
          ok: false,
          ...(error as object),
          issues: (error as { issues?: unknown }).issues ?? [],
        }),
      );
      process.exitCode = 1;
    }
  },
});

/** Channels whose model cannot be used now: no fault of the file, the sound would pass untouched until it is there. */
async function missingModels(config: LoadedConfig, file: string): Promise<string[]> {
  const warnings: string[] = [];
  for (const [name, { model }] of Object.entries(config.channels)) {
    try {
      const folder = modelFolder(model, config.models, file);
      await readLiveCard(await findModel(folder, config.models ?? BUILT_IN_MODELS));
    } catch (error) {
      if (!(error instanceof InferenceError)) throw error;
      warnings.push(`channels.${name}.model: ${error.message} [${error.code}]`);
    }
  }
  return warnings;
}

const example = command({
  meta: { name: "example", description: "Prints a commented file with every setting" },
  args: {},
  run: () => void process.stdout.write(exampleYaml()),
});

const reference = command({
  meta: { name: "reference", description: "Prints the reference page of the settings (Markdown)" },
  args: {},
  run: () => void process.stdout.write(referenceMarkdown()),
});

export const configCommand = group({
  meta: { name: "config", description: "Checks and explains the configuration" },
  subCommands: { check, example, reference },
});
