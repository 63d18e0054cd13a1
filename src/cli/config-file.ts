import { existsSync } from "node:fs";

const USUAL = "sightline.yml";

/** The configuration file in force: the option, else SIGHTLINE_CONFIG (empty: not set), else ./sightline.yml where there is one, else none (defaults). */
export function configFile(option: string | undefined): string | null {
  return option ?? (process.env.SIGHTLINE_CONFIG || (existsSync(USUAL) ? USUAL : null));
}
