import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ProcessStartError } from "../../src/supervisor/fork.js";
import { ManagedProcess, type ProcessInfo, type ProcessLimits } from "../../src/supervisor/process.js";
import type { Behaviour } from "./fixtures/behaving.js";
import { alive, fixture, recordingLog, until } from "./support.js";

type From = { type: "ready" } | { type: "status"; pid: number };
const test = suite("supervisor: one process");
let open: ManagedProcess<Behaviour, From>[] = [];
test.after.each(async () => {
  await Promise.all(open.map((p) => p.stop(0)));
  open = [];
});

const QUICK: Partial<ProcessLimits> = {
  checkIntervalMs: 100,
  backOff: { firstMs: 50, maxMs: 200, resetAfterMs: 30_000 },
};

/** Each start gets the next behaviour; the last one stays. */
function make(behaviours: Omit<Behaviour, "type">[], limits: Partial<ProcessLimits> = {}) {
  const { log, records } = recordingLog();
  let starts = 0;
  const managed = new ManagedProcess<Behaviour, From>({
    name: "child",
    entry: fixture("behaving"),
    configure: () => ({ type: "configure", ...behaviours[Math.min(starts++, behaviours.length - 1)]! }),
    log,
    limits: { ...QUICK, ...limits },
  });
  const states: ProcessInfo[] = [];
  managed.on("state", (info) => states.push(info));
  open.push(managed);
  return { managed, states, records };
}

async function rejection(promise: Promise<unknown>): Promise<ProcessStartError> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, ProcessStartError);
    return error as ProcessStartError;
  }
  throw new Error("did not reject");
}

test("start resolves with the ready message, status messages follow, the output becomes log records", async () => {
  const { managed, records } = make([{ start: "ready", act: "talk" }]);
  const statuses: From[] = [];
  managed.on("message", (m) => statuses.push(m));
  assert.is((await managed.start()).type, "ready");
  assert.is(managed.info.state, "running");
  await until("a status", () => statuses.some((m) => m.type === "status"));
  await until("both output lines", () => records.filter((r) => r.message === "output").length >= 2);
  assert.ok(records.some((r) => r.line === "a line for the log" && r.level === 30));
  assert.ok(records.some((r) => r.line === "a complaint" && r.level === 40));
  const own = records.find((r) => r.message === "through the control channel");
  assert.is(own?.level, 40);
  assert.is(own?.detail, 7);
  assert.is(own?.process, undefined, "a child cannot forge the name of a process");
});

test("ready is passed on before what came with it, and nothing of that is lost", async () => {
  const { managed } = make([{ start: "ready", act: "hasty" }]);
  const seen: From[] = [];
  managed.on("message", (m) => seen.push(m));
  await managed.start();
  await until("three messages", () => seen.length >= 3);
  assert.equal(
    seen.slice(0, 3).map((m) => (m.type === "status" ? m.pid : m.type)),
    ["ready", 1, 2],
  );
});

test("a child that ends before ready rejects the start, is started anew, and gets the newest settings", async () => {
  const { managed, states } = make([{ start: "exit" }, { start: "ready" }]);
  assert.is((await rejection(managed.start())).code, "SL_PROCESS_EXITED");
  await until("running", () => managed.info.state === "running");
  assert.is(managed.info.restarts, 1);
  assert.equal(
    states.map((s) => [s.state, s.reason]),
    [
      ["starting", "SL_PROCESS_START"],
      ["back-off", "SL_PROCESS_EXITED"],
      ["starting", "SL_PROCESS_START"],
      ["running", "SL_PROCESS_READY"],
    ],
  );
});

test("a child that never becomes ready is killed when its time is up", async () => {
  const { managed, states } = make([{ start: "never" }, { start: "ready" }], { startTimeoutMs: 3000 });
  const start = managed.start();
  const pid = await until("pid", () => managed.info.pid);
  assert.is((await rejection(start)).code, "SL_PROCESS_START_TIMEOUT");
  await until("the first child gone", () => !alive(pid));
  await until("back-off with its reason", () =>
    states.some((s) => s.state === "back-off" && s.reason === "SL_PROCESS_START_TIMEOUT"),
  );
});

test("a killed child comes back with another pid; sending to the dead is harmless", async () => {
  const { managed } = make([{ start: "ready" }]);
  await managed.start();
  const pid = managed.info.pid!;
  process.kill(pid, "SIGKILL");
  for (let i = 0; i < 100; i++) managed.send({ type: "configure", start: "ready" });
  await until("a new pid", () => managed.info.state === "running" && managed.info.pid !== pid);
  assert.is(managed.info.restarts, 1);
});

test("a child whose event loop hangs is killed for its silence", async () => {
  const { managed, states } = make([{ start: "ready", act: "hang" }, { start: "ready" }], { statusTimeoutMs: 1500 });
  await managed.start();
  const pid = managed.info.pid!;
  await until("killed", () => states.some((s) => s.state === "back-off" && s.reason === "SL_PROCESS_SILENT"));
  assert.not.ok(alive(pid));
  await until("running again", () => managed.info.state === "running");
});

test("a child that takes too much memory is warned about, then killed", async () => {
  const { managed, states, records } = make([{ start: "ready", act: "grow" }, { start: "ready" }], {
    memoryWarnMb: 10,
    memoryKillMb: 350,
  });
  await managed.start();
  await until("killed", () => states.some((s) => s.state === "back-off" && s.reason === "SL_PROCESS_MEMORY"));
  await until("running again", () => managed.info.state === "running");
  await until("memory measured", () => (managed.info.memoryBytes ?? 0) > 10e6);
  assert.is(
    records.filter((r) => r.message === "process uses much memory").length,
    1,
    "one warning in the cool-down, not one a check",
  );
});

test("stop kills a child that ignores every request, and it does not come back", async () => {
  const { managed } = make([{ start: "ready", act: "stubborn" }]);
  await managed.start();
  const pid = managed.info.pid!;
  await Promise.all([managed.stop(300), managed.stop(300)]);
  assert.not.ok(alive(pid));
  assert.is(managed.info.state, "stopped");
  assert.is(managed.info.pid, null);
  assert.is(managed.send({ type: "configure", start: "ready" }), false);
});

test("stop ends a child that is only starting, and one that waits in back-off", async () => {
  const starting = make([{ start: "never" }]).managed;
  const first = starting.start();
  await starting.stop(300);
  await rejection(first);
  assert.is(starting.info.state, "stopped");

  const { managed } = make([{ start: "exit" }], { backOff: { firstMs: 600_000, maxMs: 600_000, resetAfterMs: 1 } });
  await rejection(managed.start());
  await until("back-off", () => managed.info.state === "back-off");
  await managed.stop(300);
  assert.is(managed.info.state, "stopped");
});

test("a start that fails before there is a process is one that failed, and no more", async () => {
  const { log } = recordingLog();
  let starts = 0;
  const managed = new ManagedProcess<Behaviour, From>({
    name: "child",
    entry: fixture("behaving"),
    configure: () => {
      // As a fork does where the system has no room.
      if (starts++ === 0) throw new Error("spawn ENOMEM");
      return { type: "configure", start: "ready" };
    },
    log,
    limits: QUICK,
  });
  open.push(managed);
  const states: ProcessInfo[] = [];
  managed.on("state", (info) => states.push(info));
  await managed.start().then(
    () => assert.unreachable(),
    (error: Error) => assert.match(error.message, "ENOMEM"),
  );
  await until("the next start", () => managed.info.state === "running");
  assert.ok(states.some((s) => s.state === "back-off"));
});

test("a restart that was asked for skips the wait and uses new settings", async () => {
  const { managed, states } = make([{ start: "ready", act: "stubborn" }, { start: "ready" }], {
    restartGraceMs: 200,
    backOff: { firstMs: 600_000, maxMs: 600_000, resetAfterMs: 1 },
  });
  await managed.start();
  const pid = managed.info.pid;
  managed.restart();
  managed.restart();
  await until("running anew", () => managed.info.state === "running" && managed.info.pid !== pid);
  assert.is(managed.info.restarts, 1);
  assert.not.ok(states.some((s) => s.state === "back-off"));
});

test("a listener's fault does not end supervision", async () => {
  const { managed, records } = make([{ start: "ready" }]);
  managed.on("message", () => {
    throw new Error("a faulty listener");
  });
  await managed.start();
  await until("the fault in the log", () => records.some((r) => r.message === "a listener of a process event failed"));
  assert.is(managed.info.state, "running");
});

test("a helper without control messages is ready when forked and ended by SIGTERM", async () => {
  const { log } = recordingLog();
  const managed = new ManagedProcess<Behaviour, From>({
    name: "helper",
    entry: fixture("behaving"),
    configure: null,
    log,
    limits: { ...QUICK, statusTimeoutMs: 200 },
  });
  open.push(managed);
  await managed.start();
  const pid = managed.info.pid!;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.is(managed.info.pid, pid, "its silence is no fault");
  await managed.stop(5000);
  assert.not.ok(alive(pid));
});

test.run();
