import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { stringify } from "yaml";
import { changesBetween } from "../../src/config/changes.js";
import { ConfigError, type ConfigIssue } from "../../src/config/error.js";
import { channelSettings, defaultConfig, loadConfig, parseConfig } from "../../src/config/loader.js";
import { channelConfig, config, parseHostPort } from "../../src/config/schema.js";
import { redactUri, Secret } from "../../src/config/secret.js";

const test = suite("config: loader");

/** The faults of a text; fails when it is accepted. */
function faults(text: string, env: Record<string, string> = {}): readonly ConfigIssue[] {
  try {
    parseConfig(text, "test.yml", env);
  } catch (error) {
    assert.instance(error, ConfigError);
    return (error as ConfigError).issues;
  }
  throw new Error(`accepted: ${text}`);
}
const find = (issues: readonly ConfigIssue[], path: string): ConfigIssue => {
  const issue = issues.find((i) => i.path === path);
  assert.ok(issue, `no fault at ${path}: ${JSON.stringify(issues)}`);
  return issue!;
};

test("an empty file is every default", () => {
  const { config: loaded, warnings } = parseConfig("# nothing\n", "test.yml");
  assert.equal(JSON.parse(JSON.stringify(loaded)), JSON.parse(JSON.stringify(config.parse({}))));
  assert.equal(warnings, []);
  assert.equal(defaultConfig().config.channels, {});
});

test("a fault names file, line, path, value, what is allowed, and the nearest key", () => {
  const text = [
    "logLevel: inof",
    "inferenceThreads: 0.5",
    "chanels: {}",
    "channels:",
    "  a:",
    "    key: k",
    "    strengthPercnt: 3",
    "    keep: 5",
    "  b: 7",
  ].join("\n");
  const issues = faults(text);
  assert.equal(find(issues, "logLevel"), {
    path: "logLevel",
    line: 1,
    value: '"inof"',
    message: "unknown value",
    allowed: "one of debug, info, warn, error",
    nearest: "info",
  });
  assert.is(find(issues, "inferenceThreads").allowed, "whole number 1 to 64");
  assert.is(find(issues, "chanels").nearest, "channels");
  assert.is(find(issues, "channels.a.strengthPercnt").nearest, "strengthPercent");
  assert.is(find(issues, "channels.a.strengthPercnt").line, 7);
  assert.is(find(issues, "channels.a.keep").value, "5");
  assert.is(find(issues, "channels.b").value, "7");
  assert.match(
    new ConfigError("test.yml", issues).message,
    'test.yml:1: logLevel: unknown value; it is "inof"; allowed: one of debug, info, warn, error; did you mean info?',
  );
});

test("what the schema cannot see is checked too", () => {
  const cases: [string, string][] = [
    ["channels: { a: {} }", "channels.a"],
    ["channels: { a: { key: 'a b' } }", "channels.a.key"],
    ["channels: { a: { key: x }, b: { key: x } }", "channels.b.key"],
    ["channels: { a: { input: 'http://h/x' } }", "channels.a.input"],
    ["channels: { a: { key: x, outputs: ['rtmp://h/a/k', 'nonsense'] } }", "channels.a.outputs.1"],
    ["channels: { a: { key: x, outputs: ['file:///rec/show.mp4', 'file:///rec/show.mov'] } }", "channels.a.outputs.1"],
    ["{ httpHosts: [studio-pc, 'studio-pc:8080'] }", "httpHosts.1"],
    ["{ httpHosts: ['::1', '[::1]'] }", "httpHosts.1"],
    ["channels: { a: { key: x, region: { x: 0.5, y: 0, width: 0.6, height: 1 } } }", "channels.a.region"],
    ["channels: { a: { key: 'env:NOT_SET' } }", "channels.a.key"],
    ["channels: { a: { key: 'file:not-there' } }", "channels.a.key"],
    ["{ memoryWarnMb: 4000 }", "memoryWarnMb"],
    ["{ http: '127.0.0.1:9', rtmp: '127.0.0.1:9' }", "rtmp"],
    ["{ http: '127.0.0.1:99999' }", "http"],
    ["channels: { __proto__: { key: x } }", "channels.__proto__"],
    ["__proto__: { key: x }", "__proto__"],
    ["channels: { a: { key: x }, a: { key: y } }", ""],
    ["[1, 2]", ""],
    ["just text", ""],
    ["a: [", ""],
    ["a: *nothing", ""],
  ];
  for (const [text, path] of cases) find(faults(text), path);
});

test("an alias bomb and deep nesting are refused, not expanded", () => {
  let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (let i = 1; i < 12; i++)
    bomb += `a${i}: &a${i} [${Array(10)
      .fill(`*a${i - 1}`)
      .join(", ")}]\n`;
  assert.ok(faults(bomb).length > 0);
  assert.ok(faults("[".repeat(100_000)).length > 0);
  assert.ok(faults(`a: ${"{b: ".repeat(50_000)}`).length > 0);
});

test("a list that holds itself is refused where it does not belong", () => {
  assert.is(find(faults("channels: &a { a: { key: k, outputs: &b [*b] } }"), "channels.a.outputs.0").value, "a list");
  assert.ok(faults("&a [*a]").length > 0);
  assert.ok(faults("channels: &a { a: *a }").length > 0);
});

test("secrets come from environment and file, and are never shown", () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-config-"));
  try {
    writeFileSync(join(folder, "key.txt"), "from-file\n");
    const file = join(folder, "sightline.yml");
    writeFileSync(
      file,
      stringify({
        channels: {
          a: { key: "env:A_KEY", outputs: ["env:A_OUT", "file:///tmp/x.flv"] },
          b: { key: "file:key.txt" },
          c: { input: "rtmp://user:pass@host/app/hidden-in" },
        },
      }),
    );
    const { config: loaded, files } = loadConfig(file, {
      A_KEY: "from-env",
      A_OUT: "srt://host:7?passphrase=hidden-out",
    });
    assert.equal(files, [join(folder, "key.txt")]);
    assert.is(loaded.channels.a?.key?.reveal(), "from-env");
    assert.is(loaded.channels.b?.key?.reveal(), "from-file");
    const settings = channelSettings(loaded.channels.a!);
    assert.equal(settings.outputs, ["srt://host:7?passphrase=hidden-out", "file:///tmp/x.flv"]);
    assert.not.ok("key" in settings);
    for (const shown of [
      JSON.stringify(loaded),
      inspect(loaded, { depth: 10, showHidden: true }),
      `${loaded.channels.a?.key} ${loaded.channels.c?.input}`,
      String(loaded.channels.a?.outputs),
    ]) {
      for (const secret of ["from-env", "from-file", "hidden-out", "hidden-in", "pass@"])
        assert.not.ok(shown.includes(secret), shown);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("an error never shows a secret, not even that of a mistyped key", () => {
  const text = stringify({
    channels: {
      a: { kye: "secret-1", outputs: ["http://h/app/secret-2"] },
      b: { key: ["secret-3"] },
      c: { key: "secret-4 with space" },
      d: "secret-5",
      e: { input: { uri: "secret-6" } },
    },
  });
  const shown = new ConfigError("f", [
    ...faults(text),
    ...faults(
      stringify({
        channels: { a: { key: "k", outputs: ["http://h/app/secret-2"] }, c: { key: "secret-4 with space" } },
      }),
    ),
  ]).message;
  for (const n of [1, 2, 3, 4, 6]) assert.not.ok(shown.includes(`secret-${n}`), shown);
});

test("addresses are shown without user, key, pass phrase", () => {
  assert.is(redactUri("rtmp://u:p@host:1935/app/key/more"), "rtmp://host:1935/app/[redacted]");
  assert.is(redactUri("rtmp://host/app"), "rtmp://host/app");
  assert.is(redactUri("srt://host:7001?mode=caller&passphrase=x"), "srt://host:7001?[redacted]");
  assert.is(redactUri("file:///srv/out.flv"), "file:///srv/out.flv");
  assert.is(redactUri("publish"), "publish");
  assert.is(redactUri("some secret"), "[redacted]");
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9]{12,20}$/), fc.webPath(), (secret, path) => {
      for (const uri of [
        `rtmp://u:${secret}@h/a`,
        `rtmp://h/app/${secret}`,
        `srt://h:1?passphrase=${secret}`,
        `rtmp://h/app/x?k=${secret}${path}`,
        `rtmp://a@b@${secret}:${secret}@h/x`,
      ]) {
        assert.not.ok(redactUri(uri).includes(secret), redactUri(uri));
        assert.is(new Secret(uri).toJSON(), "[redacted]");
      }
    }),
    { seed: 8 },
  );
});

test("the environment goes before the file, level by level", () => {
  const env = {
    SIGHTLINE_HTTP: "127.0.0.1:9000",
    SIGHTLINE_INFERENCE_THREADS: "3",
    SIGHTLINE_CHANNELS__MAIN_STAGE__STRENGTH_PERCENT: "25",
    SIGHTLINE_CHANNELS__MAIN_STAGE__OUTPUTS: "[rtmp://h/a/k, srt://h:1]",
    SIGHTLINE_CHANNELS__NEW__KEY: "007",
    SIGHTLINE_CHANNELS__NEW__BYPASS: "true",
    SIGHTLINE_CHANNELS__NEW__OUTPUTS: "rtmp://h/a/k,with-comma",
    SIGHTLINE_CONFIG: "not a setting",
    SIGHTLINE_INFERENCE_THREAD: "1",
    OTHER: "x",
    SIGHTLINE_TFJS: "/somewhere",
  };
  const { config: c, warnings } = parseConfig(
    "http: 127.0.0.1:1\nchannels: { main-stage: { key: k, strengthPercent: 1 } }",
    "f",
    env,
  );
  assert.is(c.http, "127.0.0.1:9000");
  assert.is(c.inferenceThreads, 3);
  assert.is(c.channels["main-stage"]?.strengthPercent, 25);
  assert.is(c.channels["main-stage"]?.outputs.length, 2);
  assert.is(c.channels.new?.key?.reveal(), "007", "a text stays a text, even of digits");
  assert.is(c.channels.new?.bypass, true);
  assert.is(c.channels.new?.outputs[0]?.reveal(), "rtmp://h/a/k,with-comma");
  assert.equal(warnings, [
    "SIGHTLINE_INFERENCE_THREAD: no setting INFERENCE_THREAD, did you mean INFERENCE_THREADS?; ignored",
  ]);
  const [issue] = faults("", { SIGHTLINE_INFERENCE_THREADS: "many" });
  assert.match(issue!.message, "set by SIGHTLINE_INFERENCE_THREADS");
  assert.is(issue!.line, null);
  assert.match(
    faults("channels: { a-b: { key: x }, a_b: { key: y } }", { SIGHTLINE_CHANNELS__A_B__KEY: "z" })[0]!.message,
    "a-b, a_b",
  );
});

test("changes: only what differs is named, live settings apart", () => {
  const load = (text: string) => parseConfig(text, "f").config;
  const before = load("channels: { a: { key: a }, b: { key: b }, c: { key: c }, d: { key: d } }");
  const after = load(
    "logLevel: debug\nchannels: { a: { key: a }, b: { key: b, profile: low, bypass: true }, c: { key: c, keep: mix }, e: { key: e } }",
  );
  assert.equal(changesBetween(before, after), {
    added: ["e"],
    removed: ["d"],
    restarted: [{ name: "b", patch: { bypass: true } }],
    patched: [{ name: "c", patch: { keep: "mix" } }],
    streams: true,
    server: ["logLevel"],
  });
  const same = changesBetween(
    before,
    load("channels: { d: { key: d }, c: { key: c }, b: { key: b }, a: { key: a, outputs: [] } }"),
  );
  assert.equal(same, { added: [], removed: [], restarted: [], patched: [], streams: false, server: [] });
  assert.ok(
    changesBetween(before, load("channels: { a: { key: other }, b: { key: b }, c: { key: c }, d: { key: d } }"))
      .streams,
    "a new key is the gateway's matter",
  );
  const pulled = load('channels: { a: { key: a, input: "srt://h:1" } }');
  const published = load("channels: { a: { key: a } }");
  assert.ok(changesBetween(pulled, published).streams, "a key that is taken from now on, too");
  assert.ok(changesBetween(published, pulled).streams, "and one that is taken no longer");
});

test("addresses of listeners", () => {
  assert.equal(parseHostPort("[::1]:80"), { host: "::1", port: 80 });
  assert.equal(parseHostPort("host.name:0"), { host: "host.name", port: 0 });
  for (const bad of ["", "80", ":80", "h:", "h:65536", "::1:80", "h:1:2", "h :1"])
    assert.throws(() => parseHostPort(bad));
});

/** Any YAML-like tree, with the real keys among its keys, so that deep paths are reached. */
const anyKey = fc.oneof(
  fc.constantFrom(...Object.keys(config.shape), ...Object.keys(channelConfig.shape), "__proto__", "constructor", "a"),
  fc.string({ maxLength: 8 }),
);
const anyTree = fc.letrec((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.oneof(
      fc.string({ maxLength: 12 }),
      fc.double(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.constantFrom("env:X", "file:x", "publish", "rtmp://h/a"),
    ),
    fc.array(tie("tree"), { maxLength: 4 }),
    fc.array(fc.tuple(anyKey, tie("tree")), { maxLength: 6 }).map((entries) => Object.fromEntries(entries)),
  ),
})).tree;

/** Accepted, or refused with at least one fault that says something; nothing else is thrown. */
function neverCrashes(text: string, env: Record<string, string>): void {
  try {
    parseConfig(text, "f", env);
  } catch (error) {
    assert.instance(error, ConfigError, String((error as Error).stack));
    const { issues } = error as ConfigError;
    assert.ok(issues.length > 0 && issues.length <= 50);
    for (const issue of issues) assert.ok(issue.message.length > 0 && (issue.value?.length ?? 0) < 200);
  }
}
const anyEnv = fc.dictionary(
  fc.constantFrom(
    "SIGHTLINE_HTTP",
    "SIGHTLINE_CHANNELS",
    "SIGHTLINE_CHANNELS__A__KEY",
    "SIGHTLINE_CHANNELS__A__REGION__X",
    "SIGHTLINE_CHANNELS__",
    "SIGHTLINE___PROTO__",
    "SIGHTLINE_",
  ),
  fc.string({ maxLength: 10 }),
);

test("any tree is accepted or refused with clear faults, never a crash", () => {
  fc.assert(
    fc.property(anyTree, anyEnv, (tree, env) => neverCrashes(stringify(tree), env)),
    { seed: 8, numRuns: 3000 },
  );
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...Object.keys(channelConfig.shape)), anyTree), anyEnv, (channel, env) =>
      neverCrashes(stringify({ channels: { a: channel } }), env),
    ),
    { seed: 8, numRuns: 1500 },
  );
});

test("any text, and any good text with bytes changed, is accepted or refused with clear faults", () => {
  const good =
    "http: 127.0.0.1:8080\nchannels:\n  a: &x\n    key: k\n    outputs: [rtmp://h/a/k]\n    region: {x: 0, y: 0, width: 1, height: 1}\n  b: *x\n";
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => neverCrashes(text, {})),
    { seed: 8, numRuns: 2000 },
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length), fc.constantFrom(..."&*!|>%@:{}[],-? \n\t'\"#0a\0"), fc.boolean()), {
        minLength: 1,
        maxLength: 4,
      }),
      (edits) => {
        let text = good;
        for (const [at, char, replace] of edits) text = text.slice(0, at) + char + text.slice(replace ? at + 1 : at);
        neverCrashes(text, {});
      },
    ),
    { seed: 8, numRuns: 5000 },
  );
});

test.run();
