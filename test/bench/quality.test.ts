import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Result } from "../../bench/quality/condition.js";
import { Judge } from "../../bench/quality/conditions/mixed.js";
import { dwellIn } from "../../bench/quality/conditions/silent.js";
import type { Cost } from "../../bench/quality/cost.js";
import { validationPeople } from "../../bench/quality/people.js";
import { CONDITIONS, plan } from "../../bench/quality/run.js";
import { Store } from "../../bench/quality/store.js";
import { aimTable, conditionTable, summarise } from "../../bench/quality/table.js";
import { decode, mixVoices } from "../../bench/val/mixtures.js";
import { buildLive } from "../../src/model/live/build.js";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { windowModel } from "../channel/window-stage.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";
import { noiseLive } from "../model/noise.js";

/**
 * The demonstration's drawn head and its two voices as evaluation data, and a model of random weights: what it separates means nothing,
 * but every step of the way is the real one.
 */
const folder = clipFolder();
const at = (...names: string[]): string => join(folder.path, ...names);
const demo = (name: string): string => join(PACKAGE_ROOT, "demo", name);

const test = suite("quality bench");
test.before(async () => {
  await buildLive(noiseLive(), { name: "tiny", version: "1" }, at("model"));
  for (const name of ["data", "data/audio", "rendered", "rendered/h1"]) mkdirSync(at(name));
  const clip = (from: number, seconds: number, out: string): void =>
    ffmpeg(
      ...[
        "-ss",
        String(from),
        "-i",
        demo("talk.flv"),
        "-ss",
        String(from),
        "-i",
        demo("on-screen.flac"),
        "-t",
        String(seconds),
      ],
      ...["-map", "0:v", "-map", "1:a", "-vf", "scale=320:180", "-r", "25", "-c:v", "libx264", "-preset", "ultrafast"],
      ...["-c:a", "pcm_s16le", out],
    );
  clip(2, 6.5, at("data/a.mov")); // with a pause in it
  clip(0, 12.2, at("data/long.mov"));
  clip(12, 3.2, at("data/b.mov"));
  ffmpeg("-i", demo("off-screen.flac"), "-t", "5", at("data/audio/v.wav"));
  ffmpeg("-ss", "6", "-i", demo("off-screen.flac"), "-t", "5", at("data/audio/w.wav"));
  ffmpeg("-ss", "12", "-i", demo("off-screen.flac"), "-t", "5", at("data/audio/x.wav"));
  const rows = (head: string, ...lines: string[]): string =>
    `${[head, ...lines].map((l) => l.split(" ").join("\t")).join("\n")}\n`;
  writeFileSync(
    at("data/manifest.tsv"),
    rows(
      "id file split domain person gender language seconds",
      "a a.mov val drawn linda f en 6.5",
      "b b.mov val other linda2 f en 3.2",
      "c long.mov val other linda3 f en 12.2",
      "d d.mov train other nobody m en 9",
    ),
  );
  writeFileSync(
    at("data/audio/manifest.tsv"),
    rows(
      "id file kind split speaker gender language seconds",
      "v v.wav speech val m4 m de 5",
      "w w.wav speech val m5 m de 5",
      "x x.wav speech val m6 m de 5",
    ),
  );
  ffmpeg("-i", at("data/b.mov"), "-an", "-c", "copy", at("rendered/h1/clip.mp4"));
  ffmpeg("-i", at("data/b.mov"), at("rendered/h1/on_screen.wav"));
  ffmpeg("-i", at("data/audio/v.wav"), "-t", "3", at("rendered/h1/off_screen.wav"));
});
test.after(() => folder.remove());

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const bench = join(PACKAGE_ROOT, "dist", "bench", "quality.js");
  return spawnSync(process.execPath, [bench, ...args], { encoding: "utf8", timeout: 150_000 });
}

const ONE_OF_A_KIND = [
  "level-5",
  "rendered",
  "swap",
  "silent",
  "cutaway",
  "back",
  "next",
  "reaction",
  "turn",
  "transparent",
  "faceless",
];

// Of "c" the other one is too short to be cut to.
const LONG_ENOUGH: Record<string, string> = {
  rendered: "h1",
  cutaway: "c",
  back: "c",
  reaction: "c",
  next: "a",
  turn: "a",
};

test("every condition has its items, from validation rows only", () => {
  const sources = { people: validationPeople(at("data")), rendered: at("rendered"), seed: 1 };
  assert.equal(
    CONDITIONS.map((c) => [
      c.name,
      c
        .items(sources)
        .map((i) => i.name)
        .join(""),
    ]),
    CONDITIONS.map((c) => [c.name, LONG_ENOUGH[c.name] ?? "abc"]),
  );
  assert.is(plan(sources, null, 1).length, CONDITIONS.length);
  assert.throws(() => plan({ ...sources, people: null, rendered: null }, ["swap"], null), /nothing to do/);
});

test("one condition of a kind through the product; the same command does nothing twice", () => {
  const sources = ["--data", at("data"), "--rendered", at("rendered"), "--model", at("model")];
  const args = [...sources, "--out", at("out"), "--limit", "1", "--only", ONE_OF_A_KIND.join(",")];
  const first = run(...args);
  assert.is(first.status, 0, first.stderr);
  const json = JSON.parse(readFileSync(at("out", "quality.json"), "utf8")) as { results: Result[] };
  assert.equal(json.results.map((r) => r.condition).sort(), [...ONE_OF_A_KIND].sort());
  for (const r of json.results) {
    assert.is(r.skipped, undefined, r.condition);
    for (const [way, values] of Object.entries(r.scores ?? {}))
      for (const [key, value] of Object.entries(values))
        assert.ok(Number.isFinite(value), `${r.condition} ${way} ${key}: ${value}`);
  }
  const found = (condition: string) => json.results.find((r) => r.condition === condition)!.scores!;
  // Mixed at the level asked for: BSS-eval's filters can only add a little to it.
  const { nothing, product } = found("level-5");
  assert.is(nothing!.gain, 0);
  assert.ok(Math.abs(nothing!.sdr! + 5) < 2, `SDR of the mixture ${nothing!.sdr}`);
  assert.ok(product!.separated! > 0.5, `separated in ${product!.separated}`);
  // The sound as it is, whoever is the louder one in it, is no choice of a voice.
  assert.is(found("cutaway").nothing!.chosenSlide, 0);
  // Without a face the product leaves the sound alone, whatever the network would say.
  assert.ok(found("faceless").product!.worst! < 0.01);
  const table = readFileSync(at("out", "table.md"), "utf8");
  for (const name of ONE_OF_A_KIND) assert.ok(table.includes(`(\`${name}\`)`), name);
  assert.match(table, /guard \+ hop, `low` \|/);
  assert.not.match(table, new RegExp(folder.path));

  const again = run(...args, "--beside", at("out"));
  assert.is(again.status, 0, again.stderr);
  assert.not.match(again.stderr, /level-5/);
  assert.equal(
    (JSON.parse(readFileSync(at("out", "quality.json"), "utf8")) as { results: Result[] }).results,
    json.results,
  );
});

test("a window model through the same command; one that could not separate in a channel is refused before the work", async () => {
  const data = ["--data", at("data"), "--limit", "1", "--only", "level0"];
  const model = await windowModel(at(), "full");
  const done = run(...data, "--model", model, "--out", at("windows"));
  assert.is(done.status, 0, done.stderr);
  const { results, cost } = JSON.parse(readFileSync(at("windows", "quality.json"), "utf8")) as {
    results: Result[];
    cost: Cost;
  };
  const { product, frozen } = results[0]!.scores!;
  assert.is(product!.separated, 1);
  assert.ok(Number.isFinite(product!.gain) && product!.gain !== frozen!.gain, JSON.stringify({ product, frozen }));
  assert.is(cost.kind, "window");
  assert.match(
    readFileSync(at("windows", "table.md"), "utf8"),
    /### What a window costs\n[\s\S]*\| `low` \| 240 ms \|/,
  );

  for (const [preset, why] of [
    ["shift", /separates nothing/],
    ["unet_pit", /sees no pictures/],
  ] as const) {
    const { status, stderr } = run(...data, "--model", await windowModel(at(), preset), "--out", at("no"));
    assert.is(status, 2, stderr);
    assert.match(stderr, why);
  }
});

test("what is wrong on the command line is told", () => {
  const out = ["--out", at("no")];
  const told = (args: string[], what: RegExp): void => {
    const { status, stderr } = run(...args);
    assert.is(status, 2, stderr);
    assert.match(stderr, what);
  };
  told(["--data", at("data")], /--out DIR is missing/);
  told(["--data", at("rendered"), ...out], /there is no manifest.tsv/);
  told(["--data", at("data"), ...out, "--only", "levels"], /no condition "levels"; there are level0/);
  told(["--data", at("data"), ...out, "--limit", "none"], /--limit takes a whole number/);
});

test("results of another model are not mixed in; a line that was cut off is done again", () => {
  const identity = { model: "live 1", sha256: "aa", seed: 1, profile: "balanced" };
  const result = { condition: "swap", name: "a", labels: {}, scores: { product: { right: 1, both: 1, moved: 2 } } };
  const store = new Store(at("store"), identity);
  store.add(result, 0);
  writeFileSync(at("store", "items-0.jsonl"), '{"format":1,"mod', { flag: "a" });
  const again = new Store(at("store"), identity);
  assert.equal(again.all(), [result]);
  again.add({ ...result, name: "b" }, 0);
  assert.is(new Store(at("store"), identity).all().length, 2);
  assert.throws(() => new Store(at("store"), { ...identity, sha256: "bb" }), /results of model live 1 \(aa\)/);
  assert.throws(() => new Store(at("store"), { ...identity, seed: 2 }), /seed 1; this run has/);
  assert.throws(
    () => new Store(at("store"), { ...identity, profile: "low" }),
    /profile balanced, seed 1; this run has/,
  );
});

test("a perfect estimate is kept and the other voice is not", () => {
  const on = decode(demo("on-screen.flac"), 4);
  const mixed = mixVoices(on, [decode(demo("off-screen.flac"), 4)], 0);
  const judge = new Judge(mixed);
  const best = judge.score(mixed.on);
  assert.is(best.kept, 1);
  assert.ok(best.gain! > 50 && best.sdr! > 50, JSON.stringify(best));
  assert.is(judge.score(mixed.off).kept, 0);
  assert.is(judge.score(mixed.mix).gain, 0);
});

test("the lengthened pause of a clip begins after speech and ends before it", () => {
  const voice = decode(demo("on-screen.flac"), 24);
  const { plan, pause } = dwellIn(voice)!;
  assert.ok(plan.begin < plan.from && plan.from < plan.to && plan.to < plan.end);
  assert.ok(plan.from * 1920 > pause.from && plan.to * 1920 < pause.to);
  assert.ok(2 * plan.rounds * (plan.to - plan.from) >= 100, "shorter than four seconds");
});

test("tables: shares and means of what was measured, and whether aims hold", () => {
  const swap = CONDITIONS.find((c) => c.name === "swap")!;
  const result = (name: string, both: number, domain: string): Result => ({
    condition: "swap",
    name,
    labels: { domain },
    scores: { product: { right: both ? 1 : 0.5, both, moved: 4 }, frozen: { right: 0.5, both: 0, moved: 0 } },
  });
  const results = [
    result("a", 1, "x"),
    result("b", 0, "y"),
    { condition: "swap", name: "c", labels: {}, skipped: "why" },
  ];
  const text = conditionTable(swap, results).join("\n");
  assert.match(text, /\| \*\*all\*\* \| 2 \| 75 % \| 50 % \| \+4\.00 \| 50 % \| 0 % \| \+0\.00 \|/);
  assert.match(text, /\| x \| 1 \| 100 % /);
  assert.match(text, /Left out: 1 \(why\)/);
  const aims = aimTable(summarise(results, null));
  assert.is(aims.length, 3, aims.join("\n"));
  assert.is(aims[2], "| swap: both right | 2 | 50 % | 0 % | 88 % | no |");
});

test.run();
