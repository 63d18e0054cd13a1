import {
  asyncScheduler,
  defer,
  filter,
  from,
  type MonoTypeOperatorFunction,
  Observable,
  type ObservableInput,
  type OperatorFunction,
  type SchedulerLike,
} from "rxjs";
import type { SeamCounter } from "../pipeline/operators/seam.js";

/** RxJS time by the monotonic clock: wall-clock corrections must not move the release of media. */
export const monotonic: SchedulerLike = {
  now: () => performance.now(),
  schedule: asyncScheduler.schedule.bind(asyncScheduler) as SchedulerLike["schedule"],
};

/** Ticks for ever; how far apart, in ms, is asked for anew each time. */
export function ticks(everyMs: () => number, scheduler: SchedulerLike = asyncScheduler): Observable<void> {
  return new Observable<void>((subscriber) =>
    scheduler.schedule(function () {
      subscriber.next();
      this.schedule(undefined, everyMs());
    }, everyMs()),
  );
}

/** Through something that takes values here and answers there, when and as often as it likes (an encoder). */
export function through<T, R>(push: (value: T) => void, answers$: Observable<R>): OperatorFunction<T, R> {
  return (source) =>
    new Observable<R>((subscriber) => {
      subscriber.add(answers$.subscribe({ next: (answer) => subscriber.next(answer) }));
      subscriber.add(source.subscribe({ next: push, error: (error: unknown) => subscriber.error(error) }));
    });
}

/** Values at least so far apart on their own clock, however they come; a clock that goes back begins anew. */
export function thinned<T>(at: (value: T) => number, apart: number): MonoTypeOperatorFunction<T> {
  return (source) =>
    defer(() => {
      let last = Number.NEGATIVE_INFINITY;
      return source.pipe(
        filter((value) => {
          const now = at(value);
          if (now >= last && now - last < apart) return false;
          last = now;
          return true;
        }),
      );
    });
}

/** How many values were joined into a waiting one. */
export type JoinCounter = SeamCounter & { joined: number };

/**
 * One in flight, one waiting; a new value is joined to the waiting one while `join` can, else it replaces it and the old one is counted
 * as dropped. For work with a state: a model step that is left out costs a look-back of two seconds, so that leaving out under load
 * would make the load worse; running the missed steps along in one call is cheap.
 */
export function latestJoined<T, R>(
  counter: JoinCounter,
  join: (waiting: T, next: T) => T | null,
  worker: (value: T) => ObservableInput<R>,
): OperatorFunction<T, R> {
  return (source) =>
    new Observable<R>((subscriber) => {
      // What runs next; undefined: nothing waits.
      let waiting: { value: T } | undefined;
      // A worker is running.
      let busy = false;
      // The source has completed.
      let ended = false;

      const runNext = (): void => {
        if (busy || subscriber.closed) return;
        if (waiting === undefined) {
          if (ended) subscriber.complete();
          return;
        }
        const { value } = waiting;
        waiting = undefined;
        counter.waiting = 0;
        busy = true;
        let work: Observable<R>;
        try {
          work = from(worker(value));
        } catch (error) {
          subscriber.error(error);
          return;
        }
        subscriber.add(
          work.subscribe({
            next: (result) => subscriber.next(result),
            error: (error: unknown) => subscriber.error(error),
            complete: () => {
              busy = false;
              runNext();
            },
          }),
        );
      };

      subscriber.add(() => {
        waiting = undefined;
        counter.waiting = 0;
      });
      subscriber.add(
        source.subscribe({
          next: (value) => {
            counter.received += 1;
            const both = waiting === undefined ? null : join(waiting.value, value);
            if (both !== null) counter.joined += 1;
            else if (waiting !== undefined) counter.dropped += 1;
            waiting = { value: both ?? value };
            counter.waiting = 1;
            runNext();
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            ended = true;
            runNext();
          },
        }),
      );
    });
}
