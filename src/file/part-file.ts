import { constants } from "node:fs";
import { access, link, lstat, mkdir, readdir, realpath, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isRunning } from "../model/folder.js";
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
/** Maps of the separator's own network and of a second one: written on the way, dropped before the end. */
export const OWN_MAPS = "own.maps";
export const CAM_MAPS = "cam.maps";
const WRITTEN = [...RESULTS, OWN_MAPS, CAM_MAPS];

/** `part`: not whole yet; `old`: an earlier result, until all of the new ones are in their places. */
const hidden = (folder: string, name: string, pid: number, what: "part" | "old"): string =>
  join(folder, `.${name}.${pid}.${what}`);

const outputError = (path: string, why: unknown): FileError =>
  new FileError("SL_FILE_OUTPUT", `${path} cannot be written: ${why instanceof Error ? why.message : String(why)}`);

/** A result on its way to its name. */
type Move = { readonly target: string; readonly old: string | null; done: boolean };

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

  /**
   * Makes the folder; clears up what a process left there that was killed.
   * @throws FileError SL_FILE_OUTPUT when it cannot be written to, or something has a result's name that cannot be replaced
   */
  static async open(folder: string): Promise<Results> {
    let made: string | undefined;
    try {
      made = await mkdir(folder, { recursive: true });
      await access(folder, constants.W_OK | constants.X_OK);
    } catch (error) {
      throw new FileError("SL_FILE_OUTPUT", `${folder} cannot be written to: ${(error as Error).message}`);
    }
    await removeLeftOvers(folder);
    for (const name of RESULTS) await requireReplaceable(join(folder, name));
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
    const path = hidden(this.folder, name, process.pid, "part");
    this.#parts.set(name, path);
    return path;
  }

  /** Gives up one file. */
  async drop(name: string): Promise<void> {
    const path = this.#parts.get(name);
    this.#parts.delete(name);
    if (path !== undefined) await rm(path, { force: true });
  }

  /**
   * Everything is whole: real names, for all or (then `discard`) for none. Returns their paths by name.
   * @throws FileError SL_FILE_OUTPUT, which names the file that could not be put in its place
   */
  async commit(): Promise<Record<string, string>> {
    const moves: Move[] = [];
    for (const [name, part] of this.#parts) {
      const target = join(this.folder, name);
      try {
        const old = await setAside(target, hidden(this.folder, name, process.pid, "old"));
        const move: Move = { target, old, done: false };
        moves.push(move);
        await rename(part, target);
        move.done = true;
      } catch (error) {
        for (const move of moves.reverse()) await takeBack(move);
        throw error instanceof FileError ? error : outputError(target, error);
      }
    }
    for (const { old } of moves) if (old !== null) await rm(old, { force: true }).catch(() => undefined); // the next run clears it
    const names = [...this.#parts.keys()];
    this.#parts.clear();
    return Object.fromEntries(names.map((name) => [name, join(this.folder, name)]));
  }

  async discard(): Promise<void> {
    for (const name of [...this.#parts.keys()]) await this.drop(name);
    if (this.#made) await rmdir(this.folder).catch(() => undefined);
  }
}

/** What a process was killed in the middle of: half a file goes, a result that had been set aside comes back if nothing took its place. */
async function removeLeftOvers(folder: string): Promise<void> {
  for (const entry of await readdir(folder).catch(() => [])) {
    const [, name, digits, what] = /^\.([a-z0-9.]+)\.(\d{1,10})\.(part|old)$/.exec(entry) ?? [];
    const pid = Number(digits);
    if (name === undefined || !WRITTEN.includes(name) || pid === process.pid || isRunning(pid)) continue;
    const [path, target] = [join(folder, entry), join(folder, name)];
    const gone = what === "old" && (await lstat(target).catch(() => null)) === null;
    // One that cannot be removed is in nobody's way.
    await (gone ? rename(path, target) : rm(path, { force: true })).catch(() => undefined);
  }
}

/** Nothing, or a file that a rename may replace. @throws FileError SL_FILE_OUTPUT */
async function requireReplaceable(target: string): Promise<void> {
  const there = await lstat(target).catch(() => null);
  if (there === null) return;
  if (there.isDirectory()) throw outputError(target, "a folder has that name");
  // In a sticky folder such as /tmp everybody may write, but replace only what is theirs.
  const me = process.geteuid?.() ?? 0;
  const folder = await stat(dirname(target));
  if ((folder.mode & 0o1000) !== 0 && ![0, folder.uid, there.uid].includes(me))
    throw outputError(target, "it is another user's file");
}

/** Gives what stands at `target` a second name, and does not take the first as long as the file system allows. Null: nothing stands there. */
async function setAside(target: string, old: string): Promise<string | null> {
  await requireReplaceable(target);
  await rm(old, { force: true }).catch(() => undefined); // the next run clears it
  const error = await link(target, old).then(
    () => null,
    (e: NodeJS.ErrnoException) => e,
  );
  if (error === null) return old;
  if (error.code === "ENOENT") return null;
  await rename(target, old);
  return old;
}

/** Undoes a move as far as it went. */
async function takeBack({ target, old, done }: Move): Promise<void> {
  try {
    if (old !== null) await rename(old, target);
    else if (done) await rm(target, { force: true });
    // Two names of one file: a rename between them leaves both.
    if (old !== null) await rm(old, { force: true }).catch(() => undefined); // the next run clears it
  } catch {
    // What is set aside comes back at the next run in this folder.
  }
}
