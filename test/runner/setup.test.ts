import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const test = suite("set-up");

test("the lock file names every package that another platform would need, or npm ci refuses it", () => {
  execFileSync(process.execPath, ["scripts/complete-lock.mjs", "--check"], {
    stdio: ["ignore", "ignore", "pipe"],
    timeout: 20_000,
  });
});

test("the lock file names no host", () => {
  assert.not.match(readFileSync("package-lock.json", "utf8"), /"resolved"/);
});

test("each line of the package list is a group and a package, each package once", () => {
  const lines = readFileSync("scripts/apt-packages.txt", "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
  for (const line of lines) assert.match(line, /^(run|test|test\?) [a-z0-9][a-z0-9.+-]+$/);
  const packages = lines.map((line) => line.split(" ")[1]);
  assert.is(new Set(packages).size, packages.length);
});

test.run();
