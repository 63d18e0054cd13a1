import { type MonoTypeOperatorFunction, Observable } from "rxjs";
import { BoundedBuffer, type DropPolicy, type SeamCounter } from "./seam.js";

export type DelayLineOptions<T> = {
  readonly delaySamples: number;
  /** Place of a value on the timeline. Values leave in the order in which they came, whatever this says. */
  readonly atSample: (value: T) => number;
  /** The newest sample of the timeline, again and again (the sound that has been rendered, say). */
  readonly clock: Observable<number>;
  readonly limit: number;
  readonly policy: DropPolicy;
  readonly counter: SeamCounter;
};

/**
 * Holds each value until the clock has come to its place + delaySamples. When the clock completes the rest leaves at once; when the
 * source completes what waits still leaves on time. The delay is of the timeline, not of the wall: `pace` does the latter.
 */
export function delayLine<T>({
  delaySamples,
  atSample,
  clock,
  limit,
  policy,
  counter,
}: DelayLineOptions<T>): MonoTypeOperatorFunction<T> {
  return (source) =>
    new Observable<T>((subscriber) => {
      const queue = new BoundedBuffer<T>(limit, policy, counter);
      // The newest sample that the clock has told; after its end everything is due.
      let now = Number.NEGATIVE_INFINITY;
      // The source has completed.
      let ended = false;

      const release = () => {
        while (queue.length > 0 && !subscriber.closed && atSample(queue.first as T) + delaySamples <= now) {
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

      subscriber.add(() => queue.clear());
      subscriber.add(
        clock.subscribe({
          next: (sample) => guarded(() => (now = Math.max(now, sample))),
          error: (error) => subscriber.error(error),
          complete: () => guarded(() => (now = Number.POSITIVE_INFINITY)),
        }),
      );
      if (subscriber.closed) return;
      subscriber.add(
        source.subscribe({
          next: (value) => guarded(() => queue.push(value)),
          error: (error) => subscriber.error(error),
          complete: () => guarded(() => (ended = true)),
        }),
      );
    });
}
