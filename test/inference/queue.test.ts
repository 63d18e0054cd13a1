import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { JobQueue, type Waiting } from "../../src/model/inference/queue.js";

type Job = Waiting & { readonly id: number };
const test = suite("inference queue");
const job = (id: number, client: number, subject: string, deadline: number): Job => ({ id, client, subject, deadline });

test("the earliest deadline is served first, of equal ones the first that came", () => {
  const queue = new JobQueue<Job>();
  for (const j of [job(1, 1, "a", 30), job(2, 2, "a", 10), job(3, 1, "b", 10), job(4, 3, "a", 20)]) queue.put(j);
  assert.equal(
    [0, 0, 0, 0, 0].map(() => queue.take()?.id),
    [2, 3, 4, 1, undefined],
  );
});

test("a newer job pushes out the one of the same client and subject, and no other", () => {
  const queue = new JobQueue<Job>();
  assert.is(queue.put(job(1, 1, "a", 10)), null);
  assert.is(queue.put(job(2, 2, "a", 10)), null);
  assert.is(queue.put(job(3, 1, "a", 20))?.id, 1);
  assert.equal([queue.take()?.id, queue.take()?.id, queue.take()], [2, 3, null]);
});

test("a full queue gives the new job back, unless it replaces one", () => {
  const queue = new JobQueue<Job>(2);
  queue.put(job(1, 1, "a", 1));
  queue.put(job(2, 1, "b", 2));
  assert.is(queue.put(job(3, 1, "c", 0))?.id, 3);
  assert.is(queue.put(job(4, 1, "b", 9))?.id, 2);
  assert.is(queue.size, 2);
});

test("every job is taken, pushed out, removed or still there: exactly once", () => {
  const put = fc.record({
    client: fc.integer({ min: 1, max: 3 }),
    subject: fc.constantFrom("a", "b", "c"),
    deadline: fc.nat(50),
  });
  const action = fc.oneof(put, fc.constant("take" as const), fc.integer({ min: 1, max: 3 }));
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
      const queue = new JobQueue<Job>(5);
      const out: number[] = [];
      let count = 0;
      for (const a of actions) {
        if (a === "take") {
          const taken = queue.take();
          if (taken) out.push(taken.id);
        } else if (typeof a === "number") out.push(...queue.remove((j) => j.client === a).map((j) => j.id));
        else {
          const pushed = queue.put({ id: count++, ...a });
          if (pushed) out.push(pushed.id);
        }
        if (queue.size > 5) return false;
      }
      for (let left = queue.take(); left !== null; left = queue.take()) out.push(left.id);
      return out.sort((a, b) => a - b).every((id, i) => id === i) && out.length === count;
    }),
    { seed: 31, numRuns: 300 },
  );
});

test.run();
