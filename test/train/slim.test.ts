import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { withoutTorch } from "../model/paper/reference.js";

const test = suite("train/slim.py");
const model = join(PACKAGE_ROOT, "models/live");
const checkpoints = ["live", "student", "second"] as const;

const slim = (from: string, folder: string, out: string) =>
  spawnSync("python3", [join(PACKAGE_ROOT, "train/slim.py"), from, "--model", folder, "--out", out], {
    encoding: "utf8",
  });

/** Pairs of checkpoints hold the same tensors, in one order and format, and say the same of themselves. */
const SAME = `
import sys, torch
files = [torch.load(f, map_location="cpu", weights_only=True) for f in sys.argv[1:]]
for a, b in zip(files[::2], files[1::2]):
    assert list(a["weights"]) == list(b["weights"]) and a["meta"] == b["meta"] and a["slim"] == b["slim"]
    assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a["weights"].values(), b["weights"].values()))
`;

const why = withoutTorch() ?? (spawnSync("python3", ["-c", "import onnx"]).status === 0 ? null : "python3 lacks onnx");
if (why !== null) console.log(`skipped: ${why}`);
const check = why === null ? test : test.skip;

check("checkpoints belong to the model that ships: whole, and slim again, they are what they were", () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-slim-"));
  try {
    const pairs: string[] = [];
    for (const name of checkpoints) {
      const kept = join(PACKAGE_ROOT, `train/checkpoints/${name}.pt`);
      const [whole, again] = [join(folder, `${name}-whole.pt`), join(folder, `${name}.pt`)];
      for (const [from, to] of [
        [kept, whole],
        [whole, again],
      ] as const) {
        const done = slim(from, model, to);
        assert.is(done.status, 0, `${name}: ${done.stdout}${done.stderr}`);
      }
      assert.ok(statSync(kept).size < statSync(whole).size / 4, name);
      pairs.push(kept, again);
    }
    const done = spawnSync("python3", ["-c", SAME, ...pairs], { encoding: "utf8" });
    assert.is(done.status, 0, done.stderr);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

check("a slim checkpoint of another model is refused by name", () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-slim-"));
  try {
    const other = join(folder, "other");
    mkdirSync(other);
    const refused = (): string => {
      const done = slim(join(PACKAGE_ROOT, "train/checkpoints/student.pt"), other, join(folder, "out.pt"));
      assert.is(done.status, 1);
      return done.stderr;
    };
    assert.match(refused(), /other: holds no card\.json/);
    for (const file of ["model.onnx", "voice.onnx"]) copyFileSync(join(model, "voice.onnx"), join(other, file));
    writeFileSync(join(other, "card.json"), JSON.stringify({ files: { step: "model.onnx", voice: "voice.onnx" } }));
    assert.match(refused(), /student\.pt belongs to another model than .*other/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
