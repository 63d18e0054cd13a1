import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { configFile } from "../../src/cli/config-file.js";
import { parseMask, parseStrength } from "../../src/cli/separate.js";
import { exampleYaml, referenceMarkdown } from "../../src/config/generate.js";
import { apt } from "../../src/doctor/check.js";
import { exitCode, reportText } from "../../src/doctor/report.js";
import { PACKAGE_ROOT, sourceFile } from "../../src/paths.js";
import { windowModel } from "../channel/window-stage.js";
import { alive, until } from "../supervisor/support.js";

const test = suite("cli");
const LIMIT_MS = 60_000;

type Outcome = { code: number | null; out: string; err: string };

function start(args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [...process.execArgv, sourceFile("cli/main"), ...args], {
    env: { ...process.env, ...env },
    cwd: fileURLToPath(new URL(".", import.meta.url)),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const seen = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (t: string) => {
    seen.out += t;
  });
  child.stderr.setEncoding("utf8").on("data", (t: string) => {
    seen.err += t;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  const done = new Promise<Outcome>((resolve) => {
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, ...seen });
    });
  });
  return { child, seen, done };
}
const run = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> => start(args, env).done;

test("config example and reference print the generated texts", async () => {
  assert.equal(await run(["config", "example"]), { code: 0, out: exampleYaml(), err: "" });
  assert.equal(await run(["config", "reference"]), { code: 0, out: referenceMarkdown(), err: "" });
});

test("config check names the faults and exits with 1", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-cli-"));
  try {
    const file = join(folder, "x.yml");
    writeFileSync(file, "channels:\n  a:\n    key: k\n    profil: low\n");
    const bad = await run(["config", "check", file]);
    assert.is(bad.code, 1);
    assert.match(bad.err, `${file}:4: channels.a.profil: unknown key; did you mean profile?`);
    assert.not.match(bad.err, "    at ");
    writeFileSync(file, "channels:\n  a: { key: k, model: nosuch }\n");
    const warned = await run(["config", "check", file]);
    assert.is(warned.code, 0);
    assert.match(warned.err, /^warning: channels\.a\.model: .*nosuch.*SL_MODEL_INVALID/);
    writeFileSync(file, "channels:\n  a:\n    key: k\n    profil: low\n");
    const json = await run(["config", "check", file, "--json"]);
    assert.is(json.code, 1);
    assert.is((JSON.parse(json.out) as { issues: unknown[] }).issues.length, 1);
    writeFileSync(file, "channels: { a: { key: k } }\n");
    const good = await run(["config", "check", file]);
    assert.is(good.code, 0);
    assert.match(good.out, "channels: a");
    assert.is((await run(["config", "check", join(folder, "none.yml")])).code, 1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("unknown commands, options and arguments are refused with exit code 2", async () => {
  for (const args of [
    ["nonsense"],
    ["serve", "--nonsense"],
    ["config", "check"],
    ["config", "check", "a", "b"],
    ["serve", "--http", "8080"],
    ["serve", "--config"],
    ["separate", "x", "--out", "y", "--strength", "101"],
    ["separate", "x", "--out", "y", "--look-ahead", "4001"],
    ["separate", "x", "--out", "y", "--look-ahead", "soon"],
  ]) {
    const { code, err } = await run(args);
    assert.is(code, 2, args.join(" "));
    assert.not.match(err, "    at ");
  }
});

test("options in front of the command are refused, not dropped", async () => {
  for (const args of [
    ["--json", "separate", "x", "--out", "y"],
    ["model", "--json", "info"],
  ]) {
    const { code, err } = await run(args);
    assert.equal([code, /^--json stands before the command/.test(err)], [2, true], err);
  }
});

test("an empty SIGHTLINE_CONFIG is none", () => {
  const before = process.env.SIGHTLINE_CONFIG;
  process.env.SIGHTLINE_CONFIG = "";
  try {
    assert.is(configFile(undefined), existsSync("sightline.yml") ? "sightline.yml" : null);
    process.env.SIGHTLINE_CONFIG = "a.yml";
    assert.is(configFile(undefined), "a.yml");
    assert.is(configFile("b.yml"), "b.yml");
  } finally {
    if (before === undefined) delete process.env.SIGHTLINE_CONFIG;
    else process.env.SIGHTLINE_CONFIG = before;
  }
});

test("help is there for every command", async () => {
  assert.not.match((await run(["--help"], { NO_COLOR: undefined, TEST: undefined, CI: undefined })).out, "\u001b");
  const { code, out } = await run(["--help"]);
  assert.is(code, 0);
  for (const name of ["serve", "separate", "doctor", "model", "config"]) assert.match(out, name);
});

test("serve prints the addresses, answers, and ends on SIGTERM with no child left", async () => {
  const env = { SIGHTLINE_RTMP: "127.0.0.1:0", SIGHTLINE_MEDIA: "127.0.0.1:0" };
  const { child, seen, done } = start(["serve", "--http", "127.0.0.1:0"], env);
  try {
    const dashboard = (await until("the dashboard's address", () => /^dashboard {2}(http:\S+)$/m.exec(seen.out)?.[1]))!;
    assert.is((await fetch(new URL("/healthz", dashboard))).status, 200);
    await until("ready", async () => (await fetch(new URL("/readyz", dashboard))).status === 200);
    const state = (await (await fetch(new URL("/api/state", dashboard))).json()) as {
      processes: { name: string; pid: number }[];
    };
    assert.equal(
      state.processes.map((p) => p.name),
      ["gateway"],
    );
    await until("the hint", () => seen.out.includes("no channels"));
    child.kill("SIGTERM");
    assert.is((await done).code, 0);
    assert.not.ok(alive(state.processes[0]!.pid));
  } finally {
    child.kill("SIGKILL");
  }
});

test("a taken port is one clear line with the fix, and exit code 1", async () => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
  const taken = `127.0.0.1:${(blocker.address() as { port: number }).port}`;
  const free = { SIGHTLINE_HTTP: "127.0.0.1:0", SIGHTLINE_RTMP: "127.0.0.1:0", SIGHTLINE_MEDIA: "127.0.0.1:0" };
  try {
    for (const [key, fix] of [
      ["HTTP", "--http HOST:PORT"],
      ["RTMP", "SIGHTLINE_RTMP=HOST:PORT"],
      ["MEDIA", "SIGHTLINE_MEDIA=HOST:PORT"],
    ] as const) {
      const { code, err } = await run(["serve"], { ...free, [`SIGHTLINE_${key}`]: taken });
      assert.is(code, 1);
      assert.match(err, `${taken} (`);
      assert.match(err, "is in use by another program");
      assert.match(err, fix);
      assert.not.match(err, "    at ");
    }
  } finally {
    blocker.close();
  }
});

test("doctor names everything, and each fault with its fix", async () => {
  const { code, out } = await run(["doctor", "--json"], {
    SIGHTLINE_RTMP: "127.0.0.1:0",
    SIGHTLINE_MEDIA: "127.0.0.1:0",
    SIGHTLINE_HTTP: "127.0.0.1:0",
  });
  const { ok, checks } = JSON.parse(out) as {
    ok: boolean;
    checks: { area: string; name: string; state: string; detail: string; fix: string | null }[];
  };
  assert.is(code, ok ? 0 : 1);
  assert.equal([...new Set(checks.map((c) => c.area))].sort(), [
    "configuration",
    "engine",
    "files",
    "gstreamer",
    "machine",
    "models",
    "node",
    "ports",
  ]);
  assert.ok(checks.some((c) => c.area === "gstreamer" && c.detail.includes("avdec_h264")));
  for (const check of checks) assert.is(check.state === "ok", check.fix === null, JSON.stringify(check));
});

test("doctor says which engine would run and why the others would not; separate refuses one that is none", async () => {
  const { out } = await run(["doctor", "--json"], { SIGHTLINE_ENGINE: "cuda", CUDA_VISIBLE_DEVICES: "" });
  const { checks } = JSON.parse(out) as { checks: { area: string; name: string; state: string; detail: string }[] };
  const of = (name: string) => checks.find((c) => c.area === "engine" && c.name === name);
  assert.match(
    of("engine: cuda")?.detail ?? "",
    /onnxruntime-node 1\S+ cpu runs live in its place \[SL_ENGINE_FALLBACK\]/,
  );
  assert.is(of("engine: cuda")?.state, "warn");
  assert.match(of("cuda")?.detail ?? "", /^not used \((not-installed|no-device|does-not-load|crashed)\): /);
  assert.match(of("wasm")?.detail ?? "", /^not used \(not-asked\): /);
  const bad = await run(["separate", "x.mp4", "--out", "x", "--engine", "abacus"]);
  assert.is(bad.code, 2);
});

test("doctor has nothing against a channel with a network of the paper, and names one that channels cannot run", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-doctor-"));
  try {
    const [full, shift] = [await windowModel(folder, "full"), await windowModel(folder, "shift")];
    const file = join(folder, "sightline.yml");
    const channel = (key: string, model: string): string => `  ${key}: { key: ${key}-key, model: ${model} }\n`;
    writeFileSync(file, `http: "127.0.0.1:0"\nchannels:\n${channel("good", full)}${channel("bad", shift)}`);
    const { out } = await run(["doctor", "--config", file, "--json"]);
    const { checks } = JSON.parse(out) as { checks: { area: string; name: string; state: string; detail: string }[] };
    const of = (model: string) => checks.find((c) => c.area === "models" && c.name === model);
    assert.is(of(full)?.state, "ok", of(full)?.detail);
    assert.is(of(shift)?.state, "missing");
    assert.match(of(shift)?.detail ?? "", "separates nothing");
    assert.not.ok(
      checks.some((c) => c.area === "engine" && c.detail.includes("could not be tried")),
      out,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("doctor without GStreamer says so and how to get it", async () => {
  const { code, out } = await run(["doctor"], { PATH: "/nonexistent" });
  assert.is(code, 1);
  assert.match(out, "MISSING gst-inspect-1.0: gst-inspect-1.0 is not installed");
  assert.match(out, apt("gstreamer1.0-tools"));
});

test("the doctor's exit code counts what is needed only", () => {
  const base = { area: "files", name: "x", detail: "d" } as const;
  assert.is(exitCode([{ ...base, state: "warn", fix: "f" }]), 0);
  assert.is(exitCode([{ ...base, state: "missing", fix: "f" }]), 1);
  assert.match(reportText([{ ...base, state: "missing", fix: "do this" }]), "1 missing. To mend it:\n  do this\n");
});

test("separate: masks and strengths are checked", () => {
  assert.is(parseMask(undefined), null);
  assert.is(parseMask("l"), "l");
  assert.equal(parseMask("0.5,0,0.5,1"), { x: 0.5, y: 0, width: 0.5, height: 1 });
  for (const bad of ["", "m", "0,0,1", "0,0,1,1,1", "0.6,0,0.5,1", "0,0,0,1", "a,b,c,d", "-0.1,0,1,1", ",,,"])
    assert.throws(() => parseMask(bad), /--mask/);
  assert.is(parseStrength("50%"), 50);
  for (const bad of ["", "101", "-1", "x", "NaN"]) assert.throws(() => parseStrength(bad), /--strength/);
});

test("separate leaves no file behind when the terminal is closed, or when nobody reads its lines any more", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sightline-cli-"));
  try {
    for (const end of [
      (child: ChildProcess) => child.kill("SIGHUP"),
      (child: ChildProcess) => child.stdout!.destroy(),
    ]) {
      const out = join(folder, "out");
      const talk = join(PACKAGE_ROOT, "demo", "talk.flv");
      const { child, seen, done } = start(["separate", talk, "--out", out, "--json", "--engine", "cpu"]);
      await until("the first line", () => seen.out.includes("progress"));
      end(child);
      const { code, err } = await done;
      assert.is(code, 130, err);
      assert.not.match(err, "    at ");
      assert.not(existsSync(out), String(existsSync(out) && readdirSync(out)));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
