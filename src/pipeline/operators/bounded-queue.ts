import { from, Observable, type ObservableInput, type OperatorFunction, type Subscription } from "rxjs";
import { BoundedBuffer, type DropPolicy, type SeamCounter } from "./seam.js";

/**
 * One value at a time through `worker`, in order; up to `limit` more wait, then `policy` decides and `counter` counts. Completes when
 * the source has and the queue is empty. Errors of source and worker pass; unsubscribing ends the worker and empties the queue.
 */
export function boundedQueue<T, R>(
  limit: number,
  policy: DropPolicy,
  counter: SeamCounter,
  worker: (value: T) => ObservableInput<R>,
): OperatorFunction<T, R> {
  return (source) =>
    new Observable<R>((subscriber) => {
      // Values that wait for the worker.
      const queue = new BoundedBuffer<T>(limit, policy, counter);
      // A worker is running; its end starts the next.
      let busy = false;
      // The source has completed.
      let ended = false;
      // Inside the loop below: a worker that ends at once must not start a second loop.
      let draining = false;

      const drain = () => {
        if (draining) return;
        draining = true;
        while (!busy && queue.length > 0 && !subscriber.closed) {
          const value = queue.shift() as T;
          busy = true;
          start(value);
        }
        draining = false;
        if (ended && !busy && queue.length === 0) subscriber.complete();
      };
      const start = (value: T) => {
        let inner: Observable<R>;
        try {
          inner = from(worker(value));
        } catch (error) {
          subscriber.error(error);
          return;
        }
        let innerSubscription: Subscription | undefined;
        innerSubscription = inner.subscribe({
          next: (result) => subscriber.next(result),
          error: (error) => subscriber.error(error),
          complete: () => {
            busy = false;
            if (innerSubscription !== undefined) subscriber.remove(innerSubscription);
            drain();
          },
        });
        if (!innerSubscription.closed) subscriber.add(innerSubscription);
      };

      subscriber.add(() => queue.clear());
      subscriber.add(
        source.subscribe({
          next: (value) => {
            try {
              queue.push(value);
            } catch (error) {
              subscriber.error(error);
              return;
            }
            drain();
          },
          error: (error) => subscriber.error(error),
          complete: () => {
            ended = true;
            drain();
          },
        }),
      );
    });
}
