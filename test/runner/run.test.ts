import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const test = suite("test runner");
const here = dirname(fileURLToPath(import.meta.url));
const compiled = join(here, "..", "run.js");
const runner = existsSync(compiled) ? compiled : join(here, "..", "run.ts");
const uvu = pathToFileURL(join(process.cwd(), "node_modules", "uvu", "dist", "index.mjs")).href;

/** Runs the runner on a folder that holds these files; resolves to its exit code and output. */
async function run(
  files: Record<string, string>,
  ...args: string[]
): Promise<{ code: number | null; lines: string[] }> {
  const root = mkdtempSync(join(tmpdir(), "sightline-runner-"));
  try {
    writeFileSync(join(root, "package.json"), '{"type":"module"}');
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), `import { test } from ${JSON.stringify(uvu)};\n${text}\n`);
    }
    const child = spawn(process.execPath, [...process.execArgv, runner, "--root", root, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 60_000,
      killSignal: "SIGKILL",
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, lines: output.trimEnd().split("\n") };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

const good = "test('a', () => {}); test('b', () => {}); test.run();";

test("adds up the tests of all files and says so in the last line", async () => {
  const { code, lines } = await run({ "a.test.js": good, "e2e/b.test.js": good });
  assert.is(lines.at(-1), "4 passed, 0 failed");
  assert.is(code, 0);
});

test("counts a failing test and prints what it said", async () => {
  const { code, lines } = await run({
    "a.test.js": `${good} test('c', () => { throw new Error('the reason'); }); test.run();`,
  });
  assert.is(lines.at(-1), "2 passed, 1 failed");
  assert.ok(lines.some((line) => line.includes("the reason")));
  assert.is(code, 1);
});

test("a file that crashes, holds no test, or never runs its tests is one failure", async () => {
  const { code, lines } = await run({
    "abort.test.js": "process.abort();",
    "empty.test.js": "test.run();",
    "forgot.test.js": "test('a', () => {});",
  });
  assert.is(lines.at(-1), "0 passed, 3 failed");
  assert.is(code, 1);
});

test("a file that hangs is ended after the limit, with the process it started", async () => {
  const text = `
    import { spawn } from "node:child_process";
    test('hangs', () => { spawn("sleep", ["100"], { stdio: "inherit" }); return new Promise(() => setInterval(() => {}, 1000)); });
    test.run();`;
  const { code, lines } = await run({ "hang.test.js": text }, "--limit-seconds", "2");
  assert.is(lines.at(-1), "0 passed, 1 failed");
  assert.ok(lines.some((line) => line.includes("not done after 2 s")));
  assert.is(code, 1);
});

test("a run that finds no file is a failure", async () => {
  const { code, lines } = await run({ "a.test.js": good }, "no-such-part");
  assert.is(lines.at(-1), "0 passed, 1 failed");
  assert.is(code, 1);
});

test.run();
