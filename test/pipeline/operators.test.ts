import { map, type Observable, of, Subject, timer } from "rxjs";
import { TestScheduler } from "rxjs/testing";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { boundedQueue } from "../../src/pipeline/operators/bounded-queue.js";
import { pace } from "../../src/pipeline/operators/pace.js";
import { seamCounter } from "../../src/pipeline/operators/seam.js";

const test = suite("operators");
const marbles = () => new TestScheduler((actual, expected) => assert.equal(actual, expected));
/** Work that takes `ms` and then gives its value. */
const work =
  (ms: number) =>
  (value: string): Observable<string> =>
    timer(ms).pipe(map(() => value));

test("boundedQueue keeps the order; drop-oldest and drop-newest drop what they say", () => {
  for (const [policy, expected] of [
    ["drop-oldest", "---a--d--(e|)"],
    ["drop-newest", "---a--b--(c|)"],
  ] as const) {
    const counter = seamCounter();
    marbles().run(({ hot, expectObservable, flush }) => {
      expectObservable(hot("(abcde|)").pipe(boundedQueue(2, policy, counter, work(3)))).toBe(expected);
      flush();
    });
    assert.equal(counter, { received: 5, dropped: 2, waiting: 0 });
  }
});

test("boundedQueue with `fail` ends the stream with SL_QUEUE_FULL", () => {
  const errors: unknown[] = [];
  const source = new Subject<string>();
  source
    .pipe(boundedQueue(1, "fail", seamCounter(), () => new Subject<string>()))
    .subscribe({ error: (error) => errors.push(error) });
  for (const value of "abc") source.next(value);
  assert.is((errors[0] as { code: string }).code, "SL_QUEUE_FULL");
  assert.is(source.observed, false);
});

test("boundedQueue: errors of source, worker and the worker's stream pass", () => {
  marbles().run(({ hot, cold, expectObservable }) => {
    const counter = seamCounter();
    expectObservable(hot("a#").pipe(boundedQueue(1, "drop-oldest", counter, work(5)))).toBe("-#");
    expectObservable(hot("a-").pipe(boundedQueue(1, "drop-oldest", counter, () => cold("--#")))).toBe("--#");
    const thrower = () => {
      throw "error";
    };
    expectObservable(hot("a-").pipe(boundedQueue(1, "drop-oldest", counter, thrower))).toBe("#");
  });
});

test("boundedQueue: unsubscribing ends the work in flight and lets go of what waits", () => {
  const counter = seamCounter();
  marbles().run(({ hot, cold, expectObservable, expectSubscriptions, flush }) => {
    const source = hot("  ab---------");
    const inner = cold("  -----x|");
    const unsubscribe = " --!";
    expectObservable(source.pipe(boundedQueue(1, "drop-oldest", counter, () => inner)), unsubscribe).toBe(
      "-----------",
    );
    expectSubscriptions(source.subscriptions).toBe("^-!");
    expectSubscriptions(inner.subscriptions).toBe("^-!");
    flush();
  });
  assert.is(counter.waiting, 0);
});

test("boundedQueue: a hundred thousand values through a worker that ends at once need no stack", () => {
  const counter = seamCounter();
  let sum = 0;
  const source = new Subject<number>();
  const out = source.pipe(boundedQueue(4, "fail", counter, (n) => of(n)));
  // Feeding back from the output re-enters the operator.
  out.subscribe((n) => {
    sum++;
    if (n < 100_000) source.next(n + 1);
  });
  source.next(1);
  assert.is(sum, 100_000);
});

test("pace: values leave when they are due, in order, overdue ones at once", () => {
  marbles().run(({ hot, expectObservable, expectSubscriptions }) => {
    const due: Record<string, number> = { a: 5, b: 5, c: 9, d: 0 };
    const options = { releaseAtMs: (v: string) => due[v]!, limit: 10, policy: "fail", counter: seamCounter() } as const;
    const source = hot("  abc---------d|");
    const expected = "    -----(ab)c--d|";
    expectObservable(source.pipe(pace(options))).toBe(expected);
    expectSubscriptions(source.subscriptions).toBe("^------------!");
  });
});

test("pace: completes after its last value; a full queue drops and counts; errors pass at once", () => {
  const counter = seamCounter();
  marbles().run(({ hot, expectObservable, flush }) => {
    const options = {
      releaseAtMs: (v: string) => 4 + v.charCodeAt(0) - 97,
      limit: 2,
      policy: "drop-oldest",
      counter,
    } as const;
    expectObservable(hot("(abc|)").pipe(pace(options))).toBe("-----b(c|)");
    expectObservable(hot("a-#").pipe(pace({ ...options, counter: seamCounter() }))).toBe("--#");
    flush();
  });
  assert.equal(counter, { received: 3, dropped: 1, waiting: 0 });
});

test("pace: unsubscribing stops the timer and lets go of what waits", () => {
  const counter = seamCounter();
  marbles().run(({ hot, expectObservable, expectSubscriptions, flush }) => {
    const source = hot("ab-----");
    const options = { releaseAtMs: () => 5, limit: 5, policy: "fail", counter } as const;
    expectObservable(source.pipe(pace(options)), "---!").toBe("-------");
    expectSubscriptions(source.subscriptions).toBe("^--!");
    flush();
  });
  assert.is(counter.waiting, 0);
});

test("a queue without room is refused", () => {
  const source = new Subject<string>();
  const errors: unknown[] = [];
  source
    .pipe(pace({ releaseAtMs: () => 0, limit: 0, policy: "fail", counter: seamCounter() }))
    .subscribe({ error: (e) => errors.push(e) });
  assert.instance(errors[0], RangeError);
});

test.run();
