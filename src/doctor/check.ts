import { execFile } from "node:child_process";

/** One thing that `sightline doctor` looked at. */
export type Check = {
  readonly area: "node" | "machine" | "gstreamer" | "engine" | "models" | "files" | "ports" | "configuration";
  readonly name: string;
  /** `missing` is a fault: Sightline cannot work as it is; `warn` is worth knowing. */
  readonly state: "ok" | "warn" | "missing";
  readonly detail: string;
  /** The exact command or change that helps; null when all is well. */
  readonly fix: string | null;
};

const RUN_TIMEOUT_MS = 20_000;

/** The command that installs packages of Debian. */
export const apt = (...packages: string[]): string => {
  const sudo = process.getuid?.() === 0 ? "" : "sudo ";
  return `${sudo}apt-get install -y --no-install-recommends ${packages.join(" ")}`;
};

/** Runs a program to its end; it is killed after `timeout` milliseconds. Never rejects. */
export function run(
  file: string,
  args: readonly string[],
  cwd?: string,
  timeout = RUN_TIMEOUT_MS,
): Promise<{ out: string; error: string | null }> {
  return new Promise((resolve) => {
    execFile(
      file,
      args,
      { timeout, killSignal: "SIGKILL", maxBuffer: 16e6, ...(cwd ? { cwd } : {}) },
      (error, out, stderr) => {
        const code = (error as NodeJS.ErrnoException | null)?.code;
        resolve({
          out,
          error:
            error === null ? null : code === "ENOENT" ? `${file} is not installed` : stderr.trim() || error.message,
        });
      },
    );
  });
}

/** The line of a stack trace that says what is wrong. */
export function lastLine(text: string): string {
  const lines = text.split("\n").map((l) => l.trim());
  return (lines.find((l) => /^(\w*Error|.*cannot open shared object|.*symbol)/.test(l)) ?? lines.at(-1) ?? "").slice(
    0,
    300,
  );
}
