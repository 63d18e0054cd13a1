import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ArrivalReports } from "../../src/transport/webrtc/arrival-reports.js";

const test = suite("arrival reports");

const WRAP_MS = 64 * 2 ** 24;

/** Reads a report as a sender does: numbers (16 bits) and arrival times in ms (of the turn of the clock that `nearMs` is in), null where the packet has not come. */
function read(packet: Buffer, nearMs = 0): { number: number; ms: number | null }[] {
  assert.is(packet[0]! & 0xdf, 0x8f);
  assert.is(packet[1], 205);
  assert.is(packet.readUInt16BE(2), packet.length / 4 - 1);
  const end = packet.length - ((packet[0]! & 0x20) !== 0 ? packet.at(-1)! : 0);
  const [first, count] = [packet.readUInt16BE(12), packet.readUInt16BE(14)];
  assert.ok(packet.length <= 1200, "one datagram");
  let ms = 64 * packet.readUIntBE(16, 3);
  ms += WRAP_MS * Math.round((nearMs - ms) / WRAP_MS);
  const statuses: number[] = [];
  let at = 20;
  for (; statuses.length < count; at += 2) {
    const chunk = packet.readUInt16BE(at);
    assert.is(chunk >> 15, 0, "runs");
    for (let i = 0; i < (chunk & 0x1fff); i++) statuses.push(chunk >> 13);
  }
  assert.is(statuses.length, count);
  const out = statuses.map((status, i) => {
    if (status === 0) return { number: (first + i) & 0xffff, ms: null };
    ms += (status === 1 ? packet.readUInt8(at) : packet.readInt16BE(at)) / 4;
    at += status;
    return { number: (first + i) & 0xffff, ms };
  });
  assert.is(at, end);
  return out;
}

test("times and losses are told as they were, however often it is told, over the wrap of the numbers", () => {
  const packets = fc.array(
    fc.record({
      gapMs: fc.double({ min: 0, max: 90, noNaN: true }),
      lost: fc.boolean(),
      jitterMs: fc.double({ min: 0, max: 40, noNaN: true }),
      report: fc.boolean(),
    }),
    { minLength: 1, maxLength: 120 },
  );
  // Also where the reference time (64 ms units) is about to have a 24th bit, and where it wraps: after 6.2 and 12.4 days of one process.
  const starts = fc.oneof(
    fc.nat(1_000_000),
    ...[2 ** 23, 2 ** 24].map((units) => fc.nat(4000).map((ms) => 64 * units - ms)),
  );
  fc.assert(
    fc.property(packets, fc.nat(65_535), starts, (list, begin, startMs) => {
      const reports = new ArrivalReports();
      let sent = startMs;
      const events = list.map(({ gapMs, jitterMs, ...p }, i) => {
        sent += gapMs;
        return { ...p, number: (begin + i) & 0xffff, ms: sent + jitterMs };
      });
      const order = events.filter((e) => !e.lost).sort((a, b) => a.ms - b.ms);
      const told = new Map<number, number | null>();
      const tell = (): void => {
        const packet = reports.take(1, 2);
        for (const { number, ms } of packet === null ? [] : read(packet, startMs))
          if (ms !== null || !told.has(number)) told.set(number, ms);
      };
      for (const { number, ms, report } of order) {
        reports.arrived(number, ms);
        if (report) tell();
      }
      tell();
      for (const { number, ms } of order) assert.ok(Math.abs(told.get(number)! - ms) <= 0.126, `${number}`);
      const highest = order.length === 0 ? -1 : Math.max(...order.map((e) => (e.number - begin) & 0xffff));
      const lowest = order.length === 0 ? 0 : (order[0]!.number - begin) & 0xffff;
      for (const { number, lost } of events) {
        const i = (number - begin) & 0xffff;
        if (lost && i > lowest && i < highest) assert.is(told.get(number), null, `${number} is lost`);
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("nothing came: no report; a packet that comes twice is told once; a late one has those after it told again", () => {
  const reports = new ArrivalReports();
  assert.is(reports.take(1, 2), null);
  reports.arrived(10, 1000);
  reports.arrived(10, 1001);
  reports.arrived(12, 1002);
  assert.ok(reports.due);
  assert.equal(read(reports.take(1, 2)!), [
    { number: 10, ms: 1000 },
    { number: 11, ms: null },
    { number: 12, ms: 1002 },
  ]);
  assert.not(reports.due);
  reports.arrived(11, 1003);
  assert.equal(read(reports.take(1, 2)!), [
    { number: 11, ms: 1003 },
    { number: 12, ms: 1002 },
  ]);
});

test("a line that was down for seconds: what was lost meanwhile is told as lost, what came before it is told", () => {
  const reports = new ArrivalReports();
  for (let n = 0; n < 20; n++) reports.arrived(n, 100 + n);
  for (let n = 3000; n < 3020; n++) reports.arrived(n, 5000 + n);
  const told = read(reports.take(1, 2)!);
  assert.is(told.length, 3020);
  assert.is(told.filter(({ ms }) => ms !== null).length, 40);
  assert.is(told[19]!.ms, 119);
  assert.is(told.at(-1)!.ms, 8019);
});

test("what does not fit into one report is told in the next: bytes, and steps of more than eight seconds", () => {
  const reports = new ArrivalReports();
  for (let n = 0; n < 1000; n += 2) reports.arrived(n, 1000 + n / 100);
  const told: { number: number; ms: number | null }[] = [];
  let parts = 0;
  for (let packet = reports.take(1, 2); packet !== null; packet = reports.take(1, 2), parts++)
    told.push(...read(packet));
  assert.ok(parts >= 2);
  assert.equal(
    told.map(({ number }) => number),
    Array.from({ length: 999 }, (_, n) => n),
  );
  for (const { number, ms } of told)
    assert.ok(number % 2 === 1 ? ms === null : Math.abs(ms! - 1000 - number / 100) <= 0.126);
  reports.arrived(999, 1020);
  reports.arrived(1000, 21_020);
  const late = [read(reports.take(1, 2)!), read(reports.take(1, 2)!)];
  assert.equal(late, [[{ number: 999, ms: 1020 }], [{ number: 1000, ms: 21_020 }]]);
  assert.is(reports.take(1, 2), null);
});

test("numbers that leap begin anew, and a flood of them, or one that nobody takes reports of, stays small", () => {
  const reports = new ArrivalReports();
  for (let i = 0; i < 20_000; i++) reports.arrived((i * 20_011) & 0xffff, i);
  read(reports.take(1, 2)!);
  for (let i = 0; i < 200_000; i++) reports.arrived((i + 30_000) & 0xffff, 30_000 + i / 20);
  const told: { ms: number | null }[] = [];
  for (let packet = reports.take(1, 2); packet !== null; packet = reports.take(1, 2)) told.push(...read(packet));
  assert.is(told.filter(({ ms }) => ms !== null).length, 1000);
  assert.ok(told.length <= 8192);
  assert.ok(Math.abs(told.at(-1)!.ms! - (30_000 + 199_999 / 20)) <= 0.126);
});

test.run();
