import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ChannelStatus } from "../../src/dashboard/api.js";
import { metricsText } from "../../src/supervisor/http/metrics.js";
import { InferenceProcess } from "../../src/supervisor/inference-process.js";
import type { Service } from "../../src/supervisor/serve.js";
import { serve } from "../../src/supervisor/serve.js";
import type { ServerState } from "../../src/supervisor/state.js";
import { alive, fixture, recordingLog, until } from "./support.js";

const test = suite("supervisor: the service");
const HEAD = "http: 127.0.0.1:0\nrtmp: 127.0.0.1:0\nmedia: 127.0.0.1:0\nchannels:\n";
const CHANNEL = (name: string, rest = ""): string => `  ${name}: { key: key-of-${name}${rest} }\n`;

let folder = "";
let service: Service | null = null;
let records: Record<string, unknown>[] = [];
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), "sightline-test-"));
});
test.after.each(async () => {
  await service?.stop();
  service = null;
  rmSync(folder, { recursive: true, force: true });
});

const role = fixture("role");
const entries = { gateway: role, inference: role, channel: role };

async function begin(text: string): Promise<Service> {
  const recording = recordingLog();
  records = recording.records;
  const file = join(folder, "sightline.yml");
  writeFileSync(file, text);
  service = await serve({ configFile: file, env: {}, log: recording.log, entries });
  const { supervisor } = service;
  await until(
    "everything running and reporting",
    () => supervisor.waitingFor().length === 0 && supervisor.state().channels.every((c) => c.status),
  );
  return service;
}

/** As an editor does: a new file moved over the old one. */
function rewrite(text: string): void {
  writeFileSync(join(folder, "new.yml"), text);
  renameSync(join(folder, "new.yml"), join(folder, "sightline.yml"));
}

const pid = (state: ServerState, name: string): number | null =>
  state.processes.find((p) => p.name === name)?.pid ?? null;
const status = (state: ServerState, name: string): ChannelStatus | null =>
  state.channels.find((c) => c.name === name)?.status ?? null;

test("gateway, one inference child and one process per channel run and report", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a") + CHANNEL("b"));
  const state = supervisor.state();
  assert.equal(state.processes.map((p) => p.name).sort(), ["channel:a", "channel:b", "gateway", "inference"]);
  await until(
    "reports of the others",
    () => supervisor.state().gateway.players === 2 && supervisor.state().inference?.stepMs !== null,
  );
  assert.is(supervisor.state().inference?.engine, "test");
  const a = status(state, "a")!;
  assert.is(a.name, "a", "a channel is known by our name for it");
  assert.is(a.counters.has_key, 0, "the stream key does not go to the channel process");
  assert.ok(a.counters.threads! >= 16, "GStreamer blocks threads of the pool");
  assert.is(a.levels.outDb, -120, "JSON has no infinity");
  assert.equal(a.outputs[0]!.uri, "rtmp://example/app/[redacted]");
  assert.is(state.urls.channels.a?.publish, "rtmp://127.0.0.1:41935/live/KEY");
});

test("the inference process is started again on the CPU when it died with another engine, and the state says so", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a"));
  const engines = () => supervisor.state().inference?.engines;
  assert.is(engines()?.running, "cuda");
  assert.is(engines()?.asked, "auto");
  assert.is(engines()?.code, null);
  process.kill(pid(supervisor.state(), "inference")!, "SIGKILL");
  await until("ready again", () => engines()?.running === "cpu");
  assert.equal([engines()?.code, engines()?.asked], ["SL_ENGINE_FALLBACK", "auto"]);
  assert.is(engines()?.tries.find((t) => t.name === "cuda")?.reason, "failed");
  const text = await metricsText(supervisor.state(), { clients: 0, dropped: 0 });
  assert.match(text, /sightline_inference_engine\{model="live",engine="cpu",reason="running"\} 1/);
  assert.match(text, /sightline_inference_engine\{model="live",engine="cuda",reason="failed"\} 0/);
  assert.match(text, /sightline_inference_engine_fallback\{model="live"\} 1/);
});

test("a start that an engine holds up is made again on the CPU, and the state says why", async () => {
  const { log } = recordingLog();
  const inference = new InferenceProcess({
    ...{ name: "inference", entry: role, model: "live", folder, log },
    socket: () => join(folder, "inference.sock"),
    settings: () => ({ threads: 1, engine: "tensorrt" }),
    limits: { startTimeoutMs: 3000 },
    onChange: () => {},
  });
  void inference.process.start();
  try {
    await until("ready", () => inference.state.ready);
    const { engines } = inference.state;
    assert.equal([engines?.running, engines?.asked, engines?.code], ["cpu", "tensorrt", "SL_ENGINE_FALLBACK"]);
    assert.is(engines?.tries.find((t) => t.name === "tensorrt")?.reason, "timed-out");
  } finally {
    await inference.process.stop();
  }
});

test("an engine that hands over to the CPU is seen in the state", async () => {
  const { supervisor } = await begin(`${HEAD.replace("channels:", "engine: webgpu\nchannels:")}${CHANNEL("a")}`);
  await until("the hand-over", () => supervisor.state().inference?.engines?.code === "SL_ENGINE_FALLBACK");
  const { engine, engines, ready } = supervisor.state().inference!;
  assert.equal([engine, engines?.running, ready], ["stand-in", "cpu", true]);
});

test("a changed file restarts only the channel that changed; live settings restart none", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a") + CHANNEL("b") + CHANNEL("c"));
  const before = supervisor.state();
  rewrite(HEAD + CHANNEL("a", ", profile: low") + CHANNEL("b", ", strengthPercent: 50") + CHANNEL("d"));
  await until("b takes over its strength", () => status(supervisor.state(), "b")?.strengthPercent === 50);
  await until("a new, d there, c gone", () => {
    const now = supervisor.state();
    return (
      pid(now, "channel:a") !== pid(before, "channel:a") &&
      status(now, "a") &&
      status(now, "d") &&
      pid(now, "channel:c") === null
    );
  });
  const after = supervisor.state();
  assert.is(pid(after, "channel:b"), pid(before, "channel:b"));
  assert.is(pid(after, "gateway"), pid(before, "gateway"));
  assert.is(pid(after, "inference"), pid(before, "inference"));
  await until("c's process gone", () => !alive(pid(before, "channel:c")!));
  await until("the gateway was told the new keys", () => supervisor.state().gateway.counters.configured === 2);
});

test("a channel that is added and cannot start is tried again, and harms nothing else", async () => {
  const rejections: unknown[] = [];
  const note = (reason: unknown): void => void rejections.push(reason);
  process.on("unhandledRejection", note);
  try {
    const { supervisor } = await begin(HEAD + CHANNEL("a"));
    const before = supervisor.state();
    rewrite(HEAD + CHANNEL("a") + CHANNEL("broken"));
    await until("a second try", () =>
      supervisor.state().processes.some((p) => p.name === "channel:broken" && p.restarts > 0),
    );
    rewrite(HEAD + CHANNEL("a"));
    await until("gone again", () => supervisor.state().channels.length === 1);
    assert.is(pid(supervisor.state(), "channel:a"), pid(before, "channel:a"));
    assert.equal(rejections, [], "the service ends itself on these");
  } finally {
    process.off("unhandledRejection", note);
  }
});

test("a faulty file changes nothing and is shown until it is good again", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a"));
  const before = supervisor.state();
  rewrite(`${HEAD}  a: { key: secret-of-a, profil: low }\n`);
  await until("the fault in the state", () => supervisor.state().configError);
  const faulty = supervisor.state();
  assert.match(faulty.configError!, "channels.a.profil: unknown key");
  assert.match(faulty.configError!, "did you mean profile?");
  assert.is(faulty.configIssues[0]?.line, 5);
  assert.is(pid(faulty, "channel:a"), pid(before, "channel:a"));
  assert.ok(records.some((r) => r.reason === "SL_CONFIG_INVALID"));
  rewrite(HEAD + CHANNEL("a", ", bypass: true"));
  await until("good again", () => supervisor.state().configError === null);
  await until("taken over", () => status(supervisor.state(), "a")?.bypass === true);
});

test("server settings wait for the next start and say so", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a"));
  rewrite(`inferenceThreads: 2\nlogLevel: error\n${HEAD}${CHANNEL("a")}`);
  await until("told", () => supervisor.state().restartNeeded.length > 0);
  assert.equal(supervisor.state().restartNeeded, ["inferenceThreads"]);
  assert.is(supervisor.config.logLevel, "error");
});

test("what an operator changed survives the death of the channel, until the file says otherwise", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a"));
  assert.equal(supervisor.patch("a", { bypass: true, strengthPercent: 30 }), {
    bypass: true,
    keep: "on-screen",
    strengthPercent: 30,
    attenuationLimitDb: 40,
  });
  assert.is(supervisor.patch("nobody", { bypass: true }), null);
  await until("in force", () => status(supervisor.state(), "a")?.bypass === true);
  process.kill(pid(supervisor.state(), "channel:a")!, "SIGKILL");
  await until("down", () => status(supervisor.state(), "a") === null);
  await until("back", () => status(supervisor.state(), "a"));
  assert.is(status(supervisor.state(), "a")?.strengthPercent, 30);
  rewrite(HEAD + CHANNEL("a", ", strengthPercent: 80"));
  await until("the file's word", () => status(supervisor.state(), "a")?.strengthPercent === 80);
  assert.is(status(supervisor.state(), "a")?.bypass, true);
  // What needs a new process is no word about the bypass either: an output that is added on air does not end it.
  const before = pid(supervisor.state(), "channel:a");
  rewrite(HEAD + CHANNEL("a", ", strengthPercent: 80, profile: low"));
  await until("started anew", () => pid(supervisor.state(), "channel:a") !== before && status(supervisor.state(), "a"));
  assert.is(status(supervisor.state(), "a")?.bypass, true);
  rewrite(HEAD + CHANNEL("a", ", strengthPercent: 80, keep: mix, profile: balanced, bypass: true"));
  await until("the file's bypass", () => status(supervisor.state(), "a")?.keep === "mix");
  rewrite(HEAD + CHANNEL("a", ", strengthPercent: 80, keep: mix, profile: low"));
  await until("the file ends it", () => status(supervisor.state(), "a")?.bypass === false);
});

test("each process that is killed comes back; the others go on", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a") + CHANNEL("b"));
  for (const name of ["gateway", "inference", "channel:a"]) {
    const before = supervisor.state();
    process.kill(pid(before, name)!, "SIGKILL");
    await until(
      `${name} back`,
      () => pid(supervisor.state(), name) !== pid(before, name) && supervisor.waitingFor().length === 0,
    );
    for (const other of ["gateway", "inference", "channel:a", "channel:b"]) {
      if (other !== name) assert.is(pid(supervisor.state(), other), pid(before, other));
    }
  }
  assert.equal(
    supervisor
      .state()
      .processes.map((p) => [p.name, p.restarts])
      .sort(),
    [
      ["channel:a", 1],
      ["channel:b", 0],
      ["gateway", 1],
      ["inference", 1],
    ],
  );
});

test("models in use have an inference child each, which ends with the last channel that uses it", async () => {
  const { supervisor } = await begin(HEAD + CHANNEL("a") + CHANNEL("b", ", model: other"));
  assert.equal(
    supervisor.state().inferences.map((i) => i.model),
    ["live", "other"],
  );
  rewrite(HEAD + CHANNEL("a"));
  await until("one left", () => supervisor.state().inferences.length === 1);
  assert.is(supervisor.state().inference?.model, "live");
});

const sockets = (): string[] => readdirSync(tmpdir()).filter((f) => /^sightline-.{6}$/.test(f));

for (const [signal, children] of [
  ["SIGTERM", "role"],
  ["SIGINT", "role"],
  ["SIGTERM", "stubborn"],
] as const) {
  test(`${signal} ends the service and all children (${children}), no process and no socket stays`, async () => {
    const before = sockets();
    const child = spawn(process.execPath, [...process.execArgv, fixture("service"), children], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    try {
      let out = "";
      let err = "";
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        err += text;
      });
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        out += text;
      });
      const pids = JSON.parse(await until("pids", () => /^\[.*\]$/m.exec(out)?.[0])) as number[];
      assert.is(pids.length, 4);
      const exit = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
      // Ctrl-C and `timeout` reach the children too: none may be started anew meanwhile.
      if (signal === "SIGTERM") for (const p of pids) process.kill(p, signal);
      child.kill(signal);
      assert.is(await exit, 0, "ended in good order, not by the limit of 2.8 s");
      for (const p of pids) assert.not.ok(alive(p), `process ${p} stayed`);
      for (const [, p] of err.matchAll(/"pid":(\d+)/g)) assert.not.ok(alive(Number(p)), `process ${p} stayed`);
      assert.equal(
        sockets().filter((s) => !before.includes(s)),
        [],
      );
    } finally {
      child.kill("SIGKILL");
    }
  });
}

test("children end when the service itself is killed", async () => {
  const before = sockets();
  const child = spawn(process.execPath, [...process.execArgv, fixture("service"), "role"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  const pids = JSON.parse(await until("pids", () => /^\[.*\]$/m.exec(out)?.[0])) as number[];
  child.kill("SIGKILL");
  await until("all gone", () => pids.every((p) => !alive(p)));
  // Who is killed cannot clean up: the test does.
  for (const name of sockets()) if (!before.includes(name)) rmSync(join(tmpdir(), name), { recursive: true });
});

test.run();
