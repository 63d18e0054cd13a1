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
const aided =
  "with the comparison before the fusion and a fusion that begins with it, three fifths of the steps are enough";
const what = "of lamps never seen, true sound is told from shifted; a frozen picture does not help";
const PAIRS = 32;

const why = withoutTraining();
if (why) {
  console.log(`skipped: alignment is learnt (${why})`);
  test.skip(what, () => {});
  test.skip(aided, () => {});
} else {
  const network = ["--preset", "shift", "--size", "32", "--width", "0.03125", "--frames", "32"];
  const scoresOf = z.object({ scores: z.object({ n: z.number(), pairs: z.number(), frozen_pairs: z.number() }) });

  /** Trains in a folder of its own, one run after another (`last`: their options), and judges the last of them. */
  const learn = (runs: (at: (name: string) => string) => readonly (readonly string[])[]) => {
    const dir = mkdtempSync(join(tmpdir(), "sightline-alignment-"));
    try {
      const at = (name: string): string => join(dir, name);
      writeManifest(at("data"), 10, 9);
      writeFileSync(at("graph.onnx"), trainingGraph("shift", { width: 1 / 32, image: 32, frames: 32 }));
      const common = ["--task", "align", "--data", at("data"), "--threads", "1"];
      const trained = [...common, "--judge", "0", "--batch", "8", "--minutes", "3", "--cosine", ...network];
      const options = runs(at);
      const out = at(`run${options.length - 1}`);
      runJobs(dir, [
        ...options.map((more, i) => ({
          train: [...trained, "--graph", at("graph.onnx"), "--out", at(`run${i}`), ...more],
        })),
        { evaluate: [...common, "--run", out, "--items", String(PAIRS), "--json", at("scores.json")] },
      ]);
      const { scores } = scoresOf.parse(JSON.parse(readFileSync(at("scores.json"), "utf8")));
      assert.is(scores.n, PAIRS);
      assert.ok(scores.pairs >= 0.8, `${scores.pairs} of the pairs are right`);
      assert.ok(scores.frozen_pairs <= 0.7, `${scores.frozen_pairs} of the pairs are right with a frozen picture`);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  };

  // Of four seeds two begin to learn within 220 steps, this one does by 160; the rest is left to processors that round otherwise.
  test(what, () => learn(() => [["--lr", "0.05", "--steps", "200"]]));

  // Here every seed does: of three 0.95 to 1 of 64 pairs are right. (50 steps at a rate of 0.006: 0.70 to 0.98.)
  test(aided, () => {
    const adam = ["--contrast", "1", "--optimiser", "adam", "--lr", "0.008"];
    learn((at) => [
      [...adam, "--steps", "60"],
      [...adam, "--steps", "60", "--init", at("run0/align.pt"), "--fuse"],
    ]);
  });
}

test.run();
