import { Observable, type OperatorFunction } from "rxjs";
import { boundedQueue } from "../pipeline/operators/bounded-queue.js";
import { type SeamCounter, seamCounter } from "../pipeline/operators/seam.js";
import type { MediaIn, MediaOut } from "./media.js";
import { SeparationSession, type SessionOptions } from "./session.js";

export type SeparateStreamOptions = SessionOptions & {
  /** Pieces that may wait while the model runs; one more ends the stream with SL_QUEUE_FULL. Default 4096, about 30 s of a live feed. */
  readonly maxWaiting?: number;
  /** Written while it runs: pieces received, waiting. */
  readonly counter?: SeamCounter;
};

/** Marks the end of the source in the queue, so that the rest comes after all that waits. */
const END = Symbol("end");

/**
 * RxJS operator over arrays: sound (PCM) and pictures (I420) in, separated sound, gains and highlights out. Has no clock: what comes out
 * depends on what goes in, not on when. For a source that pushes; one that can wait (arrays, files) is better given to `separateAll`.
 *
 * Errors: LibraryError SL_MEDIA_INVALID (a piece that cannot be read), PipelineError SL_QUEUE_FULL (the source is faster than the model
 * for too long). A model that fails is none: the sound is left as it is, with the code in `reason`.
 */
export function separate(options: SeparateStreamOptions): OperatorFunction<MediaIn, MediaOut> {
  const { maxWaiting = 4096, counter = seamCounter() } = options;
  return (source) =>
    new Observable<MediaOut>((subscriber) => {
      const session = new SeparationSession(options);
      subscriber.add(() => session.close());
      const pieces = new Observable<MediaIn | typeof END>((queue) =>
        source.subscribe({
          next: (piece) => queue.next(piece),
          error: (error: unknown) => queue.error(error),
          complete: () => {
            queue.next(END);
            queue.complete();
          },
        }),
      );
      const work = (piece: MediaIn | typeof END) => (piece === END ? session.finish() : session.take(piece));
      // One place more, for the end.
      subscriber.add(
        pieces.pipe(boundedQueue(maxWaiting + 1, "fail", counter, work)).subscribe({
          next: (results) => {
            for (const result of results) subscriber.next(result);
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => subscriber.complete(),
        }),
      );
    });
}

/**
 * The same for a source that waits: an array, a generator, an async generator that reads files. The next piece is fetched when the one
 * before is done, so memory does not grow with the length. Unsubscribing ends the source.
 */
export function separateAll(
  source: Iterable<MediaIn> | AsyncIterable<MediaIn>,
  options: SessionOptions,
): Observable<MediaOut> {
  return new Observable<MediaOut>((subscriber) => {
    const session = new SeparationSession(options);
    const give = (results: readonly MediaOut[]): void => {
      for (const result of results) subscriber.next(result);
    };
    const run = async (): Promise<void> => {
      for await (const piece of source) {
        if (subscriber.closed) return;
        give(await session.take(piece));
      }
      if (!subscriber.closed) give(await session.finish());
    };
    run().then(
      () => subscriber.complete(),
      (error: unknown) => subscriber.error(error),
    );
    return () => session.close();
  });
}
