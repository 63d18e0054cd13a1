import { type FSWatcher, readFileSync, realpathSync, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";

export type WatchOptions = {
  /** Quiet time after the last change before the file is read: editors write in several steps. Milliseconds. */
  readonly quietMs?: number;
  /** Least time between two calls of `onChange`. Milliseconds. */
  readonly leastIntervalMs?: number;
  /** How often the file is read although nothing was said. Milliseconds. */
  readonly lookMs?: number;
  /** Files that belong to it (secrets it names), asked for at each look: what changes in them is a change, too. */
  readonly secrets?: () => readonly string[];
};

/** A change that the system does not tell of is seen within about this. */
const LOOK_MS = 3000;

/**
 * Watches a file through its folder, so that a rename over it (editors, `mv`) and a replaced symbolic link (mounted secrets) are seen.
 * `onChange` is called when the content differs from what it was, at most once in `leastIntervalMs`; a file that vanishes is not a change
 * (it is usually on its way back). The watcher does not keep the process alive.
 *
 * The file is also read every few seconds: of a folder that was swapped, of one on a network, and where the system has no watches left,
 * nothing is told.
 */
export class FileWatcher {
  readonly #file: string;
  readonly #secrets: () => readonly string[];
  readonly #onChange: () => void;
  readonly #quietMs: number;
  readonly #leastIntervalMs: number;
  #watchers: FSWatcher[] = [];
  #folders = "";
  #timer: NodeJS.Timeout | null = null;
  readonly #look: NodeJS.Timeout;
  #content: string | null;
  #known = new Map<string, string | null>();
  #lastCall = Number.NEGATIVE_INFINITY;
  #closed = false;
  #looking = false;

  constructor(file: string, onChange: () => void, options: WatchOptions = {}) {
    this.#file = file;
    this.#secrets = options.secrets ?? (() => []);
    this.#onChange = onChange;
    this.#quietMs = options.quietMs ?? 150;
    this.#leastIntervalMs = options.leastIntervalMs ?? 1000;
    this.#content = this.#read(file);
    this.#learn();
    this.#open();
    this.#look = setInterval(() => void this.#lookAtFile(), options.lookMs ?? LOOK_MS);
    this.#look.unref();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#look);
    if (this.#timer) clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }

  #read(path: string): string | null {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return null;
    }
  }

  /** One watcher for the folder of the name and one for the folder that it points into; renewed when the link moves. */
  #open(): void {
    let real = this.#file;
    try {
      real = realpathSync(this.#file);
    } catch {
      // Gone for the moment: the folder of the name is enough to see it come back.
    }
    const folders = [...new Set([dirname(this.#file), dirname(real)])];
    if (folders.join("\0") === this.#folders) return;
    this.#folders = folders.join("\0");
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    for (const folder of folders) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#schedule());
        watcher.on("error", () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // No such folder (any more), or no watches left: the settings in force stay in force.
      }
    }
  }

  #schedule(): void {
    if (this.#closed) return;
    if (this.#timer) clearTimeout(this.#timer);
    const wait = Math.max(this.#quietMs, this.#lastCall + this.#leastIntervalMs - performance.now());
    this.#timer = setTimeout(() => this.#check(), wait);
    this.#timer.unref();
  }

  /** What differs may be half written: it is read again after the quiet time. */
  async #lookAtFile(): Promise<void> {
    if (this.#timer !== null || this.#looking) return;
    this.#looking = true;
    // Not at once: a network disk that is away would hold up the whole process.
    const [content, ...secrets] = await Promise.all(
      [this.#file, ...this.#secrets()].map((path) => readFile(path, "utf8").catch(() => null)),
    );
    this.#looking = false;
    const isNew = content != null && content !== this.#content;
    if (isNew || this.#secrets().some((path, i) => this.#differs(path, secrets[i] ?? null))) this.#schedule();
  }

  #check(): void {
    this.#timer = null;
    this.#open();
    const content = this.#read(this.#file);
    const secrets = new Map(this.#secrets().map((path) => [path, this.#read(path)]));
    const isNew = content !== null && content !== this.#content;
    if (!isNew && ![...secrets].some(([path, text]) => this.#differs(path, text))) return;
    this.#content = content ?? this.#content;
    this.#known = secrets;
    this.#lastCall = performance.now();
    this.#onChange();
    this.#learn();
  }

  /** Secrets that are named now and were not before: as they were when they were read for the first time. */
  #learn(): void {
    for (const path of this.#secrets()) if (!this.#known.has(path)) this.#known.set(path, this.#read(path));
  }

  #differs(path: string, text: string | null): boolean {
    return this.#known.has(path) && this.#known.get(path) !== text;
  }
}
