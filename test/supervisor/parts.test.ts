import { statSync } from "node:fs";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BackOff } from "../../src/backoff.js";
import { modelFolder } from "../../src/paths.js";
import { LineSplitter, MAX_LINE_CHARS } from "../../src/supervisor/lines.js";
import { prettyLine } from "../../src/supervisor/log.js";
import { SocketFolder } from "../../src/supervisor/sockets.js";

const test = suite("supervisor: parts");

test("lines are the same however the text is cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ maxLength: 20 }).map((s) => s.replace(/[\r\n]/g, " "))),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      (lines, sizes) => {
        const splitter = new LineSplitter();
        const out: string[] = [];
        const text = lines.join("\n");
        for (let at = 0; at < text.length; ) {
          const size = sizes.next().value as number;
          out.push(...splitter.push(text.slice(at, at + size)));
          at += size;
        }
        out.push(...splitter.end());
        assert.equal(
          out,
          lines.filter((l) => l.trim() !== ""),
        );
      },
    ),
    { seed: 8, numRuns: 500 },
  );
});

test("a line without end is cut and costs no more than its limit", () => {
  const splitter = new LineSplitter();
  for (let i = 0; i < 1000; i++) assert.equal(splitter.push("x".repeat(1000)), []);
  const [line] = splitter.push("\nnext\n");
  assert.is(line!.length, MAX_LINE_CHARS + 3);
  assert.equal(splitter.end(), []);
});

test("waits grow to the limit, stay within jitter, and begin anew after a healthy run", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { minLength: 12, maxLength: 40 }),
      (random) => {
        let i = 0;
        const backOff = new BackOff(
          { firstMs: 200, maxMs: 5000, resetAfterMs: 30_000 },
          () => random[i++ % random.length]!,
        );
        for (let n = 0; n < 12; n++) {
          const ceiling = Math.min(5000, 200 * 2 ** n);
          const wait = backOff.next(29_999);
          assert.ok(wait >= ceiling / 2 && wait <= ceiling, `${wait} for failure ${n}`);
        }
        assert.ok(backOff.next(30_000) <= 200);
      },
    ),
    { seed: 8 },
  );
});

test("pretty lines hold time, level, process, message and fields", () => {
  const line = JSON.stringify({
    level: "warn",
    time: "2026-01-02T03:04:05.678Z",
    process: "gateway",
    message: "said",
    n: 1,
  });
  assert.is(prettyLine(line), "03:04:05.678Z WARN  gateway: said  n=1\n");
  assert.is(prettyLine("no json"), "no json");
});

test("models are found by name below the folder, by path relative to the configuration", () => {
  assert.is(modelFolder("live", "/srv/models", "/etc/sightline.yml"), "/srv/models/live");
  assert.is(modelFolder("live", "own", "/etc/sightline.yml"), "/etc/own/live");
  assert.is(modelFolder("./m", undefined, "/etc/sightline.yml"), "/etc/m");
  assert.is(modelFolder("/m/x", "/srv/models", null), "/m/x");
});

test("sockets lie in a private folder that goes away", () => {
  const folder = new SocketFolder();
  assert.is(statSync(folder.path).mode & 0o777, 0o700);
  assert.ok(Buffer.byteLength(folder.socket("inference-99")) <= 107);
  folder.remove();
  assert.throws(() => statSync(folder.path));
});

test.run();
