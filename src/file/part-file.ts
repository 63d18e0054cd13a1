import { constants } from "node:fs";
import { access, mkdir, realpath, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { FileError } from "./errors.js";

/** Names that results may have. */
const RESULTS = [
  "onscreen.wav",
  "offscreen.wav",
  "onscreen.mp4",
  "cam.mp4",
  "crop.mp4",
  "highlight.jsonl",
  "cam.jsonl",
];

/**
 * The result files of one run. Each is written under a name of its own (`.NAME.PID.part`) and gets its real name when all are whole;
 * after a failure nothing is left behind, and what an earlier run wrote is still there.
 */
export class Results {
  readonly folder: string;
  readonly #parts = new Map<string, string>();

  /** The folder is ours: it goes, too, when nothing comes of it. */
  readonly #made: boolean;

  private constructor(folder: string, made: boolean) {
    this.folder = folder;
    this.#made = made;
  }

  /** Makes the folder. @throws FileError SL_FILE_OUTPUT */
  static async open(folder: string): Promise<Results> {
    let made: string | undefined;
    try {
      made = await mkdir(folder, { recursive: true });
      await access(folder, constants.W_OK | constants.X_OK);
    } catch (error) {
      throw new FileError("SL_FILE_OUTPUT", `${folder} cannot be written to: ${(error as Error).message}`);
    }
    return new Results(folder, made !== undefined);
  }

  /** @throws FileError SL_FILE_OUTPUT when a result would take the place of `input` */
  async spare(input: string): Promise<void> {
    const [file, folder] = await Promise.all([realpath(input), realpath(this.folder)]);
    if (dirname(file) === folder && RESULTS.includes(basename(file)))
      throw new FileError(
        "SL_FILE_OUTPUT",
        `${input} would be overwritten by a result of that name; give another --out`,
      );
  }

  /** Where to write the file for now. */
  part(name: string): string {
    const path = join(this.folder, `.${name}.${process.pid}.part`);
    this.#parts.set(name, path);
    return path;
  }

  /** Gives up one file. */
  async drop(name: string): Promise<void> {
    const path = this.#parts.get(name);
    this.#parts.delete(name);
    if (path !== undefined) await rm(path, { force: true });
  }

  /** Everything is whole: real names. Returns their paths by name. */
  async commit(): Promise<Record<string, string>> {
    const out: Record<string, string> = {};
    for (const [name, part] of this.#parts) {
      out[name] = join(this.folder, name);
      await rename(part, out[name]!);
    }
    this.#parts.clear();
    return out;
  }

  async discard(): Promise<void> {
    for (const name of [...this.#parts.keys()]) await this.drop(name);
    if (this.#made) await rmdir(this.folder).catch(() => undefined);
  }
}
