import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Least major version of Node.js (package.json says the same). */
export const LEAST_NODE = 20;

export const nodeIsNewEnough = (): boolean => Number(process.versions.node.split(".")[0]) >= LEAST_NODE;

/** How to come by a Node.js that will do: `make` keeps one in the checkout where the distribution's is too old (scripts/node-setup.sh). */
export function nodeRemedy(): string {
  // From src/ and from dist/src/.
  const kept = ["..", "../.."]
    .map((up) => join(fileURLToPath(new URL(".", import.meta.url)), up, ".work/node/bin"))
    .find((folder) => existsSync(join(folder, "node")));
  return kept === undefined
    ? `install Node.js ${LEAST_NODE} or later; in a checkout \`make build\` fetches one`
    : `make keeps one in this checkout: export PATH="${join(kept)}:$PATH"`;
}
