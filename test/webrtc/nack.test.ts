import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NackSchedule } from "../../src/transport/webrtc/nack.js";

const test = suite("NACK schedule");
const LIMITS = { graceMs: 15, maxWaitMs: 150, maxMissing: 256 };

test("a missing packet is asked for after the grace, again after the time of an answer, and not for ever", () => {
  const nack = new NackSchedule(LIMITS);
  nack.push(65_534, 0);
  nack.push(1, 0); // 65535 and 0 are missing, where the numbers wrap
  assert.equal(nack.due(14), []);
  assert.equal(nack.due(15), [0, 65_535]);
  assert.equal(nack.due(60), [], "50 ms x 1.25 have not passed");
  nack.push(65_535, 45);
  assert.equal(nack.due(78), [0]);
  assert.equal(nack.due(149), [0]);
  assert.equal(nack.due(150), []);
  assert.is(nack.missing, 0);
  assert.equal(nack.counters, { asked: 4, answered: 1 });
});

test("what is only overtaken is not asked for; another sequence forgets the old one; the list is bounded", () => {
  const nack = new NackSchedule({ ...LIMITS, maxMissing: 10 });
  nack.push(10, 0);
  nack.push(12, 1);
  nack.push(11, 9);
  assert.equal(nack.due(100), []);
  nack.push(32, 100);
  assert.is(nack.missing, 10);
  assert.equal(nack.due(115), [22, 23, 24, 25, 26, 27, 28, 29, 30, 31]);
  nack.push(20_000, 116);
  assert.is(nack.missing, 0);
  nack.push(19_999, 117);
  assert.equal(nack.due(300), []);
});

test("over any line that loses a tenth, both ways, nearly all comes in time, with few requests", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 31 - 2 }), fc.integer({ min: 0, max: 65_535 }), (seed, first) => {
      let state = seed;
      const random = (): number => {
        state = (state * 48_271) % 2_147_483_647;
        return state / 2_147_483_647;
      };
      const nack = new NackSchedule(LIMITS);
      const arrivals: { atMs: number; n: number }[] = [];
      const send = (n: number, atMs: number): void => {
        if (random() >= 0.1) arrivals.push({ atMs: atMs + 10 + 20 * random(), n });
      };
      const [count, everyMs] = [2000, 4];
      const got = new Map<number, number>();
      for (let ms = 0; ms < count * everyMs + 300; ms++) {
        if (ms % everyMs === 0 && ms < count * everyMs) send(ms / everyMs, ms);
        for (let i = arrivals.length - 1; i >= 0; i--) {
          const { atMs, n } = arrivals[i]!;
          if (atMs > ms) continue;
          arrivals.splice(i, 1);
          if (!got.has(n)) got.set(n, ms - n * everyMs);
          nack.push((first + n) & 0xffff, ms);
        }
        for (const sequence of nack.due(ms))
          if (random() >= 0.1) send((sequence - first) & 0xffff, ms + 10 + 20 * random());
      }
      const late = [...got.values()].filter((ms) => ms > 180).length;
      assert.ok(got.size - late >= 0.985 * count, `${got.size} of ${count} came, ${late} of them late`);
      assert.ok(nack.counters.asked < 0.2 * count, `${nack.counters.asked} requests`);
    }),
    { numRuns: 30 },
  );
});

test.run();
