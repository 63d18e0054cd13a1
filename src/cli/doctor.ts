import { examine } from "../doctor/checks.js";
import { exitCode, reportText } from "../doctor/report.js";
import { command } from "./command.js";
import { configFile } from "./config-file.js";

export const doctorCommand = command({
  meta: {
    name: "doctor",
    description: "Says what is here, what is missing, and how to mend it; exit code 1 when something needed is missing",
  },
  args: {
    config: {
      type: "string",
      description: "configuration file whose ports and models are looked at",
      valueHint: "FILE",
    },
    json: { type: "boolean", description: "findings as JSON" },
  },
  async run({ args }) {
    const checks = await examine({ configFile: configFile(args.config) });
    process.stdout.write(
      args.json ? `${JSON.stringify({ ok: exitCode(checks) === 0, checks })}\n` : reportText(checks),
    );
    process.exitCode = exitCode(checks);
  },
});
