import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { calibrationWindows } from "../../src/file/calibration.js";
import { loadWindow } from "../../src/model/cards.js";
import { importCheckpoint } from "../../src/model/checkpoint/import.js";
import { cpu } from "../../src/model/engines/onnxruntime.js";
import type { Tf } from "../../src/model/engines/tensorflow/value.js";
import { openGraph } from "../../src/model/engines/tensorflow.js";
import { PaperWindow } from "../../src/model/paper/window.js";
import { sourceFile } from "../../src/paths.js";
import { clipFolder, flashAndBeep } from "../gst/clip.js";
import { paperBundle } from "../model/checkpoint/paper-bundle.js";
import { saveBundle, writeBundle } from "../model/checkpoint/write-bundle.js";
import { until } from "../supervisor/support.js";
import { fakeGst } from "./fake-gst.js";

/** Random weights of width 1/32, pictures of 32 pixels. */
const folder = clipFolder();
const at = (name: string): string => join(folder.path, name);
const clips = at("clips");

function sightline(...args: string[]): { code: number | null; out: string; err: string } {
  const r = spawnSync(process.execPath, [...process.execArgv, sourceFile("cli/main"), ...args], {
    env: { ...process.env, NO_COLOR: "1" },
    encoding: "utf8",
    timeout: 120_000,
  });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

const test = suite("sightline model quantize");
test.before(async () => {
  for (const preset of ["full", "cam"] as const) {
    saveBundle(at(preset), writeBundle(paperBundle(preset, false)));
    await importCheckpoint(at(preset), preset, at(`float-${preset}`), { image: 32, frames: 63 });
  }
  mkdirSync(clips);
  mkdirSync(at("empty"));
  flashAndBeep(clips, "a.mp4", { seconds: 5 });
  flashAndBeep(clips, "b.mp4", { rate: "25", soundChannels: 1 });
  flashAndBeep(clips, "c.mp4", { seconds: 1 });
  flashAndBeep(clips, "d.m4a", { video: false });
  writeFileSync(join(clips, "notes.txt"), "not a clip\n");
});
test.after(() => folder.remove());

test("an int8 model is made of clips, its card says how, and a file is separated with it", () => {
  const out = at("int8");
  const made = sightline("model", "quantize", at("float-full"), "--calibrate", clips, "--out", out, "--limit", "50");
  assert.is(made.code, 0, made.err);
  assert.match(made.out, /^int8 1: int8 trunk, written to /m);
  assert.match(made.out, /calibrated +3 windows of 1 clips/);
  assert.match(made.out, /difference +.*fg_db \d+\.\d\d %/);
  assert.match(made.out, /on 2 windows of 1 other clips/);
  // Once each, although the clips are read twice.
  for (const what of [/c\.mp4 has .* s of sound/, /d\.m4a has no pictures/, /notes\.txt cannot be read as media/])
    assert.is(made.err.split("\n").filter((line) => what.test(line)).length, 1, made.err);
  const info = sightline("model", "info", out);
  assert.match(info.out, /preset +full, width 0\.03125, int8/);
  assert.match(info.out, /calibrated +minimum and maximum over 3 windows of 1 clips/);
  const json = sightline("separate", join(clips, "a.mp4"), "--model", out, "--out", at("result"), "--json");
  assert.is(json.code, 0, json.err);
  assert.ok(readFileSync(at("result/onscreen.wav")).length > 44);
});

test("windows are those of file mode: a network without u-net gets whole frames as numbers", async () => {
  const model = await loadWindow(at("float-cam"));
  const window = await PaperWindow.open(model, { threads: 1 });
  await window.close();
  const engine = await cpu.open(model.step, { threads: 1 }, "cam");
  const names: string[] = [];
  for await (const { clip, tensors } of calibrationWindows(model.card, { folder: clips, windows: 20 })) {
    names.push(clip);
    assert.ok(tensors.video!.data instanceof Float32Array);
    const { logit } = await engine.run(tensors);
    assert.ok(Number.isFinite((logit!.data as Float32Array)[0]));
  }
  await engine.close();
  assert.equal(names, ["a.mp4", "a.mp4", "a.mp4", "b.mp4", "b.mp4"]); // the last of a clip ends with it
});

test("what is wrong is said, and nothing is written", () => {
  const out = at("never");
  const quantize = (model: string, ...more: string[]) => sightline("model", "quantize", model, "--out", out, ...more);
  for (const [result, code, words] of [
    [quantize(at("float-full"), "--calibrate", at("nowhere")), 1, /nowhere: cannot be read as a folder \(ENOENT\)/],
    [quantize(at("float-full"), "--calibrate", at("empty")), 1, /empty: holds no files/],
    [quantize(at("float-full"), "--calibrate", clips, "--limit", "0.01"), 1, /differs by .*allowed are 0\.01 %/],
    [quantize(at("float-full"), "--calibrate", clips, "--windows", "1"), 2, /--windows 1: allowed are 2 to 4096/],
    [quantize(at("float-full"), "--calibrate", clips, "--windows", "2.5"), 2, /--windows 2\.5: allowed are whole/],
    [quantize(at("float-full"), "--calibrate", clips, "--limit", "much"), 2, /--limit much: allowed are 0 to 1000/],
    [quantize(at("int8"), "--calibrate", clips), 1, /its form is int8; int8 is made of unfolded models/],
    [quantize("live", "--calibrate", clips), 1, /kind stream/],
    [quantize(at("float-full")), 2, /calibrate/i],
  ] as const) {
    assert.is(result.code, code, result.err);
    assert.match(result.err, words);
  }
  assert.not(existsSync(out));
});

test("stopped it says so, without help for what was no mistake, and leaves nothing", async () => {
  const back = fakeGst(folder.path, { seconds: 1, hangs: true });
  const out = at("never");
  const args = ["model", "quantize", at("float-full"), "--calibrate", clips, "--out", out];
  const child = spawn(process.execPath, [...process.execArgv, sourceFile("cli/main"), ...args], { stdio: "pipe" });
  back();
  let err = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  await until("a clip is read", () => existsSync(at("gst-launch-1.0.used")));
  child.kill("SIGINT");
  assert.equal([await ended, err], [130, "stopped; nothing was written\n"]);
  assert.not(existsSync(out));
});

test("an engine without integer convolutions says so", async () => {
  const { step } = await loadWindow(at("int8"));
  // The graph is refused before TensorFlow is asked for anything.
  assert.throws(
    () => openGraph({} as Tf, "none", step, "int8"),
    (e: Error & { reason?: string }) => e.reason === "model-refused" && /QLinearConv/.test(e.message),
  );
});

test.run();
