import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { sourceFile } from "../../../src/paths.js";
import { until } from "../../supervisor/support.js";
import { paperBundle } from "./paper-bundle.js";
import { saveBundle, writeBundle } from "./write-bundle.js";

const test = suite<{ dir: string; prefix: string; out: string }>("sightline model with checkpoints");

function sightline(...args: string[]): { code: number | null; out: string; err: string } {
  const r = spawnSync(process.execPath, [...process.execArgv, sourceFile("cli/main"), "model", ...args], {
    env: { ...process.env, NO_COLOR: "1" },
    encoding: "utf8",
    timeout: 60_000,
  });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

test.before((t) => {
  t.dir = mkdtempSync(join(tmpdir(), "sightline-model-cli-"));
  t.prefix = join(t.dir, "net.tf-7");
  t.out = join(t.dir, "models", "pit");
  saveBundle(t.prefix, writeBundle(paperBundle("unet_pit")));
});
test.after((t) => rmSync(t.dir, { recursive: true, force: true }));

test("info of a checkpoint, import, info of the model", (t) => {
  const before = sightline("info", t.prefix);
  assert.is(before.code, 0, before.err);
  assert.match(before.out, /variables +270, .* MB; checksums right/);
  assert.match(before.out, /preset +unet_pit: width 1\/32, 0\.07 M parameters, .* 63 pictures/);
  const made = sightline("import", t.prefix, "--preset", "unet_pit", "--out", t.out);
  assert.is(made.code, 0, made.err);
  assert.match(made.out, /^pit: preset unet_pit, step 7000, written to .*models\/pit$/m);
  const sum = (JSON.parse(readFileSync(join(t.out, "card.json"), "utf8")) as { sha256: Record<string, string> }).sha256;
  const after = sightline("info", t.out);
  assert.is(after.code, 0, after.err);
  for (const words of [
    /^pit 1 \(window\)/m,
    /preset +unet_pit, width 0\.03125, unfolded/,
    /parameters +0\.07 M/,
    /work +0\.\d\d G multiply-adds a window/,
    /window +63 pictures of 224x224 RGB, 44144 samples, 128 spectrum frames/,
    `${sum["model.onnx"]} model.onnx`,
  ])
    assert.match(after.out, words);
  const copied = sightline("import", t.out, "--name", "copy", "--models", join(t.dir, "models"));
  assert.is(copied.code, 0, copied.err);
  assert.equal(readdirSync(join(t.dir, "models")).sort(), ["copy", "pit"]);
});

test("what is wrong is said in one line, with the exit codes of all commands", (t) => {
  const models = join(t.dir, "models");
  const before = readdirSync(models).sort();
  const other = sightline("import", t.prefix, "--preset", "full", "--out", join(models, "x"));
  assert.is(other.code, 1);
  assert.match(
    other.err,
    /net\.tf-7: does not fit preset full at width 1\/32: .*missing.*it fits unet_pit.*\[SL_MODEL_INVALID\]/,
  );
  assert.not.match(other.err, "    at ");
  const odd = sightline("import", t.prefix, "--preset", "huge", "--out", join(models, "x"));
  assert.equal([odd.code, /--preset huge: allowed are full, large/.test(odd.err)], [2, true]);
  assert.is(sightline("import", t.out, "--out", join(models, "x")).code, 2);
  const form = sightline("import", t.out, "--form", "folded");
  assert.equal([form.code, /--form,.* go with --preset/.test(form.err)], [2, true], form.err);
  const both = sightline("import", t.prefix, "--preset", "unet_pit", "--out", join(models, "x"), "--models", models);
  assert.equal([both.code, /--models does not go with --preset/.test(both.err)], [2, true], both.err);
  const path = join(t.out, "model.onnx");
  const bytes = readFileSync(path);
  bytes[100]! ^= 1;
  writeFileSync(path, bytes);
  const copy = sightline("import", t.out, "--name", "y", "--models", models);
  assert.equal([copy.code, /model\.onnx: its SHA-256 is/.test(copy.err)], [1, true]);
  assert.equal(readdirSync(models).sort(), before);
});

test("import that is stopped says so, without help for what was no mistake, and leaves nothing", async (t) => {
  const out = join(t.dir, "models", "stopped");
  const args = [...process.execArgv, sourceFile("cli/main"), "model", "import", t.prefix];
  const child = spawn(process.execPath, [...args, "--preset", "unet_pit", "--out", out], { stdio: "pipe" });
  let err = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  // It is at work when it listens; SIGHUP tells, because node catches SIGINT for itself.
  await until("its listener", () => {
    const caught = /^SigCgt:\s*([0-9a-f]+)/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1];
    return (BigInt(`0x${caught ?? 0}`) & 1n) !== 0n;
  });
  child.kill("SIGINT");
  assert.equal([await ended, err], [130, "stopped; nothing was written\n"]);
  assert.not.ok(readdirSync(join(t.dir, "models")).some((name) => name.includes("stopped")));
});

test.run();
