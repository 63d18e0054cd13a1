import { type ChildProcess, execFile, spawn } from "node:child_process";
import { pathToFileURL } from "node:url";
import { FileError } from "./errors.js";

/**
 * GStreamer in a child (`gst-launch-1.0`) whose media go through pipes as GDP. Files are read this way and not through the binding of
 * src/transport/gst: a pipe that is not read holds its pipeline back by itself (bounded memory at any length), a codec that crashes on
 * a damaged file takes no result with it, and no libuv threads are needed (the binding holds two for each pipeline).
 */
export type GstProcessOptions = {
  /** Pipeline in the words of gst_parse_launch; data leave by `fdsink fd=3`, and come in by `fdsrc fd=0` and `fdsrc fd=4`. */
  readonly launch: string;
  /** Folder that file names in the pipeline are relative to. */
  readonly folder?: string;
  /** Ends the child at once; what it has written can still be read. */
  readonly signal?: AbortSignal | undefined;
};

const MAX_STDERR = 16_384;
const HANG_MS = 2000;

export class GstProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  /** The end, of whatever kind. */
  readonly #closed: Promise<void>;
  /** Ends the watch for the signal. */
  readonly #unwatch: () => void;
  #stderr = "";
  #declared: number | null = null;

  constructor({ launch, folder, signal }: GstProcessOptions) {
    this.#child = spawn("gst-launch-1.0", ["-q", ...words(launch)], {
      cwd: folder,
      stdio: ["pipe", "pipe", "pipe", "pipe", "pipe"],
      env: { ...process.env, LC_ALL: "C", GST_DEBUG: "", GST_DEBUG_NO_COLOR: "1" },
    });
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", (error) => reject(toolError(error)));
      this.#child.once("close", (code) => resolve(code));
    });
    this.#closed = this.#ended.then(
      () => undefined,
      () => undefined,
    );
    // A child that is gone is noticed by its end, not by each of its pipes.
    for (const pipe of [this.#child.stdin!, ...this.#child.stdio.slice(3)]) pipe?.on("error", () => undefined);
    let hang: NodeJS.Timeout | null = null;
    void this.#closed.then(() => hang !== null && clearTimeout(hang));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      if (this.#stderr.length < MAX_STDERR) this.#stderr += text.slice(0, MAX_STDERR);
      // gst-launch may hang while it takes a failed pipeline down. What it has written to a pipe can still be read.
      if (hang === null && text.includes("ERROR: ")) hang = setTimeout(() => this.kill(), HANG_MS);
    });
    // progressreport: `progressreport0 (00:00:03): 2 / 24 seconds ( 8.3 %)`
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const found = [...text.matchAll(/\d+ \/ (\d+) seconds/g)].at(-1);
      if (found) this.#declared = Number(found[1]);
    });
    const kill = (): void => this.kill();
    signal?.addEventListener("abort", kill, { once: true });
    this.#unwatch = () => signal?.removeEventListener("abort", kill);
    void this.#closed.then(this.#unwatch);
    if (signal?.aborted) kill();
  }

  get output(): AsyncIterable<Buffer> {
    return this.#child.stdio[3] as unknown as AsyncIterable<Buffer>;
  }

  #input(fd: 0 | 4): NodeJS.WritableStream {
    return this.#child.stdio[fd] as unknown as NodeJS.WritableStream;
  }

  /** No more data come by this pipe. */
  closeInput(fd: 0 | 4): void {
    this.#input(fd).end();
  }

  /** Whole seconds that the file says it lasts (a `progressreport` in the pipeline asks); null while not known. */
  get declaredSeconds(): number | null {
    return this.#declared;
  }

  get alive(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** What GStreamer complained about; null when it ended well. @throws FileError SL_FILE_TOOLS when it cannot be run */
  async end(): Promise<string | null> {
    const code = await this.#ended;
    return code === 0 ? null : this.#stderr || `gst-launch-1.0 ended with ${code ?? "a signal"}`;
  }

  kill(): void {
    if (this.alive) this.#child.kill("SIGKILL");
  }

  /** Ends the child, and gives up what it wrote: a pipe that nobody reads to its end would stay open, and the child's end untold. Idempotent. */
  close(): void {
    this.kill();
    this.#unwatch();
    for (const pipe of this.#child.stdio) pipe?.destroy();
  }

  /** Waits until the child takes more; false when it is gone. */
  async write(fd: 0 | 4, data: Buffer): Promise<boolean> {
    if (!this.alive) return false;
    const pipe = this.#input(fd);
    if (pipe.write(data)) return true;
    let drained = (): void => undefined;
    const drain = new Promise<void>((resolve) => {
      drained = resolve;
      pipe.once("drain", resolve);
    });
    await Promise.race([drain, this.#closed]);
    pipe.removeListener("drain", drained);
    return this.alive;
  }
}

/** Whether GStreamer has an element. */
export function hasElement(name: string): Promise<boolean> {
  return new Promise((resolve) => {
    execFile("gst-inspect-1.0", ["--exists", name], { timeout: 30_000 }, (error) => resolve(error === null));
  });
}

/** gst-launch quotes each argument again: the words of a launch string are cut at blanks (no value of ours holds one). */
const words = (launch: string): string[] => launch.split(/\s+/).filter((w) => w !== "");

/** A file as URI with everything escaped that gst_parse_launch, or a blank, could trip over. */
export function fileUri(path: string): string {
  const escaped = (c: string): string => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  return pathToFileURL(path).href.replace(/[^A-Za-z0-9%/:._~-]/g, escaped);
}

function toolError(error: NodeJS.ErrnoException): FileError {
  return new FileError(
    "SL_FILE_TOOLS",
    error.code === "ENOENT"
      ? "gst-launch-1.0 is not installed (package gstreamer1.0-tools); `sightline doctor` says more"
      : `gst-launch-1.0 cannot be started: ${error.message}`,
  );
}

/** The first sentence of GStreamer's complaint, without its element path. */
export function gstSentence(stderr: string): string {
  return (/ERROR: from element [^\s]+: (.+)/.exec(stderr)?.[1] ?? stderr.trim().split("\n")[0] ?? "").trim();
}
