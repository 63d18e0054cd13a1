import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { z } from "zod";
import { trainingGraph } from "../../../src/model/paper/training.js";
import { writeManifest } from "./training-clips.js";
import { runJobs, withoutTraining } from "./training-support.js";

const test = suite("alignment is learnt");
const what = "of lamps never seen, true sound is told from shifted; a frozen picture does not help";
const PAIRS = 32;

const why = withoutTraining();
if (why) {
  console.log(`skipped: alignment is learnt (${why})`);
  test.skip(what, () => {});
} else {
  test(what, () => {
    const dir = mkdtempSync(join(tmpdir(), "sightline-alignment-"));
    try {
      const at = (name: string): string => join(dir, name);
      writeManifest(at("data"), 10, 9);
      const sizes = { width: 1 / 32, image: 32, frames: 32 };
      writeFileSync(at("graph.onnx"), trainingGraph("shift", sizes));
      const network = [
        "--preset",
        "shift",
        "--size",
        "32",
        "--width",
        "0.03125",
        "--frames",
        "32",
        "--graph",
        at("graph.onnx"),
      ];
      const pace = ["--batch", "8", "--lr", "0.05", "--cosine", "--steps", "160", "--minutes", "3", "--threads", "1"];
      const common = ["--task", "align", "--data", at("data")];
      const judged = ["--run", at("run"), "--items", String(PAIRS), "--threads", "1", "--json", at("scores.json")];
      runJobs(dir, [
        { train: [...common, "--out", at("run"), "--judge", "0", ...network, ...pace] },
        { evaluate: [...common, ...judged] },
      ]);
      const { scores } = z
        .object({ scores: z.object({ n: z.number(), pairs: z.number(), frozen_pairs: z.number() }) })
        .parse(JSON.parse(readFileSync(at("scores.json"), "utf8")));
      assert.is(scores.n, PAIRS);
      assert.ok(scores.pairs >= 0.8, `${scores.pairs} of the pairs are right`);
      assert.ok(scores.frozen_pairs <= 0.7, `${scores.frozen_pairs} of the pairs are right with a frozen picture`);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
}

test.run();
