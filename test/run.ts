/**
 * Runs the compiled test files: `node dist/test/run.js [--limit-seconds N] [--root FOLDER] [PART-OF-A-PATH ...]`.
 *
 * Every file has a node process of its own (native code may crash it, GStreamer may hang it): a time limit ends it by SIGKILL
 * together with the processes it started, two files run at once, those under test/e2e/ alone. uvu's totals are added up; a file
 * that crashes, times out or holds no test counts as one failure. The last line is `N passed, N failed`.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const AT_ONCE = 2;
const DEFAULT_LIMIT_SECONDS = 180;
/** Of a file's output only the end is kept: enough for uvu's report, bounded whatever the file prints. */
const MAX_OUTPUT_CHARS = 200_000;

type Outcome = {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  readonly problem: string | null;
  readonly output: string;
};

const ownFolder = dirname(fileURLToPath(import.meta.url));

/** Test files below `root`, sorted; a compiled one whose source is gone (left over from an earlier build) is not run. */
function testFiles(root: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(root, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".test.js")) continue;
    const file = join(entry.parentPath, entry.name);
    if (root !== ownFolder || existsSync(sourceOf(root, file))) found.push(file);
  }
  return found.sort();
}

function sourceOf(root: string, file: string): string {
  return join("test", relative(root, file)).replace(/\.js$/, ".ts");
}

/** Reads uvu's closing report. Null when there is none: the file did not get to its end. */
function readTotals(output: string): { total: number; passed: number; skipped: number } | null {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours are control characters
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const report = /\n\s*Total:\s+(\d+)\s*\n\s*Passed:\s+(\d+)\s*\n\s*Skipped:\s+(\d+)/g;
  let last: RegExpExecArray | null = null;
  for (let match = report.exec(plain); match !== null; match = report.exec(plain)) last = match;
  return last ? { total: Number(last[1]), passed: Number(last[2]), skipped: Number(last[3]) } : null;
}

function judge(
  output: string,
  exitCode: number | null,
  signal: string | null,
  timedOut: boolean,
  limitSeconds: number,
) {
  const totals = readTotals(output);
  const failedTests = totals ? totals.total - totals.passed : 0;
  const problem = timedOut
    ? `not done after ${limitSeconds} s`
    : signal !== null
      ? `ended by ${signal}`
      : totals === null
        ? `no report, exit code ${exitCode}`
        : totals.total + totals.skipped === 0
          ? "holds no test"
          : exitCode !== 0 && failedTests === 0
            ? `exit code ${exitCode} although every test passed`
            : null;
  return {
    passed: totals?.passed ?? 0,
    failed: failedTests + (problem === null ? 0 : 1),
    skipped: totals?.skipped ?? 0,
    problem,
  };
}

function runFile(file: string, limitSeconds: number): Promise<Outcome> {
  const began = Date.now();
  return new Promise((resolve) => {
    // A group of its own (detached), so that the time limit reaches grandchildren too.
    const child = spawn(process.execPath, ["--enable-source-maps", file], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      env: { ...process.env, UV_THREADPOOL_SIZE: "16", NODE_ENV: "test" },
    });
    running.add(child.pid ?? 0);
    let output = "";
    const keep = (text: string) => {
      output = (output + text).slice(-MAX_OUTPUT_CHARS);
    };
    child.stdout.setEncoding("utf8").on("data", keep);
    child.stderr.setEncoding("utf8").on("data", keep);

    let timedOut = false;
    const limit = setTimeout(() => {
      timedOut = true;
      killGroup(child.pid);
    }, limitSeconds * 1000);

    let settled = false;
    const settle = (exitCode: number | null, signal: string | null) => {
      if (settled) return;
      settled = true;
      clearTimeout(limit);
      killGroup(child.pid); // what the file left running goes with it
      running.delete(child.pid ?? 0);
      child.stdout.destroy();
      child.stderr.destroy();
      resolve({
        ...judge(output, exitCode, signal, timedOut, limitSeconds),
        seconds: (Date.now() - began) / 1000,
        output,
      });
    };
    child.on("error", (error) => {
      keep(`\n${error.message}\n`);
      settle(null, null);
    });
    child.on("close", settle);
    // A grandchild that holds the pipes open must not keep the runner waiting for `close`.
    child.on("exit", (code, signal) => setTimeout(() => settle(code, signal), 2000));
  });
}

const running = new Set<number>();

function killGroup(pid: number | undefined): void {
  if (!pid) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group is gone already.
  }
}

function report(name: string, outcome: Outcome): void {
  const skipped = outcome.skipped > 0 ? `, ${outcome.skipped} skipped` : "";
  const verdict = outcome.failed === 0 ? "ok  " : "FAIL";
  console.log(
    `${verdict} ${name}: ${outcome.passed} passed, ${outcome.failed} failed${skipped} (${outcome.seconds.toFixed(1)} s)`,
  );
  if (outcome.problem !== null) console.log(`     ${outcome.problem}`);
  if (outcome.failed > 0) console.log(outcome.output.trimEnd().replace(/^/gm, "     | "));
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { "limit-seconds": { type: "string" }, root: { type: "string" } },
    allowPositionals: true,
  });
  const limitSeconds = Number(values["limit-seconds"] ?? DEFAULT_LIMIT_SECONDS);
  if (!(limitSeconds > 0))
    throw new Error(`--limit-seconds must be a number of seconds, not ${values["limit-seconds"]}`);
  const root = values.root ?? ownFolder;
  const files = testFiles(root).filter(
    (file) => positionals.length === 0 || positionals.some((part) => sourceOf(root, file).includes(part)),
  );

  let passed = 0;
  let failed = 0;
  const take = async (queue: string[]) => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const outcome = await runFile(file, limitSeconds);
      passed += outcome.passed;
      failed += outcome.failed;
      report(sourceOf(root, file), outcome);
    }
  };
  const isAlone = (file: string) => relative(root, file).split(/[\\/]/)[0] === "e2e";
  const together = files.filter((file) => !isAlone(file));
  await Promise.all(Array.from({ length: AT_ONCE }, () => take(together)));
  await take(files.filter(isAlone));

  if (files.length === 0) {
    console.log(`no test file matches ${positionals.join(" ") || "test/**/*.test.ts"}`);
    failed++;
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    for (const pid of running) killGroup(pid);
    process.exit(130);
  });
}
process.exitCode = await main();
