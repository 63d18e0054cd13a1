import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Result } from "./condition.js";

/** Changes whenever results of before must not be mixed with those of now. */
const FORMAT = 2;

/** What all results of a folder have in common. */
export type Identity = {
  readonly model: string;
  readonly sha256: string;
  readonly seed: number;
  readonly profile: string;
};

type Line = Identity & { readonly format: number; readonly result: Result };

/**
 * Results as they come, one line each, so that a run that was ended goes on where it stood. Each process appends to a file of its own
 * (`items-PART.jsonl`); all files of the folder are read.
 */
export class Store {
  readonly #folder: string;
  readonly #identity: Identity;
  readonly #results = new Map<string, Result>();

  /** @throws Error when the folder holds results of another model or seed */
  constructor(folder: string, identity: Identity) {
    this.#folder = folder;
    this.#identity = identity;
    mkdirSync(folder, { recursive: true });
    this.read();
  }

  /** Reads what is there, also what other processes wrote meanwhile. */
  read(): void {
    for (const file of readdirSync(this.#folder).filter((name) => /^items-\w+\.jsonl$/.test(name)))
      for (const text of readFileSync(join(this.#folder, file), "utf8").split("\n")) {
        const line = parsed(text);
        if (line === null) continue;
        const { model, sha256, seed, profile } = this.#identity;
        if (line.format !== FORMAT || line.sha256 !== sha256 || line.seed !== seed || line.profile !== profile)
          throw new Error(
            `--out ${this.#folder} holds results of model ${line.model} (${line.sha256.slice(0, 8)}), profile ${line.profile}, seed ${line.seed}; ` +
              `this run has ${model} (${sha256.slice(0, 8)}), profile ${profile}, seed ${seed}: name another folder or remove ${file}`,
          );
        this.#results.set(keyOf(line.result), line.result);
      }
  }

  has(condition: string, name: string): boolean {
    return this.#results.has(keyOf({ condition, name }));
  }

  add(result: Result, part: number): void {
    this.#results.set(keyOf(result), result);
    const path = join(this.#folder, `items-${part}.jsonl`);
    // A line torn by the end of an earlier run must not swallow this one.
    const torn = existsSync(path) && !readFileSync(path, "utf8").endsWith("\n");
    const line: Line = { format: FORMAT, ...this.#identity, result };
    appendFileSync(path, `${torn ? "\n" : ""}${JSON.stringify(line)}\n`);
  }

  /** Sorted, so that the same results make the same files. */
  all(): Result[] {
    return [...this.#results.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, result]) => result);
  }
}

const keyOf = ({ condition, name }: Pick<Result, "condition" | "name">): string => `${condition}/${name}`;

/** Null: an empty line, or one that was cut off. */
function parsed(text: string): Line | null {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return null;
  }
}
