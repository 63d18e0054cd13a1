import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CODES } from "../codes.js";
import { exampleYaml, referenceMarkdown } from "../config/generate.js";

/** The text of `docs/codes.md`. */
export function codesMarkdown(codes: Readonly<Record<string, string>> = CODES): string {
  const rows = Object.keys(codes)
    .sort()
    .map((code) => `| \`${code}\` | ${codes[code]!.replaceAll("|", "\\|")} |`);
  return [
    "# Codes",
    "",
    "Reasons and errors, as they stand in logs, `/api/state`, metrics and messages. A code never changes its meaning.",
    "Generated from `src/codes.ts` by `npm run docs`; do not edit.",
    "",
    "| code | meaning |",
    "| --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

/** Every generated text file of the repository: path from its root -> what it must hold. */
export function generatedFiles(): ReadonlyMap<string, string> {
  return new Map([
    ["sightline.example.yml", exampleYaml()],
    ["docs/reference/configuration.md", referenceMarkdown()],
    ["docs/codes.md", codesMarkdown()],
  ]);
}

/** `npm run docs` writes them, `npm run docs -- --check` exits with 1 when one is stale. */
function main(): void {
  const root = new URL("../../", import.meta.url);
  const check = process.argv.includes("--check");
  for (const [path, text] of generatedFiles()) {
    const file = new URL(path, root);
    let now: string | null = null;
    try {
      now = readFileSync(file, "utf8");
    } catch {
      // Not there yet: as good as stale.
    }
    if (now === text) continue;
    if (check) {
      console.error(`${path} is stale: npm run docs`);
      process.exitCode = 1;
    } else {
      writeFileSync(file, text);
      console.log(`wrote ${path}`);
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
