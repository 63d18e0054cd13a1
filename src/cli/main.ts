#!/usr/bin/env node
import "./node-version.js";
import "./colour.js";
import { runCommand, runMain } from "citty";
import { VERSION } from "../paths.js";
import { errorText, group, UsageError } from "./command.js";
import { STOPPED, StoppedError } from "./stop.js";

// Each command is loaded when it is called: `sightline config check` need not load an inference engine.
const main = group({
  meta: { name: "sightline", version: VERSION, description: "Takes the off-screen voice out of a live broadcast" },
  subCommands: {
    serve: () => import("./serve.js").then((m) => m.serveCommand),
    separate: () => import("./separate.js").then((m) => m.separateCommand),
    doctor: () => import("./doctor.js").then((m) => m.doctorCommand),
    model: () => import("./model.js").then((m) => m.modelCommand),
    config: () => import("./config.js").then((m) => m.configCommand),
  },
});

const rawArgs = process.argv.slice(2);
const help = rawArgs.length === 0 || rawArgs.some((a) => a === "--help" || a === "-h" || a === "--version");
if (help) await runMain(main, { rawArgs: rawArgs.length === 0 ? ["--help"] : rawArgs });
else {
  try {
    await runCommand(main, { rawArgs });
  } catch (error) {
    console.error(errorText(error));
    const usage = error instanceof UsageError || (error as Error).name === "CLIError";
    if (usage) console.error("See sightline --help, or sightline COMMAND --help.");
    process.exitCode = error instanceof StoppedError ? STOPPED : usage ? 2 : 1;
  }
}
