import { from, map, Subject } from "rxjs";
import { TestScheduler } from "rxjs/testing";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type JoinCounter, latestJoined, thinned, through, ticks } from "../../src/channel/operators.js";
import { seamCounter } from "../../src/pipeline/operators/seam.js";

const test = suite("channel operators");
const counter = (): JoinCounter => ({ ...seamCounter(), joined: 0 });
const scheduler = (): TestScheduler => new TestScheduler((actual, expected) => assert.equal(actual, expected));

test("values are thinned on their own clock, in however tight a burst they come, and a clock that goes back begins anew", () => {
  const kept: number[] = [];
  const values = [0, 3, 5, 9, 10, 14, 2, 6, 7];
  from(values)
    .pipe(thinned((v) => v, 5))
    .subscribe((v) => kept.push(v));
  assert.equal(kept, [0, 5, 10, 2, 7]);
});

test("ticks are as far apart as is wanted at each, and end with who listens", () => {
  const virtual = scheduler();
  virtual.run(({ expectObservable }) => {
    let n = 0;
    expectObservable(ticks(() => (n++ < 2 ? 5 : 2), virtual).pipe(map(() => "t")), "-----------------!").toBe(
      "-----t----t-t-t-t",
    );
  });
});

test("what waits is joined while it can be, and runs as one", () => {
  scheduler().run(({ hot, cold, expectObservable, flush }) => {
    const c = counter();
    const source = hot("a-bcd------|");
    const joined$ = source.pipe(
      latestJoined(
        c,
        (x, y) => x + y,
        (x) => cold("-----r|", { r: `<${x}>` }),
      ),
    );
    expectObservable(joined$).toBe("-----r-----s|", { r: "<a>", s: "<bcd>" });
    flush();
    assert.equal(c, { received: 4, dropped: 0, waiting: 0, joined: 2 });
  });
});

test("what cannot be joined is replaced by the newest, and counted", () => {
  scheduler().run(({ hot, cold, expectObservable, flush }) => {
    const c = counter();
    const joined$ = hot("a-bcd------|").pipe(
      latestJoined(
        c,
        (): string | null => null,
        (x) => cold("-----r|", { r: `<${x}>` }),
      ),
    );
    expectObservable(joined$).toBe("-----r-----s|", { r: "<a>", s: "<d>" });
    flush();
    assert.equal(c, { received: 4, dropped: 2, waiting: 0, joined: 0 });
  });
});

test("unsubscribing ends the worker and forgets what waits", () => {
  scheduler().run(({ hot, cold, expectObservable, expectSubscriptions }) => {
    const work = cold("---------r|");
    const c = counter();
    expectObservable(
      hot("ab--").pipe(
        latestJoined(
          c,
          (): string | null => null,
          () => work,
        ),
      ),
      "---!",
    ).toBe("----");
    expectSubscriptions(work.subscriptions).toBe("^--!");
  });
});

test("errors of the worker pass", () => {
  scheduler().run(({ hot, cold, expectObservable }) => {
    expectObservable(
      hot("a").pipe(
        latestJoined(
          counter(),
          (): string | null => null,
          () => cold("--#"),
        ),
      ),
    ).toBe("--#");
  });
});

test("through: values go in here, answers come out there", () => {
  const answers$ = new Subject<string>();
  const source$ = new Subject<number>();
  const out: string[] = [];
  const subscription = source$
    .pipe(through((n) => n > 1 && answers$.next(`${n}!`), answers$))
    .subscribe((s) => out.push(s));
  for (const n of [1, 2, 3]) source$.next(n);
  subscription.unsubscribe();
  assert.equal(out, ["2!", "3!"]);
  assert.not(answers$.observed);
});

test.run();
