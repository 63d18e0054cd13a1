import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CODES } from "../../src/codes.js";
import { describe, type KeyInfo } from "../../src/config/describe.js";
import { exampleYaml, referenceMarkdown } from "../../src/config/generate.js";
import { parseConfig } from "../../src/config/loader.js";
import { config } from "../../src/config/schema.js";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { codesMarkdown, generatedFiles } from "../../src/tools/docs.js";

const test = suite("config: generated texts");

for (const [path, text] of generatedFiles()) {
  test(`${path} is what the sources say (npm run docs)`, () => {
    assert.is(readFileSync(join(PACKAGE_ROOT, path), "utf8"), text);
  });
}

function* walk(info: KeyInfo, path = ""): Generator<[string, KeyInfo]> {
  for (const [key, inner] of info.keys) {
    yield [`${path}${key}`, inner];
    yield* walk(inner, `${path}${key}.`);
  }
  if (info.inner) yield* walk(info.inner, path);
}

test("every key has a meaning, and a default or an example", () => {
  for (const [path, info] of walk(describe(config))) {
    assert.ok(info.about.length > 3, `${path} says nothing of itself`);
    if (info.keys.size === 0 && info.kind !== "record")
      assert.ok(
        info.defaultValue !== undefined || info.example !== undefined,
        `${path} has neither default nor example`,
      );
  }
});

test("every key stands in the example and in the reference", () => {
  const example = exampleYaml();
  const reference = referenceMarkdown();
  for (const [path] of walk(describe(config))) {
    const key = path.split(".").at(-1)!;
    assert.match(example, new RegExp(`^[# ]*${key}:`, "m"));
    assert.ok(
      reference.includes(`\`${path.replace(/^channels\./, "")}\``) || reference.includes(`## ${path}.NAME`),
      path,
    );
  }
});

test("the example is a good file, as it stands and with its channel opened", () => {
  assert.equal(parseConfig(exampleYaml(), "example").config, parseConfig("", "empty").config);
  // One # before every line of the channel is taken away; what is commented twice is opened by the second pass.
  const once = exampleYaml().replace(/^# (?=channels:$| {2})/gm, "");
  const { channels } = parseConfig(once, "example", { STUDIO_KEY: "k" }).config;
  assert.equal(Object.keys(channels), ["studio"]);
  assert.is(channels.studio?.key?.reveal(), "k");
  const twice = once.replace(/^( {4})# (?=region:$| {2}(x|y|width|height):)/gm, "$1").replace(/^# (?=models:)/m, "");
  const opened = parseConfig(twice, "example", { STUDIO_KEY: "k" }).config;
  assert.equal(opened.channels.studio?.region, { x: 0.5, y: 0, width: 0.5, height: 1 });
  assert.is(opened.models, "/srv/models");
});

test("every code is one sentence, and docs/codes.md lists exactly the codes", () => {
  for (const [code, sentence] of Object.entries(CODES)) {
    assert.match(code, /^SL(_[A-Z0-9]+)+$/);
    assert.ok(sentence.endsWith(".") && sentence.length > 15, `${code}: ${sentence}`);
  }
  const listed = [
    ...readFileSync(join(PACKAGE_ROOT, "docs/codes.md"), "utf8").matchAll(/^\| `(SL_[A-Z0-9_]+)` \|/gm),
  ].map((m) => m[1]);
  assert.equal(listed, Object.keys(CODES).sort());
  assert.is(codesMarkdown({ SL_A: "x | y" }).includes("| `SL_A` | x \\| y |"), true);
});

test("every code in the sources is listed, and every listed code is in the sources", () => {
  const used = new Set<string>();
  for (const entry of readdirSync(join(PACKAGE_ROOT, "src"), { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !/\.tsx?$/.test(file) || file.endsWith(join("src", "codes.ts"))) continue;
    for (const [code] of readFileSync(file, "utf8").matchAll(/\bSL_[A-Z0-9]+(?:_[A-Z0-9]+)*\b/g)) used.add(code);
  }
  const known = Object.keys(CODES);
  assert.equal([...used].filter((c) => !known.includes(c)).sort(), [], "used, but not in src/codes.ts");
  assert.equal(known.filter((c) => !used.has(c)).sort(), [], "in src/codes.ts, but nowhere used");
});

test.run();
