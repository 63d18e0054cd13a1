import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FileWatcher } from "../../src/config/watcher.js";

type Context = { folder: string; file: string; calls: number; watcher: FileWatcher | null };
const test = suite<Context>("config: watcher");
test.before.each((c) => {
  c.folder = mkdtempSync(join(tmpdir(), "sightline-watch-"));
  c.file = join(c.folder, "sightline.yml");
  c.calls = 0;
  writeFileSync(c.file, "a");
});
test.after.each((c) => {
  c.watcher?.close();
  rmSync(c.folder, { recursive: true, force: true });
});

const open = (c: Context, leastIntervalMs = 20, file = c.file): void => {
  c.watcher = new FileWatcher(file, () => void c.calls++, { quietMs: 30, leastIntervalMs, lookMs: 300 });
};
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function calls(c: Context, n: number): Promise<void> {
  const end = performance.now() + 20_000;
  while (c.calls < n) {
    if (performance.now() > end) throw new Error(`${c.calls} calls, waited for ${n}`);
    await sleep(10);
  }
}

test("a secret that the file names is part of it: a key that is changed there is a change", async (c) => {
  const secret = join(c.folder, "key.txt");
  let secrets = [secret];
  c.watcher = new FileWatcher(c.file, () => void c.calls++, {
    quietMs: 30,
    leastIntervalMs: 20,
    lookMs: 100,
    secrets: () => secrets,
  });
  writeFileSync(secret, "one");
  await calls(c, 1);
  writeFileSync(secret, "two");
  await calls(c, 2);
  secrets = [];
  writeFileSync(c.file, "b");
  await calls(c, 3);
  writeFileSync(secret, "three");
  await sleep(500);
  assert.is(c.calls, 3, "it is not named any more");
});

test("a written file, a file moved over it, and one that vanished and came back are seen", async (c) => {
  open(c);
  writeFileSync(c.file, "b");
  await calls(c, 1);
  writeFileSync(join(c.folder, "new"), "c");
  renameSync(join(c.folder, "new"), c.file);
  await calls(c, 2);
  unlinkSync(c.file);
  await sleep(200);
  assert.is(c.calls, 2, "a missing file is no change");
  writeFileSync(c.file, "d");
  await calls(c, 3);
});

test("a replaced symbolic link to another folder is seen, and then changes there", async (c) => {
  for (const version of ["v1", "v2"]) {
    mkdirSync(join(c.folder, version));
    writeFileSync(join(c.folder, version, "real.yml"), version);
  }
  unlinkSync(c.file);
  symlinkSync(join(c.folder, "v1", "real.yml"), c.file);
  open(c);
  symlinkSync(join(c.folder, "v2", "real.yml"), join(c.folder, "link"));
  renameSync(join(c.folder, "link"), c.file);
  await calls(c, 1);
  writeFileSync(join(c.folder, "v2", "real.yml"), "newer");
  await calls(c, 2);
});

test("a folder that is swapped, of which the system tells nothing more", async (c) => {
  const folder = join(c.folder, "etc");
  const file = join(folder, "sightline.yml");
  mkdirSync(folder);
  writeFileSync(file, "a");
  open(c, 20, file);
  renameSync(folder, join(c.folder, "old"));
  mkdirSync(folder);
  await sleep(100);
  writeFileSync(file, "b");
  await calls(c, 1);
  await sleep(500);
  assert.is(c.calls, 1, "told once");
});

test("the same content again, and other files of the folder, are no change", async (c) => {
  open(c);
  writeFileSync(c.file, "a");
  writeFileSync(join(c.folder, "other.yml"), "x");
  await sleep(300);
  assert.is(c.calls, 0);
});

test("many changes in a row are few calls, and the last content is never missed", async (c) => {
  open(c, 500);
  writeFileSync(c.file, "first");
  await calls(c, 1);
  for (let i = 0; i < 20; i++) {
    writeFileSync(c.file, `change ${i}`);
    await sleep(5);
  }
  await calls(c, 2);
  await sleep(300);
  assert.is(c.calls, 2);
});

test("a closed watcher is silent", async (c) => {
  open(c);
  writeFileSync(c.file, "b");
  c.watcher?.close();
  await sleep(200);
  assert.is(c.calls, 0);
});

test.run();
