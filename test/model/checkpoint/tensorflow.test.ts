import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openCheckpoint } from "../../../src/model/checkpoint/checkpoint.js";
import { refused } from "./refused.js";

/** Bundles written by TensorFlow itself (`pip install tensorflow-cpu`), in every shape that the reader knows. */
const WRITER = `
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
out = sys.argv[1]
r = np.random.default_rng(7)
v = {
  "im/conv1/weights": r.standard_normal((5, 7, 7, 3, 4)).astype(np.float32),
  "gen/long": r.standard_normal((3, 300001)).astype(np.float32),
  "gen/half": r.standard_normal((600, 1000)).astype(np.float16),
  "empty": np.zeros((0, 3), np.float32),
  "scalar": np.array(-2.5, np.float32),
  "global_step": np.array(160000, np.int64),
  "small": np.array(-3, np.int32),
  "other/float64": np.zeros((2,), np.float64),
  "other/string": np.array(["a", "bc"], object),
  "other/bool": np.array([True, False]),
}
raw = tf.raw_ops
def save(prefix, names, slices=None):
  raw.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices or [""] * len(names), tensors=[tf.constant(v[n]) for n in names])
save(out + "/plain", sorted(v))
# Two data files: parts that are put together without being rewritten.
save(out + "/a", ["gen/long", "scalar"]); save(out + "/b", ["im/conv1/weights", "global_step"])
raw.MergeV2Checkpoints(checkpoint_prefixes=[out + "/a", out + "/b"], destination_prefix=out + "/sharded", delete_old_dirs=False)
# A partitioned variable beside a whole one: cut along two axes, one of them far; and one of which a piece is missing.
whole = r.standard_normal((3, 9000, 2)).astype(np.float32)
v["whole"] = whole
raw.SaveV2(prefix=out + "/partitioned", tensor_names=["whole", "whole", "whole", "half", "scalar"],
  shape_and_slices=["3 9000 2 -:0,8500:-", "3 9000 2 0,1:8500,500:-", "3 9000 2 1,2:8500,500:-", "4 2 0,2:-", ""],
  tensors=[tf.constant(whole[:, :8500]), tf.constant(whole[:1, 8500:]), tf.constant(whole[1:, 8500:]), tf.constant(whole[:2, 0]), tf.constant(v["scalar"])])
# Index of several blocks: 5000 names.
many = ["layer%05d/with/a/long/name/that/fills/the/index/weights" % i for i in range(5000)]
v.update({n: np.array([i], np.float32) for i, n in enumerate(many)})
save(out + "/many", many)
json.dump({n: [list(x.shape), str(x.dtype), x.astype(np.float64).reshape(-1)[::max(1, x.size // 50)].tolist(), float(x.astype(np.float64).sum())]
  for n, x in v.items() if x.dtype != object}, open(out + "/values.json", "w"))
`;

type Listed = [shape: number[], dtype: string, sampled: number[], sum: number];
const test = suite("checkpoints that TensorFlow writes");

function written(): string | null {
  const dir = mkdtempSync(join(tmpdir(), "sightline-tensorflow-"));
  try {
    execFileSync("python3", ["-c", "import importlib.util as u, sys; sys.exit(u.find_spec('tensorflow') is None)"]);
    execFileSync("python3", ["-c", WRITER, dir], { stdio: ["ignore", "ignore", "pipe"], timeout: 120_000 });
    return dir;
  } catch (e) {
    rmSync(dir, { recursive: true, force: true });
    const { stderr } = e as { stderr?: Buffer };
    if (stderr && stderr.length > 0) throw new Error(`TensorFlow is here but failed:\n${stderr}`);
    return null;
  }
}

const dir = written();
if (dir === null) console.log("skipped: bundles by TensorFlow (python3 has no tensorflow)");
const withTensorFlow = dir === null ? test.skip : test;
const values = (): Record<string, Listed> => JSON.parse(readFileSync(join(dir ?? "", "values.json"), "utf8"));
test.after(() => {
  if (dir !== null) rmSync(dir, { recursive: true, force: true });
});

function compare(prefix: string): string[] {
  const list = values();
  const c = openCheckpoint(join(dir ?? "", prefix));
  try {
    for (const v of c.variables) {
      const known = list[v.name];
      if (!known) continue;
      const [shape, dtype, sampled, sum] = known;
      assert.equal([v.name, [...v.shape], v.dtype], [v.name, shape, dtype]);
      if (v.verifiable) c.verify(v.name);
      if (!/^float(32|16)$/.test(v.dtype)) continue;
      const x = c.read(v.name);
      const step = Math.max(1, Math.floor(x.length / 50));
      assert.equal([...x.filter((_, i) => i % step === 0)], sampled);
      assert.ok(Math.abs(x.reduce((a, b) => a + b, 0) - sum) <= 1e-9 * Math.max(1, x.length));
    }
    return c.variables.map((v) => v.name);
  } finally {
    c.close();
  }
}

withTensorFlow("types, an empty one, scalars, tensors longer than a chunk", () => {
  assert.is(compare("plain").length, 10);
  const c = openCheckpoint(join(dir ?? "", "plain"));
  assert.is(c.readInteger("global_step"), 160_000);
  assert.is(c.readInteger("small"), -3);
  refused(() => c.read("other/string"), /variable other\/string: is of type string/);
  refused(() => c.read("other/float64"), /variable other\/float64: is of type float64/);
  c.close();
});

withTensorFlow("two data files, an index of several blocks", () => {
  assert.equal(compare("sharded"), ["gen/long", "global_step", "im/conv1/weights", "scalar"]);
  assert.is(compare("many").length, 5000);
});

withTensorFlow("a partitioned variable is put together; one in part is refused by name", () => {
  assert.equal(compare("partitioned"), ["half", "scalar", "whole"]);
  const c = openCheckpoint(join(dir ?? "", "partitioned"));
  refused(() => c.read("half"), /variable half: its 1 pieces \(\[0:2, :\]\) lack 4 values of shape \(4, 2\)/);
  assert.equal(c.read("scalar"), Float32Array.of(-2.5));
  c.close();
});

test.run();
