import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { modelInfo } from "../../../src/model/cards.js";
import { paperVariables, sizeOfVariable } from "../../../src/model/paper/variables.js";
import { int64, saveBundle, type TestVariable, writeBundle } from "./write-bundle.js";

const MIB = 2 ** 20;
/** Node itself takes 50 to 60 MiB, the largest variable 36 MiB; some wait for the collector. All together would be over 500. */
const MOST_MIB = 330;
/** V8 gives buffers back on threads of its own, and a loaded machine may run those long after: 374 MiB were seen. Here it does so at once. */
const AT_ONCE = "--single-threaded";

const test = suite<{ dir: string }>("import of a checkpoint of the published size");
test.before(async (t) => {
  t.dir = await mkdtemp(join(tmpdir(), "sightline-memory-"));
});
test.after((t) => rm(t.dir, { recursive: true, force: true }));

test("455 MB of weights pass through bounded memory", async (t) => {
  const prefix = join(t.dir, "net.tf-160000");
  const variables = paperVariables("full", { width: 1, slots: false });
  const values = new Uint8Array(new Float32Array(Math.max(...variables.map(sizeOfVariable))).fill(0.01).buffer);
  const bundle = variables.map((v): TestVariable => {
    if (v.role === "step") return int64(v.name, 160_000);
    return { name: v.name, shape: v.shape, data: values.subarray(0, 4 * sizeOfVariable(v)) };
  });
  saveBundle(prefix, writeBundle(bundle));
  assert.ok(statSync(`${prefix}.data-00000-of-00001`).size > 454e6);

  const importer = fileURLToPath(new URL("../../../src/model/checkpoint/import.js", import.meta.url));
  const out = join(t.dir, "models", "full");
  const program = `
    const { importCheckpoint } = await import(${JSON.stringify(importer)});
    await importCheckpoint(${JSON.stringify(prefix)}, "full", ${JSON.stringify(out)});
    // Not resourceUsage(): a child's maximum begins with what its parent had when it was made.
    console.log(/VmHWM:\\s*(\\d+) kB/.exec((await import("node:fs")).readFileSync("/proc/self/status", "latin1"))[1]);`;
  const { stdout } = await promisify(execFile)(process.execPath, [AT_ONCE, "--input-type=module", "-e", program]);
  const peakMiB = (Number(stdout) * 1024) / MIB;
  assert.ok(peakMiB > 0 && peakMiB < MOST_MIB, `${peakMiB.toFixed(0)} MiB of resident memory at most`);
  const info = await modelInfo(out);
  assert.is(info.card.parameters, 113_669_445);
});

test.run();
