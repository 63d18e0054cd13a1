import { type Checkpoint, openCheckpoint } from "../../../src/model/checkpoint/checkpoint.js";

/** Lends an open checkpoint to `job` and closes it. */
export function using<T>(prefix: string, job: (c: Checkpoint) => T): T {
  const c = openCheckpoint(prefix);
  try {
    return job(c);
  } finally {
    c.close();
  }
}

/** Opens and reads or verifies everything. */
export function readAll(prefix: string): void {
  using(prefix, (c) => {
    for (const v of c.variables) c.verify(v.name);
  });
}
