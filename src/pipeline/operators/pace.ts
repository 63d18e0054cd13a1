import { asyncScheduler, type MonoTypeOperatorFunction, Observable, type SchedulerLike, type Subscription } from "rxjs";
import { BoundedBuffer, type DropPolicy, type SeamCounter } from "./seam.js";

export type PaceOptions<T> = {
  /** When a value is due, in milliseconds of the scheduler's clock. Asked when the value has come to the head of the queue. */
  readonly releaseAtMs: (value: T) => number;
  /** So many values may wait; then `policy` decides. */
  readonly limit: number;
  readonly policy: DropPolicy;
  readonly counter: SeamCounter;
  readonly scheduler?: SchedulerLike;
};

/** Lets each value go when it is due, in order; what is overdue goes at once. Completes after its last value has gone. */
export function pace<T>({
  releaseAtMs,
  limit,
  policy,
  counter,
  scheduler = asyncScheduler,
}: PaceOptions<T>): MonoTypeOperatorFunction<T> {
  return (source) =>
    new Observable<T>((subscriber) => {
      const queue = new BoundedBuffer<T>(limit, policy, counter);
      // The one timer, for the head of the queue; null: none runs.
      let timer: Subscription | null = null;
      // The source has completed.
      let ended = false;

      const stopTimer = () => {
        timer?.unsubscribe();
        timer = null;
      };
      const release = () => {
        stopTimer();
        while (queue.length > 0 && !subscriber.closed) {
          const wait = releaseAtMs(queue.first as T) - scheduler.now();
          if (wait > 0) {
            stopTimer(); // a consumer that fed the source from next() has set one already
            timer = scheduler.schedule(() => guarded(() => {}), wait);
            return;
          }
          subscriber.next(queue.shift() as T);
        }
        if (ended && queue.length === 0) subscriber.complete();
      };
      const guarded = (action: () => void) => {
        try {
          action();
          release();
        } catch (error) {
          subscriber.error(error);
        }
      };

      subscriber.add(() => {
        stopTimer();
        queue.clear();
      });
      subscriber.add(
        source.subscribe({
          next: (value) => guarded(() => queue.push(value)),
          error: (error) => subscriber.error(error),
          complete: () => guarded(() => (ended = true)),
        }),
      );
    });
}
