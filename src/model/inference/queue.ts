/** A job that waits: of one client, for one subject (a track, or the face detector), of use until `deadline`. */
export type Waiting = { readonly client: number; readonly subject: string; readonly deadline: number };

/**
 * What waits for the one engine: at most one job per client and subject (the newest), taken in the order of deadlines. No clock: times
 * are numbers on whatever clock the caller uses.
 */
export class JobQueue<J extends Waiting> {
  readonly #jobs = new Map<string, J>();

  /** @param capacity jobs that may wait at once, over all clients */
  constructor(private readonly capacity = 256) {}

  get size(): number {
    return this.#jobs.size;
  }

  /** @returns the job that was pushed out: the older one of the same subject, the new one itself when the queue is full, or null */
  put(job: J): J | null {
    const key = keyOf(job);
    const older = this.#jobs.get(key);
    if (older === undefined && this.#jobs.size >= this.capacity) return job;
    this.#jobs.set(key, job);
    return older ?? null;
  }

  /** Removes and returns the job with the earliest deadline; of equal ones the first put. */
  take(): J | null {
    let first: J | null = null;
    for (const job of this.#jobs.values()) if (first === null || job.deadline < first.deadline) first = job;
    if (first !== null) this.#jobs.delete(keyOf(first));
    return first;
  }

  /** Removes the jobs that `which` picks. */
  remove(which: (job: J) => boolean): J[] {
    const removed = [...this.#jobs.values()].filter(which);
    for (const job of removed) this.#jobs.delete(keyOf(job));
    return removed;
  }
}

const keyOf = (job: Waiting): string => `${job.client} ${job.subject}`;
