import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { InferenceError } from "./inference.js";

/** `.NAME.part-PID`: hidden, beside its place, so that a rename puts it there. */
const partName = (name: string, pid: number, what: "part" | "old"): string => `.${name}.${what}-${pid}`;

/** Whether a process is there (of whatever user), so that what it writes is not taken for left over. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Clears up what an earlier process was killed in the middle of: half a folder goes, one that had been set aside comes back. */
async function removeLeftOvers(parent: string, name: string): Promise<void> {
  for (const entry of await readdir(parent)) {
    const pid = Number(/-(\d{1,10})$/.exec(entry)?.[1]);
    const isPart = entry === partName(name, pid, "part");
    if (!isPart && entry !== partName(name, pid, "old")) continue;
    if (pid !== process.pid && isRunning(pid)) continue;
    if (!isPart && !(await stat(join(parent, name)).catch(() => null)))
      await rename(join(parent, entry), join(parent, name));
    else await rm(join(parent, entry), { recursive: true, force: true });
  }
}

/** What may be replaced: nothing, an empty folder, a model's folder; lest a mistyped path costs somebody their files. */
async function requireReplaceable(target: string): Promise<void> {
  const refuse = (what: string): InferenceError =>
    new InferenceError("SL_MODEL_INVALID", `${target}: is there already and ${what}; name another folder`);
  const entries: string[] = await readdir(target).catch((e: NodeJS.ErrnoException) => {
    if (e.code === "ENOENT") return [];
    throw refuse("is no folder");
  });
  if (entries.length > 0 && !entries.includes("card.json")) throw refuse("holds no card.json");
}

/**
 * Has `make` fill a temporary folder beside `out`, then puts it in the place of `out` by rename; a model's folder that stood there is
 * replaced. When `make` throws nothing is left, and what stood at `out` stays as it was. SL_MODEL_INVALID when something else than
 * a model's folder stands there.
 */
export async function writeFolder<T>(out: string, make: (folder: string) => Promise<T>): Promise<T> {
  const target = resolve(out);
  const [parent, name] = [dirname(target), basename(target)];
  await mkdir(parent, { recursive: true });
  await removeLeftOvers(parent, name);
  await requireReplaceable(target);
  const part = join(parent, partName(name, process.pid, "part"));
  await mkdir(part);
  try {
    const made = await make(part);
    await exchange(part, target, join(parent, partName(name, process.pid, "old")));
    await syncFolder(parent);
    return made;
  } catch (e) {
    await rm(part, { recursive: true, force: true });
    throw e;
  }
}

/** A folder that is not empty cannot be replaced in one step: the old one goes aside, and comes back if the second step fails. */
async function exchange(part: string, target: string, old: string): Promise<void> {
  const hadOld = await rename(target, old).then(
    () => true,
    (e: NodeJS.ErrnoException) => {
      if (e.code === "ENOENT") return false;
      throw e;
    },
  );
  await rename(part, target).catch(async (e: unknown) => {
    if (hadOld) await rename(old, target);
    throw e;
  });
  await rm(old, { recursive: true, force: true });
}

/** So that the rename outlives a loss of power. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
